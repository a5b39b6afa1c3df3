"""report.png: accuracy against size and latency in one picture, for report.md, which cannot hold plots of its own."""

from __future__ import annotations

import io
from typing import Any

from edgecompress.figures import figure_text, main_figure, main_value
from edgecompress.report.numbers import KIB, kib, milliseconds
from edgecompress.wording import printable

COLOURS = {"teacher": "#64748b", "student": "#3b82f6", "pruned": "#8b5cf6", "quantized": "#0d9488"}
INCHES, DOTS_PER_INCH = (11.0, 3.8), 110
SOFT = "#5c6b7c"
#: Tick labels of a logarithmic axis.
STEPS = (1, 3)


def picture(report: dict[str, Any]) -> bytes:
    """Returns the PNG; the same report gives the same bytes. Models without a figure are left out of that plot."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=INCHES, dpi=DOTS_PER_INCH, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    _accuracy_against_size(left, report)
    _latency(right, report)
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
        axes.spines[["left", "bottom"]].set_color(SOFT)
        axes.tick_params(colors=SOFT, labelsize=8)
        axes.xaxis.label.set_color(SOFT)
        axes.yaxis.label.set_color(SOFT)
    buffer = io.BytesIO()
    # No date and no version in the file, so that it only changes when the report does.
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def _accuracy_against_size(axes: Any, report: dict[str, Any]) -> None:
    from matplotlib.ticker import LogLocator, NullLocator, StrMethodFormatter

    axes.set_xlabel("Flatbuffer size, KiB (logarithmic)", fontsize=8)
    figure = main_figure(report["task"])
    axes.set_ylabel(f"Test {figure.label}{', %' if figure.unit == '%' else ''}", fontsize=8)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=STEPS))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axes.grid(axis="y", color="#e1e6ec", linewidth=0.8)
    axes.margins(x=0.1, y=0.25)
    rows = [row for row in report["models"] if main_value(row, figure) is not None]
    sizes = [row["flatbuffer"]["size_bytes"] / KIB for row in rows]
    axes.plot(sizes, [main_value(row, figure) for row in rows], color=SOFT, linewidth=0.8, linestyle=":")
    for row, size in zip(rows, sizes, strict=True):
        value, colour = main_value(row, figure), COLOURS.get(row["key"], SOFT)
        ends = row.get("accuracy_interval") or {"low": value, "high": value}
        error = [[max(value - ends["low"], 0.0)], [max(ends["high"] - value, 0.0)]]
        text = f"{row['label']}: {figure_text(figure, value)}, {kib(row['flatbuffer']['size_bytes'])}"
        axes.errorbar(size, value, yerr=error, fmt="o", color=colour, markersize=6, linewidth=1.2, label=_plain(text))
    if rows:
        axes.legend(loc="lower right", fontsize=7.5, frameon=False, handletextpad=0.4)


def _latency(axes: Any, report: dict[str, Any]) -> None:
    runtime = report["benchmark"]["runtimes"][0]
    axes.set_xlabel(f"Latency on {_plain(runtime)}, p50 with a mark at p95, ms", fontsize=8)
    rows = [(row, row["latency"][runtime]) for row in report["models"] if row["latency"].get(runtime)]
    for place, (row, latency) in enumerate(rows):
        p50, p95 = latency["p50_ms"], latency["p95_ms"]
        colour = COLOURS.get(row["key"], SOFT)
        axes.barh(place, p50, height=0.5, color=colour)
        axes.plot([p50, p95], [place, place], color=colour, linewidth=1.2, marker="|", markersize=8, markevery=[1])
        axes.annotate(milliseconds(p50), (max(p50, p95), place), (6, -3), textcoords="offset points", fontsize=8)
    axes.set_yticks(range(len(rows)), [_plain(row["label"]) for row, _ in rows])
    axes.invert_yaxis()
    axes.margins(x=0.18)


def _plain(text: str) -> str:
    """Returns text that matplotlib shows as it is: a dollar would start a formula."""
    return printable(text).replace("$", r"\$")
