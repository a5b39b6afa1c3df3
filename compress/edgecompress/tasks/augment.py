"""Random changes to pictures that depend on nothing but (seed, view, position in the train split).

A teacher's outputs are stored per view, so a student must see exactly the picture the teacher saw, in whatever batch
and order it comes: the random numbers are hashed from those three and not drawn from a stream.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: `crop` pads with black by this share of the side and crops at random (4 pixels of 32, as He et al. 2016 for CIFAR).
CROP_SHARE = 1 / 8
#: `shift` moves by up to this share of the side; what enters repeats the edge.
SHIFT_SHARE = 1 / 14
#: `cutout` hides a square of this share of the side (DeVries & Taylor 2017 hide up to a half).
CUTOUT_SHARE = 1 / 3


def uniform(seed: int, view: int, what: str, index: NDArray[np.int64]) -> NDArray[np.float64]:
    """Returns one number in [0, 1) per sample, by SplitMix64 (Steele, Lea, Flood 2014) over a key and the index."""
    key = np.frombuffer(hashlib.sha256(f"{seed}/{view}/{what}".encode()).digest()[:8], np.uint64)
    z = index.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) + key
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    numbers = ((z ^ (z >> np.uint64(31))) >> np.uint64(11)).astype(np.float64)
    return numbers * 2.0**-53


def augment(
    pictures: NDArray[Any], index: NDArray[np.int64], *, changes: Sequence[str], seed: int, view: int
) -> NDArray[Any]:
    """Returns the pictures moved and mirrored as `changes` say (`crop`, `shift`, `flip`); `cutout` is `holes`' work.

    Args:
        pictures: (N, H, W, C), as the source has them.
        index: Their positions in the train split.
        changes: Names of changes.
        seed: The recipe's.
        view: Number of the view.
    """
    count, height, width = pictures.shape[:3]
    rows, columns = np.arange(height)[None, :], np.arange(width)[None, :]
    if "flip" in changes:
        mirrored = uniform(seed, view, "flip", index)[:, None] < 0.5  # noqa: PLR2004 - every other one
        columns = np.where(mirrored, width - 1 - columns, columns)
    outside = None
    for change, share in (("crop", CROP_SHARE), ("shift", SHIFT_SHARE)):
        if change in changes:
            rows = rows + _offsets(seed, view, f"{change}-rows", index, height, share)
            columns = columns + _offsets(seed, view, f"{change}-columns", index, width, share)
        if change == "crop" and change in changes:
            black_rows, black_columns = _beyond(rows, height), _beyond(columns, width)
            outside = black_rows[:, :, None] | black_columns[:, None, :]
    if rows.shape[0] == 1 and columns.shape[0] == 1:
        return pictures
    rows, columns = np.clip(rows, 0, height - 1), np.clip(columns, 0, width - 1)
    moved = pictures[np.arange(count)[:, None, None], rows[:, :, None], columns[:, None, :]]
    if outside is not None:
        moved[np.broadcast_to(outside, (count, height, width))] = 0
    return moved


def holes(shape: tuple[int, int], index: NDArray[np.int64], *, seed: int, view: int) -> NDArray[np.bool_]:
    """Returns which pixels `cutout` hides, (N, H, W): one square a picture, its centre anywhere in the picture."""
    inside = []
    for what, side in zip(("rows", "columns"), shape, strict=True):
        half = max(side * CUTOUT_SHARE, 1.0) / 2
        centre = uniform(seed, view, f"cutout-{what}", index)[:, None] * side
        inside.append(np.abs(np.arange(side)[None, :] + 0.5 - centre) < half)
    return inside[0][:, :, None] & inside[1][:, None, :]


def _offsets(seed: int, view: int, what: str, index: NDArray[np.int64], side: int, share: float) -> NDArray[np.int64]:
    most = max(round(side * share), 1)
    return np.floor(uniform(seed, view, what, index) * (2 * most + 1)).astype(np.int64)[:, None] - most


def _beyond(places: NDArray[np.int64], side: int) -> NDArray[np.bool_]:
    return (places < 0) | (places >= side)
