"""Activation ranges from what calibration saw: a tensor's largest values, or less than that where they are outliers."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from edgecompress.quantization.grids.ranges import INT8, RangeGroup
from edgecompress.quantization.twin.twin import Twin

Range = tuple[float, float]
#: Values kept of each batch of a tensor, evenly spread; enough for the 99.99th percentile over a few batches.
KEPT_PER_BATCH = 20_000
AVERAGING_MOMENTUM = 0.1
#: Shares of the largest magnitude that are tried as limits where the squared error decides.
SHARES = np.geomspace(1.0, 0.02, 60)


@dataclass
class Seen:
    """What calibration saw of one range group.

    Attributes:
        group: The group.
        lows: Least value of each batch.
        highs: Largest value of each batch.
        parts: Values of each batch, evenly spread where there are many.
    """

    group: RangeGroup
    lows: list[float] = field(default_factory=list)
    highs: list[float] = field(default_factory=list)
    parts: list[NDArray[np.float32]] = field(default_factory=list)

    def add(self, x: torch.Tensor) -> None:
        """Takes in a batch."""
        low, high = (float(v) for v in torch.aminmax(x))
        self.lows.append(low)
        self.highs.append(high)
        flat = x.reshape(-1)
        # An odd stride does not keep hitting the same channels.
        stride = max(flat.numel() // KEPT_PER_BATCH, 1) | 1
        self.parts.append(flat[::stride].float().cpu().numpy())

    def values(self) -> NDArray[np.float32]:
        """Returns all values that were kept."""
        return np.concatenate(self.parts)


def look(twin: Twin, batches: Iterable[torch.Tensor]) -> dict[int, Seen]:
    """Returns what the float model's activations hold, by range group."""
    seen: dict[int, Seen] = {}

    def record(k: int, x: torch.Tensor) -> None:
        seen.setdefault(k, Seen(twin.groups[k])).add(x)

    twin.observe(batches, record)
    return seen


def _min_max(seen: Seen) -> Range:
    return min(seen.lows), max(seen.highs)


def _moving_average(seen: Seen) -> Range:
    low, high = seen.lows[0], seen.highs[0]
    for next_low, next_high in zip(seen.lows[1:], seen.highs[1:], strict=True):
        low += AVERAGING_MOMENTUM * (next_low - low)
        high += AVERAGING_MOMENTUM * (next_high - high)
    return low, high


def _percentile(share: float) -> Callable[[Seen], Range]:
    def estimate(seen: Seen) -> Range:
        low, high = np.quantile(seen.values(), [1.0 - share, share])
        return float(low), float(high)

    return estimate


def _squared_error(seen: Seen) -> Range:
    """Returns the range with the least squared error of the quantized values, rounding and clipping together.

    What lies beyond the group's limits is no error.
    """
    least, most = seen.group.cut(*_min_max(seen))
    values = np.clip(seen.values().astype(np.float64), *seen.group.limits)
    if seen.group.dtype != INT8:  # 16 bits have steps enough: there is nothing to gain by clipping
        return least, most
    magnitude = max(abs(least), abs(most))
    best, best_error = (least, most), np.inf
    for share in SHARES:
        low, high = max(least, -share * magnitude), min(most, share * magnitude)
        scale, zero_point = seen.group.grid(low, high)
        steps = np.clip(np.rint(values / scale) + zero_point, seen.group.qmin, seen.group.qmax)
        error = float((((steps - zero_point) * scale - values) ** 2).mean())
        if error < best_error:
            best, best_error = (low, high), error
    return best


#: Name -> the range for what was seen.
ESTIMATORS: dict[str, Callable[[Seen], Range]] = {
    "min-max": _min_max,
    "moving-average": _moving_average,
    "percentile-99.99": _percentile(0.9999),
    "percentile-99.9": _percentile(0.999),
    "mse": _squared_error,
}


def estimate(seen: dict[int, Seen], estimator: str) -> dict[int, Range]:
    """Returns the ranges an estimator gives, by range group.

    Args:
        seen: As `look` gave it.
        estimator: A key of ESTIMATORS.
    """
    return {k: ESTIMATORS[estimator](found) for k, found in seen.items()}
