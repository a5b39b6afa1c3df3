"""Channels in front of a depthwise convolution: scaled to one range, the function what it was."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from edgecompress.quantization.proof.layers import walk
from edgecompress.quantization.repairs.even_channels import LARGEST_GROWTH, MARGIN, even_out
from edgecompress.quantization.structure.structure import quantized_structure
from edgecompress.quantization.twin.twin import Twin
from edgecompress.tflite.format.convert import convert
from tests.unit.converted_net import Converted, images


class Expanded(nn.Module):
    """A convolution into channels of very different sizes, a depthwise one over a padded map, a linear layer."""

    def __init__(self, activation: type[nn.Module], sizes: list[float]) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, len(sizes), 1), nn.Conv2d(len(sizes), len(sizes), 3, groups=len(sizes), stride=2)
        self.activation, self.head = activation(), nn.Linear(len(sizes), 5)
        with torch.no_grad():
            self.a.weight.mul_(torch.tensor(sizes).reshape(-1, 1, 1, 1))
            self.a.bias.mul_(torch.tensor(sizes))
            self.b.weight.div_(torch.tensor(sizes).clamp(min=1e-3).reshape(-1, 1, 1, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.activation(self.b(nn.functional.pad(self.activation(self.a(x)), (0, 1, 0, 1))))
        return self.head(nn.functional.avg_pool2d(x, 6).flatten(1))


def expanded(folder: Path, activation: type[nn.Module], sizes: list[float]) -> Converted:
    torch.manual_seed(5)
    module, path = Expanded(activation, sizes).eval(), folder / "float.tflite"
    convert(module, (3, 12, 12), path)
    return Converted(module, path, quantized_structure(path.read_bytes()))


def reaches(twin: Twin, x: torch.Tensor) -> torch.Tensor:
    """Returns the largest magnitude of each channel of the first layer's output."""
    first = twin.graph.nodes[0]
    found: dict[int, torch.Tensor] = {}
    twin.observe([x], lambda k, values: found.setdefault(k, values.abs().flatten(0, -2).amax(0)))
    return found[twin.group_of[first.outputs[0]]]


def depthwise(twin: Twin, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns what the depthwise convolution makes of its input on the grid, not rounded itself, and in float."""
    layer = next(layer for layer in walk(twin, x) if layer.node.op == "DEPTHWISE_CONV_2D")
    with twin.floating():
        (rounded,) = twin.run_node(layer.node, layer.given)
    return rounded, layer.target[0]


@pytest.mark.parametrize("activation", [nn.ReLU, nn.Identity, nn.ReLU6])
def test_every_channel_comes_to_use_the_range(tmp_path: Path, activation: type[nn.Module]) -> None:
    converted = expanded(tmp_path, activation, [1.0, 0.5, 0.25, 0.2])
    twin, x = converted.twin(), images(64)
    twin.calibrate([x])
    before, (rounded, exact) = reaches(twin, x), depthwise(twin, x)
    assert float(before.max()) < 6.0
    assert even_out(twin, x.split(20)) == 1
    after = reaches(twin, x)
    torch.testing.assert_close(after, before.max().expand_as(after))
    twin.calibrate([x])
    better, same = depthwise(twin, x)
    torch.testing.assert_close(same, exact, rtol=1e-4, atol=1e-5)
    assert float((better - exact).square().mean()) < float((rounded - exact).square().mean()) / 2


def test_channels_that_reach_the_ceiling_stay_and_no_other_gets_there(tmp_path: Path) -> None:
    converted = expanded(tmp_path, nn.ReLU6, [20.0, 1.0, 1e-4, 0.0])
    twin, x = converted.twin(), images(64)
    twin.calibrate([x])
    before, (_, exact) = reaches(twin, x), depthwise(twin, x)
    assert float(before[0]) == 6.0
    assert even_out(twin, [x]) == 1
    after = reaches(twin, x)
    assert float(after[0]) == 6.0
    assert float(after[1]) == pytest.approx(MARGIN * 6.0, rel=1e-4)
    assert float(after[2]) == pytest.approx(LARGEST_GROWTH * float(before[2]), rel=1e-4)
    assert float(after[3]) == 0.0
    twin.calibrate([x])
    torch.testing.assert_close(depthwise(twin, x)[1], exact, rtol=1e-4, atol=1e-5)


def test_other_activations_and_other_layers_are_left_alone(tmp_path: Path) -> None:
    converted = expanded(tmp_path, nn.Hardswish, [1.0, 0.1])
    twin = converted.twin()
    twin.calibrate([images(8)])
    weights = {key: weight.detach().clone() for key, weight in twin.weights.items()}
    assert even_out(twin, [images(8)]) == 0
    assert all(torch.equal(twin.weights[key], weight) for key, weight in weights.items())
