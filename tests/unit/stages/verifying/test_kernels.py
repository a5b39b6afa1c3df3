"""What is said of a file with operators that a runtime computes wrongly."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from edgecompress.stages.verifying.kernels import warn_of_wrong_kernels
from edgecompress.tflite.format.flatbuffer import read_model
from tests.unit.made_flatbuffer import Op, int8, make_bytes


def warnings(ops: list[Op], *runtimes: str) -> list[str]:
    told: list[str] = []
    bench: Any = SimpleNamespace(ctx=SimpleNamespace(warn=told.append))
    tensors = [int8(1, 4), *(int8(1, 4, scale=0.25) for _ in ops)]
    labels = [f"block.{number}" for number in range(len(ops))]
    warn_of_wrong_kernels(bench, read_model(make_bytes(tensors, ops)), labels, runtimes)
    return told


def test_operator_runtime_layers_and_how_far_are_named() -> None:
    ops = [Op("NEG", (0,), (1,)), Op("RELU", (1,), (2,)), Op("NEG", (2,), (3,))]
    (told,) = warnings(ops, "litert")
    assert told.startswith("The INT8 kernel of NEG on litert is wrong by up to 255 of 255 steps: it works on the")
    assert told.endswith("The flatbuffer has NEG 2 times (block.0, block.2): build it from other operators.")


def test_another_runtime_can_be_left_alone() -> None:
    ops = [Op("RELU6", (0,), (1,))]
    assert warnings(ops, "litert", "tensorflow", "tflite-runtime") == []
    (told,) = warnings(ops, "tflite-micro", "tflite-micro")
    assert told.endswith("or do not use the flatbuffer on tflite-micro.")


def test_many_layers_are_not_all_named() -> None:
    ops = [Op("NEG", (number,), (number + 1,)) for number in range(5)]
    (told,) = warnings(ops, "litert")
    assert "NEG 5 times (block.0, block.1, block.2, ...)" in told
