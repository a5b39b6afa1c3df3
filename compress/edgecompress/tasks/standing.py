"""How a model does beside an answer that looks at no input, and beside another model on the same samples.

Every task gives each sample (of a language model: each window of tokens) a mark: whether its answer is right, or how
large its error is.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from edgecompress.figures import Figure
from edgecompress.report.intervals import Paired, Standing, mcnemar, mean_interval, mean_p, normal_p, wilson

Marks = NDArray[np.float64]


def standing_of_answers(figure: Figure, right: Marks, labels: NDArray[np.int64]) -> Standing:
    """Returns how an accuracy stands beside that of the most frequent class of the same samples."""
    count, hits = len(right), float(right.sum())
    low, high = wilson(hits, count)
    most = float(np.bincount(labels).max()) / count
    return Standing(
        figure.key, 100 * hits / count, 100 * low, 100 * high, 100 * most, "always answering the most frequent class",
        count,
    )  # fmt: skip


def standing_of_errors(
    figure: Figure,
    errors: Marks,
    blind: Marks,
    against: str,
    shown: Callable[[float], float] = float,
) -> Standing:
    """Returns how errors stand beside those of a blind answer to the same samples.

    The interval is that of the mean difference, laid around the blind answer's error: it leaves out what both have in
    common, how hard each sample is.

    Args:
        figure: What the mean error is, through `shown`.
        errors: One number per sample, smaller is better.
        blind: The same of the blind answer.
        against: The blind answer, in words.
        shown: Makes the figure of a mean error.
    """
    gains = blind - errors
    spread = float(gains.std(ddof=1)) if len(gains) > 1 else 0.0
    ends = mean_interval(float(gains.mean()), spread, len(gains))
    base = float(blind.mean())
    low, high = (None, None) if ends is None else (shown(base - ends[1]), shown(base - ends[0]))
    return Standing(figure.key, shown(float(errors.mean())), low, high, shown(base), against, len(errors), False)


def paired_answers(right: Marks, reference: Marks) -> Paired:
    """Returns the comparison of two models by the samples that only one of them has right (McNemar 1947)."""
    gained, lost = int(((right > 0) & (reference <= 0)).sum()), int(((right <= 0) & (reference > 0)).sum())
    return Paired(len(right), gained, lost, mcnemar(gained, lost), 100.0 * (lost - gained) / max(len(right), 1))


def paired_errors(figure: Figure, errors: Marks, reference: Marks, shown: Callable[[float], float] = float) -> Paired:
    """Returns the comparison of two models by their errors on the same samples (a paired t test, for many samples)."""
    more = errors - reference
    spread = float(more.std(ddof=1)) if len(more) > 1 else 0.0
    loss = figure.lost(shown(float(errors.mean())), shown(float(reference.mean())))
    return Paired(len(errors), None, None, mean_p(float(more.mean()), spread, len(more)), loss)


def paired_scores(figure: Figure, scores: Marks, reference: Marks, bad: NDArray[np.bool_]) -> Paired:
    """Returns the comparison of two models' areas under the ROC curve (DeLong, DeLong and Clarke-Pearson 1988)."""
    parts = [_placements(one, bad) for one in (scores, reference)]
    areas = [float(hits.mean()) for hits, _ in parts]
    variance = 0.0
    for one, other in zip(*parts, strict=True):
        if len(one) > 1:
            variance += float(np.var(one - other, ddof=1)) / len(one)
    few = min(int(bad.sum()), int((~bad).sum())) < 2  # noqa: PLR2004 - one has no spread
    p = None if few else normal_p(areas[0] - areas[1], variance**0.5)
    return Paired(len(scores), None, None, p, figure.lost(100 * areas[0], 100 * areas[1]))


def _placements(scores: Marks, bad: NDArray[np.bool_]) -> tuple[Marks, Marks]:
    """Returns of each anomaly the share of normal samples below it, and of each normal sample that of anomalies above.

    Equal scores count as a half.
    """
    high, low = scores[bad], scores[~bad]

    def below(values: Marks, others: Marks) -> Marks:
        ordered = np.sort(others)
        places = np.searchsorted(ordered, values, "left") + np.searchsorted(ordered, values, "right")
        shares: Marks = places / (2.0 * len(others))
        return shares

    return below(high, low), 1.0 - below(low, high)
