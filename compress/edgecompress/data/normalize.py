"""The figures that bring inputs to zero mean and unit spread."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecompress.data.base import Normalization, Split
from edgecompress.data.raw import listing

#: Samples summed at a time.
CHUNK = 1024
#: A spread below this share of the values' range counts as none.
CONSTANT = 1e-7


def choose_normalization(
    train: Split, calibration: NDArray[Any] | None, value_scale: float, published: Normalization | None
) -> tuple[Normalization, list[str]]:
    """Returns how inputs are prepared, and notes.

    A model's published figures are used where they fit the channels; else the train split's own are computed, or the
    calibration set's where nothing is trained. The test split is never looked at.
    """
    if published is not None and len(published.mean) == train.inputs.shape[-1]:
        notes = []
        seen = train.inputs if len(train) else calibration
        if seen is not None and len(seen) and seen.dtype != np.uint8 and not _in_unit_range(seen, value_scale):
            notes.append(
                "The model's published normalisation is meant for values from 0 to 1, "
                f"but the data's go from {seen.min():g} to {seen.max():g}."
            )
        return replace(published, value_scale=value_scale), notes
    if len(train):
        return _computed(train.inputs, value_scale, "mean and standard deviation per channel of the train split")
    if calibration is not None and len(calibration):
        origin = "mean and standard deviation per channel of the calibration set (there is no train split)"
        return _computed(calibration, value_scale, origin)
    channels = train.inputs.shape[-1]
    origin = "none: there is neither a train split nor a calibration set to take figures from"
    return Normalization(value_scale, (0.0,) * channels, (1.0,) * channels, origin), []


def channel_figures(inputs: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Returns mean and standard deviation (of the population) per last-axis channel, summed in float64."""
    rows = range(0, len(inputs), CHUNK)
    axes = tuple(range(inputs.ndim - 1))
    values = inputs.size // inputs.shape[-1]
    mean = sum(inputs[row : row + CHUNK].sum(axis=axes, dtype=np.float64) for row in rows) / values
    square = sum(((inputs[row : row + CHUNK] - mean) ** 2).sum(axis=axes) for row in rows) / values
    return np.asarray(mean), np.sqrt(square)


def _in_unit_range(inputs: NDArray[Any], value_scale: float) -> bool:
    return bool(inputs.min() * value_scale >= 0 and inputs.max() * value_scale <= 1)


def _computed(inputs: NDArray[Any], value_scale: float, origin: str) -> tuple[Normalization, list[str]]:
    mean, std = channel_figures(inputs)
    mean, std = mean * value_scale, std * value_scale
    notes = []
    constant = std <= CONSTANT * max(1.0, float(np.abs(mean).max()))
    if constant.any():
        std[constant] = 1.0
        numbers = listing(np.flatnonzero(constant))
        notes.append(f"Channel {numbers} has the same value everywhere: its standard deviation is taken as 1.")
    return Normalization(value_scale, tuple(mean.tolist()), tuple(std.tolist()), origin), notes
