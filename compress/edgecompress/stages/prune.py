"""Stage prune: weights or channels go in steps, with fine-tuning between and after them."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import nn

from edgecompress.errors import ModelError
from edgecompress.models.attention import open_attention
from edgecompress.pruning.architecture import architecture_of
from edgecompress.pruning.coupling.channel_graph import undisturbed
from edgecompress.pruning.coupling.cut import Channels
from edgecompress.pruning.structured.importance import IMPORTANCES, Taylor
from edgecompress.pruning.unstructured.masks import MagnitudeMasks, cubic_share
from edgecompress.pruning.unstructured.patterns import Pattern
from edgecompress.recipe.schema import PruneSpec
from edgecompress.stages.base import ARCHITECTURE, Workbench, model_figures, validation_figures
from edgecompress.stages.learning import save_model
from edgecompress.stages.pruning.backoff import settle, too_slow
from edgecompress.stages.pruning.targets import TOLERANCE, UNITS, Aim, pruner_for, reached
from edgecompress.stages.pruning.yardstick import Yardstick
from edgecompress.store.files import write_json
from edgecompress.training.fit import fit
from edgecompress.training.gradients import batch_gradients
from edgecompress.training.loss import Lesson

#: Share of the fine-tuning in which pruning happens; the rest wins the loss back.
PRUNING_SHARE = 0.5
#: Training batches whose gradients rate the channels before a step.
TAYLOR_BATCHES = 20


def phases(steps: int) -> list[tuple[float, float]]:
    """Returns the part of the fine-tuning after each pruning step: short ones, then all the rest.

    The pruning steps lie evenly in the first half (Zhu & Gupta 2017 also stop pruning well before training ends).
    """
    starts = [PRUNING_SHARE * step / steps for step in range(steps)]
    return list(zip(starts, [*starts[1:], 1.0], strict=True))


def run(bench: Workbench, work: Path) -> dict[str, Any]:
    """Prunes the model of the stage before, fine-tunes it and saves it with its architecture."""
    spec = bench.recipe.prune
    if spec is None:
        raise ModelError("the recipe has no prune block")
    before = "distill" if bench.recipe.student is not None else "teacher"
    model = bench.laid_out(bench.load(before), before)
    base = copy.deepcopy(model)
    metrics: dict[str, Any] = {
        "base": model_figures(bench, model),
        **validation_figures(bench, model, "base_validation_"),
        "method": spec.method,
        "asked": spec.ratio,
        "of": spec.goal[0],
    }
    lesson = bench.lesson(learn=spec.learn_from_teacher)
    train = bench.training(spec.train, spec.habits, model, "prune")
    with Yardstick(bench, base, before) as yardstick:
        aim = None
        if spec.method == "structured":
            ranking = Ranking(bench, model, spec, lesson)
            aim = settle(bench, model, spec, yardstick, ranking.importance)
            metrics["asked"] = 1.0 - aim.target / aim.before
            step, after_step, describe, kept = prune_channels(bench, model, spec, aim, ranking)
        else:
            step, after_step, describe = prune_weights(bench, model, spec)
        curve: list[dict[str, Any]] = []
        for number, span in enumerate(phases(spec.steps), start=1):
            step(number)
            curve += fit(
                model,
                train,
                bench.task,
                bench.ctx,
                lesson=lesson,
                device=bench.device,
                name=f"prune-{number}",
                span=span,
                after_step=after_step,
                setbacks=curve[-1].get("setbacks", 0) if curve else 0,
            )
        metrics |= {**model_figures(bench, model), **validation_figures(bench, model), **describe()}
        metrics["distilled"] = lesson.teacher is not None
        if aim is not None:
            metrics |= check_reached(bench, model, spec, aim, yardstick)
            plan = architecture_of(base.to("cpu"), model.to("cpu"), kept=kept(), origin=_origin(bench, before))
            write_json(work / ARCHITECTURE, plan)
    save_model(model, curve, work)
    return metrics


Technique = tuple[Callable[[int], object], Callable[[torch.optim.Optimizer], None] | None, Callable[[], dict[str, Any]]]


def check_reached(
    bench: Workbench, model: nn.Module, spec: PruneSpec, aim: Aim, yardstick: Yardstick
) -> dict[str, Any]:
    """Returns what the report says of target and latency; a warning where the target is missed beyond its tolerance.

    Raises:
        ModelError: The model is slower than the unpruned one.
    """
    slower, timing = yardstick.slower(model)
    if slower:
        raise too_slow(bench, timing, spec)
    value = timing.after_ms if aim.kind == "latency" else reached(bench, model, aim.kind, yardstick)
    tolerance = TOLERANCE[aim.kind]
    if abs(value - aim.target) > tolerance * aim.target:
        why = f"widths go in steps of {spec.round_to} (prune.round_to), which this model's layers allow no closer."
        if spec.widths is not None:
            why = "prune.widths are as they were given."
        bench.ctx.warn(
            f"Pruning left {value:,.5g} {UNITS[aim.kind]} of {aim.before:,.5g} where {aim.target:,.5g} was asked: {why}"
        )
    target = {"kind": aim.kind, "before": aim.before, "asked": aim.target, "reached": value, "tries": aim.tries}
    return {"target": target, "latency": {"runtime": bench.recipe.benchmark.runtimes[0], **asdict(timing)}}


class Ranking:
    """The recipe's importance, with gradients of the model as it is where it goes by them.

    Attributes:
        importance: Ranks channels; of the model as it came until `renew` is called.
    """

    def __init__(self, bench: Workbench, model: nn.Module, spec: PruneSpec, lesson: Lesson) -> None:
        """Takes the gradients of the unpruned model, from which a search's trials are pruned too."""
        self._bench, self._model, self._spec, self._lesson = bench, model, spec, lesson
        self.importance = IMPORTANCES[spec.importance]()
        self.renew(1)

    def renew(self, step: int) -> None:
        """Takes the gradients again, for this step: the model has changed."""
        taylor, bench = self.importance, self._bench
        if not isinstance(taylor, Taylor):
            return
        taylor.clear()
        open_attention(self._model)  # the heads' own layers have gradients, the packed one has not
        gradients = batch_gradients(
            self._model,
            bench.training(self._spec.train, self._spec.habits, self._model, "prune"),
            bench.task,
            bench.ctx,
            lesson=self._lesson,
            device=bench.device,
            name=f"importance-{step}",
            batches=TAYLOR_BATCHES,
        )
        # In evaluation mode: training's batch norm would hide what a channel's scale does, and move its statistics.
        with undisturbed(self._model):
            for found in gradients:
                taylor.observe(self._model, found)


def prune_channels(
    bench: Workbench, model: nn.Module, spec: PruneSpec, aim: Aim, ranking: Ranking
) -> tuple[*Technique, Callable[[], Channels]]:
    """Returns the steps of structured pruning, what is told of them, and the channels that are kept."""
    pruner = pruner_for(bench, model, spec, aim, spec.steps, ranking.importance)

    def step(number: int) -> None:
        if number > 1:
            ranking.renew(number)
        pruner.prune_step(number)

    def describe() -> dict[str, Any]:
        report = pruner.report()
        return {
            "importance": spec.importance,
            "removed_params": report.removed_params,
            "removed_macs": report.removed_macs,
            "rounding_points": report.rounding_points if aim.rounding_points is None else aim.rounding_points,
            "step_widths": pruner.step_widths,
            "widths": {name: list(widths) for name, widths in report.widths.items()},
            "whole": aim.whole | report.whole,
        }

    return step, None, describe, lambda: pruner.kept


def _origin(bench: Workbench, stage: str) -> dict[str, Any]:
    """Returns how a stage's model is built, as far as a reader of its architecture plan has to know."""
    spec = bench.spec_of(stage)
    return {
        "model": spec.model,
        "args": dict(spec.args),
        "input_shape": list(bench.dataset.input_shape),
        "num_classes": bench.dataset.num_classes,
        "outputs": list(bench.dataset.outputs),
    }


def prune_weights(bench: Workbench, model: nn.Module, spec: PruneSpec) -> Technique:
    """Returns the steps of unstructured pruning, how zeros are held between them, and what is told of them."""
    masks = MagnitudeMasks(model, pattern=Pattern.named(spec.pattern), scope=spec.scope)
    masks.hold_gradients()
    if masks.dense:
        bench.ctx.warn(
            f"{len(masks.dense)} layers stay dense, since their input channels make no groups for the pattern "
            f"{spec.pattern}: {', '.join(name.removesuffix('.weight') for name in masks.dense)}."
        )

    def step(number: int) -> None:
        masks.update(cubic_share(number, spec.steps, spec.ratio))
        masks.apply()

    def after_step(optimizer: torch.optim.Optimizer) -> None:
        masks.apply()
        masks.mask_optimizer(optimizer)

    def describe() -> dict[str, Any]:
        return {
            "prunable_weights": masks.total,
            "masked_weights": masks.zeros(),
            "masked_share": masks.share,
            "layer_shares": masks.layer_shares(),
            "dense": list(masks.dense),
        }

    return step, after_step, describe
