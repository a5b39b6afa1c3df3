"""The verdict on a flatbuffer: what fails the gate, what is only said."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from edgecompress.errors import ModelError
from edgecompress.quantization.proof.compare import Agreement, LayerDifference
from edgecompress.recipe.schema import QuantizeSpec
from edgecompress.stages.verifying import gate
from edgecompress.stages.verifying.census_reasons import census_reasons, way_out
from edgecompress.stages.verifying.gate import _judge
from edgecompress.tflite.facts.census import NotInt8, census
from edgecompress.tflite.format.flatbuffer import read_model
from tests.unit.made_flatbuffer import Made, Op, int8, make_bytes

NUMBERS = ("regression", "anomaly-detection")


def agreement(same: float, clear_same: float, mean_steps: float = 1.0) -> Agreement:
    return Agreement(5000, same, 99.0, clear_same, max_steps=3.0, mean_steps=mean_steps, p999_steps=2.0)


def layer(name: str, *, outliers: float = 0.0, weights: bool = False, mean_steps: float = 0.1) -> LayerDifference:
    return LayerDifference(0, name, "CONV_2D", 1.0, mean_steps, outliers, weights_differ=weights)


def judge(
    answers: Agreement, *layers: LayerDifference, second: Agreement | None = None, task: str = "image-classification"
) -> tuple[list[str], list[str]]:
    warnings: list[str] = []
    bench: Any = SimpleNamespace(
        ctx=SimpleNamespace(warn=warnings.append), task=SimpleNamespace(name=task, chooses=task not in NUMBERS)
    )
    reasons: list[str] = []
    first = next((found for found in layers if found.differs), None)
    opinion = None if second is None else ("TensorFlow's reference kernels", second)
    _judge(bench, answers, opinion, list(layers), first, reasons)
    return reasons, warnings


def test_agreement_passes_without_a_word() -> None:
    assert judge(agreement(99.8, 99.9), layer("a"), layer("b")) == ([], [])


def test_disagreement_fails_and_names_the_first_layer_that_differs() -> None:
    reasons, warnings = judge(agreement(80.0, 98.9), layer("a"), layer("b", outliers=0.5), layer("c", outliers=0.9))
    assert warnings == []
    assert len(reasons) == 1
    assert "80.00 %" in reasons[0]
    assert "first layer that differs is b (CONV_2D)" in reasons[0]


def test_without_a_layer_at_fault_the_largest_difference_is_named() -> None:
    (reason,), _ = judge(agreement(80.0, 90.0), layer("a"), layer("b", mean_steps=0.4))
    assert "largest difference is at b (CONV_2D), 0.40 steps" in reason
    (reason,), _ = judge(agreement(80.0, 90.0))
    assert "could not be compared" in reason


@pytest.mark.parametrize(("steps", "fails"), [(4.0, True), (3.0, False), (2.0, False)])
def test_a_model_that_amplifies_rounding_passes_only_as_near_as_other_kernels(steps: float, fails: bool) -> None:
    reasons, warnings = judge(agreement(80.0, 85.0, steps), layer("a"), second=agreement(78.0, 84.0, mean_steps=2.0))
    assert bool(reasons) == fails
    assert bool(warnings) != fails
    assert fails or "on TensorFlow's reference kernels the same file gives LiteRT's answer on 78.00 %" in warnings[0]


def test_other_weights_fail_whatever_the_answers() -> None:
    (reason,), _ = judge(agreement(100.0, 100.0), layer("a"), layer("b", weights=True))
    assert "other weights or scales" in reason
    assert "b (CONV_2D)" in reason


def test_a_differing_layer_without_harm_is_said() -> None:
    reasons, (warning,) = judge(agreement(99.9, 99.9), layer("a", outliers=0.2))
    assert reasons == []
    assert warning.startswith("Layer a (CONV_2D) differs")


def test_ties_are_no_excuse() -> None:
    """Answers within a rounding step of each other count like all others, up to one in five hundred."""
    (reason,), _ = judge(agreement(99.79, 100.0), layer("a"))
    assert "99.79 % of 5,000 samples" in reason
    assert "99.8 %" in reason


def test_clear_answers_must_agree_more_often() -> None:
    (reason,), _ = judge(agreement(99.85, 99.89), layer("a"))
    assert "99.85 % of 5,000 samples (99.89 % of those with a clear answer)" in reason
    assert "99.9 % of the clear ones" in reason


def test_an_operator_in_float_is_named_and_the_conversions_around_it_are_not() -> None:
    tensors = [int8(1, 4), Made((1, 4), "float32"), Made((1, 4), "float32"), int8(1, 4)]
    ops = [Op("DEQUANTIZE", (0,), (1,)), Op("SIN", (1,), (2,)), Op("QUANTIZE", (2,), (3,))]
    found = census(read_model(make_bytes(tensors, ops)), labels=["dequantize", "gate.sin", "quantize"])
    ((_, reason),) = census_reasons(found, QuantizeSpec())
    assert reason.startswith("SIN (layer gate.sin) holds float32: it writes float32 values.")
    assert "`quantize.allow: [float32]`" in reason
    lonely = [Op("DEQUANTIZE", (0,), (1,)), Op("QUANTIZE", (1,), (3,))]
    ((_, reason),) = census_reasons(census(read_model(make_bytes(tensors, lonely))), QuantizeSpec())
    assert reason.startswith("DEQUANTIZE")


@pytest.mark.parametrize(
    ("op", "dtype", "activations", "told", "ways"),
    [
        ("SIN", "float32", "int8", "SIN has no INT8 kernel", {"allow: [float32]"}),
        ("SIN", "float32", "int16", "SIN has no INT16 kernel", {"allow: [float32]"}),
        (
            "HARD_SWISH", "float32", "int16", "HARD_SWISH has an INT8 kernel but none for INT16",
            {"activations: int8", "allow: [float32]"},
        ),
        ("MINIMUM", "float32", "int8", "MINIMUM has an INT8 kernel, but not for what", {"allow: [float32]"}),
        ("CAST", "int32", "int8", "CAST has no INT8 kernel", {"allow: [float32]"}),
        ("CAST", "uint8", "int8", "CAST has no INT8 kernel", set()),
        ("CONV_2D", "float32", "dynamic", "other operators than CONV_2D", set()),
    ],
)  # fmt: skip
def test_only_ways_out_that_help_this_operator_are_named(
    op: str, dtype: str, activations: str, told: str, ways: set[str]
) -> None:
    item = NotInt8(0, 3, op, "gate", "t", dtype, "it writes them")
    found = way_out(item, QuantizeSpec.model_validate({"activations": activations}))
    assert told in found
    assert set(re.findall(r"`quantize\.([^`]+)`", found)) == ways


@pytest.mark.parametrize("dtype", ["int32", "int64", "float32"])
def test_what_is_offered_is_enough(dtype: str) -> None:
    tensors = [int8(1, 4), Made((1, 4), dtype), Made((1, 4), dtype), int8(1, 4)]
    ops = [Op("CAST", (0,), (1,)), Op("ABS", (1,), (2,)), Op("CAST", (2,), (3,))]
    model = read_model(make_bytes(tensors, ops))
    for _, reason in census_reasons(census(model), QuantizeSpec()):
        (offer,) = re.findall(r"`quantize.allow: \[(\w+)\]`", reason)
        assert census(model, allow=[offer]).not_int8 == ()


def model_of(op: str) -> Any:
    tensors = [int8(1, 4), int8(1, 4, scale=0.25)]
    return read_model(make_bytes(tensors, [Op(op, (0,), (1,))]))


@pytest.mark.parametrize(
    ("op", "asked", "noted"),
    [
        ("RELU", "tensorflow", []),
        ("SUM", "tflite-micro", ["TensorFlow's reference kernels: they compute SUM"]),
        ("DIV", None, ["TensorFlow's reference kernels: they compute DIV", "tflite-micro's kernels: they compute DIV"]),
    ],
)
def test_kernels_that_compute_the_file_wrongly_are_not_asked(
    monkeypatch: pytest.MonkeyPatch, op: str, asked: str | None, noted: list[str]
) -> None:
    runtimes: list[str] = []
    outputs = np.zeros((4, 2), np.float32)
    monkeypatch.setattr(gate, "score", lambda *_args, runtime, samples: runtimes.append(runtime) or outputs[:samples])
    notes: list[str] = []
    bench: Any = SimpleNamespace(ctx=SimpleNamespace(note=notes.append), task=SimpleNamespace(chooses=True))
    found = gate.second_opinion(bench, Path("model.tflite"), model_of(op), outputs, 0.5)
    assert runtimes == ([asked] if asked else [])
    assert (None if found is None else found[0]) == (gate.SECOND_OPINIONS[asked] if asked else None)
    assert notes == [f"no second opinion by {one} wrongly (docs/kernels.md)" for one in noted]


@pytest.mark.slow
def test_a_runtime_in_a_process_of_its_own_gives_the_same(tmp_path: Path) -> None:
    """As it does where a session is opened here: the second opinion of tflite-micro, say."""
    tensors = [int8(1, 4), int8(1, 4, scale=0.5)]
    path = tmp_path / "model.tflite"
    path.write_bytes(make_bytes(tensors, [Op("RELU", (0,), (1,), version=2)]))
    task = SimpleNamespace(inputs=lambda x: x, to_flatbuffer=lambda x: x)
    recipe = SimpleNamespace(benchmark=SimpleNamespace(threads=1))
    bench: Any = SimpleNamespace(
        task=task, recipe=recipe, dataset=SimpleNamespace(outputs=(4,)), ctx=SimpleNamespace(progress=lambda *_: None),
        apart=False,
    )  # fmt: skip
    inputs = np.random.default_rng(0).uniform(-40, 40, (5, 4)).astype(np.float32)
    expected = gate.outputs_of_flatbuffer(bench, path, inputs)
    assert expected.max() > 0
    bench.apart = True
    np.testing.assert_array_equal(gate.outputs_of_flatbuffer(bench, path, inputs), expected)
    assert gate.outputs_of_flatbuffer(bench, path, inputs[:0]).shape == (0, 4)
    bench.dataset.outputs = (5,)
    with pytest.raises(ModelError, match=r"its output is int8\[1, 4\], where 5 numbers were expected"):
        gate.outputs_of_flatbuffer(bench, path, inputs)


def test_a_runtime_that_cannot_run_the_file_gives_no_second_opinion(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """TensorFlow has no kernel from INT8 to INT16, for one; the run must end in a verdict all the same."""

    def refuses(*_args: object, **_options: object) -> None:
        raise ModelError("tensorflow cannot run it")

    outputs = np.zeros((4, 2), np.float32)
    for name, value in {
        "outputs_of": outputs, "outputs_of_flatbuffer": outputs, "spare_inputs": outputs,
        "read_model": model_of("RELU"),
        "compare_answers": agreement(80.0, 90.0), "compare_layers": [layer("a")],
    }.items():  # fmt: skip
        monkeypatch.setattr(gate, name, lambda *_args, found=value, **_options: found)
    monkeypatch.setattr(gate, "score", refuses)
    twin: Any = SimpleNamespace(
        group_of={}, graph=SimpleNamespace(output=0), to=lambda _device: twin, settled=contextlib.nullcontext
    )
    notes: list[str] = []
    bench: Any = SimpleNamespace(
        ctx=SimpleNamespace(note=notes.append),
        dataset=SimpleNamespace(test=SimpleNamespace(inputs=outputs, labels=None)),
        task=SimpleNamespace(
            inputs=lambda x: x, to_flatbuffer=lambda x: x, metrics=lambda *_args: {"accuracy": 0.0},
            name="image-classification", chooses=True,
        ),
        device="cpu", apart=False,
    )  # fmt: skip
    path, reasons = tmp_path / "model.tflite", list[str]()
    path.write_bytes(b"")
    found = gate.check_twin(bench, twin, path, outputs, reasons)
    assert found["second_opinion"] is None
    assert notes == [
        "no second opinion by TensorFlow's reference kernels: tensorflow cannot run it",
        "no second opinion by tflite-micro's kernels: tensorflow cannot run it",
    ]
    assert "80.00 % of 5,000 samples" in reasons[0]


def test_numbers_must_lie_within_two_steps() -> None:
    near = Agreement(900, 99.95, 100.0, 99.95, max_steps=4.0, mean_steps=0.3, p999_steps=2.0)
    assert judge(near, layer("a"), task="regression") == ([], [])
    far = Agreement(900, 99.7, 100.0, 99.7, max_steps=9.0, mean_steps=0.3, p999_steps=2.6)
    (reason,), _ = judge(far, layer("a"), task="anomaly-detection")
    assert reason.startswith("the flatbuffer gives its twin's answer on 99.70 % of the numbers for 900 samples, to two")
    assert "99.9 % are needed: no single layer is at fault" in reason


def test_a_language_model_is_judged_by_its_clear_answers() -> None:
    assert judge(agreement(97.0, 99.95), layer("a"), task="language-modeling") == ([], [])
    (reason,), _ = judge(agreement(97.0, 99.8), layer("a"), task="language-modeling")
    assert "97.00 % of 5,000 tokens (99.80 % of those with a clear answer), 99.9 % of the clear ones are" in reason


def test_the_main_figure_must_be_the_twins() -> None:
    task = SimpleNamespace(name="regression", tolerance=lambda _split, value, step: 0.01 * value + step)
    bench: Any = SimpleNamespace(task=task, dataset=SimpleNamespace(test=None))
    assert gate.figure_reasons(bench, {"mae": 2.04}, {"mae": 2.0}, 0.03) == []
    (reason,) = gate.figure_reasons(bench, {"mae": 2.06}, {"mae": 2.0}, 0.03)
    assert reason.startswith("the flatbuffer's MAE is 2.06 and its twin's 2, which differ by more than rounding")
    assert gate.figure_reasons(bench, {}, {"mae": 2.0}, 0.03) == []
