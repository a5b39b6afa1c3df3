"""Pruning to widths that are known beforehand: those that a search chose, or those in a lock file.

The widths decide what a model costs, so a structure that was weighed or timed once is the one that comes out. Which
channels a layer loses is still decided by importance, at each step anew.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import nn

from edgecompress.errors import ModelError
from edgecompress.pruning.coupling.channels import Root
from edgecompress.pruning.structured.importance import Importance
from edgecompress.pruning.structured.pruner import StructuredPruner
from edgecompress.pruning.structured.widths import Measure, Segment

#: Layers that a message about an unknown one names at most.
NAMED = 8
#: A share that every model with prunable channels can lose.
SMALLEST_RATIO = 1e-6

Widths = Mapping[str, Sequence[int]]


class WidthPruner(StructuredPruner):
    """A structured pruner that can be given its widths, and that tells those it came to.

    Attributes:
        step_widths: Layer -> its output channels after each step so far. Where a concatenation splits a layer's
            channels into parts that shrink on their own, the second part is called `layer:1`, and so on. With widths
            given, those layers only.
    """

    def __init__(
        self,
        model: nn.Module,
        example: torch.Tensor,
        *,
        of: Measure,
        ratio: float,
        steps: int,
        round_to: int = 8,
        widths: Widths | None = None,
        protected: Iterable[nn.Module] = (),
        importance: Importance | None = None,
    ) -> None:
        """Traces the model as `StructuredPruner` does; the model stays as it is.

        Args:
            model: As there.
            example: As there.
            of: As there; with `widths` only what the reports count.
            ratio: As there; with `widths` only what the reports say was asked.
            steps: As there.
            round_to: As there; `widths` need not be multiples of it.
            widths: Named as in `step_widths`, after each step; or one width, the last step's, to which the others
                lead in equal steps. Layers that are left out keep their width. None: widths follow from `ratio`.
            protected: As there.
            importance: As there.

        Raises:
            ModelError: As there, or `widths` do not fit the model.
        """
        self._given = {name: tuple(some) for name, some in (widths or {}).items()}
        self.step_widths: dict[str, list[int]] = {}
        # Widths that are given can be had, however far the smallest ones would reach.
        super().__init__(
            model, example, of=of, ratio=SMALLEST_RATIO if self._given else ratio, steps=steps, round_to=round_to,
            protected=protected, importance=importance,
        )  # fmt: skip
        self._ratio = ratio

    def _check_given(self, prunable: Sequence[Segment]) -> None:
        """Raises ModelError where the widths do not fit the model."""
        segments = {name_of(segment): segment for segment in prunable}
        for name, widths in self._given.items():
            if name not in segments:
                listed = ", ".join(sorted(segments)[:NAMED]) + (", ..." if len(segments) > NAMED else "")
                raise ModelError(
                    f"prune.widths: {name} is no layer of this model whose channels can be pruned. Those are {listed}."
                )
            segment = segments[name]
            parts = len(segment.atoms[0])
            falling = all(earlier >= later for earlier, later in zip((segment.width, *widths), widths, strict=False))
            if len(widths) not in (1, self._steps) or not falling or min(widths) < 1:
                raise ModelError(
                    f"prune.widths: {name} has {segment.width} channels; expected one width for the last step, or "
                    f"{self._steps} that do not grow, found {list(widths)}."
                )
            if any(width % parts for width in widths):
                raise ModelError(f"prune.widths: {name} needs multiples of {parts}, its groups; found {list(widths)}.")

    def _left_alone(self, roots: Sequence[Root], segments: Sequence[Segment]) -> dict[str, str]:
        """Returns the layers that are too small to matter; with given widths those decide."""
        if self._given:
            self._check_given(segments)
            return {}
        return super()._left_alone(roots, segments)

    def _search(
        self, roots: Sequence[Root], segments: Sequence[Segment], target: float, close_enough: float
    ) -> list[int]:
        """Returns how many atoms of each segment go at this step, and remembers the widths that remain."""
        if self._given:
            removed = [len(segment.atoms) - self._kept(segment) for segment in segments]
        else:
            removed = super()._search(roots, segments, target, close_enough)
        for segment, gone in zip(segments, removed, strict=True):
            if self._given and name_of(segment) not in self._given:
                continue
            width = (len(segment.atoms) - gone) * len(segment.atoms[0])
            self.step_widths.setdefault(name_of(segment), []).append(width)
        return removed

    def _kept(self, segment: Segment) -> int:
        """Returns how many atoms of a segment remain after the step that is due."""
        step, original = len(self._done) + 1, self._original[segment.key]
        widths = self._given.get(name_of(segment))
        if widths is None:
            return original
        parts = len(segment.atoms[0])
        if len(widths) == self._steps:
            return widths[step - 1] // parts
        return round(original - (original - widths[0] // parts) * step / self._steps)


def name_of(segment: Segment) -> str:
    """Returns what `prune.widths` calls a segment: its layer, with a number from the second one on."""
    return segment.key.removesuffix(":0")
