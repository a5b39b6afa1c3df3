"""The trainings of a recipe: which block says how each stage trains, and what it leaves open."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from edgecompress.recipe.schema import Habits, Recipe, TrainSpec


def trainings(recipe: Recipe) -> Iterator[tuple[str, TrainSpec, Habits]]:
    """Yields stage, training and habits of every stage that trains, or would where no repair suffices."""
    if recipe.teacher is not None and recipe.teacher.train is not None:
        yield "teacher", recipe.teacher.train, recipe.teacher.habits
    student = recipe.student
    if student is not None:
        train, habits = student.train, student.habits
        if recipe.distill is not None:  # a student that was trained before is trained as gently as without a teacher
            usual = recipe.distill.usual
            train, habits = recipe.distill.train, replace(habits, epochs=usual.epochs, steps=usual.steps)
        if train is not None:
            yield "distill", train, habits
    if recipe.prune is not None:
        yield "prune", recipe.prune.train, recipe.prune.habits
    spec = recipe.quantize
    if spec is not None and "qat" in (spec.mode, spec.escalate):
        yield "quantize", spec.train, spec.habits


def in_words(spec: TrainSpec, habits: Habits) -> dict[str, str]:
    """Returns how a stage trains as far as the recipe says, and what the rest goes by."""
    rate = spec.learning_rate
    return {
        "epochs": f"{habits.epochs} or more, by the samples" if spec.epochs is None else str(spec.epochs),
        "batch_size": f"8 to {habits.largest_batch}, by the samples"
        if spec.batch_size is None
        else str(spec.batch_size),
        "optimizer": spec.optimizer or habits.optimizer or "by the network",
        "learning_rate": "by all these" if rate is None else f"{rate:.3g}",
    }
