"""The last pass keeps what is computed and drops what is only overhead."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter
from torch import nn

from edgecompress.errors import ModelError
from edgecompress.quantization.structure.structure import quantized_structure
from edgecompress.tflite.format.convert import convert
from edgecompress.tflite.format.finish import finish
from edgecompress.tflite.format.flatbuffer import read_model
from edgecompress.tflite.format.labels import module_paths, operator_labels
from edgecompress.tflite.format.packing import pack


class Block_With_Name(nn.Module):  # noqa: N801 - underscores in class names are the point
    def __init__(self) -> None:
        super().__init__()
        self.conv_a = nn.Conv2d(8, 8, 3, padding=1)
        self.conv_b = nn.Conv2d(8, 8, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(x + self.conv_b(torch.relu(self.conv_a(x))))


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU())
        self.body = nn.Sequential(Block_With_Name(), Block_With_Name())
        self.head = nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(nn.functional.avg_pool2d(self.body(self.stem(x)), 8).flatten(1))


@pytest.fixture(scope="module")
def net() -> Net:
    torch.manual_seed(0)
    return Net().eval()


@pytest.fixture(scope="module")
def floating(net: Net, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path: Path = tmp_path_factory.mktemp("finish") / "float.tflite"
    convert(net, (1, 8, 8), path)
    return path.read_bytes()


@pytest.fixture(scope="module")
def quantized(floating: bytes) -> bytes:
    return quantized_structure(floating)


def outputs(content: bytes) -> np.ndarray:
    interpreter = Interpreter(model_content=content)
    interpreter.allocate_tensors()
    source, sink = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    x = np.random.default_rng(0).standard_normal(source["shape"])
    if source["dtype"] != np.float32:
        info = np.iinfo(source["dtype"])
        x = np.clip(np.rint(x / source["quantization"][0]) + source["quantization"][1], info.min, info.max)
    interpreter.set_tensor(source["index"], x.astype(source["dtype"]))
    interpreter.invoke()
    y = interpreter.get_tensor(sink["index"]).astype(np.float64)
    return y if sink["dtype"] == np.float32 else (y - sink["quantization"][1]) * sink["quantization"][0]


def test_layers_are_named_after_their_modules(net: Net, floating: bytes, quantized: bytes) -> None:
    for content in (floating, quantized):
        labels = operator_labels(read_model(content), net)
        assert [label for label in labels if "conv" in label or label in ("stem.0", "head")] == [
            "stem.0",
            "body.0.conv_a",
            "body.0.conv_b",
            "body.1.conv_a",
            "body.1.conv_b",
            "head",
        ]
        assert "body.0.add" in labels
        assert len(set(labels)) == len(labels)


def test_paths_are_exact_where_class_names_hold_underscores(net: Net) -> None:
    paths = module_paths(net)
    written = next(path for path, dotted in paths.items() if dotted == "body.1.conv_b")
    assert written.endswith("Block_With_Name_1/torch.nn.modules.conv.Conv2d_conv_b")


@pytest.mark.parametrize(
    ("io", "kinds"),
    [("int8", (np.int8, np.int8)), ("uint8", (np.uint8, np.uint8)), ("float32", (np.float32, np.float32))],
)
def test_every_io_type_computes_the_same(net: Net, quantized: bytes, io: str, kinds: tuple[type, type]) -> None:
    model = read_model(quantized)
    content, labels = finish(model, operator_labels(model, net), io)
    interpreter = Interpreter(model_content=content)
    assert (interpreter.get_input_details()[0]["dtype"], interpreter.get_output_details()[0]["dtype"]) == kinds
    np.testing.assert_allclose(outputs(content), outputs(quantized), atol=1e-5)
    assert len(labels) == len(read_model(content).subgraphs[0].operators)


def test_a_float_model_has_no_integer_input(net: Net, floating: bytes) -> None:
    model = read_model(floating)
    with pytest.raises(ModelError, match="float32, so it cannot become int8"):
        finish(model, operator_labels(model, net), "int8")


def test_it_is_smaller_repeatable_and_readable(net: Net, quantized: bytes) -> None:
    def finished() -> bytes:
        model = read_model(quantized)
        return finish(model, operator_labels(model, net), "int8")[0]

    content = finished()
    assert content == finished()
    assert len(content) < 0.8 * len(quantized)
    assert b"litert_torch" not in content
    signatures = Interpreter(model_content=content).get_signature_list()
    assert signatures == {"serving_default": {"inputs": ["input"], "outputs": ["output"]}}
    np.testing.assert_array_equal(outputs(content), outputs(quantized))


def test_equal_buffers_and_vectors_are_stored_once_and_aligned(net: Net, quantized: bytes) -> None:
    model = read_model(quantized)
    content, _ = finish(model, operator_labels(model, net), "int8")
    shipped = read_model(content)
    data = [bytes(buffer.data) for buffer in shipped.buffers if buffer.data is not None]
    assert len(set(data)) == len(data)
    used = {tensor.buffer for tensor in shipped.subgraphs[0].tensors}
    assert used | {entry.buffer for entry in shipped.metadata} | {0} == set(range(len(shipped.buffers)))
    root = schema.Model.GetRootAs(content, 0)
    for number in range(root.BuffersLength()):
        buffer = root.Buffers(number)
        if buffer.DataLength():
            start = buffer._tab.Vector(buffer._tab.Offset(4))
            assert start % 16 == 0
    vectors = {
        tensor.Quantization()._tab.Vector(tensor.Quantization()._tab.Offset(10))
        for tensor in (root.Subgraphs(0).Tensors(k) for k in range(root.Subgraphs(0).TensorsLength()))
        if tensor.Quantization() is not None and tensor.Quantization().ZeroPointLength() == 8
    }
    assert len(vectors) == 1


def test_packing_keeps_external_buffers(floating: bytes) -> None:
    assert pack(read_model(pack(read_model(floating)))) == pack(read_model(floating))


def test_what_cannot_be_converted_is_a_clear_error(tmp_path: Path) -> None:
    class Branching(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.flatten(1) if x.sum() > 0 else -x.flatten(1)

    with pytest.raises(ModelError, match="could not be converted"):
        convert(Branching(), (1, 8, 8), tmp_path / "x.tflite")
    assert not (tmp_path / "x.tflite").exists()
