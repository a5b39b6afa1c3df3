"""Stage quantize: the INT8 graph, its ranges and weights, by calibration (PTQ) or by training (QAT)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from compress.artifact import write_json
from compress.data.splits import calibration_inputs
from compress.errors import ModelError
from compress.quantization.ladder import Ladder
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
    enough = spec.max_drop_points is None or repair(bench, twin, spec, metrics)
    if spec.mode == "qat" or (not enough and spec.escalate == "qat"):
        curve = train(bench, twin, spec, metrics)
        if spec.mode == "ptq":
            close_ladder(bench, twin, spec, metrics)
    twin.eval()
    metrics |= {"mode": spec.mode, **validation_figures(bench, twin)}
    save_twin(twin.to("cpu"), structure, labels, work)
    write_json(work / CURVE, curve)
    return metrics


def calibrate(bench: Workbench, twin: Twin, spec: QuantizeSpec) -> dict[str, Any]:
    """Sets the twin's ranges from the calibration set and returns the figures of plain PTQ."""
    batches = calibration_batches(bench, spec)
    samples = sum(len(batch) for batch in batches)
    if samples < spec.calibration_samples:
        bench.ctx.note(f"calibrating on {samples} samples: there are no more than that")
    twin.eval()
    twin.calibrate(batches, bench.task.input_range())
    with twin.floating():
        figures = validation_figures(bench, twin, "float_validation_")
    return {"calibration_samples": samples, **figures, **validation_figures(bench, twin, "ptq_validation_")}


def calibration_batches(bench: Workbench, spec: QuantizeSpec) -> list[torch.Tensor]:
    """Returns the calibration set as network inputs."""
    inputs = calibration_inputs(bench.dataset, spec.calibration_samples, bench.recipe.seed)
    return [
        bench.task.inputs(inputs[start : start + CALIBRATION_BATCH]).to(bench.device)
        for start in range(0, len(inputs), CALIBRATION_BATCH)
    ]


def repair(bench: Workbench, twin: Twin, spec: QuantizeSpec, metrics: dict[str, Any]) -> bool:
    """Climbs the ladder of repairs, notes its rungs in `metrics`, and returns whether the accuracy fits."""
    limit = spec.max_drop_points or 0.0
    batches = calibration_batches(bench, spec)
    ladder = Ladder(twin, batches, yardstick(bench, twin, batches), bench.task.input_range(), seed=bench.recipe.seed)
    fits = ladder.climb(limit)
    metrics["rungs"] = [asdict(rung) for rung in ladder.rungs]
    for rung in ladder.rungs:
        bench.ctx.note(f"{rung.name}: {rung.drop_points:+.2f} points lost ({rung.detail})")
    if not fits and spec.escalate is None:
        bench.ctx.warn(
            f"No repair brings the loss of accuracy down to {limit:g} points: the best one loses "
            f"{min(rung.drop_points for rung in ladder.rungs):.2f}. QAT (`quantize.escalate: qat`) may."
        )
    return fits


def close_ladder(bench: Workbench, twin: Twin, spec: QuantizeSpec, metrics: dict[str, Any]) -> None:
    """Notes what training brought as the ladder's last rung."""
    twin.eval()
    accuracy = yardstick(bench, twin, calibration_batches(bench, spec))()
    drop = metrics["rungs"][0]["accuracy"] + metrics["rungs"][0]["drop_points"] - accuracy
    metrics["rungs"].append(
        {"name": "qat", "accuracy": accuracy, "drop_points": drop, "detail": f"{spec.train.epochs} epochs of training"}
    )
    if drop > (spec.max_drop_points or 0.0):
        bench.ctx.warn(f"After QAT the result still loses {drop:.2f} points, {spec.max_drop_points:g} were asked for.")


def yardstick(bench: Workbench, twin: Twin, batches: list[torch.Tensor]) -> Callable[[], float]:
    """Returns what tells the twin's accuracy on validation, or how often it agrees with the float model without one."""
    if len(bench.dataset.validation):
        return lambda: validation_figures(bench, twin, "")["accuracy"]
    with torch.no_grad(), twin.floating():
        answers = torch.cat([twin(batch) for batch in batches]).argmax(1)

    def agreement() -> float:
        with torch.no_grad():
            found = torch.cat([twin(batch) for batch in batches]).argmax(1)
        return 100.0 * float((found == answers).float().mean())

    return agreement


def train(bench: Workbench, twin: Twin, spec: QuantizeSpec, metrics: dict[str, Any]) -> list[dict[str, Any]]:
    """Trains the twin with fake quantization: zeros of a sparse model stay, ranges follow the weights, then freeze."""
    sparse = bench.recipe.prune is not None and bench.recipe.prune.method == "unstructured"
    if sparse:
        twin.hold_zeros()

    def at_progress(progress: float) -> None:
        twin.track_ranges(RANGE_MOMENTUM if progress < TRACKING_SHARE else None)

    def after_step(_optimizer: torch.optim.Optimizer) -> None:
        twin.apply_masks()

    lesson = bench.lesson(learn=spec.learn_from_teacher)
    metrics["distilled"] = lesson.teacher is not None
    try:
        return fit(
            twin,
            spec.train,
            bench.task,
            bench.ctx,
            lesson=lesson,
            device=bench.device,
            name="quantize",
            after_step=after_step if sparse else None,
            at_progress=at_progress,
        )
    finally:
        twin.track_ranges(None)
