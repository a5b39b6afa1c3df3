"""Finds out whether a model's answers are right but for the order of its classes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgecompress.report.intervals import mcnemar, wilson

#: Samples of a class that have to speak for another answer before it is taken for moved.
MARGIN = 1.0
#: How unlikely such a gain must be by chance.
SURE = 1e-2
#: How many times as many samples of the moved classes must be right in the other order.
FAR_BETTER = 2.0
#: Share of the moved classes' samples that must be right then: random weights tell classes apart a little as well.
LEAST_SHARE = 0.5


@dataclass(frozen=True)
class Reordering:
    """An order of the classes in which a model is far better.

    Attributes:
        accuracy: As it is, in percent.
        reordered: In the other order, in percent.
        moved: Class -> the class that the model answers for it.
    """

    accuracy: float
    reordered: float
    moved: dict[int, int]


def reordering(answers: NDArray[np.int64], labels: NDArray[np.int64], classes: int) -> Reordering | None:
    """Returns the order in which answers fit the labels far better, None where there is none.

    The order is found on a half of the samples and tried on the other, both ways round: among so many orders one
    always fits the samples that it was chosen by.
    """
    if len(labels) == 0 or classes < 2:  # noqa: PLR2004 - one class has one order
        return None
    half = _halves(labels)
    right, better = answers == labels, np.zeros(len(labels), bool)
    for one in (0, 1):
        order = _best(answers[half == one], labels[half == one], classes)
        better[half != one] = order[labels[half != one]] == answers[half != one]
    gained, lost = int((better & ~right).sum()), int((right & ~better).sum())
    if gained <= lost or mcnemar(gained, lost) >= SURE:
        return None
    order = _best(answers, labels, classes)
    moved = order[labels] != labels
    fits = order[labels] == answers
    most = float(np.bincount(labels).max()) / len(labels)
    # An answer that is always the same fits the most frequent class in some order, and says nothing.
    if wilson(int(better.sum()), len(labels))[0] <= most or not moved.any():
        return None
    if fits[moved].mean() < max(LEAST_SHARE, FAR_BETTER * right[moved].mean()):
        return None
    found = {int(number): int(order[number]) for number in np.unique(labels[moved])}
    return Reordering(100 * float(right.mean()), 100 * float(fits.mean()), found)


def _halves(labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Returns 0 or 1 for each sample, each of them for about half the samples of every class."""
    order = np.argsort(labels, kind="stable")
    half = np.empty(len(labels), np.int64)
    half[order] = np.arange(len(labels)) % 2
    return half


def _best(answers: NDArray[np.int64], labels: NDArray[np.int64], classes: int) -> NDArray[np.int64]:
    """Returns the answer for each class by which most samples are right; classes without good reason stay."""
    from scipy.optimize import linear_sum_assignment

    matrix = np.bincount(labels * classes + answers, minlength=classes**2).reshape(classes, classes).astype(np.float64)
    matrix[np.diag_indices(classes)] += MARGIN
    _, columns = linear_sum_assignment(matrix, maximize=True)
    found: NDArray[np.int64] = columns.astype(np.int64)
    return found
