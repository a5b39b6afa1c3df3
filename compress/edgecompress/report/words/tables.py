"""The report's verdict, headline figures and main tables as plain text; terminal, Markdown and HTML show the same."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from edgecompress.figures import Figure, answer_noun, figure_text, figures_of, lost_text, main_figure, main_value
from edgecompress.report.numbers import compact, kib, milliseconds, number, percent, points, ratio, than
from edgecompress.report.verdict import assess, interval_text, paired_short
from edgecompress.wording import counted

Report = dict[str, Any]
#: What is said of two models of which neither has a sample right that the other has wrong.
SAME_SAMPLES = "right on the same samples"


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

    def transposed(self) -> Table:
        """Returns the same with rows and columns exchanged, for a page that is too narrow for the columns."""
        headers = (self.headers[0], *(row[0] for row in self.rows))
        columns = list(zip(self.headers, *self.rows, strict=True))[1:]
        return Table(headers, tuple(columns), headers[1:])


@dataclass(frozen=True)
class Verdict:
    """How the run ended.

    Attributes:
        status: `good`, `doubtful` or `failed`.
        text: The same in one sentence.
        reasons: Why, in sentences; none where it is good.
    """

    status: str
    text: str
    reasons: tuple[str, ...]


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
    """Returns the verdict; a failed verification counts more than a missed budget. Older reports are judged here."""
    found = report.get("verdict") or assess(report)
    reasons = tuple(str(reason["text"]) for reason in found["reasons"])
    verification, lines = report["verification"], report["budget"]["lines"]
    if verification is not None and not verification["passed"]:
        return Verdict(found["status"], "Failed: do not ship this flatbuffer, its verification failed.", reasons)
    if not report["budget"]["passed"]:
        missed = [line["name"] for line in lines if not line["passed"]]
        return Verdict(found["status"], f"Failed: budget missed ({', '.join(missed)}).", reasons)
    checked = "verified" if verification is not None else "not verified"
    kept = (
        f"within budget on all {len(lines)} lines" if len(lines) > 1 else "within budget" if lines else "no budget set"
    )
    codes = ", ".join(dict.fromkeys(str(reason["code"]) for reason in found["reasons"]))
    status = f"Doubtful ({codes})" if codes else "Good"
    return Verdict(found["status"], f"{status}: {checked}, {kept}.", reasons)


def figure_of(report: Report) -> Figure:
    """Returns what a report's models are judged by."""
    return main_figure(report["task"])


def figure_cell(row: dict[str, Any], figure: Figure) -> str:
    """Returns a model's main figure, an accuracy with its 95 % interval: `92.61 % (92.1 to 93.1 %)`."""
    value, ends = main_value(row, figure), row.get("accuracy_interval")
    if not figure.binomial or value is None or ends is None:
        return figure_text(figure, value)
    return f"{value:.2f} % ({interval_text(ends['low'], ends['high'])})"


def change_text(entry: dict[str, Any], figure: Figure) -> str:
    """Returns how the result's figure differs from a reference's: `-0.35 points`, `+2.10 %`, `equal`."""
    return points(entry["accuracy_points"]) if figure.binomial else lost_text(figure, entry.get("lost"))


def with_paired(change: str, paired: dict[str, Any] | None) -> str:
    """Returns a change with what the same samples say of it: `-0.35 points (12 won, 47 lost, p < 0.001)`."""
    if paired is None or paired.get("p") is None:
        return change
    if change == "equal" and paired.get("gained") == paired.get("lost") == 0:
        return SAME_SAMPLES
    return f"{change} ({paired_short(paired)})"


def base_model(report: Report, key: str) -> dict[str, Any] | None:
    """Returns the float model `teacher` or `student` of a report, None where the run has none."""
    return next((row for row in report["models"][:-1] if row["key"] == key), None)


def references(report: Report) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Returns the ratios that exist, each with the model they are against; the teacher comes first."""
    pairs = [(report["ratios"][f"against_{key}"], base_model(report, key)) for key in ("teacher", "student")]
    return [(entry, base) for entry, base in pairs if entry is not None and base is not None]


def p50_of(report: Report, row: dict[str, Any]) -> float | None:
    """Returns a model's p50 latency in milliseconds on the first runtime."""
    latency = row["latency"].get(first_runtime(report))
    return latency["p50_ms"] if latency else None


def headlines(report: Report) -> list[Headline]:
    """Returns size, speed, accuracy and agreement of the result, each beside what it is compared with."""
    result, against, figure = report["models"][-1], references(report), figure_of(report)
    runtime = first_runtime(report)
    size, speed, accuracy = [], [], []
    for ratios, base in against:
        name = ratios["reference"]
        base_size = kib(base["flatbuffer"]["size_bytes"])
        size.append(than(ratios["size"], "smaller", "larger", f"{name} ({base_size})"))
        if ratios["latency"] is not None:
            base_time = milliseconds(p50_of(report, base))
            speed.append(than(ratios["latency"], "faster", "slower", f"{name} ({base_time})"))
        if ratios["accuracy_points" if figure.binomial else "lost"] is not None:
            before = figure_text(figure, main_value(base, figure))
            change = with_paired(change_text(ratios, figure), ratios.get("paired"))
            link = "as" if change == SAME_SAMPLES else "against"
            accuracy.append(f"{change} {link} {name} ({before})")
    p50 = p50_of(report, result)
    ends = result.get("accuracy_interval")
    tested = counted(report["data"]["test"], "test sample")
    noise = [f"95 % interval {interval_text(ends['low'], ends['high'])} on {tested}"] if ends is not None else []
    found = [
        Headline("Flatbuffer", kib(result["flatbuffer"]["size_bytes"]), tuple(size)),
        Headline(f"Latency p50, {runtime}", milliseconds(p50), tuple(speed)),
        Headline(f"Test {figure.label}", figure_text(figure, main_value(result, figure)), (*accuracy, *noise)),
    ]
    if result["agreement_with_float"] is not None:
        twin = (report["verification"] or {}).get("twin_agreement")
        details = [f"test {answer_noun(report['task'])}s with the float model's answer"]
        details += [f"{percent(twin)} with its quantized twin"] if twin is not None else []
        found.append(Headline("Agreement", percent(result["agreement_with_float"]), tuple(details)))
    return found


def models_table(report: Report) -> Table:
    """Returns one row per model, the result last; p50 and p95 for each runtime."""
    runtimes = report["benchmark"]["runtimes"]
    timed = [f"p50 {runtime}" for runtime in runtimes], [f"p95 {runtime}" for runtime in runtimes]
    latency_headers = [name for pair in zip(*timed, strict=True) for name in pair]
    reference = report["models"][0]["key"]
    figure, *others = figures_of(report["task"])
    headers = (
        "Model", "Parameters", "MACs", "Flatbuffer", "gzip", "zstd", f"Test {figure.label}",
        *(other.title for other in others), f"Agrees with {reference}", *latency_headers,
    )  # fmt: skip
    rows = []
    for row in report["models"]:
        measured = [row["latency"].get(runtime) or {} for runtime in runtimes]
        times = [milliseconds(found.get(key)) for found in measured for key in ("p50_ms", "p95_ms")]
        rows.append(
            (
                row["label"], _parameters(row), compact(row["macs"]), kib(row["flatbuffer"]["size_bytes"]),
                kib(row["flatbuffer"]["gzip_bytes"]), kib(row["flatbuffer"].get("zstd_bytes")),
                figure_cell(row, figure), *(figure_text(other, main_value(row, other)) for other in others),
                percent(row["agreement_with_reference"]), *times,
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
    figure = figure_of(report)
    headers = ("The result against", "Size", "gzip", "zstd", "Latency", "Parameters", "MACs", figure.title)
    rows = tuple(
        (
            entry["reference"], ratio(entry["size"]), ratio(entry["gzip"]), ratio(entry.get("zstd")),
            ratio(entry["latency"]), ratio(entry["params"]), ratio(entry["macs"]),
            with_paired(change_text(entry, figure), entry.get("paired")),
        )
        for entry, _ in references(report)
    )  # fmt: skip
    return Table(headers, rows, headers[1:])


def budget_table(report: Report) -> Table:
    """Returns the budget line by line."""
    rows = tuple(
        (line["name"], line["text"], "kept" if line["passed"] else "MISSED") for line in report["budget"]["lines"]
    )
    return Table(("Limit", "Found", "Verdict"), rows)
