"""The report on a terminal: the same tables and sentences as in report.md and report.html."""

from __future__ import annotations

from pathlib import Path

from edgecompress.report.schema import HTML, MARKDOWN, REPORT
from edgecompress.report.words.compare import Comparison
from edgecompress.report.words.facts import allowed_table, not_int8_table, runtimes_table
from edgecompress.report.words.tables import Headline, Report, Table, headlines, models_table, ratios_table, verdict
from edgecompress_cli import render

#: Status of the verdict -> its colour.
COLOURS = {"good": "green", "doubtful": "yellow", "failed": "red"}


def show_report(report: Report, folder: Path) -> None:
    """Shows a report on stdout: verdict and reasons, headline figures, models, ratios, budget, warnings, files."""
    judged = verdict(report)
    render.parts([(f"{report['name']}: {judged.text}", f"bold {COLOURS[judged.status]}")])
    render.items(judged.reasons, style=COLOURS[judged.status])
    render.line()
    _headlines(headlines(report))
    render.line()
    show_table(models_table(report))
    ratios = ratios_table(report)
    if ratios.rows:
        render.line()
        show_table(ratios, title="Reference / result: above 1 the result is smaller or faster.")
    faults = not_int8_table(report)
    if faults.rows:
        render.line()
        show_table(faults, title="Not INT8")
    allowed = allowed_table(report)
    if allowed.rows:
        render.line()
        show_table(allowed, title="Not INT8, as the recipe allows")
    runtimes = runtimes_table(report)
    if runtimes.rows:
        render.line()
        show_table(runtimes, title="The same file on other runtimes, against LiteRT")
    _budget(report)
    if report["warnings"]:
        render.line()
        render.line("Before you rely on this", style="bold yellow")
        render.items(report["warnings"])
    render.line()
    for name in (*report["files"], HTML, MARKDOWN, REPORT):
        render.line(str(folder / name), style="dim" if name in {MARKDOWN, REPORT} else "")


def _headlines(found: list[Headline]) -> None:
    titles, values = max(len(one.title) for one in found), max(len(one.value) for one in found)
    for one in found:
        first, *rest = one.details or ("",)
        head = (f"{one.title:<{titles}}  ", ""), (f"{one.value:>{values}}  ", "bold")
        render.parts([*head, (first, "dim")])
        for detail in rest:
            render.parts([(" " * (titles + values + 4), ""), (detail, "dim")])


def _budget(report: Report) -> None:
    lines = report["budget"]["lines"]
    if not lines:
        return
    render.line()
    render.line("Budget", style="bold")
    for line in lines:
        mark, style = ("kept", "green") if line["passed"] else ("MISSED", "bold red")
        render.parts([(f"  {mark:<8}", style), (line["text"], "")])


def show_table(found: Table, title: str = "") -> None:
    """Shows a table; on a terminal too narrow for its columns, with rows and columns exchanged."""
    room = render.terminal_width()
    if room is not None and _width(found) > room and _width(found.transposed()) < _width(found):
        found = found.transposed()
    render.table(found.headers, found.rows, title=title, right=found.right)


def _width(found: Table) -> int:
    """Returns how many columns of a terminal a table takes."""
    columns = zip(found.headers, *found.rows, strict=True)
    return sum(max(len(text) for text in column) + 3 for column in columns)


def show_comparison(found: Comparison) -> None:
    """Shows runs side by side on stdout, then the keys in which their recipes differ."""
    show_table(found.table)
    if found.recipes.rows:
        render.line()
        show_table(found.recipes, title="Where the recipes differ")
    if found.notes:
        render.line()
        render.items(found.notes)
