"""How far to prune: a share or a target in the user's units becomes a share of parameters or MACs to remove.

Bytes and milliseconds are not predicted. For each share that is tried a copy is pruned, converted and quantized for
real, and the flatbuffer is weighed or timed beside that of the unpruned model. The widths of the best one are what
pruning then leads to: what was measured is what comes out.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from typing import Literal

from torch import nn

from edgecompress.errors import ModelError
from edgecompress.models.count import count
from edgecompress.pruning.coupling.channel_graph import clone
from edgecompress.pruning.structured.fixed_widths import WidthPruner, Widths
from edgecompress.pruning.structured.importance import IMPORTANCES, Importance
from edgecompress.recipe.schema import PruneSpec
from edgecompress.stages.base import Workbench
from edgecompress.stages.pruning.yardstick import Yardstick

Counted = Literal["params", "macs"]
#: What is removed to make a flatbuffer smaller or faster.
COUNTED: dict[str, Counted] = {"params": "params", "macs": "macs", "size": "params", "latency": "macs"}
#: A target counts as met within this share of it.
TOLERANCE = {"params": 0.03, "macs": 0.03, "size": 0.03, "latency": 0.10}
#: Shares that are tried at most.
TRIALS = 8
#: The search stops when it is this much of the tolerance away from the target.
ENOUGH = 0.4
SMALLEST_SHARE = 0.005
UNITS = {"params": "parameters", "macs": "multiply-accumulates", "size": "bytes", "latency": "ms"}


@dataclass
class Aim:
    """What to remove, and how it was found.

    Attributes:
        counts: What `ratio` is a share of.
        ratio: The share to remove.
        kind: What was asked in: `params`, `macs`, `size` or `latency`.
        before: The unpruned model in these units.
        target: What was asked for, in these units.
        tries: Of a search: the shares that were tried and what they gave.
        widths: Where they are settled: layer -> its width after each step, or after the last one.
        rounding_points: What rounding those widths changed.
        whole: Path of a layer that kept its width by necessity, where widths are settled -> why.
    """

    counts: Counted
    ratio: float
    kind: str
    before: float
    target: float
    tries: list[dict[str, float]] = field(default_factory=list)
    widths: Widths | None = None
    rounding_points: float | None = None
    whole: dict[str, str] = field(default_factory=dict)


def find_aim(
    bench: Workbench,
    model: nn.Module,
    spec: PruneSpec,
    *,
    search: bool = True,
    importance: Importance | None = None,
    yardstick: Yardstick | None = None,
) -> Aim:
    """Returns what a recipe's structured pruning has to remove.

    Args:
        bench: The run.
        model: The unpruned model.
        spec: The recipe's block.
        search: Whether sizes and latencies are searched for; without, only whether they can be reached is found out.
        importance: Ranks the channels of the models tried, as in `pruner_for`.
        yardstick: Weighs and times models beside the unpruned one; a new one by default.

    Raises:
        ModelError: The target cannot be reached, the model meets it as it is, or `prune.widths` do not fit it.
    """
    kind, absolute = spec.goal
    counts = COUNTED[kind]
    with contextlib.ExitStack() as stack:
        if yardstick is None:
            yardstick = stack.enter_context(Yardstick(bench, model))
        if spec.widths is not None:
            return _aim_of_widths(bench, model, spec, yardstick if search else None)
        if kind in ("params", "macs"):
            before = float(getattr(count(model, bench.dataset.input_shape, bench.dataset.input_dtype), counts))
            target = (1.0 - spec.ratio) * before if absolute is None else absolute
            _require_less(kind, before, target)
            return Aim(counts, 1.0 - target / before, kind, before, target)
        return _Search(bench, model, spec, importance, yardstick).run(search=search)


def _aim_of_widths(bench: Workbench, model: nn.Module, spec: PruneSpec, yardstick: Yardstick | None) -> Aim:
    """Returns what the widths of a recipe, mostly those of a lock file, remove; without a yardstick only that."""
    assert spec.widths is not None  # noqa: S101 - the caller's case
    kind, absolute = spec.goal
    counts = COUNTED[kind]
    pruned = clone(model)
    last = {name: widths[-1:] for name, widths in spec.steps_of_widths().items()}
    aim = Aim(counts, SMALLEST_SHARE, kind, 0.0, 0.0, widths=last)
    pruner = pruner_for(bench, pruned, spec, aim, 1)
    pruner.prune_step(1)
    whole, left = (
        float(getattr(count(one, bench.dataset.input_shape, bench.dataset.input_dtype), counts))
        for one in (model, pruned)
    )
    if left >= whole:
        raise ModelError("prune.widths remove no channel: leave the prune block out.")
    aim.ratio, aim.widths = 1.0 - left / whole, spec.steps_of_widths()
    if yardstick is not None:
        aim.before = whole if kind in ("params", "macs") else yardstick.before(kind)
        aim.target = (1.0 - spec.ratio) * aim.before if absolute is None else absolute
    return aim


def pruner_for(
    bench: Workbench, model: nn.Module, spec: PruneSpec, aim: Aim, steps: int, importance: Importance | None = None
) -> WidthPruner:
    """Returns the pruner that removes what was found; it refuses what cannot be pruned that far.

    Args:
        bench: The run.
        model: Pruned in place.
        spec: The recipe's block.
        aim: What to remove.
        steps: In how many steps.
        importance: Ranks channels, by default as the recipe says. Before anything is trained there are no gradients:
            magnitudes stand in for `taylor` then, which is enough for what depends on widths alone, the reach and
            the predicted sizes. They never choose the channels of a model that is kept.
    """
    example = bench.dataset.ends.example()
    if importance is None:
        importance = IMPORTANCES["l2" if spec.importance == "taylor" else spec.importance]()
    return WidthPruner(
        model, example, of=aim.counts, ratio=aim.ratio, steps=steps, round_to=spec.round_to, widths=aim.widths,
        importance=importance,
    )  # fmt: skip


def _require_less(kind: str, before: float, target: float) -> None:
    if target >= before:
        raise ModelError(
            f"nothing to prune: the model has {before:,.6g} {UNITS[kind]} as it is, and the target is {target:,.6g}. "
            "Ask for less, or leave the prune block out."
        )


def reached(bench: Workbench, model: nn.Module, kind: str, yardstick: Yardstick) -> float:
    """Returns what a pruned model has of what was asked for: bytes, ms, parameters or MACs."""
    if kind in ("params", "macs"):
        return float(getattr(count(model, bench.dataset.input_shape, bench.dataset.input_dtype), kind))
    return yardstick.value(kind, model)


class _Search:
    """The search for a share to remove."""

    def __init__(
        self,
        bench: Workbench,
        model: nn.Module,
        spec: PruneSpec,
        importance: Importance | None,
        yardstick: Yardstick,
    ) -> None:
        self._bench, self._model, self._spec, self._importance = bench, model, spec, importance
        self._yardstick = yardstick
        #: Of each try: the widths, what rounding them changed, and the layers left whole.
        self._found: list[tuple[Widths, float, dict[str, str]]] = []
        self._kind, self._absolute = spec.goal
        self._counts = COUNTED[self._kind]

    def run(self, *, search: bool) -> Aim:
        """Returns the widths that come nearest to the target, with the share that they remove."""
        before = self._yardstick.before(self._kind)
        target = (1.0 - self._spec.ratio) * before if self._absolute is None else self._absolute
        _require_less(self._kind, before, target)
        aim = Aim(self._counts, 0.0, self._kind, before, target)
        largest = self._largest()
        least = self._try(aim, largest)
        tolerance = TOLERANCE[self._kind]
        if least > (1.0 + tolerance) * target:
            raise ModelError(
                f"cannot prune to {target:,.6g} {UNITS[self._kind]}: with every layer at least "
                f"{self._spec.round_to} channels and a tenth of its width, {least:,.6g} are left of {before:,.6g}. "
                "Ask for less, use a smaller student, or lower prune.round_to."
            )
        if search:
            self._narrow(aim, (0.0, before), (largest, least), tolerance)
        reached = [tried["value"] for tried in aim.tries]
        faster = [number for number, value in enumerate(reached) if self._kind != "latency" or value < before]
        if not faster:
            raise ModelError(
                f"no pruned model is faster than the unpruned one: {min(reached):.4g} ms at best, {before:.4g} ms "
                "before. Leave the prune block out, or count in size or MACs."
            )
        best = min(faster, key=lambda number: abs(reached[number] - target))
        aim.ratio = aim.tries[best]["ratio"]
        aim.widths, aim.rounding_points, aim.whole = self._found[best]
        return aim

    def _narrow(self, aim: Aim, above: tuple[float, float], below: tuple[float, float], tolerance: float) -> None:
        """Tries shares between one that leaves too much and one that leaves too little."""
        for trial in range(TRIALS):
            (low, most), (high, least) = above, below
            # Where a line through both ends meets the target; in turns with the middle, as widths go in steps.
            share = (most - aim.target) / max(most - least, 1e-12) if trial % 2 == 0 else 0.5
            ratio = min(max(low + min(max(share, 0.05), 0.95) * (high - low), SMALLEST_SHARE), high)
            value = self._try(aim, ratio)
            if abs(value - aim.target) <= ENOUGH * tolerance * aim.target or high - low < SMALLEST_SHARE:
                return
            if value > aim.target:
                above = ratio, value
            else:
                below = ratio, value

    def _try(self, aim: Aim, ratio: float) -> float:
        """Returns what a share leaves, in the units asked for."""
        pruned = clone(self._model)
        trial = Aim(self._counts, ratio, self._kind, 0.0, 0.0)
        pruner = pruner_for(self._bench, pruned, self._spec, trial, 1, self._importance)
        pruner.prune_step(1)
        report = pruner.report()
        self._found.append((pruner.step_widths, report.rounding_points, report.whole))
        value = self._yardstick.value(self._kind, pruned)
        aim.tries.append({"ratio": ratio, "value": value})
        asked = f"{aim.target:,.5g} {UNITS[self._kind]} asked"
        self._bench.ctx.note(f"with {100 * ratio:.1f} % of the {self._counts} removed: {value:,.5g} ({asked})")
        return value

    def _largest(self) -> float:
        tiny = Aim(self._counts, SMALLEST_SHARE, self._kind, 0.0, 0.0)
        pruner = pruner_for(self._bench, clone(self._model), self._spec, tiny, 1, self._importance)
        return pruner.report().largest_share
