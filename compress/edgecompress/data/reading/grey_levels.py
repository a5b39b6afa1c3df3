"""Grey pictures of 16 bits brought to 8 by the range of values that they use."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

WHITE_8, WHITE_16 = 255, 65535
#: Pictures that use as much of the 16 bits keep 128 levels or more of them: theirs is the whole range.
WIDE = (WHITE_16 + 1) // 2
#: Hot pixels: the share of values at either end that do not count, where the others take less than a quarter.
STRAY, NARROWER = 1e-4, 4


@dataclass(frozen=True)
class Levels:
    """Which 16-bit values become 0 and 255.

    Attributes:
        low: Becomes 0, as all below it.
        high: Becomes 255, as all above it.
        stray: Whether a few values lie beyond.
    """

    low: int = 0
    high: int = WHITE_16
    stray: bool = False

    @property
    def change(self) -> str:
        """What was done, for a note in which `{}` is the verb."""
        if (self.low, self.high) == (0, WHITE_16):
            return "of 16 bits {} brought to 8"
        rare = ", but for a few in ten thousand which are cut off" if self.stray else ""
        return (
            f"of 16 bits {{}} brought to 8 by the values in use{rare}: {self.low:,} to {self.high:,} became 0 "
            f"to 255. A device has to do the same: (value - {self.low}) * 255 / {self.high - self.low}, from 0 to 255"
        )

    def to_8_bits(self, values: NDArray[Any]) -> NDArray[np.uint8]:
        """Returns 16-bit values as 8-bit ones, rounded."""
        width = self.high - self.low
        inside = np.clip(values.astype(np.int64), self.low, self.high) - self.low
        return ((inside * WHITE_8 + width // 2) // width).astype(np.uint8)


def used_levels(pictures: Iterable[NDArray[Any]]) -> Levels:
    """Returns the range of values that pictures use; the whole range where they use much of it, or there are none."""
    counts = np.zeros(WHITE_16 + 1, np.int64)
    for values in pictures:
        counts += np.bincount(values.astype(np.int64).ravel(), minlength=WHITE_16 + 1)
    used = np.flatnonzero(counts)
    if len(used) < 2:  # noqa: PLR2004 - a range has two ends
        return Levels()
    low, high, stray = int(used[0]), int(used[-1]), False
    below = np.cumsum(counts)
    inner_low = int(np.searchsorted(below, STRAY * below[-1], side="right"))
    inner_high = int(np.searchsorted(below, (1 - STRAY) * below[-1], side="left"))
    if 0 < (inner_high - inner_low) * NARROWER < high - low:
        low, high, stray = inner_low, inner_high, True
    return Levels() if high - low >= WIDE else Levels(low, high, stray)
