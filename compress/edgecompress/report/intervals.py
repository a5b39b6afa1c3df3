"""How far figures measured on samples can be trusted: intervals, and comparisons of two models on the same samples.

All intervals hold the true figure 95 times of 100. They are chosen to stay honest at the ends: 64 right answers of 64
are no proof of 100 %.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

#: Standard deviations of a normal distribution between which 95 % of it lie.
Z = 1.959963984540054
#: Chance differences as large as this are called by no name.
SIGNIFICANT = 0.05
#: Student's t for one and two degrees of freedom, where the series below does not hold.
FEW_DEGREES = {1: 12.706, 2: 4.303}
_HALVINGS = 60


@dataclass(frozen=True)
class Standing:
    """A model's main figure beside what an answer without any look at the input would score.

    Attributes:
        figure: Name of the figure.
        value: What the model scores on a split.
        low: Lower end of the 95 % interval; None where so few samples tell nothing.
        high: Upper end.
        baseline: What is scored without looking at the input.
        against: By what answer, in words.
        samples: How many samples the split has.
        larger_is_better: Whether more of the figure is better.
    """

    figure: str
    value: float
    low: float | None
    high: float | None
    baseline: float
    against: str
    samples: int
    larger_is_better: bool = True

    @property
    def by_chance(self) -> bool:
        """Whether the model cannot be told from the blind answer, or is worse."""
        if self.low is None or self.high is None:
            return True
        return self.low <= self.baseline if self.larger_is_better else self.high >= self.baseline


@dataclass(frozen=True)
class Paired:
    """Two models on the same samples.

    Attributes:
        samples: How many.
        gained: Samples that only the second model has right; None where answers are neither right nor wrong.
        lost: Samples that only the first one has right; None as well.
        p: Chance of a difference at least as large between models that are equally good; None where it cannot be told.
        loss: What the second model has lost in the task's main figure: points, or percent of it.
    """

    samples: int
    gained: int | None
    lost: int | None
    p: float | None
    loss: float


def wilson(hits: float, samples: int) -> tuple[float, float]:
    """Returns the 95 % interval of a share (Wilson 1927), from 0 to 1.

    >>> [round(end, 4) for end in wilson(64, 64)]
    [0.9434, 1.0]
    """
    if samples < 1:
        return 0.0, 1.0
    share = min(max(hits / samples, 0.0), 1.0)
    weight = Z**2 / samples
    middle = (share + weight / 2) / (1 + weight)
    half = Z / (1 + weight) * math.sqrt(share * (1 - share) / samples + weight / (4 * samples))
    return max(middle - half, 0.0) if hits > 0 else 0.0, min(middle + half, 1.0) if hits < samples else 1.0


def wilson_percent(percentage: float | None, samples: int) -> tuple[float, float] | None:
    """Returns the 95 % interval of an accuracy that is given in percent, None where there is none."""
    if percentage is None or samples < 1 or not math.isfinite(percentage):
        return None
    low, high = wilson(round(percentage / 100 * samples), samples)
    return 100 * low, 100 * high


def mcnemar(gained: int, lost: int) -> float:
    """Returns how likely so uneven a split of the samples is that two equally good models answer differently.

    The exact two-sided test (McNemar 1947).

    >>> round(mcnemar(2, 12), 4)
    0.0129
    """
    trials, fewer = gained + lost, min(gained, lost)
    if gained == lost:
        return 1.0
    whole = trials * math.log(2.0)
    terms = (
        math.lgamma(trials + 1) - math.lgamma(k + 1) - math.lgamma(trials - k + 1) - whole for k in range(fewer + 1)
    )
    return min(2.0 * math.fsum(map(math.exp, terms)), 1.0)


def auc_interval(auc: float, positive: int, negative: int) -> tuple[float, float]:
    """Returns the 95 % interval of an area under the ROC curve, all from 0 to 1.

    The areas from which the one found is no further than 1.96 of their own standard errors (Hanley and McNeil 1982, as
    a score interval: Newcombe 2006, method 5), so that even a perfect separation has an interval.
    """
    more = (positive + negative) / 2 - 1

    def error(area: float) -> float:
        spread = 1 + more * ((1 - area) / (2 - area) + area / (1 + area))
        return math.sqrt(max(area * (1 - area) * spread, 0.0) / (positive * negative))

    def end(inside: float, outside: float) -> float:
        for _ in range(_HALVINGS):
            middle = (inside + outside) / 2
            inside, outside = (middle, outside) if abs(auc - middle) <= Z * error(middle) else (inside, middle)
        return inside

    return end(auc, 0.0), end(auc, 1.0)


def mean_interval(mean: float, deviation: float, samples: int) -> tuple[float, float] | None:
    """Returns the 95 % interval of a mean by Student's t, None for a single sample."""
    degrees = samples - 1
    if degrees < 1:
        return None
    t = FEW_DEGREES.get(degrees) or Z + (Z**3 + Z) / (4 * degrees) + (5 * Z**5 + 16 * Z**3 + 3 * Z) / (96 * degrees**2)
    half = t * deviation / math.sqrt(samples)
    return mean - half, mean + half


def mean_p(mean: float, deviation: float, samples: int) -> float | None:
    """Returns how likely a mean at least as far from 0 is where the true one is 0; None for a single sample."""
    return normal_p(mean, deviation / math.sqrt(samples)) if samples > 1 else None


def normal_p(value: float, error: float) -> float:
    """Returns how likely a value at least as far from 0 is, of a normal distribution around 0 with that error."""
    if error == 0:
        return 1.0 if value == 0 else 0.0
    return math.erfc(abs(value) / error / math.sqrt(2))


def hits_text(right: Any) -> str:
    """Returns which samples a model has right, a bit each from the left of every byte, as hexadecimal digits."""
    whole = 8
    bits = "".join("1" if one else "0" for one in right)
    bits += "0" * (-len(bits) % whole)
    return int(bits, 2).to_bytes(len(bits) // whole, "big").hex() if bits else ""


def mcnemar_of(first: str, second: str, samples: int) -> Paired:
    """Returns the comparison of two models by what `hits_text` told of each."""
    before, after = (int(text, 16) if text else 0 for text in (first, second))
    gained, lost = (after & ~before).bit_count(), (before & ~after).bit_count()
    return Paired(samples, gained, lost, mcnemar(gained, lost), 100.0 * (lost - gained) / max(samples, 1))
