"""Stage quantize: the INT8 graph, its ranges and weights, by calibration (PTQ) or by training (QAT)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from compress.artifact import write_json
from compress.data.splits import calibration_inputs
from compress.errors import ModelError
from compress.quantization.structure import quantized_structure
from compress.quantization.twin import Twin
from compress.recipe import QuantizeSpec
from compress.stages.base import CURVE, Workbench, final_stage, validation_figures
from compress.stages.twins import save_twin
from compress.tflite.flatbuffer import read_model
from compress.tflite.labels import operator_labels
from compress.training.fit import fit

CALIBRATION_BATCH = 64
#: Activation ranges follow the weights through this share of QAT, then freeze, so that the end trains what is shipped.
TRACKING_SHARE = 0.6
RANGE_MOMENTUM = 0.02


def run(bench: Workbench, work: Path) -> dict[str, Any]:
    """Builds the twin of the model's INT8 graph, calibrates it, trains it if asked, and writes the INT8 flatbuffer."""
    spec = bench.recipe.quantize
    if spec is None:
        raise ModelError("the recipe has no quantize block")
    stage = final_stage(bench.recipe)
    floating = bench.float_flatbuffer(stage).read_bytes()
    structure = quantized_structure(floating)
    labels = operator_labels(read_model(structure), bench.load(stage))
    twin = Twin(read_model(structure), read_model(floating), labels).to(bench.device)
    metrics = calibrate(bench, twin, spec)
    curve: list[dict[str, Any]] = []
    if spec.mode == "qat":
        curve = train(bench, twin, spec)
    twin.eval()
    metrics |= {"mode": spec.mode, **validation_figures(bench, twin)}
    save_twin(twin.to("cpu"), structure, labels, work)
    write_json(work / CURVE, curve)
    return metrics


def calibrate(bench: Workbench, twin: Twin, spec: QuantizeSpec) -> dict[str, Any]:
    """Sets the twin's ranges from the calibration set and returns the figures of plain PTQ."""
    inputs = calibration_inputs(bench.dataset, spec.calibration_samples, bench.recipe.seed)
    if len(inputs) < spec.calibration_samples:
        bench.ctx.note(f"calibrating on {len(inputs)} samples: there are no more than that")
    batches = (
        bench.task.inputs(inputs[start : start + CALIBRATION_BATCH]).to(bench.device)
        for start in range(0, len(inputs), CALIBRATION_BATCH)
    )
    twin.eval()
    twin.calibrate(batches, bench.task.input_range())
    with twin.floating():
        figures = validation_figures(bench, twin, "float_validation_")
    return {"calibration_samples": len(inputs), **figures, **validation_figures(bench, twin, "ptq_validation_")}


def train(bench: Workbench, twin: Twin, spec: QuantizeSpec) -> list[dict[str, Any]]:
    """Trains the twin with fake quantization: zeros of a sparse model stay, ranges follow the weights, then freeze."""
    sparse = bench.recipe.prune is not None and bench.recipe.prune.method == "unstructured"
    if sparse:
        twin.hold_zeros()

    def at_progress(progress: float) -> None:
        twin.track_ranges(RANGE_MOMENTUM if progress < TRACKING_SHARE else None)

    def after_step(_optimizer: torch.optim.Optimizer) -> None:
        twin.apply_masks()

    try:
        return fit(
            twin,
            spec.train,
            bench.task,
            bench.ctx,
            lesson=bench.lesson(learn=spec.learn_from_teacher),
            device=bench.device,
            name="quantize",
            after_step=after_step if sparse else None,
            at_progress=at_progress,
        )
    finally:
        twin.track_ranges(None)
