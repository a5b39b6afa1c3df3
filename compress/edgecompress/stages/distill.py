"""Stage distill: the student, trained from the teacher, on the labels alone, or loaded."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from edgecompress.stages.base import Workbench, train_model


def run(bench: Workbench, work: Path) -> dict[str, Any]:
    """Trains the student; without a `distill` block on the labels alone, or not at all where it has weights."""
    spec, distill = bench.spec_of("distill"), bench.recipe.distill
    train, habits = spec.train, spec.habits
    if distill is not None:  # a student that was trained before is trained as gently as without a teacher
        train, habits = distill.train, replace(habits, epochs=distill.usual.epochs, steps=distill.usual.steps)
    lesson = bench.lesson(learn=distill is not None)
    figures = train_model(bench, work, spec, train, lesson, "student", habits)
    return {**figures, "distilled": lesson.teacher is not None}
