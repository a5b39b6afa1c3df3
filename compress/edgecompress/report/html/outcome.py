"""What the result does on the test split, drawn: predictions against true values, anomalies' scores, its own text."""

from __future__ import annotations

from typing import Any

from edgecompress.report.html.parts import section, table
from edgecompress.report.html.svg import Axis, Drawing, esc, padded
from edgecompress.report.numbers import significant
from edgecompress.report.words.outcome import Plots, hits_table, predictions_table, sample_sentence, shown_prompt


def outcome_html(plots: Plots) -> str:
    """Returns the section of report.html, "" where the task has none of these."""
    if plots.get("predictions"):
        drawn = "".join(f"<div><h3>{esc(one['name'])}</h3>{scatter(one)}</div>" for one in plots["predictions"])
        body = f'{table(predictions_table(plots))}<div class="curves">{drawn}</div>'
        return section("Predicted against true", body)
    if plots.get("scores"):
        curve = roc_curve(plots)
        left = f"<div><h3>Receiver operating characteristic</h3>{curve}</div>" if curve else ""
        right = f"<div><h3>Scores of the test samples</h3>{score_histogram(plots)}</div>"
        return section("Normal and anomalous", f'<div class="columns">{left}{right}</div>{table(hits_table(plots))}')
    sample = plots.get("sample")
    if sample:
        told = f'<p class="soft">{esc(sample_sentence(sample))}</p>'
        text = f"<pre><span class='soft'>{esc(shown_prompt(sample))}</span><b>{esc(sample['text'])}</b></pre>"
        return section("Text that the flatbuffer wrote", told + text)
    return ""


def scatter(one: dict[str, Any]) -> str:
    """Returns a plot of predictions over true values, with the line on which they would be equal."""
    drawing = Drawing(340, 300, f"Predicted against true: {one['name']}")
    low, high = padded([*one["true"], *one["predicted"]], 0.05)
    across, up = Axis(low, high, 52, 328), Axis(low, high, 256, 12)
    for tick in across.ticks(5):
        drawing.line(across.start, up.at(tick), across.end, up.at(tick))
        drawing.text(across.start - 6, up.at(tick) + 4, f"{tick:g}", anchor="end")
        drawing.text(across.at(tick), up.start + 16, f"{tick:g}", anchor="middle")
    drawing.path([(across.at(low), up.at(low)), (across.at(high), up.at(high))], "trail")
    for true, predicted in zip(one["true"], one["predicted"], strict=True):
        tip = f"true {significant(true, 4)}, predicted {significant(predicted, 4)}"
        drawing.circle(across.at(true), up.at(predicted), 2.5, "point m-quantized", tip)
    drawing.text((across.start + across.end) / 2, 292, "True", "axis-title", "middle")
    drawing.text(0, 8, "Predicted", "axis-title")
    return drawing.render()


def roc_curve(plots: Plots) -> str:
    """Returns the plot of anomalies found over false alarms, "" without any."""
    curve = plots.get("roc")
    if not curve:
        return ""
    drawing = Drawing(340, 300, "Anomalies found against false alarms")
    across, up = Axis(0, 1, 44, 328), Axis(0, 1, 256, 16)
    for tick in (0.0, 0.2, 0.4, 0.6, 0.8, 1.0):
        drawing.line(across.start, up.at(tick), across.end, up.at(tick))
        drawing.text(across.start - 6, up.at(tick) + 4, f"{tick:g}", anchor="end")
        drawing.text(across.at(tick), up.start + 16, f"{tick:g}", anchor="middle")
    drawing.path([(across.at(0), up.at(0)), (across.at(1), up.at(1))], "trail")
    points = zip(curve["false_alarms"], curve["hits"], strict=True)
    drawing.path([(across.at(alarm), up.at(hit)) for alarm, hit in points], "curve c-accuracy")
    drawing.text((across.start + across.end) / 2, 292, "False alarms (share of normal samples)", "axis-title", "middle")
    drawing.text(0, 8, "Anomalies found (share)", "axis-title")
    return drawing.render()


def score_histogram(plots: Plots) -> str:
    """Returns how many normal and anomalous samples have which score, "" without any."""
    scores = plots.get("scores")
    if not scores:
        return ""
    edges, kinds = scores["edges"], (("normal", "student"), ("anomalous", "teacher"))
    drawing = Drawing(476, 300, "Scores of normal and anomalous samples")
    highest = max([*scores["normal"], *scores["anomalous"], 1])
    across, up = Axis(edges[0], edges[-1], 44, 464, log=True), Axis(0, highest, 256, 30)
    for tick in up.ticks(4):
        drawing.line(across.start, up.at(tick), across.end, up.at(tick))
        drawing.text(across.start - 6, up.at(tick) + 4, f"{tick:g}", anchor="end")
    for tick in across.ticks():
        drawing.text(across.at(tick), up.start + 16, f"{tick:g}", anchor="middle")
    for number, (kind, style) in enumerate(kinds):
        for low, high, count in zip(edges, edges[1:], scores[kind], strict=False):
            if count:
                left, right, top = across.at(low), across.at(high), up.at(count)
                drawing.rect(
                    left, top, max(right - left - 1, 1), up.start - top, f"bar m-{style}",
                    tip=f"{count} {kind}, score {significant(low)} to {significant(high)}", opacity=0.6,
                )  # fmt: skip
        drawing.rect(across.start + 90 * number, 0, 10, 10, f"bar m-{style}", opacity=0.6)
        drawing.text(across.start + 90 * number + 16, 9, kind, "label")
    drawing.text((across.start + across.end) / 2, 292, "Score (logarithmic)", "axis-title", "middle")
    return drawing.render()
