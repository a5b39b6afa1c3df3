"""The INT8 graph that ai-edge-quantizer decides on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import nn

from edgecompress.quantization.structure.structure import quantized_structure
from edgecompress.quantization.twin.twin import Twin
from edgecompress.tflite.facts.census import census
from edgecompress.tflite.format.convert import convert
from edgecompress.tflite.format.finish import finish
from edgecompress.tflite.format.flatbuffer import read_model, write_model
from edgecompress.tflite.format.labels import operator_labels
from edgecompress.tflite.format.views import graph_views
from edgecompress.tflite.runtime.runtimes import RUNTIMES
from edgecompress.tflite.runtime.session import quantize_input
from tests.unit.converted_net import Converted


def test_every_operator_is_int8(converted: Converted) -> None:
    assert census(read_model(converted.structure)).not_int8 == ()


def test_operators_are_those_of_the_float_flatbuffer(converted: Converted) -> None:
    def kinds(content: bytes) -> list[str]:
        return [op.op for op in graph_views(read_model(content))[0].ops if op.op != "QUANTIZE"]

    assert kinds(converted.structure) == kinds(converted.floating.read_bytes())


def test_weights_are_symmetric_and_per_channel(converted: Converted) -> None:
    view = graph_views(read_model(converted.structure))[0]
    for op in view.ops:
        weight = view.weight(op)
        if weight is not None:
            channels = weight.shape[3] if op.op == "DEPTHWISE_CONV_2D" else weight.shape[0]
            assert len(weight.scale) == channels
            assert not any(weight.zero_point)
            assert weight.dtype == "int8"


class Grouped(nn.Module):
    """A matrix for each of three groups."""

    def __init__(self) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.randn(3, 4, 5) * torch.tensor([0.1, 1.0, 3.0]).reshape(3, 1, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.matmul(x, self.factor)


def test_constants_that_a_product_multiplies_by_have_one_scale_in_twin_and_file(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module, path = Grouped(), tmp_path / "float.tflite"
    convert(module.eval(), (3, 2, 4), path)
    model = read_model(quantized_structure(path.read_bytes()))
    view = graph_views(model)[0]
    (op,) = (one for one in view.ops if one.op == "BATCH_MATMUL")
    stored = next(view.tensors[n] for n in op.inputs if view.tensors[n].is_constant)
    assert (stored.dtype, len(stored.scale), stored.zero_point) == ("int8", 1, (0,))
    np.testing.assert_allclose(stored.scale[0], float(module.factor.detach().abs().max()) / 127, rtol=0.01)
    labels = operator_labels(model, module)
    twin = Twin(read_model(write_model(model)), read_model(path), labels).eval()
    x = torch.randn(64, 3, 2, 4)
    twin.calibrate([x])
    twin.write_into(model)
    path.write_bytes(finish(model, labels, "int8")[0])
    session = RUNTIMES["litert"].session(path)
    found = np.concatenate(
        [session.run(quantize_input(one[None].permute(0, 2, 3, 1).numpy(), session.input)) for one in x]
    )
    group = twin.groups[twin.group_of[twin.graph.output]]
    with torch.no_grad():
        expected = np.rint(twin(x).numpy() / group.scale) + group.zero_point
    np.testing.assert_array_equal(found, expected)


def test_it_is_the_same_every_time(converted: Converted) -> None:
    again = read_model(quantized_structure(converted.floating.read_bytes()))
    first = read_model(converted.structure)
    assert graph_views(again) == graph_views(first)
    for a, b in zip(again.buffers, first.buffers, strict=True):
        assert np.array_equal(np.asarray(a.data), np.asarray(b.data))
