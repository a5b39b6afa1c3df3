"""Every choice of integers: the flatbuffer has the types asked for, runs, and computes what its twin computes."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from ai_edge_litert import schema_py_generated as schema
from torch import nn

from edgecompress.quantization.graph.graph import pack_int4, unpack_int4
from edgecompress.quantization.grids.fake import fake_dynamic
from edgecompress.quantization.grids.ranges import INT16, scale_and_zero_point
from edgecompress.quantization.proof.compare import compare_answers, compare_layers
from edgecompress.quantization.structure.scheme import Activations, Scheme, Weights, Wide
from edgecompress.quantization.structure.structure import quantized_structure
from edgecompress.quantization.twin.twin import Twin
from edgecompress.tflite.format.convert import convert
from edgecompress.tflite.format.flatbuffer import read_model
from edgecompress.tflite.format.views import dtype_name, op_name
from tests.unit.converted_net import Converted, images, run_flatbuffer, shipped


def with_scheme(converted: Converted, scheme: Scheme) -> Converted:
    return replace(converted, structure=quantized_structure(converted.floating.read_bytes(), scheme))


def operators(content: bytes) -> list[tuple[str, str, str, str]]:
    """Returns of each operator its name and the types of its input, its second input and its output."""
    model = read_model(content)
    graph = model.subgraphs[0]

    def kind(numbers: np.ndarray, place: int) -> str:
        return dtype_name(graph.tensors[numbers[place]].type) if place < len(numbers) else ""

    return [(op_name(model, op), kind(op.inputs, 0), kind(op.inputs, 1), kind(op.outputs, 0)) for op in graph.operators]


def names(converted: Converted) -> list[str]:
    graph = read_model(converted.floating).subgraphs[0]
    return [graph.tensors[op.outputs[0]].name.decode() for op in graph.operators]


def calibrated(converted: Converted) -> Twin:
    twin = converted.twin()
    twin.calibrate([images(64)])
    return twin


def outputs(twin: Twin, x: torch.Tensor) -> np.ndarray:
    with torch.no_grad():
        return np.asarray(twin(x).numpy())


def error(twin: Twin) -> float:
    x = images(100, 1)
    with twin.floating():
        expected = outputs(twin, x)
    return float(np.sqrt(((outputs(twin, x) - expected) ** 2).mean()))


@pytest.mark.parametrize("weights", ["int8", "int4"])
@pytest.mark.parametrize("activations", ["int8", "int16", "dynamic", "float32"])
def test_the_flatbuffer_computes_what_its_twin_computes(
    converted: Converted, weights: Weights, activations: Activations
) -> None:
    made = with_scheme(converted, Scheme(weights, activations))
    twin = calibrated(made)
    io = activations if activations in ("int8", "int16") else "float32"
    content, _ = shipped(made, twin, io)
    x = images(60, 1)
    expected = outputs(twin, x)
    # Where the output is float, a step is what it would be in INT8.
    group = twin.groups[twin.group_of[twin.graph.output]] if twin.graph.output in twin.group_of else None
    step = group.scale if group else float(np.ptp(expected)) / 255
    found = compare_answers(run_flatbuffer(content, x).astype(np.float32), expected, step)
    assert found.same == 100.0
    assert found.p999_steps <= {"int8": 3.01, "int16": 16.0, "dynamic": 0.5, "float32": 0.01}[activations]
    layers = compare_layers(twin, read_model(content), content, x[:8].permute(0, 2, 3, 1).numpy())
    assert not [layer for layer in layers if layer.differs]
    inner = "float32" if activations in ("dynamic", "float32") else activations
    for op, source, second, target in operators(content):
        if op in ("CONV_2D", "FULLY_CONNECTED", "DEPTHWISE_CONV_2D"):
            assert (source, target) == (inner, inner)
            if activations == "float32":
                assert second == "float32"
            else:
                assert second == ("int8" if op == "DEPTHWISE_CONV_2D" else weights)
    stored = {dtype_name(t.type) for t in read_model(content).subgraphs[0].tensors}
    assert weights in stored


@pytest.mark.parametrize("wide", ["int16", "float32"])
def test_single_operators_are_kept_wider(converted: Converted, wide: str) -> None:
    kept = names(converted)[3:5]  # a sum and the padding behind it
    made = with_scheme(converted, Scheme(wide=dict.fromkeys(kept, wide)))  # type: ignore[arg-type]
    twin = calibrated(made)
    content, _ = shipped(made, twin)
    found = operators(content)
    assert [op for op, source, _, target in found if source == target == wide] == ["ADD", "PAD"]
    assert {op for op, source, _, target in found if wide in (source, target)} <= {
        "ADD", "PAD", "QUANTIZE", "DEQUANTIZE",
    }  # fmt: skip
    x = images(60, 1)
    step = twin.groups[twin.group_of[twin.graph.output]].scale
    answers = compare_answers(run_flatbuffer(content, x).astype(np.float32), outputs(twin, x), step)
    assert answers.same == 100.0
    assert answers.p999_steps <= 2.01


@pytest.mark.parametrize("wide", ["int16", "float32"])
@pytest.mark.parametrize("io", ["int8", "uint8", "float32"])
def test_a_wider_last_layer_leaves_the_output_as_asked(converted: Converted, wide: str, io: str) -> None:
    kept = dict.fromkeys(names(converted)[-1:], wide)
    made = with_scheme(converted, Scheme(wide=kept, wide_output=io == "float32"))  # type: ignore[arg-type]
    twin = calibrated(made)
    content, _ = shipped(made, twin, io)
    found = operators(content)
    assert next(target for op, _, _, target in found if op == "FULLY_CONNECTED") == wide
    assert found[-1][3] == io
    # Its values reach a float output without a detour over eight bits.
    assert ("QUANTIZE", wide, "", "int8") not in found[-2:] or io != "float32"
    x = images(60, 1)
    expected = outputs(twin, x)
    assert (run_flatbuffer(content, x).argmax(1) == expected.argmax(1)).all()
    samples = x[:8].permute(0, 2, 3, 1).numpy()
    assert not [layer for layer in compare_layers(twin, read_model(content), content, samples) if layer.differs]


def test_sixteen_bits_lose_less_than_eight_and_four_lose_more(converted: Converted) -> None:
    errors = {
        name: error(calibrated(with_scheme(converted, scheme)))
        for name, scheme in {
            "int8": Scheme(), "int16": Scheme(activations="int16"), "int4": Scheme(weights="int4"),
            "weight-only": Scheme(activations="float32"),
        }.items()
    }  # fmt: skip
    assert errors["weight-only"] < errors["int16"] < errors["int8"] < errors["int4"]


def test_an_operator_without_an_int16_kernel_stays_in_float(converted: Converted) -> None:
    found = operators(with_scheme(converted, Scheme(activations="int16")).structure)
    assert [op for op, source, _, target in found if source == target == "float32"] == ["HARD_SWISH"]


def test_int16_is_symmetric() -> None:
    scale, zero_point = scale_and_zero_point(-1.0, 2.0, INT16)
    assert zero_point == 0
    assert scale == np.float32(2.0 / 32767)


@pytest.mark.parametrize("count", [1, 2, 7, 16])
def test_four_bits_come_back(count: int) -> None:
    values = np.random.default_rng(count).integers(-8, 8, count).astype(np.int8)
    packed = pack_int4(values)
    assert len(packed) == (count + 1) // 2
    assert unpack_int4(packed)[:count].tolist() == values.tolist()


def test_inputs_quantized_on_the_fly_keep_each_samples_own_range() -> None:
    x = torch.tensor([[0.0, 1.0, 0.4999], [0.0, 100.0, 49.99]])
    found = fake_dynamic(x, 1)
    assert torch.allclose(found[0] * 100, found[1])
    assert float((found - x).abs()[0].max()) <= 0.5 / 255 + 1e-6
    assert torch.equal(fake_dynamic(torch.zeros(2, 3), 1), torch.zeros(2, 3))


def test_linear_layers_quantize_their_inputs_asymmetrically_in_every_runtime(converted: Converted) -> None:
    """Without the flag LiteRT's own kernels, unlike XNNPACK's, would halve the steps of inputs above zero."""
    model = read_model(with_scheme(converted, Scheme(activations="dynamic")).structure)
    flags = [
        op.builtinOptions.asymmetricQuantizeInputs
        for op in model.subgraphs[0].operators
        if op.builtinOptionsType == schema.BuiltinOptions.FullyConnectedOptions
    ]
    assert flags == [True]


@pytest.mark.parametrize("weights", ["int8", "int4"])
@pytest.mark.parametrize(("kernel", "stride", "groups"), [(1, 1, 1), (1, 2, 1), (1, 1, 2), (3, 1, 1)])
def test_convolutions_quantize_their_inputs_by_picture_or_by_pixel_as_xnnpack_does(
    tmp_path: Path, weights: Weights, kernel: int, stride: int, groups: int
) -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(4, 8, kernel, stride, groups=groups)
    module, path = nn.Sequential(conv, nn.Flatten()).eval(), tmp_path / "float.tflite"
    convert(module, (4, 6, 6), path)
    made = Converted(module, path, quantized_structure(path.read_bytes(), Scheme(weights, "dynamic")))
    twin = made.twin()
    content, _ = shipped(made, twin, "float32")
    x = torch.randn(6, 4, 6, 6)
    assert np.abs(run_flatbuffer(content, x) - outputs(twin, x)).max() < 1e-5
    samples = x[:2].permute(0, 2, 3, 1).numpy()
    (found, *_) = compare_layers(twin, read_model(content), content, samples)  # without XNNPACK
    assert (found.op, found.max_steps < 0.5) == ("CONV_2D", True)


@pytest.mark.parametrize("kind", ["dynamic", "float32", "wide"])
def test_float_weights_and_biases_that_training_changed_are_written(converted: Converted, kind: str) -> None:
    kept: dict[str, Wide] = dict.fromkeys(names(converted)[-1:], "float32")
    scheme = Scheme(wide=kept) if kind == "wide" else Scheme(activations=kind)  # type: ignore[arg-type]
    made = with_scheme(converted, scheme)
    twin = calibrated(made)
    with torch.no_grad():
        for weight in twin.weights.values():
            weight.mul_(1.25).add_(0.01)
    twin.calibrate([images(64)])
    content, _ = shipped(made, twin, "int8" if kind == "wide" else "float32")
    x = images(40, 1)
    step = 1.0 if kind != "wide" else twin.groups[twin.group_of[twin.graph.output]].scale
    found = compare_answers(run_flatbuffer(content, x).astype(np.float32), outputs(twin, x), step)
    assert found.max_steps <= (2.01 if kind == "wide" else 0.05)
    samples = x[:4].permute(0, 2, 3, 1).numpy()
    assert not [layer for layer in compare_layers(twin, read_model(content), content, samples) if layer.differs]
    with torch.no_grad():
        twin.weights[str(next(n for n in twin.biases if not twin.graph.tensors[n].quantized))][0] += 0.001
    (planted,) = [one for one in compare_layers(twin, read_model(content), content, samples) if one.weights_differ]
    assert planted.op in ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")


def test_wider_types_are_for_the_named_operators_alone() -> None:
    """litert-torch names a linear layer behind a norm after both: all of the norm's name, and more."""
    scheme = Scheme(wide={"net/norm;": "float32", "net/split;;net/split;1": "float32"})
    (scope,) = (one.scope for one in scheme.instructions() if "norm" in one.scope)
    # The quantizer searches in the names of an operator's outputs, each with a semicolon behind it.
    assert re.search(scope, "net/norm;;")
    assert re.search(scope, "net/split;;net/split;1;")
    assert not re.search(scope, "net/norm;;net/query;1;")
    assert not re.search(scope, "net/norm;1;")
