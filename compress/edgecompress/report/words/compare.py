"""Finished runs side by side: their figures, where their recipes differ, and what makes them hard to compare."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from edgecompress.figures import lost_text, main_value
from edgecompress.report.intervals import mcnemar_of
from edgecompress.report.numbers import MISSING, kib, milliseconds, ratio
from edgecompress.report.verdict import DOUBTFUL
from edgecompress.report.words.tables import (
    Report,
    Table,
    base_model,
    figure_cell,
    figure_of,
    first_runtime,
    p50_of,
    verdict,
    with_paired,
)

#: Keys that only name a run.
NAMES = ("name",)
#: A key that a recipe does not have, because the block around it was left out.
ABSENT = object()
Run = tuple[str, Report]


@dataclass(frozen=True)
class Comparison:
    """Several runs; the first one is what differences are against.

    Attributes:
        rows: One entry per run, plain JSON values: folder, name, verdict (its status), figure (what its task is judged
            by), value, lost and teacher_lost (what it has lost against the first run and its own FP32 teacher, in
            points or in percent; above 0 is a loss), paired and teacher_paired (on the same samples, as in a report's
            ratios; null where the samples are others), accuracy, accuracy_interval, accuracy_points (against the first
            run), teacher_accuracy_points (against its own FP32 teacher, below 0 is a loss), size_bytes, gzip_bytes,
            zstd_bytes, p50_ms, runtime, ratios against its FP32 teacher and student, budget_passed.
        differences: One entry per key in which the recipes differ: key, and one value per run.
        notes: What to know before comparing, in sentences.
        table: The rows for people.
        recipes: The differences for people.
    """

    rows: list[dict[str, Any]]
    differences: list[dict[str, Any]]
    notes: list[str]
    table: Table
    recipes: Table


def compare(runs: Sequence[Run]) -> Comparison:
    """Returns the comparison of finished runs, each given as (folder, report)."""
    first = runs[0][1]
    rows = [_row(folder, report, first) for folder, report in runs]
    differences: list[dict[str, Any]] = [
        {"key": key, "values": [None if value is ABSENT else value for value in values]}
        for key, values in _differences("", [report["recipe"] for _, report in runs])
    ]
    names = [folder for folder, _ in runs]
    cells = tuple((str(entry["key"]), *map(_written, entry["values"])) for entry in differences)
    return Comparison(rows, differences, _notes(runs), _table(runs, rows), Table(("key", *names), cells))


def _row(folder: str, report: Report, reference: Report) -> dict[str, Any]:
    result, figure = report["models"][-1], figure_of(report)
    first = reference["models"][-1]["accuracy"]
    value = main_value(result, figure)
    others = [reference["models"][-1], base_model(report, "teacher")]
    against = [
        main_value(row, figure) if row is not None and figure == figure_of(reference) else None for row in others
    ]
    lost = [None if value is None or other is None else figure.lost(value, other) for other in against]
    accuracy, teacher = result["accuracy"], base_model(report, "teacher")
    known = teacher is not None and teacher["accuracy"] is not None and accuracy is not None
    return {
        "folder": folder,
        "name": report["name"],
        "verdict": verdict(report).status,
        "budget_passed": report["budget"]["passed"] if report["budget"]["lines"] else None,
        "figure": figure.key,
        "value": value,
        "lost": lost[0],
        "teacher_lost": lost[1],
        "paired": _paired(reference, report),
        "teacher_paired": (report["ratios"]["against_teacher"] or {}).get("paired"),
        "accuracy": accuracy,
        "accuracy_interval": result.get("accuracy_interval"),
        "accuracy_points": None if accuracy is None or first is None else accuracy - first,
        "teacher_accuracy_points": accuracy - teacher["accuracy"] if known and teacher is not None else None,
        "size_bytes": result["flatbuffer"]["size_bytes"],
        "gzip_bytes": result["flatbuffer"]["gzip_bytes"],
        "zstd_bytes": result["flatbuffer"].get("zstd_bytes"),
        "p50_ms": p50_of(report, result),
        "runtime": first_runtime(report),
        "against_teacher": _ratios(report["ratios"]["against_teacher"]),
        "against_student": _ratios(report["ratios"]["against_student"]),
    }


def _paired(first: Report, other: Report) -> dict[str, Any] | None:
    """Returns how two runs' results compare on the same test samples; None where they are not the same."""
    one, two = (report.get("evidence") or {} for report in (first, other))
    same = one.get("samples_digest") is not None and one.get("samples_digest") == two.get("samples_digest")
    if not same or one.get("answers") is None or two.get("answers") is None:
        return None
    return asdict(mcnemar_of(one["answers"], two["answers"], other["data"]["test"]))


def _ratios(entry: dict[str, Any] | None) -> dict[str, Any] | None:
    return None if entry is None else {key: entry.get(key) for key in ("reference", "size", "gzip", "zstd", "latency")}


def _table(runs: Sequence[Run], rows: Sequence[dict[str, Any]]) -> Table:
    titles = list(dict.fromkeys(f"Test {figure_of(report).label}" for _, report in runs))
    title = titles[0] if len(titles) == 1 else "Test figure"
    headers = (
        "Run", "Verdict", title, "Against first", "Against teacher", "Flatbuffer", "gzip", "zstd", "Latency p50",
        "Smaller than teacher", "Faster than teacher", "Smaller than student", "Faster than student", "Budget",
    )  # fmt: skip
    cells = []
    for place, ((folder, report), row) in enumerate(zip(runs, rows, strict=True)):
        teacher, student = row["against_teacher"] or {}, row["against_student"] or {}
        figure = figure_of(report)
        changes = [
            with_paired(lost_text(figure, row[key]), row[pair])
            for key, pair in (("lost", "paired"), ("teacher_lost", "teacher_paired"))
        ]
        cells.append(
            (
                folder, _status(report), figure_cell(report["models"][-1], figure),
                changes[0] if place else MISSING, changes[1],
                kib(row["size_bytes"]), kib(row["gzip_bytes"]),
                kib(row["zstd_bytes"]), milliseconds(row["p50_ms"]),
                ratio(teacher.get("size")), ratio(teacher.get("latency")),
                ratio(student.get("size")), ratio(student.get("latency")), _budget(report),
            )
        )  # fmt: skip
    columns = [column for column in zip(headers, *cells, strict=True) if set(column[1:]) != {MISSING}]
    shown, *kept = zip(*columns, strict=True)
    return Table(shown, tuple(kept), shown[1:])


def _status(report: Report) -> str:
    """Returns a run's status, with the codes of what makes it doubtful."""
    found = verdict(report)
    return found.text.partition(":")[0].lower() if found.status == DOUBTFUL else found.status


def _budget(report: Report) -> str:
    """Returns `kept`, `MISSED` with the number of lines, or that there was no budget; a failed verification first."""
    if not (report["verification"] or {}).get("passed", True):
        return "NOT VERIFIED"
    lines = report["budget"]["lines"]
    missed = sum(not line["passed"] for line in lines)
    return f"MISSED {missed} of {len(lines)}" if missed else "kept" if lines else "none set"


def _differences(path: str, values: Sequence[Any]) -> list[tuple[str, list[Any]]]:
    """Returns the dotted keys in which recipes differ; a block that some leave out is one entry, not all its keys."""
    present = [value for value in values if value is not ABSENT]
    if path in NAMES or all(value == values[0] for value in values):
        return []
    blocks = [value for value in present if isinstance(value, dict)]
    if not blocks:
        return [(path, list(values))]
    found: list[tuple[str, list[Any]]] = []
    if len(blocks) < len(values):
        given = [value if not isinstance(value, dict) else "given" for value in values]
        found.append((path, given))
    keys = list(dict.fromkeys(key for block in blocks for key in block))
    for key in keys:
        inner = [value.get(key, ABSENT) if isinstance(value, dict) else ABSENT for value in values]
        known = [value for value in inner if value is not ABSENT]
        if len(blocks) == len(values) or any(value != known[0] for value in known):
            found += _differences(f"{path}.{key}" if path else key, inner)
    return found


def _written(value: Any) -> str:
    if value is None:
        return MISSING
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _figures(reports: Sequence[Report]) -> str:
    return "accuracies" if all(figure_of(report).binomial for report in reports) else "test figures"


def _notes(runs: Sequence[Run]) -> list[str]:
    reports = [report for _, report in runs]
    notes = []
    if len({figure_of(report).key for report in reports}) > 1:
        notes.append("The runs have different tasks: their test figures are not of one kind.")
    if len({(report["data"]["sha256"], report["data"]["test"]) for report in reports}) > 1:
        notes.append(f"The runs were scored on different test data: their {_figures(reports)} cannot be compared.")
    elif len({(report["seed"], report["recipe"]["data"]["test"]) for report in reports}) > 1:
        notes.append(
            "Seeds or test shares differ: where the data has no test split of its own, so do the test samples."
        )
    if len({(report["environment"].get("cpu"), report["environment"].get("cores")) for report in reports}) > 1:
        notes.append("Latency was measured on different machines: it cannot be compared.")
    if len({(first_runtime(report), report["benchmark"]["threads"]) for report in reports}) > 1:
        notes.append("Latency was measured on different runtimes or thread counts: it cannot be compared.")
    notes.append(
        "Latency was measured run by run; `edgecompress bench` measures the flatbuffers interleaved, which is fairer."
    )
    return notes
