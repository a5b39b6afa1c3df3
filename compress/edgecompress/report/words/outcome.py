"""What the result does on the test split, by task: predictions against true values, anomalies' scores, its own text.

Plots are for report.html; report.md has the same in tables and quotations.
"""

from __future__ import annotations

from typing import Any

from edgecompress.report.numbers import percent, significant
from edgecompress.report.words.tables import Table

Plots = dict[str, Any]
#: A prompt is shown from its end, so much of it.
PROMPT_SHOWN = 200


def sample_sentence(sample: dict[str, Any]) -> str:
    """Returns how a text came about."""
    return (
        f"After the beginning of the test split, {sample['tokens']} tokens drawn one by one from the flatbuffer's own "
        f"outputs at temperature {sample['temperature']:g}; the end of what it was given comes first."
    )


def shown_prompt(sample: dict[str, Any]) -> str:
    """Returns the end of what the model was given."""
    prompt = str(sample["prompt"])
    return prompt if len(prompt) <= PROMPT_SHOWN else f"...{prompt[-PROMPT_SHOWN:]}"


def predictions_table(plots: Plots) -> Table:
    """Returns the errors of each number of a regression; no rows for other tasks."""
    rows = tuple(
        (str(one["name"]), significant(one["mae"], 4), significant(one["rmse"], 4), _share(one["r2"]))
        for one in plots.get("predictions") or ()
    )
    return Table(("Number", "MAE", "RMSE", "R2"), rows, ("MAE", "RMSE", "R2"))


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def hits_table(plots: Plots) -> Table:
    """Returns how many anomalies are found at few false alarms; no rows for other tasks."""
    curve = plots.get("roc")
    points = list(zip(curve["false_alarms"], curve["hits"], strict=True)) if curve else []
    rows = []
    for most in (0.01, 0.05, 0.1, 0.2) if points else ():
        found = max(hit for alarm, hit in points if alarm <= most)
        rows.append((percent(100 * most), percent(100 * found)))
    return Table(
        ("False alarms, at most", "Anomalies found"), tuple(rows), ("False alarms, at most", "Anomalies found")
    )
