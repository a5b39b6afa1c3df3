"""How the stages train a model, and what is said of it at once."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import nn

from edgecompress.models.weights import same_share, save_weights
from edgecompress.recipe.schema import Habits, ModelSpec, TrainSpec
from edgecompress.sources.keras import PREFIX
from edgecompress.stages.base import CURVE, WEIGHTS, Workbench, model_figures, reordering_document, validation_figures
from edgecompress.store.files import write_json
from edgecompress.training.evaluate import outputs_of
from edgecompress.training.fit import fit
from edgecompress.training.loss import Lesson

#: A model of whose weights this share is the same whatever the seed did not draw them.
BROUGHT = 0.5


def validation_doubts(bench: Workbench, model: nn.Module, stage: str = "") -> dict[str, Any]:
    """Returns what the validation split says against a stage's model at once; None where there is no such split.

    Returns:
        validation_standing: Beside an answer that looks at no input.
        reordered: The order of the classes in which its answers fit far better, None where there is none.
    """
    task = bench.task_of(stage)
    split = task.dataset.validation
    if not len(split):
        return {"validation_standing": None, "reordered": None}
    outputs = outputs_of(model, task, split.inputs, bench.device)
    found = task.reordering(outputs, split)
    return {
        "validation_standing": asdict(task.standing(task.marks(outputs, split), split)),
        "reordered": None if found is None else reordering_document(found, task.dataset.class_names),
    }


def from_scratch(bench: Workbench, spec: ModelSpec, name: str, model: nn.Module) -> bool:
    """Returns whether a model has random weights before it is trained.

    A module of the user's own may load weights by itself: those are the same whatever the seed. Where all are, they
    may as well be drawn by a generator that it seeds itself; then what it answers tells.

    Args:
        bench: The run.
        spec: The recipe's block.
        name: The stage's model.
        model: As it was built.
    """
    if spec.weights is not None or getattr(model, "comes_trained", False) or spec.model.startswith(PREFIX):
        return False
    if not spec.model.startswith("python:"):
        return True
    other = bench.build(spec, name, seed=bench.recipe.seed + 1)
    share = same_share(model, other.to(bench.device))
    if share < BROUGHT:
        return True
    task = bench.task_of(name)
    split = task.dataset.validation
    if share < 1 or not len(split):
        return False
    marks = task.marks(outputs_of(other, task, split.inputs, bench.device), split)
    return task.standing(marks, split).by_chance


def train_model(
    bench: Workbench, work: Path, spec: ModelSpec, train: TrainSpec | None, lesson: Lesson, name: str, habits: Habits
) -> dict[str, Any]:
    """Builds a model, trains it if asked, saves it and returns its figures."""
    model = bench.laid_out(bench.build(spec, name, bench.ctx), name)
    curve: list[dict[str, Any]] = []
    scratch = from_scratch(bench, spec, name, model)
    if train is not None:
        settled = bench.training(train, habits, model, name)
        curve = fit(model, settled, bench.task_of(name), bench.ctx, lesson=lesson, device=bench.device, name=name)
    elif scratch:
        bench.ctx.warn(
            f"The {name} has random weights: it was neither trained nor loaded, so its figures mean nothing."
        )
    figures = {**model_figures(bench, model, name), **validation_figures(bench, model, stage=name)}
    figures |= {"trained": train is not None, "from_scratch": scratch}
    figures["optimizer_steps"] = int(curve[-1]["steps"]) if curve else 0
    figures |= validation_doubts(bench, model, name)
    save_model(model, curve, work)
    return figures


def save_model(model: nn.Module, curve: list[dict[str, Any]], work: Path) -> None:
    """Writes a model's weights and its training curve."""
    save_weights(model.to("cpu"), work / WEIGHTS)
    write_json(work / CURVE, curve)
