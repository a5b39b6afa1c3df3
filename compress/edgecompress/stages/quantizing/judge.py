"""What a quantized model is held to on samples: the task's figure, or the float model's answers without labels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgecompress.data.base import Split
from edgecompress.figures import AGREEMENT, Figure, judged
from edgecompress.tasks.base import Task


@dataclass(frozen=True)
class Judge:
    """Judges outputs for some samples.

    Attributes:
        figure: What they are judged by.
        reference: What the float model has of it.
        measure: Tells it of outputs, (N, ...).
    """

    figure: Figure
    reference: float
    measure: Callable[[NDArray[np.float32]], float]

    def score(self, outputs: NDArray[np.float32]) -> float:
        """Returns how good outputs are: larger is better, and what two scores differ by is a loss.

        It is in percent: the figure itself where that is a percentage, else what is gained on the float model.
        """
        return self.figure.score(self.measure(outputs), self.reference)

    @property
    def best(self) -> float:
        """The float model's score."""
        return self.figure.score(self.reference, self.reference)

    def value(self, score: float) -> float:
        """Returns the figure that has a score."""
        return self.figure.value(score, self.reference)


def judge_of(task: Task, split: Split, floating: NDArray[np.float32]) -> Judge:
    """Returns the judge by the labels of a split, or by the float model's answers where its labels tell nothing.

    Args:
        task: What is asked.
        split: The samples.
        floating: The float model's outputs for them.
    """
    found = judged(task.name, task.metrics(floating, split)) if len(split) else None
    if found is None:
        return judge_by_answers(task, floating)
    figure, reference = found
    return Judge(figure, reference, lambda outputs: task.metrics(outputs, split)[figure.key])


def judge_by_answers(task: Task, floating: NDArray[np.float32]) -> Judge:
    """Returns the judge by the float model's answers: `floating` are its outputs."""
    return Judge(AGREEMENT, 100.0, lambda outputs: task.agreement(outputs, floating))
