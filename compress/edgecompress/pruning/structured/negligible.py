"""Layers too small to matter: cutting them saves next to nothing, so they keep their channels."""

from __future__ import annotations

from collections.abc import Sequence

from edgecompress.pruning.structured.widths import CostModel, Measure, Segment

#: A root that saves less than this share of the whole model's parameters or MACs at its smallest width is left alone.
NEGLIGIBLE = 0.005
#: All roots that are left alone give up no more than this share between them: deep models consist of small layers.
NEGLIGIBLE_TOGETHER = 0.02


def negligible(
    segments: Sequence[Segment],
    most: Sequence[int],
    costs: CostModel,
    measure: Measure,
    total: float,
    to_spare: float,
) -> dict[str, float]:
    """Returns the roots to be left alone -> the share of the model that each alone would save at its smallest width.

    Those that save least come first, and none follows that would make the others unable to give what is asked.

    Args:
        segments: What can be cut.
        most: For each segment, the atoms that go at its smallest width.
        costs: Predicts the cost.
        measure: What is counted.
        total: Parameters or MACs of the whole model.
        to_spare: The share by which the smallest widths of all segments remove more than is asked.
    """

    def cost(cut: Sequence[bool]) -> float:
        removed = [atoms if each else 0 for atoms, each in zip(most, cut, strict=True)]
        return costs.cost(measure, segments, removed)

    roots = list(dict.fromkeys(segment.root for segment in segments))
    nothing = cost([False] * len(segments))
    alone = {root: (nothing - cost([segment.root == root for segment in segments])) / total for root in roots}
    everything = cost([True] * len(segments))
    spared: dict[str, float] = {}
    for root in sorted(roots, key=alone.__getitem__):
        given_up = (cost([segment.root not in {*spared, root} for segment in segments]) - everything) / total
        if alone[root] >= NEGLIGIBLE or given_up > min(NEGLIGIBLE_TOGETHER, to_spare):
            break
        spared[root] = alone[root]
    return spared
