"""What tasks are judged by: each figure's name, unit and direction, and how much of it is lost.

A loss is in points where the figure is a percentage, and else in percent of what it is held against: a mean error of
2.1 minutes against 2.0 is a loss of 5 %.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

#: What is less than this counts as this when a loss is a share of it.
SMALLEST = 1e-12
#: Changes below this are what floating point makes of none.
EQUAL = 1e-9


@dataclass(frozen=True)
class Figure:
    """One figure that a task tells.

    Attributes:
        key: Its name in the task's metrics.
        label: What people call it, as within a sentence.
        unit: `%`, or empty for a number on its own or in the data's units.
        larger_is_better: Whether more of it is better.
        binomial: Whether it is a share of samples, so that its noise follows from their number.
    """

    key: str
    label: str
    unit: str
    larger_is_better: bool
    binomial: bool = False

    @property
    def title(self) -> str:
        """The label at the beginning of a line."""
        return self.label[0].upper() + self.label[1:]

    @property
    def loss_unit(self) -> str:
        """What losses of it are counted in."""
        return "points" if self.unit == "%" else "%"

    def lost(self, value: float, reference: float) -> float:
        """Returns what `value` has lost against `reference`, in points or in percent; below 0 is a gain."""
        worse = reference - value if self.larger_is_better else value - reference
        return worse if self.unit == "%" else self.lost_share(value, reference)

    def lost_share(self, value: float, reference: float) -> float:
        """Returns what `value` has lost against `reference`, in percent of it whatever the unit."""
        worse = reference - value if self.larger_is_better else value - reference
        return 100.0 * worse / max(abs(reference), SMALLEST)

    def score(self, value: float, reference: float) -> float:
        """Returns how good a value is: larger is better, and what two scores differ by is a loss.

        A percentage to be large is its own score; of all others it is what they gain against `reference`.
        """
        return value if self.unit == "%" and self.larger_is_better else -self.lost(value, reference)

    def value(self, score: float, reference: float) -> float:
        """Returns the value that has a score."""
        if self.unit == "%":
            return score if self.larger_is_better else reference - score
        change = score * max(abs(reference), SMALLEST) / 100.0
        return reference + change if self.larger_is_better else reference - change


ACCURACY = Figure("accuracy", "accuracy", "%", larger_is_better=True, binomial=True)
MACRO_F1 = Figure("macro_f1", "macro F1", "%", larger_is_better=True)
AUC = Figure("auc", "AUC", "%", larger_is_better=True)
PARTIAL_AUC = Figure("pauc", "partial AUC", "%", larger_is_better=True)
RECONSTRUCTION = Figure("reconstruction_error", "reconstruction error", "", larger_is_better=False)
MAE = Figure("mae", "MAE", "", larger_is_better=False)
RMSE = Figure("rmse", "RMSE", "", larger_is_better=False)
R2 = Figure("r2", "R2", "", larger_is_better=True)
PERPLEXITY = Figure("perplexity", "perplexity", "", larger_is_better=False)
BITS_PER_BYTE = Figure("bits_per_byte", "bits per byte", "", larger_is_better=False)
TOKEN_ACCURACY = Figure("token_accuracy", "next-token accuracy", "%", larger_is_better=True)
#: What a model without labels to score it on is held to: the float model's answers.
AGREEMENT = Figure("agreement", "agreement with the float model", "%", larger_is_better=True)

_CLASSES = (ACCURACY, MACRO_F1)
#: Task -> its figures. The first is the main one, by which models are judged.
FIGURES: dict[str, tuple[Figure, ...]] = {
    "image-classification": _CLASSES,
    "text-classification": _CLASSES,
    "timeseries-classification": _CLASSES,
    "audio-classification": _CLASSES,
    "regression": (MAE, RMSE, R2),
    "anomaly-detection": (AUC, PARTIAL_AUC, RECONSTRUCTION),
    "language-modeling": (PERPLEXITY, BITS_PER_BYTE, TOKEN_ACCURACY),
}
#: What takes the main figure's place on a split that cannot tell it: one without anomalies has no AUC.
SUBSTITUTES = {"anomaly-detection": RECONSTRUCTION}


def figures_of(task: str) -> tuple[Figure, ...]:
    """Returns what a task tells, the main figure first."""
    return FIGURES.get(task, _CLASSES)


def named(key: str) -> Figure:
    """Returns the figure of a name."""
    return next(figure for figure in (AGREEMENT, *itertools.chain(*FIGURES.values())) if figure.key == key)


def main_figure(task: str) -> Figure:
    """Returns the figure that a task's models are judged by."""
    return figures_of(task)[0]


def answer_noun(task: str) -> str:
    """Returns what one answer is given to: a language model answers for every token."""
    return "token" if task == "language-modeling" else "sample"


def judged(task: str, figures: Mapping[str, Any], prefix: str = "") -> tuple[Figure, float] | None:
    """Returns what a split judges a model by, with its value; None where the split tells nothing.

    Args:
        task: The recipe's task.
        figures: Of the split, by name; with others among them.
        prefix: Of their names.
    """
    for figure in (main_figure(task), SUBSTITUTES.get(task)):
        if figure is not None and figures.get(prefix + figure.key) is not None:
            return figure, float(figures[prefix + figure.key])
    return None


def figure_text(figure: Figure, value: float | None) -> str:
    """Returns a figure as people read it: `92.61 %`, `0.4127`, `1,234`; `-` for none."""
    if value is None:
        return "-"
    if figure.unit == "%":
        return f"{value:.2f} %"
    whole = 1000.0
    return f"{value:,.0f}" if abs(value) >= whole else f"{value:.4g}"


def lost_text(figure: Figure, lost: float | None) -> str:
    """Returns what was lost as a signed change: `-0.35 points` (a percentage), `+2.10 %` (an error that grew)."""
    if lost is None:
        return "-"
    return change_text(-lost if figure.larger_is_better else lost, figure.loss_unit)


def change_text(change: float, unit: str) -> str:
    """Returns a signed change, in words where two digits would show none: `equal`, `under 0.01 points`."""
    if abs(change) < EQUAL:
        return "equal"
    text = f"{change:+.2f}"
    return f"under 0.01 {unit}" if float(text) == 0 else f"{text} {unit}"


def main_value(row: Mapping[str, Any], figure: Figure) -> Any:
    """Returns a figure of one of a report's models, None where it is not there."""
    return row[figure.key] if figure.key in row else (row.get("metrics") or {}).get(figure.key)


def told(found: Mapping[str, Any], prefix: str = "") -> tuple[Figure, float] | None:
    """Returns the main figure among others, of whatever task they are, with its value; None where there is none."""
    for figure in (*dict.fromkeys(figures[0] for figures in FIGURES.values()), *SUBSTITUTES.values()):
        if found.get(prefix + figure.key) is not None:
            return figure, float(found[prefix + figure.key])
    return None
