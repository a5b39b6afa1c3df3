"""Stage distill: the student, trained from the teacher, on the labels alone, or loaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgecompress.recipe.trainings import trainings
from edgecompress.stages.base import Workbench
from edgecompress.stages.learning import train_model


def run(bench: Workbench, work: Path) -> dict[str, Any]:
    """Trains the student; without a `distill` block on the labels alone, or not at all where it has weights."""
    spec, distill = bench.spec_of("distill"), bench.recipe.distill
    found = {stage: (train, habits) for stage, train, habits in trainings(bench.recipe)}
    train, habits = found.get("distill", (None, spec.habits))
    lesson = bench.lesson(learn=distill is not None)
    figures = train_model(bench, work, spec, train, lesson, "student", habits)
    return {**figures, "distilled": lesson.teacher is not None}
