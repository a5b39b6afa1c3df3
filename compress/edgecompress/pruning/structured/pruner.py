"""Structured pruning: whole channels go, so that the model is really smaller and faster.

Works on any module that torch-pruning's dependency graph can follow; needs no pipeline. Fine-tune between the steps:

    pruner = StructuredPruner(model, example, of="macs", ratio=0.5, steps=5)
    for step in range(1, 6):
        pruner.prune_step(step)
        train(model)  # with a new optimizer: the parameters were replaced
    pruner.report()
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import TypeVar

import torch
from torch import nn

from edgecompress.errors import ModelError
from edgecompress.models.attention import close_attention, open_attention
from edgecompress.models.count import Counts, count
from edgecompress.pruning.coupling.channel_graph import ChannelGraph, clone, run, undisturbed
from edgecompress.pruning.coupling.channels import Root
from edgecompress.pruning.coupling.cut import Channels, compose, cut
from edgecompress.pruning.coupling.layers import layer_widths, paths_of
from edgecompress.pruning.coupling.probe import broken_roots
from edgecompress.pruning.structured.importance import GroupMagnitude, Importance, Unrated
from edgecompress.pruning.structured.negligible import negligible
from edgecompress.pruning.structured.results import PruningReport, StepReport
from edgecompress.pruning.structured.widths import (
    CLOSE_ENOUGH,
    FAR_OFF,
    CostModel,
    Measure,
    Segment,
    allowed_atoms,
    choose,
    item_macs,
    lowest,
    segments_of,
)

#: A ratio may lie this far beyond what the smallest widths remove before it is refused.
REACH = 0.03
#: Trials per step to bring the counted share to the asked one where the prediction is not exact.
TRIALS = 4
NOUNS = {"params": "parameters", "macs": "multiply-accumulates"}
#: A prediction that is off by less than this share counts as exact.
EXACT = 1e-3


Result = TypeVar("Result")


class StructuredPruner:
    """Removes the asked share of parameters or MACs, in steps, in place."""

    def __init__(
        self,
        model: nn.Module,
        example: torch.Tensor,
        *,
        of: Measure,
        ratio: float,
        steps: int,
        round_to: int = 8,
        protected: Iterable[nn.Module] = (),
        importance: Importance | None = None,
    ) -> None:
        """Traces the model and tries, on a copy, whether it can be pruned that far; the model stays as it is.

        Args:
            model: Pruned in place by `prune_step`; mode, frozen parameters and hooks are kept.
            example: A batch of any values, (N, ...), as the model takes it.
            of: What `ratio` counts.
            ratio: The share of the original model to remove, between 0 and 1.
            steps: In how many equal steps.
            round_to: Widths become multiples of this where they are larger; smaller ones are kept whole.
            protected: Modules (with all they hold) whose output widths stay.
            importance: Rates channels; the group's magnitude by default. Gradients that it goes by are of the model
                as it is now, and again before each step.

        Raises:
            ModelError: The model cannot be traced, nothing in it can be pruned, or `ratio` is out of reach.
            ValueError: A number is out of its range.
        """
        if not (0 < ratio < 1 and steps >= 1 and round_to >= 1):
            raise ValueError(f"expected 0 < ratio < 1, steps >= 1, round_to >= 1; got {ratio}, {steps}, {round_to}")
        self.model = model
        device = next((parameter.device for parameter in model.parameters()), example.device)
        self._example = example.detach()[:1].to(device)
        self._shape = tuple(self._example.shape[1:])
        self._of: Measure = of
        self._ratio = ratio
        self._steps = steps
        self._round_to = round_to
        self._importance = importance or GroupMagnitude()
        self._protected = paths_of(model, protected)
        run(model, self._example)  # first, so that a model that does not fit its input is a clear error
        open_attention(model)
        self._before = self._count(model)
        self._done: list[StepReport] = []
        self._rounding_points = 0.0
        self._following: set[str] = set()
        #: (layer, side) -> channels of the original model that are left; sides that lost none are absent.
        self.kept: Channels = {}
        graph = self._graph()
        self._attention = [root.name for root in graph.roots if root.kind == "heads"]
        self._widths = layer_widths(model, self._attention)
        segments, unrated = self._rated(graph.roots)
        #: Atoms of each segment at the start: floors and rounding are relative to them.
        self._original = {segment.key: len(segment.atoms) for segment in segments}
        self._whole = self._kept_whole(graph, segments, unrated)
        self._unrated = unrated
        graph, self._largest = self._fitting(self._graph() if self._following else graph, self._reach)
        roots = self._usable(graph)
        self._whole |= self._left_alone(roots, self._segments(roots))

    def prune_step(self, step: int) -> StepReport:
        """Prunes to the share that is due after this step, `ratio * step / steps` of the original model.

        Afterwards gradients are as they were for what is left, but parameters are new objects: build a new optimizer.

        Args:
            step: 1, 2, ... `steps`, each once.

        Raises:
            ModelError: The weights cannot be ranked, or the model fails after pruning.
            ValueError: The step is out of turn.
        """
        if step != len(self._done) + 1 or step > self._steps:
            raise ValueError(f"step {step} is out of turn: {len(self._done)} of {self._steps} are done")
        asked = self._ratio * step / self._steps
        shapes = [item.shape for item in run(self.model, self._example)]
        target = (1 - asked) * getattr(self._before, self._of)
        # Only the last step has to hit the share; before it, the ranking matters more.
        close = CLOSE_ENOUGH if step == self._steps else FAR_OFF
        attempt = partial(self._search, target=target, close_enough=close)
        graph, removed = self._fitting(self._graph(), attempt)
        segments = self._segments(self._usable(graph))
        self.kept = compose(self.kept, graph.remove(_removals(segments, removed)))
        if [item.shape for item in run(self.model, self._example)] != shapes:
            raise ModelError("pruning changed the shape of the model's output; protect the layer that makes it")
        if step == self._steps:
            close_attention(self.model)
        after = self._count(self.model)
        report = StepReport(
            step, self._steps, asked, self._share(after, "params"), self._share(after, "macs"), after.params, after.macs
        )
        self._done.append(report)
        return report

    def report(self) -> PruningReport:
        """Returns what has been removed so far, layer by layer."""
        now = self._count(self.model)
        left = layer_widths(self.model, self._attention)
        return PruningReport(
            of=self._of,
            asked=self._ratio,
            removed_params=self._share(now, "params"),
            removed_macs=self._share(now, "macs"),
            params=(self._before.params, now.params),
            macs=(self._before.macs, now.macs),
            widths={name: (self._widths[name], width) for name, width in left.items()},
            whole=dict(self._whole),
            largest_share=self._largest,
            rounding_points=self._rounding_points,
            steps=tuple(self._done),
        )

    def _rated(self, roots: Sequence[Root]) -> tuple[list[Segment], dict[str, str]]:
        """Returns the segments of the roots that the importance can rate; path of each other root -> why not."""
        segments: list[Segment] = []
        unrated: dict[str, str] = {}
        for root in roots:
            try:
                segments += segments_of(root, self._importance(root))
            except Unrated as reason:
                unrated[root.name] = str(reason)
        return segments, unrated

    def _kept_whole(
        self, graph: ChannelGraph, segments: Sequence[Segment], unrated: Mapping[str, str]
    ) -> dict[str, str]:
        """Returns the layers that cannot be pruned and why, each tried on a copy.

        Raises:
            ModelError: There are no others.
        """
        whole = dict(graph.whole)
        # Widths unlike one another, so that layers that must agree without the graph's knowing are found out.
        options = [self._allowed(segment, self._round_to) for segment in segments]
        kept = [some[number % max(len(some) - 1, 1)] for number, some in enumerate(options)]
        removed = [len(segment.atoms) - atoms for segment, atoms in zip(segments, kept, strict=True)]
        removals = _removals(segments, removed)
        for root in graph.roots:
            if root.name in unrated:
                whole.update(dict.fromkeys(root.members, unrated[root.name]))
            elif not removals.get(root.name):
                parts = f" in {root.channel_groups} groups" if root.channel_groups > 1 else ""
                reason = f"its {root.width} channels{parts} allow no smaller multiple of {self._round_to}"
                whole.update(dict.fromkeys(root.members, reason))
        candidates = [root for root in graph.roots if removals.get(root.name)]
        if candidates:
            broken, self._following = broken_roots(self.model, self._example, candidates, removals)
            for root in candidates:
                if root.name in broken:
                    whole.update(dict.fromkeys(root.members, broken[root.name]))
        if not any(root.name not in whole for root in candidates):
            reasons = "; ".join(f"{name or 'the model'}: {reason}" for name, reason in list(whole.items())[:10])
            raise ModelError(
                f"{type(self.model).__name__} has no channels that can be pruned "
                f"({reasons or 'it has no conv or linear layer'}). "
                f"Use `method: unstructured`{', or another `importance`' if unrated else ''}, or leave out `prune`."
            )
        return whole

    def _reach(self, roots: Sequence[Root], segments: Sequence[Segment]) -> float:
        """Returns the largest share that can go.

        Raises:
            ModelError: It is less than what is asked for.
        """
        largest = self._share(self._trial(roots, segments, self._most(segments)), self._of)
        if self._ratio > largest + REACH:
            raise ModelError(
                f"cannot remove {self._ratio:.1%} of the {NOUNS[self._of]}: with every layer at least {self._round_to} "
                f"channels and a tenth of its width, at most {largest:.1%} can go. "
                f"Ask for a smaller ratio or `round_to`{', or another `importance`' if self._unrated else ''}."
            )
        return largest

    def _fitting(
        self, graph: ChannelGraph, attempt: Callable[[list[Root], list[Segment]], Result]
    ) -> tuple[ChannelGraph, Result]:
        """Returns what came of an attempt at cutting; layers whose widths do not go together are left whole."""
        while True:
            roots = self._usable(graph)
            try:
                return graph, attempt(roots, self._segments(roots))
            except _DoNotFitError as error:  # the widths tried at first went together, these do not
                self._leave_broken(roots, error)
                graph, self._largest = self._fitting(self._graph(), self._reach)

    def _leave_broken(self, roots: Sequence[Root], error: _DoNotFitError) -> None:
        """Leaves whole what cannot be cut as it was tried; the rest may need attributes that follow it."""
        tried = [root for root in roots if root.name in error.removals]
        broken, following = broken_roots(self.model, self._example, tried, error.removals)
        if not broken and following <= self._following:
            raise error
        self._following |= following
        for root in tried:
            if root.name in broken:
                self._whole.update(dict.fromkeys(root.members, broken[root.name]))

    def _left_alone(self, roots: Sequence[Root], segments: Sequence[Segment]) -> dict[str, str]:
        """Returns the layers that are too small to matter, as far as the others can give the asked share."""
        total = getattr(self._before, self._of)
        shares = negligible(
            segments, self._most(segments), self._costs(roots), self._of, total, self._largest - self._ratio
        )
        return {
            member: f"at its smallest width only {shares[root.name]:.2%} of the model's {NOUNS[self._of]} would go"
            for root in roots
            if root.name in shares
            for member in root.members
        }

    def _costs(self, roots: Sequence[Root]) -> CostModel:
        """Returns what predicts the costs of the model as it is now."""
        now = self._count(self.model)
        return CostModel(roots, item_macs(now, roots), {"params": now.params, "macs": now.macs})

    def _search(
        self, roots: Sequence[Root], segments: Sequence[Segment], target: float, close_enough: float
    ) -> list[int]:
        """Returns how many atoms of each segment go so that about `target` parameters or MACs remain."""
        costs = self._costs(roots)
        original = getattr(self._before, self._of)
        allowed = [self._allowed(segment, self._round_to) for segment in segments]
        tried: list[tuple[float, int, list[int]]] = []
        aim = target
        for trial in range(TRIALS):
            removed = choose(segments, allowed, costs, self._of, aim, close_enough=close_enough)
            left = getattr(self._trial(roots, segments, removed), self._of)
            tried.append((abs(left - target), trial, removed))
            if abs(left - costs.cost(self._of, segments, removed)) <= EXACT * original:
                break
            aim += target - left
        _, _, best = min(tried)
        free = choose(segments, [self._allowed(segment, 1) for segment in segments], costs, self._of, target)
        rounded, unrounded = (costs.cost(self._of, segments, removed) for removed in (best, free))
        self._rounding_points = 100 * (unrounded - rounded) / original
        early = len(self._done) + 1 < self._steps
        if early and self._share(self._trial(roots, segments, best), self._of) > self._ratio:
            return [0] * len(segments)  # one coarse place beyond the end: nothing that is cut comes back
        return best

    def _trial(self, roots: Sequence[Root], segments: Sequence[Segment], removed: Sequence[int]) -> Counts:
        """Returns what is left when so much goes, counted on a copy."""
        copy, removals = clone(self.model), _removals(segments, removed)
        try:
            cut(copy, roots, removals)
            run(copy, self._example)
        except ModelError as error:
            raise _DoNotFitError(str(error), removals) from error
        return self._count(copy)

    def _count(self, model: nn.Module) -> Counts:
        with undisturbed(model):
            return count(model, self._shape, self._example.dtype)

    def _graph(self) -> ChannelGraph:
        """Returns the channels of the model as it is now."""
        return ChannelGraph(self.model, self._example, self._protected, self._following)

    def _usable(self, graph: ChannelGraph) -> list[Root]:
        return [root for root in graph.roots if root.name not in self._whole]

    def _segments(self, roots: Sequence[Root]) -> list[Segment]:
        return [segment for root in roots for segment in segments_of(root, self._importance(root))]

    def _allowed(self, segment: Segment, round_to: int) -> list[int]:
        return allowed_atoms(segment, self._original[segment.key], round_to)

    def _most(self, segments: Sequence[Segment]) -> list[int]:
        return [len(segment.atoms) - self._allowed(segment, self._round_to)[0] for segment in segments]

    def _share(self, left: Counts, of: Measure) -> float:
        before, after = (int(getattr(counts, of)) for counts in (self._before, left))
        return 1 - after / max(before, 1)


class _DoNotFitError(ModelError):
    """The model does not run with such widths; `removals` has what was cut of each root."""

    def __init__(self, message: str, removals: Mapping[str, list[int]]) -> None:
        super().__init__(message)
        self.removals = {name: channels for name, channels in removals.items() if channels}


def _removals(segments: Sequence[Segment], removed: Sequence[int]) -> dict[str, list[int]]:
    """Returns the channels to cut per root."""
    channels: dict[str, list[int]] = {}
    for segment, atoms in zip(segments, removed, strict=True):
        channels.setdefault(segment.root, []).extend(lowest(segment, atoms))
    return channels
