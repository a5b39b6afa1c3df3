"""Stage distill: the student, trained from the teacher, on the labels alone, or loaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgecompress.stages.base import Workbench, train_model


def run(bench: Workbench, work: Path) -> dict[str, Any]:
    """Trains the student; without a `distill` block on the labels alone, or not at all where it has weights."""
    spec, distill = bench.spec_of("distill"), bench.recipe.distill
    train = distill.train if distill is not None else spec.train
    lesson = bench.lesson(learn=distill is not None)
    return {**train_model(bench, work, spec, train, lesson, "student"), "distilled": lesson.teacher is not None}
