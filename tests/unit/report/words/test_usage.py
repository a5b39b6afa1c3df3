"""How to use the flatbuffer: the formulas and the program that the report shows."""

from __future__ import annotations

import ast
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edgecompress.report.html.page import html_report
from edgecompress.report.schema import DataSummary, TensorSummary
from edgecompress.tflite.runtime.probe import build
from tests.shared.processes import HUNG_S
from tests.unit.report import sample


def used(data: DataSummary, given: TensorSummary, answer: TensorSummary) -> dict[str, Any]:
    return sample.report(data=data, input=given, output=answer)


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
def test_formula_is_normalisation_and_quantization_in_one(dtype: str) -> None:
    low, high = {"int8": (-128, 127), "uint8": (0, 255)}[dtype]
    data = replace(sample.inputs().data, input_shape=(3, 8, 8), mean=(0.5, 0.4, 0.3), std=(0.2, 0.25, 0.3))
    found = used(data, TensorSummary(dtype, (1, 8, 8, 3), 0.02, low + 100), TensorSummary(dtype, (1, 10), 0.1, 3))
    values = np.arange(256)[:, None] * np.ones(3)
    factor, offset = np.array(found["input"]["factor"]), np.array(found["input"]["offset"])
    x = (values / 255 - np.array(data.mean)) / np.array(data.std)
    expected = np.clip(np.round(x / 0.02) + low + 100, low, high)
    assert np.abs(np.clip(np.round(values * factor + offset), low, high) - expected).max() <= 1
    assert found["input"]["formula"].startswith(f"{dtype} = clip(round(value * [")
    assert found["output"]["formula"] == "score = (value - 3) * 0.1"


def test_formulas_that_are_simpler() -> None:
    data = replace(sample.inputs().data, mean=(0.0,), std=(1.0,))
    shift = used(data, TensorSummary("int8", (1, 28, 28, 1), 1 / 255, -128), TensorSummary("int8", (1, 10), 0.1, 0))
    assert shift["input"]["formula"] == "int8 = value - 128"
    same = used(data, TensorSummary("uint8", (1, 28, 28, 1), 1 / 255, 0), TensorSummary("float32", (1, 10)))
    assert same["input"]["formula"] == "uint8 = value"
    assert same["output"]["formula"] == "score = value"
    grey = TensorSummary("float32", (1, 28, 28, 1))
    floating = used(replace(data, mean=(0.5,), std=(0.25,)), grey, TensorSummary("float32", (1, 10)))
    assert floating["input"]["formula"] == "x = value * 0.01568627 - 2"
    assert "value * 1 -" not in html_report(floating)


@pytest.mark.parametrize("dtype", ["int8", "float32"])
@pytest.mark.parametrize("picture", [True, False])
@pytest.mark.parametrize("count", [10, 100])
def test_program_compiles_for_every_kind_of_flatbuffer(dtype: str, picture: bool, count: int) -> None:
    shape = (1, 28, 28, 1) if picture else (1, 12)
    grid = (0.1, 3) if dtype == "int8" else (None, None)
    names = tuple(f'it\'s "{k}"' for k in range(count))
    data = replace(
        sample.inputs().data, classes=names, value_scale=1 / 255 if picture else 1.0, origin='a """quote""" \\'
    )
    report = used(data, TensorSummary(dtype, shape, *grid), TensorSummary(dtype, (1, count), *grid))
    tree = ast.parse(report["snippet"])
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    assert ("json" in imported) == (count > 40)
    literal = [node for node in tree.body if isinstance(node, ast.Assign) and node.targets[0].id == "CLASSES"]
    if count <= 40:
        assert tuple(ast.literal_eval(literal[0].value)) == names


def test_values_that_end_are_ended_in_the_program_too() -> None:
    series = replace(sample.inputs().data, kind="series", input_shape=(4, 1), value_scale=1.0)
    data = replace(series, mean=(1.0,), std=(0.5,), clip=2.0)
    found = used(data, TensorSummary("float32", (1, 4, 1)), TensorSummary("float32", (1, 10)))
    assert found["input"]["formula"] == "x = clip(value * 2 - 2, -2, 2)"
    assert found["input"]["clip"] == found["data"]["normalization"]["clip"] == 2.0
    assert "np.clip((values * 1.0 - MEAN) / STD, -2.0, 2.0)" in found["snippet"]
    assert "x = (value - mean) / std, ended at -2 and 2, mean 1, std 0.5" in html_report(found)
    plain = used(replace(data, clip=None), TensorSummary("float32", (1, 4, 1)), TensorSummary("float32", (1, 10)))
    assert "clip" not in plain["input"]["formula"]
    assert "np.clip((" not in plain["snippet"]


def test_program_runs(tmp_path: Path) -> None:
    """The probe's flatbuffer is RELU on four int8 values of scale 1: an identity the answer can be read from."""
    (tmp_path / "model.tflite").write_bytes(build())
    np.save(tmp_path / "sample.npy", np.array([-5.0, 3.0, 9.0, 1.0]))
    data = replace(
        sample.inputs().data, classes=("a", "b", "c", "d"), input_shape=(4,), value_scale=1.0, mean=(0.0,), std=(1.0,)
    )
    report = used(data, TensorSummary("int8", (1, 4), 1.0, 0), TensorSummary("int8", (1, 4), 1.0, 0))
    (tmp_path / "classify.py").write_text(report["snippet"])
    program = [sys.executable, "classify.py", "sample.npy"]
    done = subprocess.run(program, cwd=tmp_path, capture_output=True, text=True, check=True, timeout=HUNG_S)
    assert done.stdout == "c\n"


def test_picture_program_reads_pictures_as_the_data_has_them(tmp_path: Path) -> None:
    data = replace(sample.inputs().data, value_scale=1 / 16, mean=(0.0,), std=(1.0,))  # as digits: 0 to 16
    report = used(data, TensorSummary("int8", (1, 4, 6, 1), 1.0, 0), TensorSummary("int8", (1, 10), 1.0, 0))
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (4, 6), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "x.png")
    names: dict[str, Any] = {"__name__": "program"}
    exec(compile(report["snippet"], "classify.py", "exec"), names)  # noqa: S102 - our own program
    np.testing.assert_allclose(names["load"](tmp_path / "x.png")[..., 0], pixels * (16 / 255), rtol=1e-6)
