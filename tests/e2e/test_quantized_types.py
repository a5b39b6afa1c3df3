"""Recipes for other integers than INT8 throughout, from teacher to report."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

from edgecompress.errors import ExitCode
from edgecompress.pipeline.run import Outcome

WIDTHS = {"int8": np.int8, "int16": np.int16, "dynamic": np.float32, "float32": np.float32}


@pytest.mark.parametrize(
    ("weights", "activations"),
    [("int4", "int8"), ("int8", "int16"), ("int8", "dynamic"), ("int4", "dynamic"), ("int8", "float32")],
)
def test_a_run_in_other_integers(cook: Callable[..., Outcome], kitchen: Path, weights: str, activations: str) -> None:
    outcome = cook(f"quantize={{mode: ptq, weights: {weights}, activations: {activations}, calibration_samples: 64}}")
    assert outcome.exit_code == ExitCode.DONE, outcome.messages
    report = json.loads((kitchen / "run" / "report.json").read_text())
    result = report["models"][-1]
    assert result["flatbuffer"]["dtype"] == f"{weights} weights, {activations} activations"
    assert report["quantization"]["weights"] == weights
    assert report["verification"]["twin"]["same"] >= 99.0
    assert report["verification"]["census"]["not_int8"] == []
    interpreter = Interpreter(str(kitchen / "run" / "model.tflite"))
    interpreter.allocate_tensors()
    assert interpreter.get_input_details()[0]["dtype"] == WIDTHS[activations]
    # Weights weigh a quarter, or an eighth, of what they do in float32.
    parts = result["flatbuffer"]["parts"]
    assert parts["weights"] <= result["params"] * (0.8 if weights == "int4" else 1.0)
    told = (kitchen / "run" / "report.md").read_text()
    assert f"INT{weights[3:]} weights" in told
    fixed = activations in ("int8", "int16")
    assert ("calibration_samples" in report["quantization"]) == fixed
    assert ("a step is the output's scale" in told) == fixed


def test_norms_that_are_not_there_are_told(cook: Callable[..., Outcome], kitchen: Path) -> None:
    outcome = cook("quantize={mode: ptq, norms: float32, calibration_samples: 64}")
    assert outcome.exit_code == ExitCode.DONE, outcome.messages
    report = json.loads((kitchen / "run" / "report.json").read_text())
    assert "quantize.norms: float32 changes nothing: the network has no layer norms." in report["warnings"]
    assert "float_norms" not in report["quantization"]
    assert report["verification"]["census"]["allowed"] == []


@pytest.mark.parametrize(("ranges", "other"), [("ema", "tensorflow"), ("lsq", "tflite-micro")])
def test_a_portable_file_is_the_same_on_two_runtimes(
    cook: Callable[..., Outcome], kitchen: Path, ranges: str, other: str
) -> None:
    outcome = cook("quantize.portable=true", f"quantize.ranges={ranges}", f"benchmark.runtimes=[litert, {other}]")
    assert outcome.exit_code == ExitCode.DONE, outcome.messages
    report = json.loads((kitchen / "run" / "report.json").read_text())
    assert report["quantization"]["portable"] is True
    assert report["quantization"]["parting"] == []
    assert report["verification"]["twin"]["max_steps"] == 0.0
    assert [proof["bit_exact"] for proof in report["runtimes"]] == [100.0]
    assert report["models"][-1]["accuracy"] > 60.0
    told = (kitchen / "run" / "report.md").read_text()
    assert "The same integers on every runtime" in told
    assert "all operators" in told


def test_four_bits_can_be_trained(cook: Callable[..., Outcome], kitchen: Path) -> None:
    outcome = cook("quantize.weights=int4", "quantize.ranges=lsq")
    assert outcome.exit_code == ExitCode.DONE, outcome.messages
    report = json.loads((kitchen / "run" / "report.json").read_text())
    assert report["quantization"]["mode"] == "qat"
    assert report["models"][-1]["accuracy"] > 60.0
    assert len(report["curves"]["quantize"]) == 2


def test_an_operator_without_an_int16_kernel_is_named_with_the_way_out(
    cook: Callable[..., Outcome], kitchen: Path
) -> None:
    (kitchen / "swish.py").write_text(
        "from torch import nn\n\n\n"
        "def net(num_classes, input_shape):\n"
        "    conv = nn.Conv2d(input_shape[0], 8, 3, 2, 1)\n"
        "    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, num_classes)]\n"
        "    return nn.Sequential(conv, nn.Hardswish(), *head)\n"
    )
    changes = ("teacher=null", "distill=null", "prune=null", "student={model: 'python:swish:net', train: {epochs: 1}}")
    asked = ("quantize={mode: ptq, activations: int16, calibration_samples: 64}",)
    outcome = cook(*changes, *asked, trust=True)
    assert outcome.exit_code == ExitCode.VERIFICATION
    reasons = json.loads((kitchen / "run" / "report.json").read_text())["verification"]["reasons"]
    assert any("HARD_SWISH (layer 1" in reason and "quantize.allow: [float32]" in reason for reason in reasons)
    outcome = cook(*changes, *asked, "quantize.allow=[float32]", trust=True)
    assert outcome.exit_code == ExitCode.DONE, outcome.messages


ENDS = """
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, num_classes, channels, end):
        super().__init__()
        self.conv, self.head = nn.Conv2d(channels, 8, 3, 2, 1), nn.Linear(8, num_classes)
        self.end = {"log_softmax": nn.LogSoftmax(1), "softmax": nn.Softmax(1), "sigmoid": nn.Sigmoid()}[end]

    def forward(self, x):
        return self.end(self.head(torch.relu(self.conv(x)).mean((2, 3))))


def net(num_classes, input_shape, end):
    return Net(num_classes, input_shape[0], end)
"""


@pytest.mark.parametrize(
    ("end", "mode"), [("log_softmax", "ptq"), ("log_softmax", "qat"), ("softmax", "ptq"), ("sigmoid", "qat")]
)
def test_a_model_may_end_in_probabilities_or_their_logarithms(
    cook: Callable[..., Outcome], kitchen: Path, end: str, mode: str
) -> None:
    (kitchen / "ends.py").write_text(ENDS)
    train = "train: {epochs: 3, batch_size: 32, optimizer: sgd, learning_rate: 0.1}"
    student = f"student={{model: 'python:ends:net', args: {{end: {end}}}, {train}}}"
    training = ", train: {epochs: 1}" if mode == "qat" else ""
    outcome = cook(
        "teacher=null", "distill=null", "prune=null", student,
        f"quantize={{mode: {mode}, calibration_samples: 64{training}}}", trust=True,
    )  # fmt: skip
    assert outcome.exit_code == ExitCode.DONE, outcome.messages
    report = json.loads((kitchen / "run" / "report.json").read_text())
    operators = report["verification"]["census"]["ops"]
    assert operators[{"sigmoid": "LOGISTIC"}.get(end, end.upper())]["dtypes"] == {"int8": 1}
    assert report["verification"]["twin"]["same"] >= 99.8
    assert report["models"][-1]["accuracy"] >= report["models"][-2]["accuracy"] - 5


HIDDEN = """
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, num_classes, channels):
        super().__init__()
        self.conv, self.other = nn.Conv2d(channels, 16, 3, 2, 1), nn.Conv2d(channels, 16, 3, 2, 1)
        self.head = nn.Linear(64, num_classes)

    def forward(self, x):
        large = self.other(x) * 1000.0
        x = torch.relu(self.conv(x))
        x = (large + x) - large  # what was there before, for whoever has more than eight bits
        return self.head(nn.functional.avg_pool2d(x, 3).flatten(1))


def net(num_classes, input_shape):
    return Net(num_classes, input_shape[0])
"""


@pytest.mark.parametrize("kind", ["int16", "float32"])
def test_layers_are_kept_wider_where_nothing_else_suffices(
    cook: Callable[..., Outcome], kitchen: Path, kind: str
) -> None:
    (kitchen / "hidden.py").write_text(HIDDEN)
    outcome = cook(
        "teacher=null", "distill=null", "prune=null",
        "student={model: 'python:hidden:net', train: {epochs: 3, batch_size: 32, optimizer: adam}}",
        f"quantize={{mode: ptq, max_drop_points: 3, allow: [{kind}], calibration_samples: 64}}",
        trust=True,
    )  # fmt: skip
    assert outcome.exit_code == ExitCode.DONE, outcome.messages
    report = json.loads((kitchen / "run" / "report.json").read_text())
    found = report["quantization"]
    assert [rung["name"] for rung in found["rungs"]] == ["plain", "ranges", "equalize", "adaround", f"wide-{kind}"]
    assert found["rungs"][3]["drop_points"] > 10
    assert found["rungs"][4]["drop_points"] <= 3
    assert found["wide_layers"]
    assert found["wide_macs_share"] <= 0.1
    census = report["verification"]["census"]
    assert census["not_int8"] == []
    assert {item["dtype"] for item in census["allowed"]} == {kind}
    assert {item["layer"] for item in census["allowed"]} >= set(found["wide_layers"])
    layers = len({item["layer"] for item in census["allowed"] if item["op"] not in ("QUANTIZE", "DEQUANTIZE")})
    assert report["models"][-1]["label"] == f"Result, INT8 with {layers} layer{'s' * (layers > 1)} in {kind}"
    assert "Not INT8, as the recipe allows" in (kitchen / "run" / "report.html").read_text()


def test_training_is_the_first_that_suffices_where_weights_have_to_move(
    cook: Callable[..., Outcome], kitchen: Path
) -> None:
    """Without wider types only the weights can make the large signal smaller and the small one larger."""
    (kitchen / "hidden.py").write_text(HIDDEN)
    outcome = cook(
        "teacher=null", "distill=null", "prune=null",
        "student={model: 'python:hidden:net', train: {epochs: 3, batch_size: 32, optimizer: adam}}",
        "quantize={mode: ptq, max_drop_points: 10, escalate: qat, calibration_samples: 64,"
        " train: {epochs: 10, batch_size: 32, learning_rate: 0.01}}",
        trust=True,
    )  # fmt: skip
    assert outcome.exit_code == ExitCode.DONE, outcome.messages
    rungs = json.loads((kitchen / "run" / "report.json").read_text())["quantization"]["rungs"]
    assert [rung["name"] for rung in rungs] == ["plain", "ranges", "equalize", "adaround", "qat"]
    assert min(rung["drop_points"] for rung in rungs[:-1]) > 10
    assert rungs[-1]["drop_points"] <= 10
