"""Random small networks through the whole bridge: does the INT8 flatbuffer compute what the twin computes?

    python -m benchmarks.quantization.random_graphs  # about a quarter of a minute a network; finished rows are skipped

Every network is drawn from its seed: convolutions, depthwise and pointwise ones, residual sums, concatenations, gates,
pools, pads, activations and linear layers; weights and batch norms are not neutral. `p999_steps` is the 99.9th
percentile of the difference between the flatbuffer (LiteRT) and the twin, in steps of the output's scale, over 1,000
samples.
"""

from __future__ import annotations

import argparse
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks.table import RESULTS, Table
from edgecompress.quantization.proof.compare import compare_answers
from edgecompress.quantization.structure.structure import quantized_structure
from edgecompress.quantization.twin.twin import Twin
from edgecompress.tflite.facts.census import census
from edgecompress.tflite.format.convert import convert
from edgecompress.tflite.format.finish import finish
from edgecompress.tflite.format.flatbuffer import read_model
from edgecompress.tflite.format.labels import operator_labels
from edgecompress.tflite.runtime.runtimes import RUNTIMES
from edgecompress.tflite.runtime.session import dequantize_output, quantize_input

COLUMNS = ("operators", "same", "mean_steps", "p999_steps", "max_steps", "all_int8", "kinds")
SAMPLES = 1000
CALIBRATION_SAMPLES = 128
ACTIVATIONS: tuple[type[nn.Module], ...] = (
    nn.ReLU, nn.ReLU, nn.ReLU6, nn.Hardswish, nn.Sigmoid, nn.Tanh, nn.SiLU, nn.LeakyReLU, nn.Identity,
)  # fmt: skip


class Sum(nn.Module):
    """A residual block."""

    def __init__(self, body: nn.Module) -> None:
        """Takes what is added to the input."""
        super().__init__()
        self.body = body

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Returns x + body(x)."""
        return x + self.body(x)


class Fork(nn.Module):
    """Two branches, concatenated."""

    def __init__(self, left: nn.Module, right: nn.Module) -> None:
        """Takes the branches."""
        super().__init__()
        self.left, self.right = left, right

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Returns both outputs, along the channels."""
        return torch.cat([self.left(x), self.right(x)], dim=1)


class Gate(nn.Module):
    """Squeeze and excite (Hu et al. 2018)."""

    def __init__(self, channels: int, gate: nn.Module) -> None:
        """Takes the width and the gate's activation."""
        super().__init__()
        self.fc, self.gate = nn.Conv2d(channels, channels, 1), gate

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Returns x, its channels weighted."""
        return x * self.gate(self.fc(x.mean((2, 3), keepdim=True)))


def random_net(seed: int) -> tuple[nn.Module, tuple[int, int, int]]:
    """Returns a network in evaluation mode and the shape of its input, always the same for a seed."""
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    shape = (int(rng.integers(1, 5)), int(rng.integers(8, 17)), int(rng.integers(8, 17)))
    channels, side = int(rng.integers(4, 17)), min(shape[1:])
    layers: list[nn.Module] = [_conv(rng, shape[0], channels, 3)]
    for _ in range(int(rng.integers(2, 7))):
        kind = str(rng.choice(list(BLOCKS)))
        if kind in HALVING:
            kind, side = (kind, side // 2) if side >= SMALLEST_HALVED else ("conv", side)
        block, channels = BLOCKS[kind](rng, channels)
        layers.append(block)
    classes, hidden = int(rng.integers(2, 21)), int(rng.integers(8, 33))
    layers += [
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(channels, hidden),
        nn.ReLU(),
        nn.Linear(hidden, classes),
    ]
    net = nn.Sequential(*layers)
    for layer in net.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.normal_(layer.running_mean, std=0.5)  # type: ignore[arg-type]
            nn.init.uniform_(layer.running_var, 0.5, 2.0)  # type: ignore[arg-type]
            nn.init.uniform_(layer.weight, 0.5, 2.0)
            nn.init.normal_(layer.bias, std=0.5)
    return net.eval(), shape


def _activation(rng: np.random.Generator) -> nn.Module:
    return ACTIVATIONS[int(rng.integers(len(ACTIVATIONS)))]()


def _conv(
    rng: np.random.Generator, before: int, after: int, kernel: int, stride: int = 1, groups: int = 1
) -> nn.Sequential:
    normed = bool(rng.integers(10) < 7)
    layers: list[nn.Module] = [nn.Conv2d(before, after, kernel, stride, kernel // 2, groups=groups, bias=not normed)]
    if normed:
        layers.append(nn.BatchNorm2d(after))
    return nn.Sequential(*layers, _activation(rng))


def _plain(rng: np.random.Generator, channels: int, stride: int = 1) -> tuple[nn.Module, int]:
    after = int(rng.integers(4, 25))
    return _conv(rng, channels, after, int(rng.choice([1, 3, 5])), stride), after


def _depthwise(rng: np.random.Generator, channels: int) -> tuple[nn.Module, int]:
    return _conv(rng, channels, channels, 3, groups=channels), channels


def _sum(rng: np.random.Generator, channels: int) -> tuple[nn.Module, int]:
    return nn.Sequential(Sum(_conv(rng, channels, channels, 3)), _activation(rng)), channels


def _fork(rng: np.random.Generator, channels: int) -> tuple[nn.Module, int]:
    left, right = int(rng.integers(4, 13)), int(rng.integers(4, 13))
    return Fork(_conv(rng, channels, left, 3), _conv(rng, channels, right, 1)), left + right


def _gate(rng: np.random.Generator, channels: int) -> tuple[nn.Module, int]:
    return Gate(channels, nn.Sigmoid() if rng.integers(2) else nn.Hardsigmoid()), channels


def _pad(rng: np.random.Generator, channels: int) -> tuple[nn.Module, int]:
    return nn.ZeroPad2d([int(side) for side in rng.integers(0, 2, 4)]), channels


#: Kind of block -> what builds one for a number of channels and tells how many come out.
BLOCKS: dict[str, Callable[[np.random.Generator, int], tuple[nn.Module, int]]] = {
    "conv": _plain,
    "down": lambda rng, channels: _plain(rng, channels, 2),
    "depthwise": _depthwise,
    "sum": _sum,
    "fork": _fork,
    "gate": _gate,
    "max": lambda _rng, channels: (nn.MaxPool2d(2), channels),
    "mean": lambda _rng, channels: (nn.AvgPool2d(2), channels),
    "pad": _pad,
}
HALVING = frozenset({"down", "max", "mean"})
SMALLEST_HALVED = 6


def measure(seed: int, folder: Path, samples: int = SAMPLES) -> dict[str, Any]:
    """Converts and quantizes a random network, and returns how far its flatbuffer is from its twin."""
    net, shape = random_net(seed)
    floating, path = folder / f"{seed}-float.tflite", folder / f"{seed}.tflite"
    convert(net, shape, floating)
    structure = quantized_structure(floating.read_bytes())
    labels = operator_labels(read_model(structure), net)
    twin = Twin(read_model(structure), read_model(floating), labels).eval()
    generator = torch.Generator().manual_seed(seed)
    twin.calibrate(torch.randn(CALIBRATION_SAMPLES, *shape, generator=generator).split(32))
    model = read_model(structure)
    twin.write_into(model)
    content, labels = finish(model, labels, "int8")
    path.write_bytes(content)
    x = torch.randn(samples, *shape, generator=generator)
    with torch.no_grad():
        expected = torch.cat([twin(part) for part in x.split(100)]).numpy()
    session = RUNTIMES["litert"].session(path, threads=1)
    raw = session.run(quantize_input(x.permute(0, 2, 3, 1).numpy(), session.input))
    step = twin.groups[twin.group_of[twin.graph.output]].scale
    found = compare_answers(dequantize_output(raw, session.output), expected, step)
    kinds = Counter(node.op for node in twin.graph.nodes)
    return {
        "operators": len(twin.graph.nodes),
        "same": round(found.same, 3),
        "mean_steps": round(found.mean_steps, 5),
        "p999_steps": round(found.p999_steps, 3),
        "max_steps": round(found.max_steps, 3),
        "all_int8": not census(read_model(content), labels=labels).as_dict()["not_int8"],
        "kinds": " ".join(f"{name}:{count}" for name, count in sorted(kinds.items())),
    }


def main() -> None:
    """Runs the missing seeds and prints how many are within the bound."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--first", type=int, default=0)
    options = parser.parse_args()
    table = Table(RESULTS / "random_graphs.csv", COLUMNS)
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(options.first, options.first + options.count):
            if not table.done("random", seed):
                table.append("random", seed, **measure(seed, Path(folder)))
                print(table.rows()[-1], flush=True)
    steps = table.column("random", "p999_steps")
    print(f"{len(steps)} networks; within 2 steps at the 99.9th percentile: {sum(step <= 2.01 for step in steps)}")


if __name__ == "__main__":
    main()
