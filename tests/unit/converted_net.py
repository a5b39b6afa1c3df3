"""A small network with many kinds of layers, for the tests that need the real converter and the real quantizer."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from edgecompress.quantization.twin.twin import Twin
from edgecompress.tflite.format.finish import finish
from edgecompress.tflite.format.flatbuffer import read_model

#: Of one sample, as the network takes it.
INPUT_SHAPE = (3, 12, 12)


class EveryKind(nn.Module):
    """Residual, depthwise, concatenation, pooling, hard swish, a gate and a linear layer in one small net."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU())
        self.depthwise = nn.Sequential(
            nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=False), nn.BatchNorm2d(8), nn.Hardswish()
        )
        self.down = nn.Sequential(nn.Conv2d(8, 16, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU6())
        self.gate = nn.Conv2d(16, 16, 1)
        self.pool = nn.MaxPool2d(2)
        self.head = nn.Linear(32, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        x = x + self.depthwise(x)
        x = self.down(x)
        x = x * torch.sigmoid(self.gate(x.mean((2, 3), keepdim=True)))
        x = torch.cat([self.pool(x), nn.functional.avg_pool2d(x, 2)], dim=1)
        return self.head(x.mean((2, 3)))


def every_kind() -> EveryKind:
    """Returns the network in evaluation mode, always with the same weights, its batch norms not neutral."""
    torch.manual_seed(3)
    module = EveryKind()
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_mean.normal_()
            layer.running_var.uniform_(0.5, 2.0)
            nn.init.uniform_(layer.weight, 0.5, 2.0)
            nn.init.normal_(layer.bias)
    return module.eval()


@dataclass(frozen=True)
class Converted:
    """A network and its flatbuffers."""

    module: nn.Module
    floating: Path
    structure: bytes

    def twin(self) -> Twin:
        """Returns a fresh twin, ranges not calibrated."""
        structure = read_model(self.structure)
        labels = [f"layer{k}" for k in range(len(structure.subgraphs[0].operators))]
        return Twin(structure, read_model(self.floating), labels).eval()


def shipped(converted: Converted, twin: Twin, io: str = "int8") -> tuple[bytes, list[str]]:
    """Returns the flatbuffer that holds a twin's weights and ranges, and its labels."""
    model = read_model(converted.structure)
    twin.write_into(model)
    return finish(model, [node.label for node in twin.graph.nodes], io)


def images(count: int, seed: int = 0) -> torch.Tensor:
    """Returns random pictures, (count, 3, 12, 12)."""
    return torch.randn(count, *INPUT_SHAPE, generator=torch.Generator().manual_seed(seed))


def run_flatbuffer(content: bytes, inputs: torch.Tensor) -> np.ndarray:
    """Returns the flatbuffer's outputs as real numbers for NCHW float inputs."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=content)
    interpreter.allocate_tensors()
    source, sink = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    outputs = []
    for sample in inputs.permute(0, 2, 3, 1).numpy():
        x = sample[None]
        if source["dtype"] != np.float32:
            scale, zero_point = source["quantization"]
            info = np.iinfo(source["dtype"])
            x = np.clip(np.rint(x / scale) + zero_point, info.min, info.max)
        interpreter.set_tensor(source["index"], x.astype(source["dtype"]))
        interpreter.invoke()
        y = interpreter.get_tensor(sink["index"])[0].astype(np.float64)
        if sink["dtype"] != np.float32:
            scale, zero_point = sink["quantization"]
            y = (y - zero_point) * scale
        outputs.append(y)
    return np.array(outputs)
