"""A test accuracy that may come from leakage is told as such."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgecompress.data.leakage import leaked
from edgecompress.figures import figure_text
from edgecompress.stages.base import Workbench
from edgecompress.wording import counted, verb


def warn_of_leakage(bench: Workbench, outputs: NDArray[np.float32]) -> int:
    """Returns how many test samples the training data holds too; where there are any, the report says so.

    Args:
        bench: The run.
        outputs: The shipped flatbuffer's over the test split, to tell what it scores on the other samples.
    """
    known = leaked(bench.dataset)
    count, total = int(known.sum()), len(known)
    if count:
        bench.ctx.warn(
            f"{counted(count, 'test sample')} of {total:,} ({count / total:.1%}) {verb(count, 'is', 'are')} in the "
            f"training data too, with the same content: {_effect(bench, outputs, known)}"
        )
    return count


def _effect(bench: Workbench, outputs: NDArray[np.float32], known: NDArray[np.bool_]) -> str:
    test, new = bench.dataset.test, np.flatnonzero(~known)
    if not len(new):
        return "the test figures say nothing of new samples. Split the data otherwise."
    figure = bench.task.figure
    overall = bench.task.metrics(outputs, test).get(figure.key)
    others = bench.task.metrics(outputs[new], test.take(new)).get(figure.key)
    if overall is None or others is None:
        return "the test figures may be too good. Remove them from either."
    first, second = (figure_text(figure, value) for value in (overall, others))
    return f"the test {figure.label} of {first} is {second} without them. Remove them from either."
