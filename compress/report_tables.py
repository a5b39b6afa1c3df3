"""The report's tables and sentences as plain text cells; terminal, Markdown and HTML show the same ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from compress.report_format import (
    MISSING,
    compact,
    duration,
    kib,
    milliseconds,
    number,
    percent,
    points,
    ratio,
    than,
)

Report = dict[str, Any]


@dataclass(frozen=True)
class Table:
    """A table of text.

    Attributes:
        headers: Names of the columns.
        rows: Cells in the headers' order.
        right: Names of the columns that hold numbers.
    """

    headers: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    right: tuple[str, ...] = ()


@dataclass(frozen=True)
class Verdict:
    """How the run ended: `state` is passed, budget (missed) or verification (failed)."""

    state: str
    text: str


@dataclass(frozen=True)
class Headline:
    """One of the figures a reader looks for first."""

    title: str
    value: str
    details: tuple[str, ...]


def first_runtime(report: Report) -> str:
    """Returns the runtime that ratios and the budget use."""
    runtime: str = report["benchmark"]["runtimes"][0]
    return runtime


def verdict(report: Report) -> Verdict:
    """Returns the verdict in one sentence; a failed verification counts more than a missed budget."""
    verification, lines = report["verification"], report["budget"]["lines"]
    if verification is not None and not verification["passed"]:
        return Verdict("verification", "Verification failed: do not ship this flatbuffer.")
    if not report["budget"]["passed"]:
        missed = [line["name"] for line in lines if not line["passed"]]
        return Verdict("budget", f"Budget missed: {', '.join(missed)}.")
    checked = "Verified" if verification is not None else "Not verified"
    kept = f"within budget on all {len(lines)} lines" if len(lines) > 1 else "within budget" if lines else "no budget set"
    return Verdict("passed", f"{checked}, {kept}.")


def accuracy_cell(row: dict[str, Any]) -> str:
    """Returns an accuracy with its standard error: `92.61 ± 0.26 %`."""
    error = row.get("accuracy_standard_error")
    if row["accuracy"] is None or error is None:
        return percent(row["accuracy"])
    return f"{row['accuracy']:.2f} ± {error:.2f} %"


def references(report: Report) -> list[dict[str, Any]]:
    """Returns the ratios that exist, teacher first."""
    return [entry for entry in (report["ratios"]["against_teacher"], report["ratios"]["against_student"]) if entry]


def headlines(report: Report) -> list[Headline]:
    """Returns size, speed, accuracy and agreement of the result, each beside what it is compared with."""
    result, against = report["models"][-1], references(report)
    runtime = first_runtime(report)
    latency = result["latency"].get(runtime)
    size = [than(entry["size"], "smaller", "larger", entry["reference"]) for entry in against]
    speed = [than(entry["latency"], "faster", "slower", entry["reference"]) for entry in against if entry["latency"]]
    accuracy = [
        f"{points(entry['accuracy_points'])} against {entry['reference']}"
        for entry in against
        if entry["accuracy_points"] is not None
    ]
    p50 = latency["p50_ms"] if latency is not None else None
    error = result.get("accuracy_standard_error")
    noise = [f"±{error:.2f} points on {report['data']['test']:,} test samples"] if error is not None else []
    found = [
        Headline("Flatbuffer", kib(result["flatbuffer"]["size_bytes"]), tuple(size)),
        Headline(f"Latency, p50 on {runtime}", milliseconds(p50), tuple(speed)),
        Headline("Test accuracy", percent(result["accuracy"]), (*accuracy, *noise)),
    ]
    if result["agreement_with_float"] is not None:
        twin = (report["verification"] or {}).get("twin_agreement")
        details = ("test samples with the float model's answer",)
        details += (f"{percent(twin)} with its quantized twin",) if twin is not None else ()
        found.append(Headline("Agreement", percent(result["agreement_with_float"]), details))
    return found


def models_table(report: Report) -> Table:
    """Returns one row per model, the result last; p50 and p95 for each runtime."""
    runtimes = report["benchmark"]["runtimes"]
    timed = [f"p50 {runtime}" for runtime in runtimes], [f"p95 {runtime}" for runtime in runtimes]
    latency_headers = [name for pair in zip(*timed, strict=True) for name in pair]
    headers = (
        "Model", "Parameters", "MACs", "Flatbuffer", "gzip", "Test accuracy", "Macro F1", "Agreement", *latency_headers,
    )  # fmt: skip
    rows = []
    for row in report["models"]:
        measured = [row["latency"].get(runtime) or {} for runtime in runtimes]
        times = [milliseconds(found.get(key)) for found in measured for key in ("p50_ms", "p95_ms")]
        rows.append(
            (
                row["label"], _parameters(row), compact(row["macs"]), kib(row["flatbuffer"]["size_bytes"]),
                kib(row["flatbuffer"]["gzip_bytes"]), accuracy_cell(row), percent(row["macro_f1"]),
                percent(row["agreement_with_float"]), *times,
            )
        )  # fmt: skip
    return Table(headers, tuple(rows), headers[1:])


def _parameters(row: dict[str, Any]) -> str:
    """Returns the parameters, with those that are not zero where that says something."""
    zeros = row["params"] - row["nonzero_params"]
    sparse = zeros > row["params"] // 10
    return f"{number(row['params'])} ({compact(row['nonzero_params'])} not zero)" if sparse else number(row["params"])


def ratios_table(report: Report) -> Table:
    """Returns how many times smaller and faster the result is, per reference."""
    headers = ("The result against", "Size", "gzip", "Latency", "Parameters", "MACs", "Accuracy")
    rows = tuple(
        (
            entry["reference"], ratio(entry["size"]), ratio(entry["gzip"]), ratio(entry["latency"]),
            ratio(entry["params"]), ratio(entry["macs"]), points(entry["accuracy_points"]),
        )
        for entry in references(report)
    )  # fmt: skip
    return Table(headers, rows, headers[1:])


def budget_table(report: Report) -> Table:
    """Returns the budget line by line."""
    rows = tuple(
        (line["name"], line["text"], "kept" if line["passed"] else "MISSED") for line in report["budget"]["lines"]
    )
    return Table(("Limit", "Found", "Verdict"), rows)


def stages_table(report: Report) -> Table:
    """Returns what each stage took."""
    rows = tuple(
        (entry["stage"], "reused" if entry["status"] == "cached" else entry["status"], duration(entry["seconds"]),
         entry["fingerprint"][:12])
        for entry in report["stages"]
    )  # fmt: skip
    return Table(("Stage", "Status", "Time", "Fingerprint"), rows, ("Time",))


def census_table(census: dict[str, Any]) -> Table:
    """Returns the flatbuffer's operators by name, the most frequent first."""
    ops = sorted(census["ops"].items(), key=lambda item: (-item[1]["count"], item[0]))
    rows = tuple((name, number(entry["count"]), ", ".join(entry["dtypes"])) for name, entry in ops)
    return Table(("Operator", "Count", "Types"), rows, ("Count",))


def layers_table(layers: Sequence[dict[str, Any]]) -> Table:
    """Returns each operator beside its twin, in steps of the output's scale."""
    rows = tuple(
        (entry["layer"], entry["op"], f"{entry['mean_steps']:.3f}", f"{entry['max_steps']:.1f}",
         "other weights" if entry["weights_differ"] else "differs" if entry["differs"] else "same")
        for entry in layers
    )  # fmt: skip
    return Table(("Layer", "Operator", "Mean steps", "Max steps", "Against its twin"), rows, ("Mean steps", "Max steps"))


def widths_table(pruning: dict[str, Any]) -> Table:
    """Returns the width of every layer before and after pruning."""
    widths = pruning.get("widths") or {}
    rows = tuple(
        (name, number(before), number(after), f"{100 * (1 - after / before):.0f} %")
        for name, (before, after) in widths.items()
    )
    return Table(("Layer", "Before", "After", "Removed"), rows, ("Before", "After", "Removed"))


def sparsity_sentence(sparsity: dict[str, Any]) -> str:
    """Returns how many weights are zero in the shipped file, in one sentence."""
    return (
        f"{number(sparsity['zeros_in_file'])} weights are zero in the file ({percent(100 * sparsity['share'])} of its "
        f"weights); {number(sparsity['masked_weights'])} of {number(sparsity['prunable_weights'])} prunable weights were masked."
    )


def confusions(plots: dict[str, Any], most: int = 5) -> list[str]:
    """Returns which classes are taken for which others most often, in sentences."""
    matrix, names = plots.get("confusion_matrix"), plots.get("class_names")
    if not matrix or not names:
        return []
    wrong = [
        (count, row, column)
        for row, counts in enumerate(matrix)
        for column, count in enumerate(counts)
        if row != column and count
    ]
    wrong.sort(key=lambda item: (-item[0], item[1:]))
    return [
        f"{names[row]} taken for {names[column]}: {number(count)} of {number(sum(matrix[row]))}"
        for count, row, column in wrong[:most]
    ]


def comparison_table(reports: Sequence[tuple[str, Report]]) -> Table:
    """Returns one row per run; differences are against the first one."""
    headers = (
        "Run", "Accuracy", "Difference", "Flatbuffer", "Size", "Latency p50", "Speed", "Smaller than teacher",
        "Faster than teacher", "Verdict",
    )  # fmt: skip
    first = reports[0][1]["models"][-1]
    first_ms = _p50(reports[0][1])
    rows = []
    for place, (name, report) in enumerate(reports):
        result, latency_ms = report["models"][-1], _p50(report)
        teacher = report["ratios"]["against_teacher"] or {}
        rows.append(
            (
                name, accuracy_cell(result), _change(result["accuracy"], first["accuracy"], place),
                kib(result["flatbuffer"]["size_bytes"]),
                _times(result["flatbuffer"]["size_bytes"], first["flatbuffer"]["size_bytes"], place),
                milliseconds(latency_ms), _times(latency_ms, first_ms, place), ratio(teacher.get("size")),
                ratio(teacher.get("latency")), verdict(report).state,
            )
        )  # fmt: skip
    return Table(headers, tuple(rows), headers[1:-1])


def _p50(report: Report) -> float | None:
    latency = report["models"][-1]["latency"].get(first_runtime(report))
    return latency["p50_ms"] if latency else None


def _change(value: float | None, first: float | None, place: int) -> str:
    return MISSING if place == 0 or value is None or first is None else points(value - first)


def _times(value: float | None, first: float | None, place: int) -> str:
    """Returns value / first: `0.50x` is half of it."""
    return MISSING if place == 0 or value is None or not first else ratio(value / first)
