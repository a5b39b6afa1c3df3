"""Stage teacher: the FP32 model to learn from, trained or loaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from compress.stages.base import Workbench, train_model
from compress.training.fit import Lesson


def run(bench: Workbench, work: Path) -> dict[str, Any]:
    """Trains the teacher on the labels, or takes its weights as they are."""
    spec = bench.spec_of("teacher")
    return train_model(bench, work, spec, spec.train, Lesson(), "teacher")
