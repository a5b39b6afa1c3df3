"""The report's figures by independent arithmetic, its warnings, its files, its documentation."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgecompress.errors import ResourceError
from edgecompress.report.document import load_report, write_report
from edgecompress.report.html.page import html_report
from edgecompress.report.markdown import markdown_report
from edgecompress.report.rows import standard_error
from edgecompress.report.schema import LatencySummary, VerificationSummary
from edgecompress.report.words.facts import stages_table
from edgecompress.store.files import sha256_file
from tests.unit.report import sample, task_samples

DOCS = Path(__file__).parents[3] / "docs" / "report.md"
#: Blocks of a report whose keys depend on the run, not on the format.
PRUNED_METRICS = {
    "base": {"params": 10, "nonzero_params": 10, "macs": 100}, "params": 5, "nonzero_params": 5, "macs": 50,
    "validation_accuracy": 93.0, "validation_macro_f1": 93.0, "base_validation_macro_f1": 93.2, "distilled": True,
    "whole": {"stem": "it is the input"},
    "importance": "taylor",
    "prunable_weights": 1000, "masked_weights": 900, "masked_share": 0.9, "layer_shares": {"stem": 0.5},
    "dense": ["fc.weight"],
    "step_widths": {"stack1.conv1": [12, 8]},
    "latency": {"runtime": "litert", "before_ms": 0.5, "after_ms": 0.3, "ratio": 0.6},
    "target": {
        "kind": "size", "before": 100.0, "asked": 50.0, "reached": 51.0, "tries": [{"ratio": 0.4, "value": 51.0}],
    },
}  # fmt: skip


def test_ratios_are_reference_over_result() -> None:
    found = sample.report()["ratios"]
    teacher, student = found["against_teacher"], found["against_student"]
    assert (teacher["reference"], teacher["file"]) == ("FP32 teacher resnet9", "teacher.tflite")
    assert (student["reference"], student["file"]) == ("FP32 student resnet8", "student.tflite")
    assert teacher["size"] == pytest.approx(6_634_512 / 54_488)
    assert teacher["gzip"] == pytest.approx((6_634_512 * 92 // 100) / (54_488 * 92 // 100))
    assert teacher["zstd"] == pytest.approx((6_634_512 * 90 // 100) / (54_488 * 90 // 100))
    assert teacher["latency"] == pytest.approx(4.817 / 0.171)
    assert teacher["params"] == pytest.approx(1_654_890 / 41_202)
    assert teacher["macs"] == pytest.approx(91_234_816 / 5_612_288)
    assert teacher["accuracy_points"] == pytest.approx(92.85 - 93.86)
    assert student["size"] == pytest.approx(318_220 / 54_488)
    assert student["latency"] == pytest.approx(0.683 / 0.171)
    assert student["accuracy_points"] == pytest.approx(92.85 - 93.02)


def test_standard_error_is_that_of_a_proportion() -> None:
    hits = np.zeros(10_000)
    hits[:9285] = 1
    assert standard_error(92.85, 10_000) == pytest.approx(100 * hits.std() / math.sqrt(10_000))
    assert standard_error(None, 10) is None
    assert standard_error(90.0, 0) is None


def test_missing_figures_are_null_and_never_nan() -> None:
    row = replace(sample.RESULT, accuracy=None, macro_f1=float("nan"), agreement_with_float=None, latency={})
    report = sample.report(models=(sample.TEACHER, row), plots={"per_class_accuracy": [float("nan"), 1.0]})
    assert report["models"][-1]["macro_f1"] is None
    assert report["models"][-1]["accuracy_standard_error"] is None
    assert report["plots"]["per_class_accuracy"] == [None, 1.0]
    assert report["ratios"]["against_teacher"]["latency"] is None
    assert report["ratios"]["against_teacher"]["accuracy_points"] is None
    assert report["budget"]["passed"] is False
    assert {line["name"]: line["value"] for line in report["budget"]["lines"]}["latency_ms"] is None
    json.dumps(report, allow_nan=False)
    assert "not measured" in markdown_report(report)
    assert "not measured" in html_report(report)


def test_differences_within_the_noise_are_called_so() -> None:
    (warning,) = sample.report()["warnings"]
    assert warning == (
        "The accuracy is 92.85 % and the FP32 student's 93.02 %: 10,000 test samples cannot tell them apart (101 "
        "samples that only the result has right, 118 that it alone has wrong, McNemar's p = 0.28)."
    )
    (unpaired,) = sample.report(evidence=None)["warnings"]
    assert unpaired.endswith("cannot tell them apart (their 95 % intervals overlap).")


def test_no_difference_is_no_difference() -> None:
    same = replace(sample.RESULT, accuracy=100.0)
    data = replace(sample.inputs().data, test=64)
    teacher = replace(sample.TEACHER, accuracy=100.0)
    paired = [{**sample.pair("teacher", 0, 0, 1.0, 0.0), "samples": 64}]
    report = sample.report(models=(teacher, same), data=data, evidence={**sample.EVIDENCE, "paired": paired})
    assert report["models"][-1]["accuracy_interval"] == pytest.approx({"low": 94.34, "high": 100.0}, abs=5e-3)
    for page in (markdown_report(report), html_report(report)):
        assert "±" not in page
        assert "+0.00 points" not in page
        assert "100.00 % (94.3 to 100 %)" in re.sub("<[^>]+>", "", page)
        assert "right on the same samples as FP32 teacher resnet9 (100.00 %)" in page.replace("\N{NO-BREAK SPACE}", " ")


def test_what_got_worse_is_said() -> None:
    slow = replace(sample.RESULT, latency={"litert": LatencySummary(0.9, 1.0)})
    fat = replace(slow, flatbuffer=replace(slow.flatbuffer, size_bytes=400_000))
    warnings = "\n".join(sample.report(models=(*sample.without("quantized"), fat))["warnings"])
    assert "slower than the FP32 student resnet8 on litert: 0.900 ms against 0.683 ms (p50, 1.32x as long)" in warnings
    assert "larger than the FP32 student resnet8: 390.6 KiB against 310.8 KiB" in warnings
    assert "slower than the FP32 teacher" not in warnings


def test_float_results_sparsity_and_small_test_splits_are_pointed_out() -> None:
    floating = replace(sample.RESULT, flatbuffer=replace(sample.RESULT.flatbuffer, dtype="float32"))
    data = replace(sample.inputs().data, test=360, notes=("2 pictures could not be read.",))
    steps = (sample.step("teacher", 1.0, warnings=("It was neither trained nor loaded.",)),) * 2
    report = sample.report(models=(sample.TEACHER, floating), data=data, sparsity=sample.SPARSITY, steps=steps)
    assert report["models"][-1]["label"] == "Result, FP32"
    found = report["warnings"]
    assert any("it computes in float32" in warning for warning in found)
    assert any("does not make this faster on this runtime (litert)" in warning for warning in found)
    assert any("360 samples tell accuracies apart only roughly (here 89.6 to 95.0 %," in text for text in found)
    assert "2 pictures could not be read." in found
    assert found.count("It was neither trained nor loaded.") == 1


@pytest.mark.parametrize(
    ("dtype", "activations", "types", "label"),
    [
        ("int8", "int8", (), "Result, INT8"),
        ("int8", "int8", ("int16", "int16"), "Result, INT8 with 2 layers in int16"),
        ("int8", "int8", ("float32", "int16"), "Result, INT8 with 1 layer in float32 and 1 layer in int16"),
        (
            "int8 weights, int16 activations", "int16", ("float32", "int16", "int16"),
            "Result, INT8 weights, INT16 activations with 1 layer in float32",
        ),
        ("int4 weights, dynamic activations", "dynamic", ("float32",), "Result, INT4 weights, dynamic activations"),
    ],
)  # fmt: skip
def test_the_result_is_called_by_the_types_it_has(
    dtype: str, activations: str, types: tuple[str, ...], label: str
) -> None:
    census = {"ops": {}, "tensors": {}, "not_int8": [], "allowed": [
        {"op": op, "layer": f"{op}{place}", "dtype": kind, "why": "it writes them"}
        for place, kind in enumerate(types) for op in ("ADD", "QUANTIZE")
    ]}  # fmt: skip
    result = replace(sample.RESULT, flatbuffer=replace(sample.RESULT.flatbuffer, dtype=dtype))
    report = sample.report(
        models=(*sample.without("quantized"), result),
        verification=VerificationSummary(True, census),
        quantization={"mode": "ptq", "activations": activations},
    )
    assert report["models"][-1]["label"] == label


def test_lstm_cells_in_float_are_no_layers() -> None:
    allowed = [
        {"op": "ADD", "layer": f"step.cell.add#{step}", "dtype": "float32", "why": "quantize.cells: it writes them"}
        for step in range(5)
    ]
    gate = {"op": "MUL", "layer": "gate", "dtype": "float32", "why": "it writes them"}
    for more, expected in (([], ""), ([gate], " and 1 layer in float32")):
        census = {"ops": {}, "tensors": {}, "not_int8": [], "allowed": allowed + more}
        report = sample.report(
            verification=VerificationSummary(True, census),
            quantization={"mode": "ptq", "activations": "int8", "float_cells": ["step"]},
        )
        assert report["models"][-1]["label"] == f"Result, INT8 with gates and states in float32{expected}"


@pytest.mark.slow
def test_written_report_is_read_back(tmp_path: Path) -> None:
    report = sample.report()
    written = write_report(tmp_path, report)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.html", "report.json", "report.md", "report.png"]
    pages = {name: sha256_file(tmp_path / name) for name in ("report.html", "report.md", "report.png")}
    assert {key: value for key, value in written.items() if key != "sha256"} == {**report, "pages": pages}
    assert load_report(tmp_path) == written
    assert load_report(tmp_path / "report.json") == written
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    write_report(tmp_path, report)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.slow
def test_a_changed_figure_is_damage_and_another_layout_is_none(tmp_path: Path) -> None:
    report = write_report(tmp_path, sample.report())
    path = tmp_path / "report.json"
    path.write_text(json.dumps(report))
    assert load_report(tmp_path) == report
    for seed in (17, math.nan):
        path.write_text(json.dumps({**report, "seed": seed}))
        with pytest.raises(ResourceError, match=r"report\.json is damaged \(its hash differs\)"):
            load_report(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "holds no finished run: there is no report.json"),
        ("{", "cannot be read"),
        ("[1]", "is not a report of edgecompress"),
        ('{"schema_version": 1, "name": "x"}', r"models, budget, stages missing"),
        ('{"schema_version": 99}', "has schema_version 99; this edgecompress"),
        ('{"schema_version": 0, "name": 1, "models": 1, "budget": 1, "stages": 1}', "schema_version is 0"),
        ("[" * 100_000, "cannot be read"),
    ],
)
def test_what_is_no_report_is_refused(tmp_path: Path, content: str | None, message: str) -> None:
    if content is not None:
        (tmp_path / "report.json").write_text(content)
    with pytest.raises(ResourceError, match=message):
        load_report(tmp_path)


@pytest.mark.slow
def test_folder_that_does_not_exist_or_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path / "gone", tmp_path / "file"):
        with pytest.raises(ResourceError, match="holds no finished run"):
            load_report(path)
    with pytest.raises(ResourceError, match="cannot write"):
        write_report(tmp_path / "file", sample.report())


def paths(value: Any, path: str = "") -> set[str]:
    """Returns every key path of a document, as docs/report.md writes them."""
    free = re.compile(
        r"(files|pages|environment\.versions|models\[\]\.(latency|metrics|validation_metrics)|curves"
        r"|data\.vocabulary|verification\.twin\.metrics|verification\.census\.(ops|tensors|ops\.\*\.dtypes)"
        r"|pruning\.(widths|step_widths|whole|layer_shares))$"
    )
    if isinstance(value, dict) and value and path not in {"recipe", "pruning.base", "data.front_end"}:
        if free.fullmatch(path):
            return set().union(*(paths(inner, f"{path}.*") for inner in value.values()))
        return set().union(*(paths(inner, f"{path}.{key}".lstrip(".")) for key, inner in value.items()))
    if isinstance(value, list):
        return set().union(*(paths(inner, f"{path}[]") for inner in value))
    return {path}


def every_report() -> list[dict[str, Any]]:
    full = sample.inputs()
    pruning = {**(full.pruning or {}), **PRUNED_METRICS}
    quantization = {
        **(full.quantization or {}), "float_validation_accuracy": 93.1, "float_validation_macro_f1": 93.1,
        "distilled": True,
        "rungs": [{"name": "plain", "accuracy": 92.0, "drop_points": 1.1, "detail": "least and largest values"}],
        "portable": True, "parting": ["head"],
        "float_norms": ["norm"], "float_cells": ["levels.0.step"], "float_softmax": ["attention"],
        "float_divisions": ["shares"],
        "wide_layers": ["head"], "wide_macs_share": 0.02,
        "weights": "int8", "activations": "int8",
        "ptq_validation_macro_f1": 92.7, "validation_accuracy": 93.0, "validation_macro_f1": 93.0,
        "clustered_validation_accuracy": 91.0, "clustered_validation_macro_f1": 91.0,
        "clusters": {
            "asked": 32, "largest": 32, "unclustered_gzip_bytes": 50000, "unclustered_zstd_bytes": 49000,
        },
    }  # fmt: skip
    data = replace(full.data, notes=("a note",))
    steps = (*full.steps, sample.step("x", 1.0, "cached", warnings=("a warning",), kept_code=("tflite/format",)))
    sparse = {
        "tensors": 8, "expanded_bytes": 40_000, "dense_size_bytes": 90_000, "dense_gzip_bytes": 30_000,
        "dense_zstd_bytes": 29_000,
    }  # fmt: skip
    result = replace(sample.RESULT, flatbuffer=replace(sample.RESULT.flatbuffer, sparse=sparse))
    rich = sample.report(
        pruning=pruning,
        quantization=quantization,
        data=data,
        sparsity=sample.SPARSITY,
        streaming=sample.STREAMING,
        steps=steps,
        verification=sample.failed(),
        evidence={
            **sample.EVIDENCE,
            "permuted": [{"key": "teacher", "accuracy": 0.0, "reordered": 99.0, "moved": [["a", "b"]]}],
            "scale": [{"what": "mean", "channel": 0, "channels": 1, "train": 0.1, "test": 9.0, "factor": 3.0}],
        },
        runtimes=sample.RUNTIMES,
        models=(sample.TEACHER, sample.STUDENT, sample.PRUNED, result),
    )
    others = [task_samples.report(task) for task in task_samples.TASKS]
    for report in others:  # named otherwise than those of a classification, as the page says of them all
        own = re.compile(rf"(.*_)?validation_{report['figure']['key']}")
        for block in (report["pruning"], report["quantization"], *report["curves"].values()):
            for entry in block if isinstance(block, list) else [block]:
                for key in [key for key in entry if own.fullmatch(key)]:
                    del entry[key]
    return [sample.report(), rich | {"run_key": "ab", "pages": {"report.md": "ab"}, "sha256": "ab"}, *others]


def test_every_key_is_documented_and_every_documented_key_exists() -> None:
    report_keys = DOCS.read_text(encoding="utf-8").split("## architecture.json")[0]
    documented = set(re.findall(r"^\| `([^`]+)` \|", report_keys, re.MULTILINE))
    found = set().union(*(paths(report) for report in every_report()))
    blocks = {path.rpartition(".")[0] for path in documented}  # null where they did not take place
    assert found - documented - blocks == set()
    assert documented - found == set()


def test_what_other_code_made_is_said() -> None:
    steps = (sample.step("teacher", 1.0, "cached", kept_code=("data", "training")), sample.step("export", 2.0))
    report = sample.report(steps=steps)
    told = "Stage teacher was made by other code of the program (--keep-cache): data, training changed since."
    assert told in report["warnings"]
    assert [entry["kept_code"] for entry in report["stages"]] == [["data", "training"], []]
    assert [row[1] for row in stages_table(report).rows] == ["reused, of other code", "ran"]
