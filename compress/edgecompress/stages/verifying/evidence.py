"""What tells a sound result from one that only looks like it, measured on the test split.

Figures alone: `edgecompress.report.verdict` judges them, so that a limit may change without a stage being made again.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from edgecompress.data.leakage import split_digest
from edgecompress.data.shift import shifts
from edgecompress.errors import ModelError
from edgecompress.figures import ACCURACY
from edgecompress.report.intervals import hits_text
from edgecompress.stages.base import KERAS, Workbench, reordering_document
from edgecompress.tasks.standing import Marks
from edgecompress.training.evaluate import outputs_of

#: Test samples that are run together and one by one.
BATCH_SAMPLES = 16
#: Answers of more samples than this are not kept one by one.
MOST_ANSWERS = 200_000
#: Numbers that are summed at a time.
CHUNK = 2_000_000
#: A standard deviation below this share of an output's own size is rounding.
CONSTANT = 1e-5
Outputs = NDArray[np.float32]


class Evidence:
    """Collects the evidence of one run, model by model.

    Attributes:
        models: Standing of each model, with its row of the report as `key`.
        paired: Of each float model: the result held against it on the same samples.
        permuted: Float models whose answers fit far better in another order of the classes.
        batch: How much of a float model's answers depends on what else is in the batch.
    """

    def __init__(self, bench: Workbench) -> None:
        """Begins with none."""
        self._bench = bench
        self._marks: dict[str, Marks] = {}
        self.models: list[dict[str, Any]] = []
        self.paired: list[dict[str, Any]] = []
        self.permuted: list[dict[str, Any]] = []
        self.batch: list[dict[str, Any]] = []

    def add_float(self, row: str, stage: str, model: nn.Module, outputs: Outputs) -> None:
        """Takes in a float model, on its device, with its outputs over the test split."""
        task = self._bench.task_of(stage)
        split = task.dataset.test
        self._stand(row, outputs, stage)
        found = task.reordering(outputs, split)
        if found is not None:
            self.permuted.append({"key": row, **reordering_document(found, task.dataset.class_names)})
        if KERAS not in self._bench.results[stage].artifacts:
            self.batch.append({"key": row, **batch_dependence(self._bench, model, stage)})

    def add_result(self, outputs: Outputs) -> None:
        """Takes in the shipped flatbuffer's outputs, after all float models."""
        marks = self._stand("quantized", outputs)
        for row, reference in self._marks.items():
            if row != "quantized" and len(reference) == len(marks):
                found = self._bench.task.paired(marks, reference, self._bench.dataset.test)
                self.paired.append({"key": row, **asdict(found)})

    def document(self, outputs: Outputs, floating: Outputs) -> dict[str, Any]:
        """Returns everything, plain JSON values; `floating` are the outputs that the flatbuffer is meant to give."""
        bench, task = self._bench, self._bench.task
        test, marks = bench.dataset.test, self._marks["quantized"]
        answers = task.figure == ACCURACY and len(marks) <= MOST_ANSWERS
        return {
            "models": self.models,
            "paired": self.paired,
            "permuted": self.permuted,
            "batch": self.batch,
            "cosine": centred_cosine(outputs, floating, chooses=task.chooses),
            "scale": [asdict(one) for one in shifts(bench.dataset, normal_only=task.name == "anomaly-detection")],
            "answers": hits_text(marks > 0) if answers else None,
            "samples_digest": split_digest(test),
        }

    def _stand(self, row: str, outputs: Outputs, stage: str = "") -> Marks:
        task = self._bench.task_of(stage)
        marks = self._marks[row] = task.marks(outputs, task.dataset.test)
        self.models.append({"key": row, **asdict(task.standing(marks, task.dataset.test))})
        return marks


def batch_dependence(bench: Workbench, model: nn.Module, stage: str) -> dict[str, Any]:
    """Returns how far answers to a sample alone are from those it gets among others.

    Returns:
        samples: How many were tried; fewer than two tell nothing.
        difference: The largest difference, as a share of what the outputs span; None where a sample alone is refused.
        unsteady: How far the same samples together are from themselves, which is no matter of batches.
    """
    task = bench.task_of(stage)
    inputs = _several(task.dataset.test.inputs, task.dataset.train.inputs)
    together, again = (outputs_of(model, task, inputs, bench.device, batch_size=len(inputs)) for _ in range(2))
    span = max(float(np.ptp(together)), float(np.abs(together).max()) * CONSTANT, 1e-30)
    try:
        alone = outputs_of(model, task, inputs, bench.device, batch_size=1)
    except (ModelError, RuntimeError, ValueError):  # a batch norm over the batch: one value has no spread
        return {"samples": len(inputs), "difference": None, "unsteady": 0.0}
    return {
        "samples": len(inputs),
        "difference": float(np.abs(together - alone).max()) / span,
        "unsteady": float(np.abs(together - again).max()) / span,
    }


def _several(test: NDArray[Any], train: NDArray[Any]) -> NDArray[Any]:
    """Returns samples from all over the test split, filled up from train where it has few."""
    index = np.unique(np.linspace(0, len(test) - 1, min(len(test), BATCH_SAMPLES)).round().astype(np.int64))
    chosen, more = test[index], train[: BATCH_SAMPLES - len(index)]
    return np.concatenate([chosen, more]) if len(more) else chosen


def centred_cosine(outputs: Outputs, floating: Outputs, *, chooses: bool) -> float | None:
    """Returns the cosine of two models' outputs, each output's mean over all samples subtracted; None of one sample.

    An answer that is always the same has cosine 0. Of scores, those below the least that the flatbuffer gave are
    raised to it: what is far below the largest has no chance, and the quantizer spends no steps on it.
    """
    width = outputs.shape[-1] if chooses else int(np.prod(outputs.shape[1:]))
    given, meant = (one.reshape(-1, width) for one in (outputs, floating))
    if len(given) < 2:  # noqa: PLR2004 - nothing varies
        return None
    floor = float(given.min()) if chooses else -np.inf
    step = max(CHUNK // max(width, 1), 1)

    def pairs() -> Iterator[tuple[NDArray[np.float64], NDArray[np.float64]]]:
        for start in range(0, len(given), step):
            rows = slice(start, start + step)
            yield given[rows].astype(np.float64), np.maximum(meant[rows], floor).astype(np.float64)

    sums = [sum(one.sum(0) for one in ones) / len(given) for ones in zip(*pairs(), strict=True)]
    products = np.zeros(3)
    for pair in pairs():
        a, b = (one - mean for one, mean in zip(pair, sums, strict=True))
        products += (a * b).sum(), np.square(a).sum(), np.square(b).sum()
    sizes = [float(np.abs(mean).max()) * CONSTANT for mean in sums]
    spreads = np.sqrt(products[1:] / given.size)
    if not np.isfinite(products).all() or any(one <= size for one, size in zip(spreads, sizes, strict=True)):
        return 0.0
    return float(products[0] / np.sqrt(products[1] * products[2])) if products[1] * products[2] > 0 else 0.0
