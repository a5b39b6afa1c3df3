"""The tables and sentences that terminal, Markdown and HTML share, and the comparison of runs."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edgecompress.report.html.page import html_report
from edgecompress.report.markdown import markdown_report
from edgecompress.report.numbers import compact, duration, kib, milliseconds, number, percent, points, ratio, than
from edgecompress.report.schema import VerificationSummary
from edgecompress.report.words.compare import compare
from edgecompress.report.words.facts import (
    allowed_table,
    bytes_table,
    confusion_table,
    confusions,
    environment_facts,
    overhead_sentence,
    runtimes_table,
    training_table,
)
from edgecompress.report.words.making import making
from edgecompress.report.words.tables import headlines, models_table
from tests.unit.report import sample


def test_headlines_name_their_denominators() -> None:
    size, latency, accuracy, agreement = headlines(sample.report())
    assert size.details == (
        "122x smaller than FP32 teacher resnet9 (6,479.0 KiB)", "5.84x smaller than FP32 student resnet8 (310.8 KiB)",
    )  # fmt: skip
    assert latency.details[0] == "28.2x faster than FP32 teacher resnet9 (4.82 ms)"
    assert accuracy.details[1:] == (
        "-0.17 points (101 won, 118 lost, p = 0.28) against FP32 student resnet8 (93.02 %)",
        "95 % interval 92.3 to 93.3 % on 10,000 test samples",
    )
    older = headlines(sample.report(evidence=None))[2]
    assert older.details[1] == "-0.17 points against FP32 student resnet8 (93.02 %)"
    assert agreement.value == "99.18 %"
    alone = sample.report(models=(sample.RESULT,), verification=None)
    assert [one.details for one in headlines(alone)][:2] == [(), ()]


def test_models_table_can_be_turned() -> None:
    found = models_table(sample.report())
    turned = found.transposed()
    assert turned.headers == ("Model", *(row[0] for row in found.rows))
    assert turned.rows[0] == ("Parameters", *(row[1] for row in found.rows))
    assert turned.transposed() == found
    rows = (*sample.without("quantized"), replace(sample.RESULT, nonzero_params=4_000))
    sparse = models_table(sample.report(models=rows))
    assert sparse.rows[-1][1] == "41,202 (4.00 k not zero)"


def test_other_runtimes_are_held_against_litert() -> None:
    report = sample.report(runtimes=sample.RUNTIMES)
    found = runtimes_table(report)
    assert found.rows[0][:5] == ("tflite-micro", "yes, 1,000 samples", "99.90 %", "97.50 %", "1 step")
    assert found.rows[0][6:] == ("44.8 KiB", "59.9 KiB")
    assert found.rows[1] == ("tflite-runtime", "no: an operator it does not know", *["-"] * 6)
    assert runtimes_table(sample.report()).rows == ()
    assert "On other runtimes:" in markdown_report(report)
    assert "The same file on other runtimes" in html_report(report)


def test_the_arena_is_judged_by_the_budget() -> None:
    kept = sample.report(sample.recipe(budget={"arena_kib": 45}), runtimes=sample.RUNTIMES)
    missed = sample.report(sample.recipe(budget={"arena_kib": 44}), runtimes=sample.RUNTIMES)
    assert (kept["budget"]["passed"], missed["budget"]["passed"]) == (True, False)


def test_training_table_and_making() -> None:
    report = sample.report(
        steps=(sample.step("prune", 1.0, curve=({"epoch": 1, "loss": None},)), *sample.inputs().steps)
    )
    curve = sample.curve(20, 1.6, 93.3)
    known = [entry["validation_accuracy"] for entry in curve]
    row = next(row for row in training_table(report).rows if row[0] == "Student")
    assert row[1] == "20"
    assert row[2:4] == ("of 64", "sgd, 0.0952, halved 1 time")
    assert row[6:] == (f"{known[0]:.2f} %", f"{max(known):.2f} %", f"{known[-1]:.2f} %")
    bare = sample.report(steps=(sample.step("prune", 1.0, curve=({"epoch": 1, "loss": None},)),))
    assert training_table(bare).rows == (("Pruning, fine-tuning", "1", *["-"] * 7),)
    blocks = dict(making(report))
    assert ("Parameters removed", "46.90 %") in blocks["Pruning"]
    assert ("Mode", "qat") in blocks["Quantization"]
    assert ("ai-edge-litert", "2.3.0") in environment_facts(report)


def test_confusions_are_sorted_by_count() -> None:
    plots = {"confusion_matrix": [[8, 2, 0], [1, 9, 0], [0, 3, 7]], "class_names": ["a", "b", "c"]}
    assert confusions(plots) == ["c taken for b: 3 of 10", "a taken for b: 2 of 10", "b taken for a: 1 of 10"]
    assert confusion_table(plots).rows[0] == ("a", "8", "2", "0", "-")
    assert confusion_table({}).rows == ()
    assert confusions({}) == []


@pytest.mark.parametrize(
    ("shown", "text"),
    [
        (kib(1536), "1.5 KiB"), (kib(None), "-"), (milliseconds(0.07134), "0.0713 ms"), (milliseconds(134.4), "134 ms"),
        (milliseconds(9.999), "10.0 ms"), (milliseconds(0), "0 ms"), (ratio(None), "-"), (ratio(1234.5), "1,234x"),
        (percent(99.999), "100.00 %"), (points(-0.001 * 0), "equal"), (points(-0.001), "under 0.01 points"),
        (number(1_000), "1,000"),
        (compact(999), "999"), (compact(1_040_000), "1.04 M"), (compact(None), "-"), (duration(8.24), "8.2 s"),
        (duration(185), "3 min 05 s"), (duration(3_725), "1 h 02 min"),
        (than(None, "smaller", "larger", "it"), "-"), (than(1.001, "smaller", "larger", "it"), "the same as it"),
        (than(0.5, "smaller", "larger", "it"), "2.00x larger than it"),
    ],
)  # fmt: skip
def test_numbers_as_people_read_them(shown: str, text: str) -> None:
    assert shown == text


def test_comparison_against_the_first_run() -> None:
    other = sample.report(
        sample.recipe(name="b", prune=None, seed=1, budget={"size_kib": 40}),
        models=(sample.TEACHER, replace(sample.RESULT, accuracy=93.0)), verification=sample.failed(),
    )  # fmt: skip
    found = compare([("a", sample.report()), ("b", other)])
    first, second = found.rows
    assert first["accuracy_points"] == 0
    assert second["accuracy_points"] == pytest.approx(0.15)
    assert second["teacher_accuracy_points"] == pytest.approx(93.0 - 93.86)
    assert second["against_student"] is None
    assert (first["verdict"], second["verdict"]) == ("good", "failed")
    assert found.table.rows[1][-1] == "NOT VERIFIED"
    keys = {entry["key"]: entry["values"] for entry in found.differences}
    assert keys["seed"] == [0, 1]
    assert keys["prune"] == ["given", None]
    assert keys["budget.size_kib"] == [64, 40]
    assert "name" not in keys
    assert not any(key.startswith("prune.") for key in keys)


def test_comparison_of_blocks_that_some_runs_lack() -> None:
    recipes = [sample.recipe(prune={"ratio": 0.4}), sample.recipe(prune={"ratio": 0.6}), sample.recipe(prune=None)]
    found = compare([(str(place), sample.report(one)) for place, one in enumerate(recipes)])
    assert found.recipes.rows == (("prune", "given", "given", "-"), ("prune.ratio", "0.4", "0.6", "-"))


def test_comparison_warns_of_what_cannot_be_compared() -> None:
    full = sample.inputs()
    other = sample.report(
        data=replace(full.data, sha256="77" * 32), environment={**full.environment, "cpu": "another"},
        benchmark=replace(full.benchmark, threads=4),
    )  # fmt: skip
    notes = " ".join(compare([("a", sample.report()), ("b", other)]).notes)
    assert "different test data" in notes
    assert "different machines" in notes
    assert "thread counts" in notes
    seeds = compare([("a", sample.report()), ("b", sample.report(sample.recipe(seed=5)))]).notes
    assert "Seeds or test shares differ" in seeds[0]
    same = compare([("a", sample.report()), ("b", sample.report(sample.recipe(budget=None)))])
    assert [row[-1] for row in same.table.rows] == ["kept", "none set"]


def test_the_bytes_of_the_file_add_up_the_largest_first() -> None:
    report = sample.report()
    found = bytes_table(report)
    assert found.rows[0] == ("weights and other parameters", "45,000", "82.59 %")
    shown = [size for size in sample.PARTS.values() if size]  # what there is nothing of has no row
    assert [int(row[1].replace(",", "")) for row in found.rows] == sorted(shown, reverse=True)
    assert sum(sample.PARTS.values()) == report["models"][-1]["flatbuffer"]["size_bytes"]
    sentence = overhead_sentence(report)
    assert "4,455 bytes" in sentence
    assert "11,936 are allowed" in sentence
    assert "Metadata: 905 bytes" in sentence
    assert sentence in markdown_report(report)
    page = html_report(report)
    assert sentence in page
    assert "Where the bytes of the file go" in page
    assert "labels.txt" in page


def test_a_file_whose_bytes_were_not_counted_has_no_such_table() -> None:
    plain = replace(sample.RESULT, flatbuffer=replace(sample.PRUNED.flatbuffer, file="model.tflite"))
    asked = sample.recipe(export={"metadata": False})
    report = sample.report(asked, models=(*sample.without("quantized"), plain))
    assert (bytes_table(report).rows, overhead_sentence(report)) == ((), "")
    page = html_report(report)
    assert "Where the bytes" not in page
    assert "labels.txt" not in page
    assert "Overhead" not in markdown_report(report)


def test_norms_in_float_are_one_row_each() -> None:
    faults = [
        {**sample.FAULT, "layer": layer, "op": op}
        for layer, op in (("a.norm.mean", "MEAN"), ("a.norm.mul", "MUL"), ("gate", "MUL"), ("a.norms", "MUL"))
    ]
    census = {**sample.CENSUS, "not_int8": [], "allowed": faults}
    quantization = {"activations": "int8", "mode": "ptq", "float_norms": ["a.norm", "a.add"]}
    report = sample.report(quantization=quantization, verification=VerificationSummary(True, census, ()))
    rows = [row[:2] for row in allowed_table(report).rows]
    assert rows == [("2 tensors", "a.norm"), ("MUL", "gate"), ("MUL", "a.norms")]


def test_lstm_cells_in_float_are_one_row() -> None:
    ops = (("a.cell.add", "ADD"), ("gate", "MUL"), ("dequantize#3", "DEQUANTIZE"), ("b.cell.add", "ADD"))
    key = "quantize.cells: it writes float32 values"
    faults = [{**sample.FAULT, "layer": layer, "op": op} for layer, op in ops]
    faults = [fault if fault["layer"] == "gate" else {**fault, "dtype": "float32", "why": key} for fault in faults]
    census = {**sample.CENSUS, "not_int8": [], "allowed": faults}
    quantization = {"activations": "int8", "mode": "ptq", "float_cells": ["a", "b"]}
    report = sample.report(quantization=quantization, verification=VerificationSummary(True, census, ()))
    rows = allowed_table(report).rows
    assert [row[:2] for row in rows] == [("3 tensors", "a, b"), ("MUL", "gate")]
    assert rows[0][2:] == ("float32", "quantize.cells")
    for page in (markdown_report(report), html_report(report)):
        assert page.count("3 tensors") == 1
        assert "dequantize#3" not in page
        assert "ates and states in float32" in page
