"""What structured pruning tells of itself."""

from __future__ import annotations

from dataclasses import dataclass

from edgecompress.pruning.structured.widths import Measure


@dataclass(frozen=True)
class StepReport:
    """What one step removed.

    Attributes:
        step: Its number, from 1.
        steps: How many there are.
        asked: Share of the original model to be gone after this step.
        removed_params: Share of the original parameters that is gone.
        removed_macs: Share of the original multiply-accumulates that is gone.
        params: Parameters left.
        macs: Multiply-accumulates left, for one sample.
    """

    step: int
    steps: int
    asked: float
    removed_params: float
    removed_macs: float
    params: int
    macs: int


@dataclass(frozen=True)
class PruningReport:
    """What all steps so far removed, against the original model.

    Attributes:
        of: What `ratio` counts: `params` or `macs`.
        asked: Share to be gone after the last step.
        removed_params: Share of the parameters that is gone.
        removed_macs: Share of the multiply-accumulates that is gone.
        params: Parameters before and now.
        macs: Multiply-accumulates before and now, for one sample.
        widths: Path of a conv or linear layer -> its output channels before and now; of a recurrent layer its hidden
            units, of an attention layer its heads.
        whole: Path of a layer that kept its width by necessity -> why.
        largest_share: The share of `of` that the smallest allowed widths would remove.
        rounding_points: What rounding the widths changed in the last step: the removed share of `of` less the share
            that the same ranking gives with widths of any size, in points.
        steps: One report per step done.
    """

    of: Measure
    asked: float
    removed_params: float
    removed_macs: float
    params: tuple[int, int]
    macs: tuple[int, int]
    widths: dict[str, tuple[int, int]]
    whole: dict[str, str]
    largest_share: float
    rounding_points: float
    steps: tuple[StepReport, ...]
