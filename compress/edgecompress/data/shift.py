"""Whether test samples are of the same scale as those that were learnt from: ranges, means, order of colours."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from edgecompress.data.base import Dataset, Split

#: A channel's mean may differ by so many of the train split's standard deviations,
MEAN_STDS = 0.75
#: and its standard deviation by this factor, either way.
SPREAD_FACTOR = 4.0
#: What a difference must be in its own standard errors before it counts at all.
SURE_ERRORS = 5.0
#: Of colours that are turned round, the difference of first and last channel comes back with the other sign; so sure.
COLOUR_ERRORS = 4.0
COLOURS = 3
#: Samples of each split that are looked at, evenly spread.
MOST_SAMPLES = 4096
Figures = NDArray[np.float64]


@dataclass(frozen=True)
class Shift:
    """One way in which test and train differ.

    Attributes:
        what: `mean` or `spread` of a channel, or `order` of the colours.
        channel: Which one differs most, from 0; None of all together, and of the order.
        channels: How many do.
        train: The figure of the train split; of the order, how much larger the first channel's mean is than the last's.
        test: The same of the test split.
        factor: By how many standard deviations the mean differs, or how many times as large the spread is.
    """

    what: Literal["mean", "spread", "order"]
    channel: int | None
    channels: int
    train: float
    test: float
    factor: float


def shifts(dataset: Dataset, *, normal_only: bool = False) -> list[Shift]:
    """Returns in what test differs from train, or from the calibration set where nothing is trained.

    Args:
        dataset: The data; of tokens nothing is said.
        normal_only: Look at test samples of label 0 alone: anomalies are meant to differ.
    """
    known = dataset.train.inputs if len(dataset.train) else dataset.calibration
    test = _chosen(dataset.test, normal_only=normal_only)
    if dataset.kind == "tokens" or known is None or len(known) < 2 or not len(test):  # noqa: PLR2004 - a spread
        return []
    learnt, tested = _Channels(known), _Channels(test)
    found = [*_means(learnt, tested), *_spreads(learnt, tested)]
    if dataset.kind == "pictures" and learnt.means.shape[1] == COLOURS:
        found += _order(learnt, tested)
    return found


def _chosen(test: Split, *, normal_only: bool) -> NDArray[Any]:
    return test.inputs[test.labels == 0] if normal_only else test.inputs


class _Channels:
    """Means of each sample's channels and how far they reach, of some samples."""

    def __init__(self, inputs: NDArray[Any]) -> None:
        index = np.unique(np.linspace(0, len(inputs) - 1, min(len(inputs), MOST_SAMPLES)).round().astype(np.int64))
        samples = [np.asarray(inputs[place], np.float64) for place in index]
        samples = [one.reshape(-1, one.shape[-1]) for one in samples if one.size]
        self.count = len(samples)
        self.means: Figures = np.stack([one.mean(0) for one in samples])
        self.mean: Figures = self.means.mean(0)
        self.squares: Figures = np.stack([np.square(one - self.mean).mean(0) for one in samples])
        self.spread: Figures = np.sqrt(self.squares.mean(0))
        # Around the middle sample: where most are the same, they lie at 0 whatever the others do to the mean.
        middle = np.median(self.means, axis=0)
        self.extents: Figures = np.stack([np.square(one - middle).mean(0) for one in samples])


def _means(learnt: _Channels, tested: _Channels) -> list[Shift]:
    difference = np.abs(tested.mean - learnt.mean)
    deviation = np.maximum(learnt.means.std(0), tested.means.std(0))
    error = deviation * np.sqrt(1 / learnt.count + 1 / tested.count)
    varies = learnt.spread > 0
    off = varies & (difference > MEAN_STDS * learnt.spread) & (difference > SURE_ERRORS * error)
    if not off.any():
        return []
    share = np.divide(difference, learnt.spread, out=np.zeros_like(difference), where=off)
    worst = int(share.argmax())
    return [
        Shift("mean", worst, int(off.sum()), float(learnt.mean[worst]), float(tested.mean[worst]), float(share[worst]))
    ]


def _spreads(learnt: _Channels, tested: _Channels) -> list[Shift]:
    """Finds spreads that differ, channel by channel and of all channels together (each in its own spread)."""
    varies = learnt.spread > 0
    if not varies.any():
        return []
    scale = np.square(learnt.spread[varies])
    before, after = (one.extents[:, varies] / scale for one in (learnt, tested))
    ratio = tested.spread[varies] / learnt.spread[varies]
    off = ((ratio > SPREAD_FACTOR) | (ratio < 1 / SPREAD_FACTOR)) & _is_sure(before, after)
    numbers = np.flatnonzero(varies)
    if off.any():
        extent = np.where(off, np.abs(np.log(np.maximum(ratio, 1e-30))), -1.0)
        place = int(extent.argmax())
        worst = int(numbers[place])
        train, test = float(learnt.spread[worst]), float(tested.spread[worst])
        return [Shift("spread", worst, int(off.sum()), train, test, float(ratio[place]))]
    together = float(np.sqrt(np.square(ratio).mean()))
    sure = _is_sure(before.mean(1, keepdims=True), after.mean(1, keepdims=True))
    if (together > SPREAD_FACTOR or together < 1 / SPREAD_FACTOR) and bool(sure[0]):
        return [Shift("spread", None, len(numbers), 1.0, together, together)]
    return []


def _is_sure(before: Figures, after: Figures) -> NDArray[np.bool_]:
    """Returns per column whether values of the second set are larger or smaller than the first's by more than chance.

    By ranks (Mann and Whitney 1947): a feature that is nearly always the same may be so in all of a few test samples,
    or be another in two of them, and neither says anything of its scale.
    """
    share = np.empty(before.shape[1])
    for column in range(len(share)):
        ordered = np.sort(before[:, column])
        places = [np.searchsorted(ordered, after[:, column], side) for side in ("left", "right")]
        share[column] = np.mean(places) / len(before)
    error = np.sqrt((len(before) + len(after) + 1) / (12.0 * len(before) * len(after)))
    found: NDArray[np.bool_] = np.abs(share - 0.5) > SURE_ERRORS * error
    return found


def _order(learnt: _Channels, tested: _Channels) -> list[Shift]:
    """Finds pictures whose channels come in the reverse order, where the train split's colours can tell."""
    before, after = (one.means[:, 0] - one.means[:, -1] for one in (learnt, tested))
    error = before.std(ddof=1) / np.sqrt(np.array([learnt.count, tested.count]))
    train, test = float(before.mean()), float(after.mean())
    known = abs(train) > COLOUR_ERRORS * error[0]
    turned = test * np.sign(train) < -COLOUR_ERRORS * error[1]
    alike = abs(train + test) <= abs(train) / 2 + 2 * error[1]
    return [Shift("order", None, COLOURS, train, test, -1.0)] if known and turned and alike else []
