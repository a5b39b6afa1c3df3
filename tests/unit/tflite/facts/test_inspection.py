"""What is told about a real INT8 model, checked against the torch module it came from."""

from __future__ import annotations

import hashlib
import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgecompress.errors import ResourceError
from edgecompress.models.count import count
from edgecompress.tflite.facts import inspection
from edgecompress.tflite.facts.inspection import inspect_flatbuffer
from tests.unit.converted_net import INPUT_SHAPE, Converted
from tests.unit.made_flatbuffer import Made, Op, constant, int8, make_bytes


@pytest.fixture(scope="module")
def told(int8_file: Path) -> dict[str, Any]:
    return inspect_flatbuffer(int8_file)


def test_it_is_plain_json(told: dict[str, Any]) -> None:
    assert json.loads(json.dumps(told)) == told


def test_the_file_is_identified(told: dict[str, Any], int8_file: Path) -> None:
    content = int8_file.read_bytes()
    assert told["file"] == str(int8_file)
    assert told["size_bytes"] == len(content)
    assert told["sha256"] == hashlib.sha256(content).hexdigest()
    assert told["signatures"] == ["serving_default"]
    assert told["subgraphs"] == 1
    assert told["not_int8"] == []


def test_layers_macs_and_weights_are_those_of_the_module(told: dict[str, Any], converted: Converted) -> None:
    counts = count(converted.module, INPUT_SHAPE)
    assert told["macs"] == counts.macs
    weighted = [layer for layer in told["layers"] if layer["weight_shape"]]
    assert sorted(layer["macs"] for layer in weighted) == sorted(layer.macs for layer in counts.layers)
    params = sum(p.numel() for p in converted.module.parameters() if p.ndim > 1)
    assert told["weights"]["count"] == params == sum(layer["sparsity"]["weights"] for layer in weighted)
    assert told["weights"]["zeros"] == sum(layer["sparsity"]["zeros"] for layer in weighted)
    assert told["weights"]["share"] == told["weights"]["zeros"] / params
    assert {layer["dtypes"] for layer in told["layers"]} == {"int8"}
    assert [layer["index"] for layer in told["layers"]] == list(range(len(told["layers"])))
    assert sum(entry["count"] for entry in told["ops"].values()) == len(told["layers"])


def test_weights_are_per_channel_and_symmetric(told: dict[str, Any]) -> None:
    convolutions = [layer for layer in told["layers"] if layer["op"] in {"CONV_2D", "DEPTHWISE_CONV_2D"}]
    assert len(convolutions) == 4
    for layer in convolutions:
        assert layer["weight_dtype"] == "int8"
        parameters = layer["weight_quantization"]
        assert parameters["symmetric"]
        assert parameters["kind"] == "per channel"
        assert parameters["scales"] == layer["output_shape"][-1]
        assert 0 < parameters["least_scale"] <= parameters["greatest_scale"]
        assert layer["constant_bytes"] == np.prod(layer["weight_shape"]) + 4 * layer["output_shape"][-1]


def test_bytes_add_up_to_the_file(told: dict[str, Any]) -> None:
    assert sum(told["bytes"].values()) == told["size_bytes"]
    assert min(told["bytes"].values()) >= 0
    assert told["bytes"]["weights"] == told["weights"]["count"]


def test_input_and_output_say_how_they_are_used(told: dict[str, Any]) -> None:
    (source,), (sink,) = told["inputs"], told["outputs"]
    assert (source["name"], source["shape"], source["dtype"]) == ("input", [1, 12, 12, 3], "int8")
    assert (sink["name"], sink["shape"], sink["dtype"]) == ("output", [1, 5], "int8")
    assert source["how"].startswith(f"int8 = round(real / {source['scale']:.9g})")
    assert source["how"].endswith("clipped to -128..127")
    assert sink["how"].startswith(f"real = {sink['scale']:.9g} * (int8 ")


def test_litert_and_tflite_micro_run_it(told: dict[str, Any]) -> None:
    assert told["runs"] == {"works": True, "reason": ""}
    if importlib.util.find_spec("tflite_micro") is None:
        assert told["arena"]["arena_bytes"] is None
        assert "tflite-micro is not installed" in told["arena"]["reason"]
    else:
        arena = told["arena"]
        assert arena["reason"] == ""
        # Input and output of the largest layer have to be held at once.
        assert arena["activation_bytes"] >= 12 * 12 * 8 * 2
        assert arena["arena_bytes"] >= arena["activation_bytes"] + arena["persistent_bytes"]


def test_without_running_nothing_is_started(
    int8_file: Path, monkeypatch: pytest.MonkeyPatch, told: dict[str, Any]
) -> None:
    def refuse(*_args: object, **_kwargs: object) -> None:
        raise AssertionError("a child was started")

    monkeypatch.setattr(inspection, "call", refuse)
    plain = inspect_flatbuffer(int8_file, run=False)
    assert plain == {**told, "runs": None, "arena": None}


def test_a_float_model_is_told_as_it_is(converted: Converted) -> None:
    told = inspect_flatbuffer(converted.floating, run=False)
    assert told["inputs"][0]["how"] == "real numbers as they are"
    assert told["inputs"][0]["scale"] is None
    assert told["quantization"]["per_channel"] == 0
    assert told["not_int8"]
    assert told["macs"] == count(converted.module, INPUT_SHAPE).macs


def inspected(tmp_path: Path, content: bytes) -> dict[str, Any]:
    path = tmp_path / "made.tflite"
    path.write_bytes(content)
    return inspect_flatbuffer(path, run=False)


def test_quantization_is_counted_by_kind(tmp_path: Path) -> None:
    tensors = [
        int8(1, 3, scale=0.5),
        constant([[1, 2, 3], [4, 5, 6]], "int8", scale=(0.1, 0.2)),
        constant([1, 2], "int32"),
        int8(1, 2, scale=0.25),
    ]
    told = inspected(tmp_path, make_bytes(tensors, [Op("FULLY_CONNECTED", (0, 1, 2), (3,))]))
    assert told["quantization"] == {
        "per_tensor": 2,
        "per_channel": 1,
        "none": 1,
        "least_activation_scale": 0.25,
        "greatest_activation_scale": 0.5,
    }


def test_a_weight_that_cannot_be_read_leaves_its_sparsity_open(tmp_path: Path) -> None:
    weight = constant([[1, 2, 3], [4, 5, 6]], "int8", scale=(0.1, 0.2, 0.3))  # three scales for two channels
    told = inspected(tmp_path, make_bytes([int8(1, 3), weight, int8(1, 2)], [Op("FULLY_CONNECTED", (0, 1, -1), (2,))]))
    assert told["layers"][0]["sparsity"] is None
    assert told["layers"][0]["macs"] == 6
    assert told["weights"] == {"count": 0, "zeros": 0, "share": 0.0}


@pytest.mark.parametrize(
    ("dtype", "zero_point", "source", "sink"),
    [
        ("int8", 3, "int8 = round(real / 0.5) + 3, clipped to -128..127", "real = 0.5 * (int8 - 3)"),
        ("int8", -7, "int8 = round(real / 0.5) - 7, clipped to -128..127", "real = 0.5 * (int8 + 7)"),
        ("uint8", 128, "uint8 = round(real / 0.5) + 128, clipped to 0..255", "real = 0.5 * (uint8 - 128)"),
        ("int16", 0, "int16 = round(real / 0.5), clipped to -32768..32767", "real = 0.5 * int16"),
        ("int32", None, "int32 values as they are", "int32 values as they are"),
        ("float32", None, "real numbers as they are", "real numbers as they are"),
    ],
)
def test_how_to_feed_and_read_each_type(
    dtype: str, zero_point: int | None, source: str, sink: str, tmp_path: Path
) -> None:
    made = Made((1, 2), dtype) if zero_point is None else Made((1, 2), dtype, scale=(0.5,), zero_point=(zero_point,))
    told = inspected(tmp_path, make_bytes([made, made], [Op("RELU", (0,), (1,))]))
    assert told["inputs"][0]["how"] == source
    assert told["outputs"][0]["how"] == sink


def test_a_file_no_runtime_runs_is_listed_with_the_reason(tmp_path: Path) -> None:
    path = tmp_path / "odd.tflite"
    path.write_bytes(make_bytes([int8(1, 4), int8(1, 4)], [Op("CUSTOM", (0,), (1,), custom="Whirl")]))
    told = inspect_flatbuffer(path)
    assert list(told["ops"]) == ["Whirl"]
    assert not told["runs"]["works"]
    assert "Whirl" in told["runs"]["reason"]
    assert str(path) not in told["runs"]["reason"]
    assert told["arena"]["arena_bytes"] is None
    assert told["arena"]["reason"]


def test_a_damaged_file_is_refused(int8_file: Path, tmp_path: Path) -> None:
    path = tmp_path / "cut.tflite"
    path.write_bytes(int8_file.read_bytes()[:1000])
    with pytest.raises(ResourceError, match="damaged"):
        inspect_flatbuffer(path)
