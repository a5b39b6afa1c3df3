"""Stage verify: the shipped flatbuffer is opened again, scored on the whole test split and held against its twin.

This is the only stage that reads the test split.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from compress.artifact import write_json
from compress.errors import ModelError, ResourceError
from compress.quantization.compare import Agreement, LayerDifference, compare_answers, compare_layers, first_difference
from compress.quantization.support import becomes_integer
from compress.quantization.twin import Twin
from compress.recipe import QuantizeSpec
from compress.stages.analysis import analyse_run
from compress.stages.base import MODEL, Workbench, final_stage, model_stages
from compress.stages.leakage import warn_of_leakage
from compress.stages.streaming import check_step
from compress.stages.twins import LABELS, load_twin
from compress.tflite.census import Census, NotInt8, census
from compress.tflite.flatbuffer import read_model, weight_zeros
from compress.tflite.runtimes import RUNTIMES
from compress.tflite.session import dequantize_output, quantize_input
from compress.tflite.weights import most_values
from compress.training.evaluate import outputs_of
from compress.wording import counted, verb

#: The flatbuffer must give its twin's answer on at least this share of the samples, in percent: all of them, and those
#: whose two largest outputs in the twin differ by more than one step. Accuracies then lie within 0.2 points as well.
TWIN_GATE = 99.8
CLEAR_GATE = 99.9
#: Where the test split is smaller, samples it is not scored on make up for it: a single one must not decide.
GATE_SAMPLES = 5000
#: Test samples on which every layer is compared.
LAYER_SAMPLES = 16
#: Test samples for the second opinion: the reference kernels are slow.
SECOND_SAMPLES = 500
#: The twin may be this many times as far from the flatbuffer as another runtime's own kernels are.
NOISE_MARGIN = 1.5
#: Operators that only turn one type into another.
CONVERSIONS = frozenset({"DEQUANTIZE", "QUANTIZE"})
PLOTS = "plots.json"
SCORING_BATCH = 256


def run(bench: Workbench, work: Path) -> dict[str, Any]:
    """Scores every model of the run on the test split and checks the flatbuffer; `passed` tells the verdict."""
    split = bench.dataset.test
    path = bench.results["export"].path(MODEL)
    model = read_model(path)
    answers = {
        row: outputs_of(bench.load(stage).to(bench.device), bench.task, split.inputs, bench.device)
        for row, stage in model_stages(bench.recipe)
    }
    floating = answers[model_stages(bench.recipe)[-1][0]]
    outputs = answers["quantized"] = score(bench, path)
    reference = next(iter(answers))
    rows = {
        row: {
            **bench.task.metrics(found, split.labels),
            "agreement_with_reference": bench.task.agreement(found, answers[reference]) if row != reference else None,
        }
        for row, found in answers.items()
    }
    rows["quantized"]["agreement_with_float"] = bench.task.agreement(outputs, floating)
    labels = json.loads(bench.results["export"].path(LABELS).read_text())
    spec = bench.recipe.quantize or QuantizeSpec()
    found = census(model, io=bench.recipe.io, labels=labels, activations=spec.activations, allow=spec.allow)
    metrics: dict[str, Any] = {
        "test_samples": len(split),
        "leaked_test_samples": warn_of_leakage(bench, outputs),
        "models": rows,
        "census": found.as_dict(),
        "data": data_summary(bench),
        **ends(path),
    }
    reasons: list[str] = []
    if bench.recipe.quantize is not None:
        twin = load_twin(bench.results["quantize"], bench.float_flatbuffer(final_stage(bench.recipe)))
        metrics |= check_twin(bench, twin, path, outputs, reasons)
        metrics["analysis"] = analyse_run(bench, twin)
        reasons += census_reasons(found, spec)
    if spec.clusters is not None:
        metrics["most_values"] = most_values(model)
        if metrics["most_values"] > spec.clusters:
            reasons.append(
                f"a weight tensor has {metrics['most_values']} values in the file, but {spec.clusters} at most were "
                "asked (quantize.clusters)"
            )
    metrics["streaming"] = check_step(bench, reasons)
    zeros = metrics["sparsity"] = sparsity(bench, path)
    if zeros is not None and zeros["zeros_in_file"] < zeros["masked_weights"]:
        kept, masked = zeros["zeros_in_file"], zeros["masked_weights"]
        reasons.append(
            f"only {counted(kept, 'weight')} {verb(kept, 'is', 'are')} zero in the file, but {masked:,} were masked"
        )
    write_json(work / PLOTS, bench.task.plots(outputs, split.labels))
    return {**metrics, "passed": not reasons, "reasons": reasons}


def census_reasons(found: Census, spec: QuantizeSpec) -> list[str]:
    """Returns what is not as the recipe asks and what can be done about it; conversions only where they stand alone.

    An operator in float has them around it, and they go with it.
    """
    blamed = [item for item in found.not_int8 if item.op not in CONVERSIONS] or found.not_int8
    return [f"{item.op} (layer {item.layer}) holds {item.dtype}: {item.why}. {way_out(item, spec)}" for item in blamed]


def way_out(item: NotInt8, spec: QuantizeSpec) -> str:
    """Returns what can be done about an operator that does not have the types it should; only what helps for this one.

    Another choice of activations helps where the operator has a kernel for it, `allow` for the types it can name, and
    for those only where activations are integers at all.
    """
    static: dict[str, Literal["int8", "int16"]] = {"int8": "int8", "int16": "int16"}
    meant = static.get(spec.activations)
    if meant is None:
        return f"Build the layer from other operators than {item.op}"
    if meant == "int16" and becomes_integer(item.op, "int8"):
        first = f"{item.op} has an INT8 kernel but none for INT16: use `quantize.activations: int8`"
    elif becomes_integer(item.op, meant):
        first = f"{item.op} has an {meant.upper()} kernel, but not for what it gets here: build the layer otherwise"
    else:
        first = f"{item.op} has no {meant.upper()} kernel: build the layer from operators that have one"
    return f"{first}, or allow it by `quantize.allow: [{item.dtype}]`" if item.dtype in ("int16", "float32") else first


def data_summary(bench: Workbench) -> dict[str, Any]:
    """Returns what the report says of the data."""
    dataset, normalization = bench.dataset, bench.dataset.normalization
    return {
        "source": dataset.name,
        "train": len(dataset.train),
        "validation": len(dataset.validation),
        "test": len(dataset.test),
        "classes": list(dataset.class_names),
        "input_shape": list(dataset.input_shape),
        "value_scale": normalization.value_scale,
        "mean": list(normalization.mean),
        "std": list(normalization.std),
        "origin": normalization.origin,
        "notes": list(dataset.notes),
    }


def ends(path: Path) -> dict[str, Any]:
    """Returns the flatbuffer's input and output as the file has them."""
    session = RUNTIMES["litert"].session(path, threads=1)
    return {
        end: {
            "dtype": str(details.dtype),
            "shape": list(details.shape),
            "scale": details.scale if details.quantized else None,
            "zero_point": details.zero_point if details.quantized else None,
        }
        for end, details in (("input", session.input), ("output", session.output))
    }


def score(bench: Workbench, path: Path, *, runtime: str = "litert", samples: int | None = None) -> NDArray[np.float32]:
    """Returns the flatbuffer's outputs over the test split (or its first samples), as real numbers: (N, classes)."""
    return outputs_of_flatbuffer(bench, path, bench.dataset.test.inputs[:samples], runtime)


def outputs_of_flatbuffer(
    bench: Workbench, path: Path, inputs: NDArray[Any], runtime: str = "litert"
) -> NDArray[np.float32]:
    """Returns the flatbuffer's outputs for raw inputs, as real numbers: (N, classes)."""
    session = RUNTIMES[runtime].session(path, threads=max(bench.recipe.benchmark.threads, 1))
    parts = [np.zeros((0, *bench.dataset.outputs), np.float32)]
    for start in range(0, len(inputs), SCORING_BATCH):
        x = bench.task.to_flatbuffer(bench.task.inputs(inputs[start : start + SCORING_BATCH]))
        raw = session.run(quantize_input(x, session.input))
        parts.append(dequantize_output(raw, session.output))
        bench.ctx.progress(min(start + SCORING_BATCH, len(inputs)), len(inputs), "samples")
    return np.concatenate(parts)


def spare_inputs(bench: Workbench) -> NDArray[Any]:
    """Returns raw inputs beside the test split on which flatbuffer and twin are compared, up to GATE_SAMPLES in all."""
    data = bench.dataset
    pools = [data.validation.inputs, data.train.inputs if len(data.train) else data.calibration]
    found = [pool for pool in pools if pool is not None and len(pool)]
    wanted = max(GATE_SAMPLES - len(data.test), 0)
    return np.concatenate(found)[:wanted] if found else data.test.inputs[:0]


def check_twin(
    bench: Workbench, twin: Twin, path: Path, outputs: NDArray[np.float32], reasons: list[str]
) -> dict[str, Any]:
    """Holds the flatbuffer against its twin; what fails is added to `reasons`."""
    split = bench.dataset.test
    expected = outputs_of(twin.to(bench.device), bench.task, split.inputs, bench.device)
    group = twin.group_of.get(twin.graph.output)
    # A float output has no steps: they are counted as if it were INT8.
    step = twin.groups[group].scale if group is not None else max(float(np.ptp(expected)), 1e-12) / 255
    spare = spare_inputs(bench)
    answers = compare_answers(
        np.concatenate([outputs, outputs_of_flatbuffer(bench, path, spare)]),
        np.concatenate([expected, outputs_of(twin, bench.task, spare, bench.device)]),
        step,
    )
    twin.to("cpu")
    samples = bench.task.to_flatbuffer(bench.task.inputs(split.inputs[:LAYER_SAMPLES]))
    try:
        layers = compare_layers(twin, read_model(path), path.read_bytes(), samples)
    except ValueError as error:
        reasons.append(f"the flatbuffer is not built as its twin: {error}")
        layers = []
    first = first_difference(layers)
    second = None
    if not fits(answers) and layers and first is None:
        try:
            other = score(bench, path, runtime="tensorflow", samples=SECOND_SAMPLES)
            second = compare_answers(outputs[:SECOND_SAMPLES], other, step)
        except (ModelError, ResourceError) as error:  # not installed, or no such kernels: LiteRT's answers stand alone
            bench.ctx.note(f"no second opinion: {error}")
    _judge(bench, answers, second, layers, first, reasons)
    return {
        "second_opinion": None if second is None else asdict(second),
        "twin": {**asdict(answers), "accuracy": bench.task.metrics(expected, split.labels)["accuracy"]},
        "layers": [{**asdict(layer), "differs": layer.differs} for layer in layers],
        "first_differing_layer": first.layer if first is not None else None,
    }


def fits(answers: Agreement) -> bool:
    """Returns whether the flatbuffer gives its twin's answers as often as it must."""
    return answers.same >= TWIN_GATE and answers.clear_same >= CLEAR_GATE


def _judge(
    bench: Workbench,
    answers: Agreement,
    second: Agreement | None,
    layers: list[LayerDifference],
    first: LayerDifference | None,
    reasons: list[str],
) -> None:
    same = f"{answers.same:.2f} % of {counted(answers.samples, 'sample')}"
    if answers.same >= TWIN_GATE:
        same += f" ({answers.clear_same:.2f} % of those with a clear answer)"
    if first is not None:
        where = f"the first layer that differs is {first.layer} ({first.op})"
    elif layers:
        worst = max(layers, key=lambda layer: layer.mean_steps)
        where = (
            f"no single layer is at fault; the largest difference is at {worst.layer} ({worst.op}), "
            f"{worst.mean_steps:.2f} steps on average"
        )
    else:
        where = "the layers could not be compared"
    if second is not None and answers.mean_steps <= NOISE_MARGIN * second.mean_steps:
        # Every operator computes what the twin computes, and two correct sets of kernels fall apart just as far: the
        # model amplifies the last step of rounding, as deep networks with random weights do.
        bench.ctx.warn(
            f"The flatbuffer gives its twin's answer on {same} only. No operator is at fault: on TensorFlow's "
            f"reference kernels the same file gives LiteRT's answer on {second.same:.2f} %. This model amplifies "
            "rounding so much that its answers depend on the device."
        )
    elif not fits(answers):
        needed = f"{TWIN_GATE:g} % ({CLEAR_GATE:g} % of the clear ones) are needed"
        reasons.append(f"the flatbuffer gives its twin's answer on {same}, {needed}: {where}")
    elif first is not None and first.weights_differ:
        reasons.append(f"the flatbuffer holds other weights or scales than its twin: {where}")
    elif first is not None:
        bench.ctx.warn(
            f"Layer {first.layer} ({first.op}) differs from its twin by up to {first.max_steps:.1f} steps; "
            f"the answers agree on {same}."
        )


def sparsity(bench: Workbench, path: Path) -> dict[str, Any] | None:
    """Returns the zeros of the shipped weights beside the masked ones, None where nothing was masked."""
    prune = bench.recipe.prune
    if prune is None or prune.method != "unstructured":
        return None
    figures = bench.results["prune"].metrics
    zeros, total = weight_zeros(read_model(path))
    return {
        "masked_weights": figures["masked_weights"],
        "prunable_weights": figures["prunable_weights"],
        "zeros_in_file": zeros,
        "weights_in_file": total,
        "zeros_from_rounding": max(zeros - figures["masked_weights"], 0),
        "share": zeros / max(total, 1),
    }
