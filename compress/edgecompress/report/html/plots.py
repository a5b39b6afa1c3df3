"""The report's plots: accuracy against size, latency, training curves, confusion matrix."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from edgecompress.figures import figure_text, judged, main_figure, main_value
from edgecompress.report.html.svg import Axis, Drawing, padded, text_width
from edgecompress.report.numbers import KIB, kib, milliseconds, significant

#: More classes than this do not fit into a matrix that can be read.
MATRIX_CLASSES = 40
#: Up to this many classes the cells have room for their numbers.
NUMBERED_CLASSES = 16
LABEL_HEIGHT = 15.0
DARK_CELL = 0.55
#: A label that is not nearer to its own dot than to any other by this much seems to name the other one...
CLEARLY_NEARER = 14.0
#: ...which weighs this much against covering lines and labels.
STRAY_COST = 3
Box = tuple[float, float, float, float]
Point = tuple[float, float]


def style_of(key: str) -> str:
    """Returns the CSS class that colours a model; the result has its own."""
    return f"m-{key}" if key in {"teacher", "student", "pruned", "quantized"} else "m-student"


def accuracy_against_size(report: dict[str, Any]) -> str:
    """Returns a plot of test accuracy (with its 95 % interval) over flatbuffer size, "" where nothing can be drawn.

    Other tasks have their own figure in its place.
    """
    figure = main_figure(report["task"])
    title = f"Test {figure.label}{', %' if figure.unit == '%' else ''}"
    values = {row["key"]: main_value(row, figure) for row in report["models"]}
    rows = [row for row in report["models"] if values[row["key"]] is not None]
    if not rows:
        return ""
    drawing = Drawing(476, 300, f"Test {figure.label} against flatbuffer size")
    sizes = [row["flatbuffer"]["size_bytes"] / KIB for row in rows]
    known = [row.get("accuracy_interval") or dict.fromkeys(("low", "high"), values[row["key"]]) for row in rows]
    intervals = [(one["low"], one["high"]) for one in known]
    low, high = padded(end for interval in intervals for end in interval)
    across = Axis(min(sizes) / 1.6, max(sizes) * 1.6, 52, 448, log=True)
    up = Axis(low, high, 256, 20)
    for tick in up.ticks(5):
        drawing.line(across.start, up.at(tick), across.end, up.at(tick))
        drawing.text(across.start - 8, up.at(tick) + 4, f"{tick:g}", anchor="end")
    for tick in across.ticks():
        drawing.line(across.at(tick), up.start, across.at(tick), up.start + 4, "axis")
        drawing.text(across.at(tick), up.start + 18, f"{tick:,g}", anchor="middle")
    drawing.line(across.start, up.start, across.end, up.start, "axis")
    drawing.text((across.start + across.end) / 2, 294, "Flatbuffer size, KiB (logarithmic)", "axis-title", "middle")
    drawing.text(across.start, 11, title, "axis-title")
    places = [(across.at(size), up.at(values[row["key"]])) for size, row in zip(sizes, rows, strict=True)]
    drawing.path(places, "trail")
    taken: list[Box] = [(x - 8, y - 8, x + 8, y + 8) for x, y in places] + _along(places)
    for row, interval, (x, y) in zip(rows, intervals, places, strict=True):
        style = style_of(row["key"])
        value = values[row["key"]]
        ends = up.at(interval[1]), up.at(interval[0])
        drawing.line(x, ends[0], x, ends[1], f"whisker {style}")
        taken.append((x - 2, ends[0], x + 2, ends[1]))
        tip = f"{row['label']}: {figure_text(figure, value)}, {kib(row['flatbuffer']['size_bytes'])}"
        drawing.circle(x, y, 7 if row is rows[-1] else 5.5, f"dot {style}", tip)
    for row, place in zip(rows, places, strict=True):
        others = [dot for dot in places if dot != place]
        left, top = _free_place(row["label"], place, others, taken, (across.start, up.end, across.end + 24, up.start))
        weight = " strong" if row is rows[-1] else ""
        drawing.text(left, top + 12, row["label"], f"label t-{style_of(row['key'])}{weight}")
    return drawing.render()


def _along(places: Sequence[tuple[float, float]], pieces: int = 24) -> list[Box]:
    """Returns small boxes along the lines between dots, which labels should not cover."""
    found = []
    for (x, y), (to_x, to_y) in pairwise(places):
        for piece in range(pieces + 1):
            at_x, at_y = x + (to_x - x) * piece / pieces, y + (to_y - y) * piece / pieces
            found.append((at_x - 1, at_y - 1, at_x + 1, at_y + 1))
    return found


def _free_place(text: str, place: Point, others: Sequence[Point], taken: list[Box], area: Box) -> tuple[float, float]:
    """Returns the top left corner for a label, and takes it: near its own dot, covering as little as can be."""
    (x, y), width = place, text_width(text, 13)
    boxes = []
    for top in (y - 8, y - 24, y + 8, y - 40, y + 24, y - 56, y + 40, y - 72, y + 56):
        beside = (x + 11, x - 11 - width) if top == y - 8 else (x - width / 2, x + 5, x - 5 - width)
        boxes += [(left, top, left + width, top + LABEL_HEIGHT) for left in beside]
    inside = [
        box for box in boxes if area[0] <= box[0] and box[2] <= area[2] and area[1] <= box[1] and box[3] <= area[3]
    ]

    def cost(box: Box) -> float:
        strays = any(_distance(box, dot) < _distance(box, place) + CLEARLY_NEARER for dot in others)
        return sum(_overlap(box, other) for other in taken) + STRAY_COST * strays

    chosen = min(inside or boxes, key=cost)
    taken.append(chosen)
    return chosen[0], chosen[1]


def _distance(box: Box, dot: Point) -> float:
    """Returns how far a dot is from a box, 0 inside it."""
    across = max(box[0] - dot[0], 0.0, dot[0] - box[2])
    return math.hypot(across, max(box[1] - dot[1], 0.0, dot[1] - box[3]))


def _overlap(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def latency_bars(report: dict[str, Any], runtime: str) -> str:
    """Returns bars of p50 latency with a mark at p95, "" where nothing was measured."""
    rows = [row for row in report["models"] if runtime in row["latency"]]
    if not rows:
        return ""
    step = 46
    drawing = Drawing(476, step * len(rows) + 12, f"Latency on {runtime}")
    longest = max(max(row["latency"][runtime]["p95_ms"], row["latency"][runtime]["p50_ms"]) for row in rows)
    across = Axis(0, longest or 1.0, 0, 290)
    for place, row in enumerate(rows):
        latency, top = row["latency"][runtime], 6 + place * step
        text = f"p50 {milliseconds(latency['p50_ms'])}, p95 {milliseconds(latency['p95_ms'])}"
        drawing.text(0, top + 11, row["label"], "label strong" if row is rows[-1] else "label")
        width = max(across.at(latency["p50_ms"]), 2)
        drawing.rect(0, top + 17, width, 14, f"bar {style_of(row['key'])}", tip=f"{row['label']}: {text}")
        p95 = max(across.at(latency["p95_ms"]), 2)
        drawing.line(width, top + 24, p95, top + 24, f"whisker {style_of(row['key'])}")
        drawing.line(p95, top + 20, p95, top + 28, f"whisker {style_of(row['key'])}")
        written = f"{milliseconds(latency['p50_ms'])}, p95 {milliseconds(latency['p95_ms'])}"
        drawing.text(max(width, p95) + 8, top + 28, written, "label")
    return drawing.render()


def training_curve(stage: str, curve: Sequence[dict[str, Any]], task: str = "image-classification") -> str:
    """Returns a plot of loss and validation accuracy (or another task's figure) over the epochs of one stage."""
    found = next((known for entry in curve if (known := judged(task, entry, "validation_")) is not None), None)
    figure = main_figure(task) if found is None else found[0]
    drawing = Drawing(340, 210, f"Training curve of stage {stage}")
    across = Axis(1, len(curve), 40, 296) if len(curve) > 1 else Axis(0, 2, 40, 296)
    _curve_line(drawing, across, [entry.get("loss") for entry in curve], "loss", "Loss", left=True)
    title = f"Validation {figure.label}{', %' if figure.unit == '%' else ''}"
    values = [entry.get(f"validation_{figure.key}") for entry in curve]
    _curve_line(drawing, across, values, "accuracy", title, left=False)
    drawing.line(across.start, 170, across.end, 170, "axis")
    for tick in across.ticks(6):
        if tick == int(tick):
            drawing.text(across.at(tick), 185, f"{tick:g}", anchor="middle")
    drawing.text((across.start + across.end) / 2, 203, "Epoch", "axis-title", "middle")
    return drawing.render()


def _curve_line(
    drawing: Drawing, across: Axis, values: Sequence[float | None], style: str, title: str, *, left: bool
) -> None:
    known = [(number, value) for number, value in enumerate(values, start=1) if value is not None]
    if not known:
        return
    up = Axis(*padded((value for _, value in known), 0.08), 170, 22)
    edge, anchor = (across.start - 6, "end") if left else (across.end + 6, "start")
    for tick in up.ticks(4):
        if left:
            drawing.line(across.start, up.at(tick), across.end, up.at(tick))
        drawing.text(edge, up.at(tick) + 4, f"{tick:g}", f"tick c-{style}", anchor)
    drawing.text(0 if left else drawing.width, 10, title, f"axis-title c-{style}", "start" if left else "end")
    drawing.path([(across.at(number), up.at(value)) for number, value in known], f"curve c-{style}")
    for number, value in known:
        radius = 2.5 if len(known) <= NUMBERED_CLASSES * 2 else 0
        if radius or number == known[-1][0]:
            drawing.circle(
                across.at(number), up.at(value), radius or 2.5, f"point c-{style}",
                f"epoch {number}: {significant(value, 4)}",
            )  # fmt: skip


def confusion_matrix(plots: dict[str, Any]) -> str:
    """Returns the confusion matrix, rows being the labels; "" where there is none or too many classes to read it."""
    matrix, names = plots.get("confusion_matrix"), plots.get("class_names")
    if not matrix or not names or len(matrix) > MATRIX_CLASSES:
        return ""
    shown = [name if len(name) <= 14 else name[:13] + "…" for name in map(str, names)]  # noqa: PLR2004
    count = len(matrix)
    cell = max(12.0, min(38.0, 420 / count))
    left = max(text_width(name, 11) for name in shown) + 30
    top = max(text_width(name, 11) for name in shown) * 0.72 + 34
    slant = text_width(shown[-1], 11) * 0.75
    drawing = Drawing(left + cell * count + slant, top + cell * count + 6, "Confusion matrix")
    drawing.text(left, 10, "Answer of the flatbuffer", "axis-title")
    drawing.text(10, top + cell * count / 2, "Label", "axis-title", "middle", turn=-90)
    for row, counts in enumerate(matrix):
        total, y = sum(counts), top + row * cell
        drawing.text(left - 6, y + cell / 2 + 4, shown[row], "tick", "end")
        drawing.text(left + (row + 0.5) * cell, top - 6, shown[row], "tick", turn=-45)
        for column, number in enumerate(counts):
            share = number / total if total else 0.0
            x = left + column * cell
            tip = f"{names[row]} taken for {names[column]}: {number} of {total}"
            style = "cell" if row == column else "cell wrong"
            # Errors are rare, so they would not show at all beside the diagonal: the root brings them out.
            opacity = share if row == column else share**0.5
            drawing.rect(x + 0.5, y + 0.5, cell - 1, cell - 1, style, tip=tip, opacity=opacity)
            if number and count <= NUMBERED_CLASSES:
                ink = "cell-text light" if opacity > DARK_CELL else "cell-text"
                drawing.text(x + cell / 2, y + cell / 2 + 4, f"{number}", ink, "middle")
    return drawing.render()
