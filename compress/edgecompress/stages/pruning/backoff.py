"""A pruned structure that is slower than its parent is a failed step: found before the fine-tuning, and backed off."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from pydantic import TypeAdapter
from torch import nn

from edgecompress.errors import ModelError
from edgecompress.models.count import count
from edgecompress.pruning.coupling.channel_graph import clone
from edgecompress.pruning.structured.importance import Importance
from edgecompress.recipe.schema import PruneSpec
from edgecompress.sources.border import at_border, described
from edgecompress.stages.base import Workbench
from edgecompress.stages.pruning.targets import TOLERANCE, UNITS, Aim, find_aim, pruner_for
from edgecompress.stages.pruning.yardstick import Timing, Yardstick
from edgecompress.store.files import write_json
from edgecompress.store.manifests import is_made
from edgecompress.store.reading import read_document

#: Coarser widths that are tried, in multiples of `round_to`: kernels work on whole blocks of channels.
COARSER = (1, 2, 4)
#: Other targets that are tried, in shares of the tolerance: first less is left, then more.
SHIFTS = (0.0, -0.8, 0.8)
#: Beside the checkpoints: what was found before the fine-tuning.
SETTLED = "widths.json"


def settle(
    bench: Workbench, model: nn.Module, spec: PruneSpec, yardstick: Yardstick, importance: Importance | None = None
) -> Aim:
    """Returns what structured pruning removes, found and timed before the fine-tuning.

    A run that was interrupted goes on with what it had found: its checkpoints have those widths.

    Args:
        bench: The run.
        model: The unpruned model.
        spec: The recipe's block.
        yardstick: Weighs and times pruned models beside the unpruned one.
        importance: Ranks the channels of the models tried.

    Raises:
        ModelError: The target cannot be reached, or only by models that are slower than the unpruned one.
    """
    path = None if bench.ctx.checkpoints is None else bench.ctx.checkpoints / SETTLED
    found = None if path is None else _settled_before(bench, path)
    if found is not None:
        bench.ctx.note("the widths were settled before")
        for warning in found.warnings:
            bench.ctx.warn(warning)
        return found.aim
    aim = find_aim(bench, model, spec, importance=importance, yardstick=yardstick)
    if aim.kind != "latency" or spec.widths is not None:  # a search for a latency has timed its widths already
        aim = back_off(bench, model, spec, aim, yardstick, importance)
    if path is not None:
        document = {"aim": asdict(aim), "warnings": bench.ctx.warnings, "used": bench.ctx.used}
        write_json(path, bench.store.seal.sealed(_place(path), document))
    return aim


@dataclass(frozen=True)
class _Found:
    """What a file of settled widths holds, its seal aside."""

    aim: Aim
    warnings: list[str]
    used: dict[str, dict[str, str]]


def _settled_before(bench: Workbench, path: Path) -> _Found | None:
    """Returns what an interrupted run had settled, None where there is nothing that can be believed: a note says so."""
    if not path.exists():
        return None
    try:
        with at_border(lambda error: ModelError(f"cannot be read ({described(error)})")):
            found = _believed(bench, path)
    except ModelError as error:
        bench.ctx.note(f"{path.name} {error}: the widths are settled anew")
        return None
    for name, files in found.used.items():
        bench.ctx.use(name, files)
    return found


def _believed(bench: Workbench, path: Path) -> _Found:
    """Returns what a file of settled widths holds.

    Raises:
        ModelError: It is not as it was sealed, or was made from other steps than there are now.
    """
    document = read_document(path, "a file of widths")
    if doubt := bench.store.seal.doubt(_place(path), document):
        raise ModelError(doubt)
    text = json.dumps({key: document[key] for key in ("aim", "warnings", "used")}, allow_nan=False)
    found = TypeAdapter(_Found).validate_json(text, strict=True)
    if not is_made(found.used):
        raise ModelError("does not say what it was made from")
    if other := bench.ctx.conflict(found.used):
        raise ModelError(f"began from another {other.rpartition('-')[0]}")
    return found


def _place(path: Path) -> str:
    """Returns what the seal of the file is for: the widths of another step are none of this one."""
    return f"widths {path.parent.name}"


def back_off(
    bench: Workbench,
    model: nn.Module,
    spec: PruneSpec,
    aim: Aim,
    yardstick: Yardstick,
    importance: Importance | None = None,
) -> Aim:
    """Returns the aim, or the nearest one within its tolerance whose structure is not slower than the unpruned model.

    Args:
        bench: The run.
        model: The unpruned model.
        spec: The recipe's block.
        aim: What was asked for.
        yardstick: Times pruned models beside the unpruned one.
        importance: Ranks the channels of the models tried.

    Raises:
        ModelError: All of them are slower.
    """
    bench.ctx.note("timing the pruned structure beside the unpruned one")
    first: Timing | None = None
    seen: set[tuple[tuple[str, int], ...]] = set()
    for candidate, round_to in _candidates(spec, aim):
        pruned = clone(model)
        try:
            # In one step, so of widths that are given after each one only the last count.
            last = {name: widths[-1:] for name, widths in candidate.widths.items()} if candidate.widths else None
            rounded = spec.model_copy(update={"round_to": round_to})
            pruner = pruner_for(bench, pruned, rounded, replace(candidate, widths=last), 1, importance)
        except ModelError:
            if first is None:
                raise
            continue  # so coarse that the share is out of reach
        pruner.prune_step(1)
        widths = tuple((name, found[-1]) for name, found in pruner.step_widths.items())
        if first is not None and (widths in seen or not _within(bench, pruned, aim, yardstick)):
            continue
        seen.add(widths)
        slower, timing = yardstick.slower(pruned)
        if not slower:
            report = pruner.report()
            # What was timed is what is made: the steps lead to these widths. A share for each step would not do, since
            # one step's share is too little to narrow a layer of few channels and many multiplications.
            chosen = replace(
                aim,
                ratio=candidate.ratio,
                widths=pruner.step_widths if spec.widths is None else aim.widths,
                rounding_points=report.rounding_points if candidate.widths is None else aim.rounding_points,
                whole=report.whole if candidate.widths is None else aim.whole,
            )
            if first is None:
                return chosen
            bench.ctx.warn(
                f"The widths that were asked for are slower than the unpruned model ({first.after_ms:.4g} ms, "
                f"{first.before_ms:.4g} ms before). Others, in steps of {round_to} and within the target's "
                f"tolerance, take {timing.after_ms:.4g} ms and are used."
            )
            return chosen
        first = first or timing
    assert first is not None  # noqa: S101 - the first candidate is always timed or raises
    asked = f"{TOLERANCE[aim.kind]:.0%} of {aim.target:,.5g} {UNITS[aim.kind]}"
    others = f" (nor were {len(seen) - 1} other choices of widths within {asked} any faster)" if len(seen) > 1 else ""
    raise too_slow(bench, first, spec, others)


def too_slow(bench: Workbench, timing: Timing, spec: PruneSpec, others: str = "") -> ModelError:
    """Returns the verdict on a pruned model that is slower than the unpruned one."""
    ways = "ask for more, count in latency (prune.of: latency), or leave the prune block out"
    if spec.widths is not None:
        ways = "run the recipe without `prune.widths`, which then searches for others"
    return ModelError(
        f"the pruned model is slower than the unpruned one on {bench.recipe.benchmark.runtimes[0]}: "
        f"{timing.after_ms:.4g} ms, {timing.before_ms:.4g} ms before{others}. The ways out: {ways}."
    )


def _candidates(spec: PruneSpec, aim: Aim) -> Iterator[tuple[Aim, int]]:
    """Gives aims with the rounding of their widths: first the one that was asked for, then others near it."""
    yield aim, spec.round_to
    if spec.widths is not None:
        return
    left = 1.0 - aim.ratio
    for times in COARSER:
        for shift in SHIFTS:
            if (times, shift) != (COARSER[0], SHIFTS[0]):
                ratio = 1.0 - left * (1.0 + shift * TOLERANCE[aim.kind])
                if 0.0 < ratio < 1.0:
                    yield replace(aim, ratio=ratio, widths=None), times * spec.round_to


def _within(bench: Workbench, pruned: nn.Module, aim: Aim, yardstick: Yardstick) -> bool:
    """Says whether a pruned model meets the target within its tolerance."""
    if aim.kind in ("params", "macs"):
        value = float(getattr(count(pruned, bench.dataset.input_shape, bench.dataset.input_dtype), aim.kind))
    else:
        value = yardstick.value(aim.kind, pruned)
    return abs(value - aim.target) <= TOLERANCE[aim.kind] * aim.target
