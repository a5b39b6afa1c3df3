"""Stratified splits and subsets; the same labels and seed always give the same ones."""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecompress.data.base import Dataset
from edgecompress.errors import DataError

Index = NDArray[np.int64]
#: Groups times classes: beyond it a table of both is not made.
DENSE = 10_000_000


def derived_seed(seed: int, purpose: str) -> int:
    """Returns a seed of its own for each purpose, so that no two draws of a run are correlated."""
    return zlib.crc32(f"{purpose}:{seed}".encode())


def stratified(labels: Index, share_or_count: float, seed: int) -> tuple[Index, Index]:
    """Returns (kept index, held index), both ascending, with every class held out in proportion.

    A class of two samples or more is on both sides, and the number held of each is within 1 of its proportional
    share; where that cannot be had with the exact total, the total gives way. A class of one sample is kept.

    Args:
        labels: (N,) class numbers.
        share_or_count: How much is held: a share (float, 0 to 1) or a number of samples (int).
        seed: Decides which samples.
    """
    total = len(labels)
    if not total:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    count = share_or_count if isinstance(share_or_count, int) else round(share_or_count * total)
    count = min(count, total)
    _, inverse, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    floor = count * sizes // total
    ceiling = -(-count * sizes // total)
    low = np.maximum(np.minimum(sizes - 1, 1), ceiling - 1)
    high = np.minimum(sizes - 1, floor + 1)
    held = _draw(inverse, sizes, _apportion(sizes, count, low, high), seed)
    return np.setdiff1d(np.arange(total), held), held


def undivided(total: int, share: float, seed: int) -> tuple[Index, Index]:
    """Returns (kept index, held index), both ascending, at random; at least one sample is on either side of two."""
    count = min(max(round(share * total), 1), max(total - 1, 0))
    held = np.sort(np.random.default_rng(seed).permutation(total)[:count])
    return np.setdiff1d(np.arange(total), held), held


def by_group(groups: NDArray[Any], labels: Index | None, share: float, seed: int) -> tuple[Index, Index]:
    """Returns (kept index, held index), both ascending, with every group whole on one side.

    Groups come in random order and are held where that brings the held samples of every class nearer to the share asked
    for; so another seed holds other groups. At least one is held and one kept.

    Args:
        groups: (N,) which group a sample belongs to.
        labels: (N,) class numbers; None where there are no classes.
        share: How much is held, 0 to 1.
        seed: Decides on the order.

    Raises:
        DataError: There is one group only.
    """
    names, member = np.unique(groups, return_inverse=True)
    if len(names) < 2:  # noqa: PLR2004 - one for either side
        raise DataError(f"data.split_by: all samples are of one group ({names[0]}): there is nothing to hold out.")
    classes = np.zeros(len(groups), np.int64) if labels is None else np.unique(labels, return_inverse=True)[1]
    order = np.random.default_rng(seed).permutation(len(names)).tolist()
    width = int(classes.max()) + 1
    held = _held(member, classes, share, order) if len(names) * width <= DENSE else _held_of_many(member, share, order)
    chosen = np.isin(member, held)
    return np.flatnonzero(~chosen), np.flatnonzero(chosen)


def _held(member: Index, classes: Index, share: float, order: list[int]) -> list[int]:
    """Returns which groups are held, by how many samples of each class they bring."""
    table = np.zeros((len(order), int(classes.max()) + 1))
    np.add.at(table, (member, classes), 1)
    table = np.hstack([table, table.sum(1, keepdims=True)])  # the number of all samples counts as much as any class's
    goal = share * table.sum(0)
    held: list[int] = []
    have = np.zeros_like(goal)
    for one in order:
        away, then = (float(np.square(held_so - goal).sum()) for held_so in (have, have + table[one]))
        if then < away and len(held) < len(order) - 1:
            have += table[one]
            held.append(one)
    # Where every group is larger than twice the share: the one that overshoots least.
    return held or [int(np.argmin([float(np.square(row - goal).sum()) for row in table]))]


def _held_of_many(member: Index, share: float, order: list[int]) -> list[int]:
    """Returns which groups are held where there are so many, of so many classes, that only their sizes count."""
    sizes = np.bincount(member, minlength=len(order))
    goal, have = share * len(member), 0
    held: list[int] = []
    for one in order:
        if abs(have + sizes[one] - goal) < abs(have - goal) and len(held) < len(order) - 1:
            have += int(sizes[one])
            held.append(one)
    return held or [int(np.argmin(sizes))]


def subset(labels: Index, count: int, seed: int) -> Index:
    """Returns the ascending index of exactly `count` samples (all, if there are no more), stratified by class.

    Every class is there if `count` is not less than the number of classes.
    """
    total = len(labels)
    if count >= total:
        return np.arange(total)
    _, inverse, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    low = np.full_like(sizes, 1 if count >= len(sizes) else 0)
    return _draw(inverse, sizes, _apportion(sizes, count, low, sizes), seed)


def strata(labels: NDArray[Any]) -> Index:
    """Returns what samples are drawn by: their classes, or one for all where labels are no classes."""
    return labels if labels.ndim == 1 and labels.dtype.kind == "i" else np.zeros(len(labels), np.int64)


def calibration_inputs(dataset: Dataset, count: int, seed: int) -> NDArray[Any]:
    """Returns the inputs of `calibration_samples`."""
    return calibration_samples(dataset, count, seed)[0]


def calibration_samples(dataset: Dataset, count: int, seed: int) -> tuple[NDArray[Any], Index | None]:
    """Returns up to `count` inputs in random order, from the source's calibration set or else from train.

    With them their class numbers, None where samples have none, as of a calibration set.
    Neither validation nor test samples are used: ranges must not know what they are judged on.

    Raises:
        DataError: There is nothing to draw from.
    """
    seed = derived_seed(seed, "calibration")
    if dataset.calibration is not None:
        pool, labels = dataset.calibration, np.zeros(len(dataset.calibration), np.int64)
    else:
        pool, labels = dataset.train.inputs, strata(dataset.train.labels)
    if not len(pool):
        raise DataError(f"{dataset.name} has nothing to calibrate on: give a train split or a calibration set.")
    index = subset(labels, count, seed)
    # Shuffled, so that batches hold all classes even where a source is sorted by class.
    drawn = np.random.default_rng(seed).permutation(index)
    classes = dataset.calibration is None and dataset.train.labels.ndim == 1 and dataset.train.labels.dtype.kind == "i"
    return pool[drawn], dataset.train.labels[drawn] if classes else None


def _apportion(sizes: Index, count: int, low: Index, high: Index) -> Index:
    """Returns how many of each class, in proportion (largest remainder) and between `low` and `high`.

    They sum up to `count` if the bounds allow it.
    """
    total = int(sizes.sum())
    share = np.clip(count * sizes // total, low, high)
    while (missing := count - int(share.sum())) != 0:
        step = 1 if missing > 0 else -1
        movable = np.flatnonzero(share < high if step > 0 else share > low)
        if not len(movable):
            break
        # What each class lacks, in units of 1/total sample: exact in integers.
        lack = step * (count * sizes - share * total)[movable]
        first = np.argsort(-lack, kind="stable")[: abs(missing)]
        share[movable[first]] += step
    return share


def _draw(inverse: Index, sizes: Index, counts: Index, seed: int) -> Index:
    """Returns the ascending index of `counts` random members of each class."""
    shuffled = np.random.default_rng(seed).permutation(len(inverse))
    grouped = shuffled[np.argsort(inverse[shuffled], kind="stable")]
    rank = np.arange(len(grouped)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return np.sort(grouped[rank < np.repeat(counts, sizes)])
