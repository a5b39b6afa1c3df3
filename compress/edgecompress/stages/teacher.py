"""Stage teacher: the FP32 model to learn from, trained or loaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgecompress.sources.keras import PREFIX
from edgecompress.stages.base import FLOAT, KERAS, Workbench, validation_figures
from edgecompress.stages.keras_teacher import keras_figures
from edgecompress.stages.learning import train_model, validation_doubts
from edgecompress.store.files import write_bytes, write_json
from edgecompress.training.loss import Lesson


def run(bench: Workbench, work: Path) -> dict[str, Any]:
    """Trains the teacher on the labels, or takes its weights as they are."""
    spec = bench.spec_of("teacher")
    if spec.model.startswith(PREFIX):
        return take_keras(bench, work)
    return train_model(bench, work, spec, spec.train, Lesson(), "teacher", spec.habits)


def take_keras(bench: Workbench, work: Path) -> dict[str, Any]:
    """Converts a Keras model, before anything learns from it, and scores it as it is."""
    model = bench.keras_teacher
    bench.ctx.note(f"converting the teacher; it answers with {model.outputs}")
    write_bytes(work / FLOAT, model.flatbuffer())
    write_json(work / KERAS, {"sha256": model.sha256})
    return {
        **keras_figures(model, work / FLOAT),
        **validation_figures(bench, model),
        **validation_doubts(bench, model),
        "trained": False,
        "outputs": model.outputs,
    }
