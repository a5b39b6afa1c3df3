"""Stage quantize: the INT8 graph, its ranges and weights, by calibration (PTQ) or by training (QAT)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from edgecompress.data.base import Split
from edgecompress.data.splits import calibration_inputs, calibration_samples
from edgecompress.errors import ModelError
from edgecompress.figures import ACCURACY, AGREEMENT
from edgecompress.quantization.grids.readers import MOST_OUTPUTS, cut_outputs, output_floor
from edgecompress.quantization.repairs.clustering import CodebookSchedule, fit_codebooks
from edgecompress.quantization.repairs.ladder import Built, Ladder, Rung, Widening
from edgecompress.quantization.repairs.settling import settle
from edgecompress.quantization.structure.scheme import Scheme
from edgecompress.quantization.twin.twin import Twin
from edgecompress.recipe.schema import QuantizeSpec
from edgecompress.recipe.steps import final_stage
from edgecompress.stages.base import CURVE, Workbench, validation_figures
from edgecompress.stages.quantizing.building import pace, readied, structured
from edgecompress.stages.quantizing.floating import norms_of, parts_of, told, with_floats
from edgecompress.stages.quantizing.judge import Judge, judge_of
from edgecompress.stages.quantizing.twins import TwinRanges, save_twin
from edgecompress.store.files import write_json
from edgecompress.tflite.format.flatbuffer import read_content, read_model
from edgecompress.training.evaluate import outputs_of
from edgecompress.training.fit import fit
from edgecompress.wording import counted

CALIBRATION_BATCH = 64
#: Activation ranges follow the weights through this share of QAT, then freeze, so that the end trains what is shipped.
TRACKING_SHARE = 0.6
RANGE_MOMENTUM = 0.02
#: Validation samples on which estimators of ranges are compared and the layers' sensitivity is measured.
TRIAL_SAMPLES = 512


def run(bench: Workbench, work: Path) -> dict[str, Any]:
    """Builds the twin of the model's INT8 graph, calibrates it, trains it if asked, and writes the INT8 flatbuffer."""
    spec = bench.recipe.quantize
    if spec is None:
        raise ModelError("the recipe has no quantize block")
    scheme = Scheme(spec.weights, spec.activations, wide_output=bench.recipe.io == "float32")
    parts = parts_of(bench)
    scheme = with_floats(scheme, parts)
    model = build(bench, scheme)
    metrics = calibrate(bench, model.twin, spec) | told(bench, parts)
    curve: list[dict[str, Any]] = []
    judge: Judge | None = None
    enough = True
    if spec.clusters is not None:
        fit_codebooks(model.twin, spec.clusters)
        metrics |= validation_figures(bench, model.twin, "clustered_validation_")
    if spec.max_drop_points is not None:
        judge = judge_for(bench, model.twin, calibration_batches(bench, spec))
        enough, model = repair(bench, model, scheme, spec, judge, metrics)
    if spec.mode == "qat" or (not enough and spec.escalate == "qat"):
        curve = train(bench, model.twin, spec, metrics)
        if judge is not None:
            close_ladder(bench, model.twin, spec, judge, metrics, epochs=len(curve))
    twin = model.twin.eval()
    if spec.portable:
        settle(twin)
    metrics |= {"mode": spec.mode, "weights": spec.weights, "activations": spec.activations, "portable": spec.portable}
    metrics["pace"] = pace(spec, bench.recipe.benchmark.runtimes[0])
    metrics |= validation_figures(bench, twin)
    save_twin(twin.to("cpu"), model.structure, model.labels, work)
    write_json(work / CURVE, curve)
    return metrics


def build(bench: Workbench, scheme: Scheme) -> Built:
    """Returns the quantized model of a scheme, its ranges not calibrated."""
    stage = final_stage(bench.recipe)
    spec = bench.recipe.quantize
    portable = spec is not None and spec.portable
    built = structured(floats_of(bench), bench.load(stage), scheme, portable=portable)
    twin = built.twin.to(bench.device)
    if spec is not None and twin.groups and bench.task.chooses:
        inputs, classes = calibration_samples(bench.dataset, spec.calibration_samples, bench.recipe.seed)
        outputs, classes = float_outputs(twin, network_inputs(bench, inputs), classes)
        cut_outputs(twin.graph, twin.groups, twin.group_of, output_floor(outputs, classes))
    return built


def floats_of(bench: Workbench) -> bytes:
    """Returns the float32 flatbuffer as it is quantized."""
    floating, spec = read_content(bench.float_flatbuffer(final_stage(bench.recipe))), bench.recipe.quantize
    return floating if spec is None else readied(floating, pace(spec, bench.recipe.benchmark.runtimes[0]))


@torch.no_grad()
def float_outputs(
    twin: Twin, batches: list[torch.Tensor], classes: NDArray[np.int64] | None = None
) -> tuple[NDArray[np.float32], NDArray[np.int64] | None]:
    """Returns (answers, classes) of the float model, and the answers' own classes; of many no more than a sample."""
    found, own, start = [], [], 0
    with twin.floating():
        for batch in batches:
            outputs = twin(batch)
            rows = outputs.reshape(-1, outputs.shape[-1])
            # All of a language model's would be gigabytes, where there are many tokens to choose from.
            step = max(rows.numel() * len(batches) // MOST_OUTPUTS, 1)
            found.append(rows[::step].float().cpu())
            if classes is not None:
                own.append(classes[start : start + len(batch)][::step])
            start += len(batch)
    return torch.cat(found).numpy(), np.concatenate(own) if classes is not None else None


def calibrate(bench: Workbench, twin: Twin, spec: QuantizeSpec) -> dict[str, Any]:
    """Sets the twin's ranges, where it has any, from the calibration set and returns the figures of plain PTQ."""
    twin.eval()
    used: dict[str, Any] = {}
    if twin.groups:
        batches = calibration_batches(bench, spec)
        used["calibration_samples"] = samples = sum(len(batch) for batch in batches)
        if samples < spec.calibration_samples:
            bench.ctx.note(f"calibrating on {counted(samples, 'sample')}: there are no more than that")
        twin.calibrate(batches, bench.task.input_range())
    with twin.floating():
        figures = validation_figures(bench, twin, "float_validation_")
    return {**used, **figures, **validation_figures(bench, twin, "ptq_validation_")}


def calibration_batches(bench: Workbench, spec: QuantizeSpec) -> list[torch.Tensor]:
    """Returns the calibration set as network inputs."""
    return network_inputs(bench, calibration_inputs(bench.dataset, spec.calibration_samples, bench.recipe.seed))


def network_inputs(bench: Workbench, inputs: NDArray[Any]) -> list[torch.Tensor]:
    """Returns raw inputs as batches of network inputs."""
    return [
        bench.task.inputs(inputs[start : start + CALIBRATION_BATCH]).to(bench.device)
        for start in range(0, len(inputs), CALIBRATION_BATCH)
    ]


def repair(
    bench: Workbench, model: Built, scheme: Scheme, spec: QuantizeSpec, judge: Judge, metrics: dict[str, Any]
) -> tuple[bool, Built]:
    """Climbs the ladder of repairs and notes its rungs in `metrics`.

    Returns:
        Whether what is lost fits, and the model as the ladder left it.
    """
    limit = spec.max_drop_points or 0.0
    batches = calibration_batches(bench, spec)
    ladder = Ladder(
        model,
        batches,
        lambda twin: judge.score(judged_outputs(bench, twin, batches)),
        bench.task.input_range(),
        seed=bench.recipe.seed,
        widening=widening(bench, model.twin, scheme, spec, batches),
        trial=trial_inputs(bench, batches)[1],
    )
    fits = ladder.climb(limit)
    metrics["rungs"] = [rung_document(rung, judge) for rung in ladder.rungs]
    unit = judge.figure.loss_unit
    for rung in ladder.rungs:
        bench.ctx.note(f"{rung.name}: {rung.drop_points:+.2f} {unit} lost ({rung.detail})")
    if ladder.wide is not None:
        metrics["wide_layers"] = list(ladder.wide.layers)
        metrics["wide_macs_share"] = ladder.wide.macs_share
    if not fits and spec.escalate is None:
        bench.ctx.warn(
            f"No repair brings the loss of {loss_of(judge)} down to {limit:g} {unit}: the best one loses "
            f"{min(rung.drop_points for rung in ladder.rungs):.2f}. {advice(spec)}"
        )
    return fits, ladder.model


def rung_document(rung: Rung, judge: Judge) -> dict[str, Any]:
    """Returns a rung as report.json has it: `accuracy` is that, or agreement; other figures are `value`."""
    known = judge.figure in (ACCURACY, AGREEMENT)
    named = {"accuracy": rung.accuracy} if known else {"accuracy": None, "value": judge.value(rung.accuracy)}
    return {"name": rung.name, **named, "drop_points": rung.drop_points, "detail": rung.detail}


def loss_of(judge: Judge) -> str:
    """Returns what is lost, in words."""
    return "accuracy" if judge.figure == AGREEMENT else judge.figure.label


def advice(spec: QuantizeSpec) -> str:
    """Returns what could still be tried where no repair sufficed."""
    wider = [kind for kind in ("int16", "float32") if kind not in (*spec.allow, spec.activations)]
    more = (
        f"Wider layers (`quantize.allow: [{', '.join(wider)}]`) or " if wider else "Wider layers beyond wide_macs or "
    )
    return f"{more}QAT (`quantize.escalate: qat`) may."


def widening(
    bench: Workbench, twin: Twin, scheme: Scheme, spec: QuantizeSpec, batches: list[torch.Tensor]
) -> Widening | None:
    """Returns what the ladder needs to keep layers wider, None where no wider type is allowed."""
    kinds = [kind for kind in ("int16", "float32") if kind in spec.allow and kind != scheme.activations]
    if not kinds:
        return None
    split, trial = trial_inputs(bench, batches)
    with torch.no_grad(), twin.floating():
        floating = torch.cat([twin(batch) for batch in trial]).cpu().numpy()
    judge = judge_of(bench.task, split, floating)
    return Widening(
        kinds=kinds,
        limit=spec.wide_macs,
        scheme=scheme,
        floating=read_model(floats_of(bench)),
        build=lambda chosen: build(bench, chosen),
        trial=trial,
        score=judge.score,
        norms=None if bench.recipe.float_norms else norms_of(bench),
    )


def trial_inputs(bench: Workbench, batches: list[torch.Tensor]) -> tuple[Split, list[torch.Tensor]]:
    """Returns the validation samples on which repairs are compared, and their inputs: else the calibration set's."""
    split = bench.dataset.validation.take(np.arange(min(TRIAL_SAMPLES, len(bench.dataset.validation))))
    return split, network_inputs(bench, split.inputs) if len(split) else batches


def close_ladder(
    bench: Workbench, twin: Twin, spec: QuantizeSpec, judge: Judge, metrics: dict[str, Any], *, epochs: int
) -> None:
    """Notes what training brought as the ladder's last rung."""
    twin.eval()
    score = judge.score(judged_outputs(bench, twin, calibration_batches(bench, spec)))
    drop = judge.best - score
    rung = Rung("qat", score, drop, f"{counted(epochs, 'epoch')} of training")
    metrics["rungs"].append(rung_document(rung, judge))
    if drop > (spec.max_drop_points or 0.0):
        asked = f"{spec.max_drop_points:g} were asked for"
        bench.ctx.warn(f"After QAT the result still loses {drop:.2f} {judge.figure.loss_unit}, {asked}.")


def judge_for(bench: Workbench, twin: Twin, batches: list[torch.Tensor]) -> Judge:
    """Returns what judges a twin's outputs for `judged_outputs`' samples."""
    with twin.floating():
        floating = judged_outputs(bench, twin, batches)
    return judge_of(bench.task, bench.dataset.validation, floating)


def judged_outputs(bench: Workbench, twin: Twin, batches: list[torch.Tensor]) -> NDArray[np.float32]:
    """Returns a twin's outputs for the validation split, or for the calibration set where there is none."""
    if len(bench.dataset.validation):
        return outputs_of(twin, bench.task, bench.dataset.validation.inputs, bench.device)
    with torch.no_grad():
        found: NDArray[np.float32] = torch.cat([twin(batch) for batch in batches]).float().cpu().numpy()
    return found


def train(bench: Workbench, twin: Twin, spec: QuantizeSpec, metrics: dict[str, Any]) -> list[dict[str, Any]]:
    """Trains the twin with fake quantization: zeros of a sparse model stay, ranges follow the weights, then freeze.

    Codebooks of clustered weights follow them as well, and freeze with the ranges.
    """
    sparse = bench.recipe.prune is not None and bench.recipe.prune.method == "unstructured"
    if sparse:
        twin.hold_zeros()

    learned = twin.learn_scales() if spec.ranges == "lsq" else None
    codebooks = CodebookSchedule(twin, spec.clusters, TRACKING_SHARE) if spec.clusters is not None else None
    settled = False

    def at_progress(progress: float) -> None:
        nonlocal settled
        if codebooks is not None:
            codebooks.at(progress)
        if learned is None:
            twin.track_ranges(RANGE_MOMENTUM if progress < TRACKING_SHARE else None)
        else:  # a training that has diverged may go back to where they were still learned
            twin.learned = learned if progress < TRACKING_SHARE else None
        if spec.portable and progress >= TRACKING_SHARE and not settled:
            settle(twin)  # now, so that what is left of the training makes up for it
        settled = progress >= TRACKING_SHARE

    def after_step(_optimizer: torch.optim.Optimizer) -> None:
        twin.apply_masks()
        if twin.learned is not None:
            twin.learned.store()

    lesson = bench.lesson(learn=spec.learn_from_teacher)
    metrics["distilled"] = lesson.teacher is not None
    try:
        return fit(
            twin,
            bench.training(spec.train, spec.habits, twin, "quantize"),
            bench.task,
            bench.ctx,
            lesson=lesson,
            device=bench.device,
            name="quantize",
            after_step=after_step,
            at_progress=at_progress,
            keeper=TwinRanges(twin),
        )
    finally:
        twin.track_ranges(None)
        twin.learned = None
