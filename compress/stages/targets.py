"""How far to prune: a share or a target in the user's units becomes a share of parameters or MACs to remove.

Bytes and milliseconds are not predicted. For each share that is tried a copy is pruned, converted and quantized for
real (its ranges are placeholders, which change neither), and the flatbuffer is weighed or timed beside that of the
unpruned model.
"""

from __future__ import annotations

import copy
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Self

import torch
from torch import nn

from compress.errors import ModelError
from compress.models.count import count
from compress.pruning.graph import clone
from compress.pruning.importance import IMPORTANCES, Importance
from compress.pruning.structured import StructuredPruner
from compress.quantization.scheme import Scheme
from compress.quantization.structure import quantized_structure
from compress.recipe import PruneSpec
from compress.stages.base import Workbench
from compress.stages.notes import metadata_of
from compress.tflite.convert import convert
from compress.tflite.finish import finish
from compress.tflite.flatbuffer import read_model
from compress.tflite.labels import operator_labels
from compress.tflite.latency import measure

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
LATENCY_RUNS = 400
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
    """

    counts: Counted
    ratio: float
    kind: str
    before: float
    target: float
    tries: list[dict[str, float]] = field(default_factory=list)


def find_aim(
    bench: Workbench, model: nn.Module, spec: PruneSpec, *, search: bool = True, importance: Importance | None = None
) -> Aim:
    """Returns what a recipe's structured pruning has to remove.

    Args:
        bench: The run.
        model: The unpruned model.
        spec: The recipe's block.
        search: Whether sizes and latencies are searched for; without, only whether they can be reached is found out.
        importance: Ranks the channels of the models tried, as in `pruner_for`.

    Raises:
        ModelError: The target cannot be reached, or the model meets it as it is.
    """
    kind, absolute = spec.goal
    counts = COUNTED[kind]
    if kind in ("params", "macs"):
        before = float(getattr(count(model, bench.dataset.input_shape), counts))
        target = (1.0 - spec.ratio) * before if absolute is None else absolute
        _require_less(kind, before, target)
        return Aim(counts, 1.0 - target / before, kind, before, target)
    return _Search(bench, model, spec, importance).run(search=search)


def pruner_for(
    bench: Workbench, model: nn.Module, spec: PruneSpec, aim: Aim, steps: int, importance: Importance | None = None
) -> StructuredPruner:
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
    example = torch.zeros(1, *bench.dataset.input_shape)
    if importance is None:
        importance = IMPORTANCES["l2" if spec.importance == "taylor" else spec.importance]()
    return StructuredPruner(
        model, example, of=aim.counts, ratio=aim.ratio, steps=steps, round_to=spec.round_to, importance=importance
    )


def _require_less(kind: str, before: float, target: float) -> None:
    if target >= before:
        raise ModelError(
            f"nothing to prune: the model has {before:,.6g} {UNITS[kind]} as it is, and the target is {target:,.6g}. "
            "Ask for less, or leave the prune block out."
        )


def reached(bench: Workbench, base: nn.Module, model: nn.Module, spec: PruneSpec) -> float:
    """Returns what a pruned model has of what was asked for: bytes, ms, parameters or MACs."""
    kind, _ = spec.goal
    if kind in ("params", "macs"):
        return float(getattr(count(model, bench.dataset.input_shape), kind))
    with Yardstick(bench, kind, base) as yardstick:
        return yardstick.value(model)


class Yardstick:
    """Weighs and times models as the flatbuffers they would be shipped as, but for what their ranges are."""

    def __init__(self, bench: Workbench, kind: str, base: nn.Module) -> None:
        """Takes `size` or `latency`, and the unpruned model that latencies are measured beside."""
        self._bench, self._kind = bench, kind
        self._folder = tempfile.TemporaryDirectory(prefix="edgecompress-")
        self._base = Path(self._folder.name, "base.tflite")
        self._write(base, self._base)
        self.before = self._measure(self._base)

    def __enter__(self) -> Self:
        """Returns itself."""
        return self

    def __exit__(self, *_exc: object) -> None:
        """Removes its files."""
        self._folder.cleanup()

    def value(self, model: nn.Module) -> float:
        """Returns the bytes or the milliseconds of a model."""
        path = Path(self._folder.name, "model.tflite")
        self._write(model, path)
        return self._measure(path)

    def _write(self, model: nn.Module, path: Path) -> None:
        quantize = self._bench.recipe.quantize
        convert(model, self._bench.dataset.input_shape, path)
        content = path.read_bytes()
        if quantize is not None:
            content = quantized_structure(content, Scheme(quantize.weights, quantize.activations))
        found = read_model(content)
        labels = operator_labels(found, copy.deepcopy(model).cpu())
        notes, files = metadata_of(self._bench.recipe, self._bench.dataset, found)
        path.write_bytes(finish(found, labels, self._bench.recipe.io, notes, files)[0])

    def _measure(self, path: Path) -> float:
        if self._kind == "size":
            return float(path.stat().st_size)
        spec = self._bench.recipe.benchmark
        paths = {"base": self._base, "model": path}
        found = measure(paths, runtime=spec.runtimes[0], threads=spec.threads, runs=LATENCY_RUNS)
        if path == self._base:
            return found["base"].p50_ms
        # A busy machine slows both down: the ratio holds.
        return found["model"].ratio_to_first * self.before


class _Search:
    """The search for a share to remove."""

    def __init__(self, bench: Workbench, model: nn.Module, spec: PruneSpec, importance: Importance | None) -> None:
        self._bench, self._model, self._spec, self._importance = bench, model, spec, importance
        self._kind, self._absolute = spec.goal
        self._counts = COUNTED[self._kind]

    def run(self, *, search: bool) -> Aim:
        """Returns the share, or one that is as good as can be had."""
        with Yardstick(self._bench, self._kind, self._model) as self._yardstick:
            before = self._yardstick.before
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
            aim.ratio = min(aim.tries, key=lambda tried: abs(tried["value"] - target))["ratio"]
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
        pruner_for(self._bench, pruned, self._spec, trial, 1, self._importance).prune_step(1)
        value = self._yardstick.value(pruned)
        aim.tries.append({"ratio": ratio, "value": value})
        asked = f"{aim.target:,.5g} {UNITS[self._kind]} asked"
        self._bench.ctx.note(f"with {100 * ratio:.1f} % of the {self._counts} removed: {value:,.5g} ({asked})")
        return value

    def _largest(self) -> float:
        tiny = Aim(self._counts, SMALLEST_SHARE, self._kind, 0.0, 0.0)
        pruner = pruner_for(self._bench, clone(self._model), self._spec, tiny, 1, self._importance)
        return pruner.report().largest_share
