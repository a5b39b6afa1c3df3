"""The gate: the shipped flatbuffer is held against its twin, answer by answer and layer by layer."""

from __future__ import annotations

import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

from edgecompress.errors import ModelError, ResourceError
from edgecompress.figures import ACCURACY, answer_noun, figure_text, judged
from edgecompress.quantization.proof.compare import (
    SAME_STEPS,
    Agreement,
    LayerDifference,
    compare_answers,
    compare_layers,
    first_difference,
)
from edgecompress.quantization.twin.twin import Twin
from edgecompress.stages.base import Workbench
from edgecompress.stages.verifying.apart import SCORING_BATCH, kept_tensors_apart, outputs_apart
from edgecompress.tflite.facts.kernels import wrong_operators
from edgecompress.tflite.format.flatbuffer import read_content, read_model
from edgecompress.tflite.runtime.plain import kept_tensors
from edgecompress.tflite.runtime.runtimes import RUNTIMES
from edgecompress.tflite.runtime.session import dequantize_output, quantize_input
from edgecompress.training.evaluate import outputs_of
from edgecompress.wording import counted

#: The flatbuffer must give its twin's answer on at least this share of the samples, in percent: all of them, and those
#: whose two largest outputs in the twin differ by more than one step. Accuracies then lie within 0.2 points as well.
TWIN_GATE = 99.8
CLEAR_GATE = 99.9
#: Outputs that are numbers, not choices, must lie within this many steps of the twin's, but for one in a thousand.
NUMBER_STEPS = SAME_STEPS
#: Tasks whose outputs are numbers, and those whose answers are often open.
NUMBERS, OPEN = ("regression", "anomaly-detection"), ("language-modeling",)
#: Where the test split is smaller, samples it is not scored on make up for it: a single one must not decide.
GATE_SAMPLES = 5000
#: Test samples on which every layer is compared.
LAYER_SAMPLES = 16
#: Runtimes that may give a second opinion, and what theirs is called: the first whose kernels are right is asked.
SECOND_OPINIONS = {"tensorflow": "TensorFlow's reference kernels", "tflite-micro": "tflite-micro's kernels"}
#: Test samples for the second opinion: the reference kernels are slow.
SECOND_SAMPLES = 500
#: The twin may be this many times as far from the flatbuffer as another runtime's own kernels are.
NOISE_MARGIN = 1.5


def score(bench: Workbench, path: Path, *, runtime: str = "litert", samples: int | None = None) -> NDArray[np.float32]:
    """Returns the flatbuffer's outputs over the test split (or its first samples), as real numbers: (N, ...)."""
    return outputs_of_flatbuffer(bench, path, bench.dataset.test.inputs[:samples], runtime)


def outputs_of_flatbuffer(
    bench: Workbench, path: Path, inputs: NDArray[Any], runtime: str = "litert"
) -> NDArray[np.float32]:
    """Returns the flatbuffer's outputs for raw inputs, as real numbers: (N, ...)."""
    threads = max(bench.recipe.benchmark.threads, 1)
    if bench.apart or RUNTIMES[runtime].isolated:
        return outputs_apart(bench, path, inputs, runtime, threads)
    session = RUNTIMES[runtime].session(path, threads=threads)
    parts = [np.zeros((0, *bench.dataset.outputs), np.float32)]
    for start in range(0, len(inputs), SCORING_BATCH):
        x = bench.task.to_flatbuffer(bench.task.inputs(inputs[start : start + SCORING_BATCH]))
        raw = session.run(quantize_input(x, session.input))
        parts.append(dequantize_output(raw, session.output))
        bench.ctx.progress(min(start + SCORING_BATCH, len(inputs)), len(inputs), "samples")
    return np.concatenate(parts)


def second_opinion(
    bench: Workbench, path: Path, model: schema.ModelT, outputs: NDArray[np.float32], step: float
) -> tuple[str, Agreement] | None:
    """Returns whose kernels are an independent measure of the flatbuffer, and how far LiteRT's answers are from theirs.

    None where there are none: each that cannot be asked is said. Kernels that compute an operator of the file wrongly
    would make LiteRT's answers, or the twin's, look as far off as they are themselves.
    """
    for runtime, kernels in SECOND_OPINIONS.items():
        wrong = wrong_operators(model, runtime)
        if wrong:
            ops = dict.fromkeys(one.kernel.op for one in wrong)
            bench.ctx.note(f"no second opinion by {kernels}: they compute {', '.join(ops)} wrongly (docs/kernels.md)")
            continue
        try:
            other = score(bench, path, runtime=runtime, samples=SECOND_SAMPLES)
        except (ModelError, ResourceError) as error:  # not installed, or no such kernels
            bench.ctx.note(f"no second opinion by {kernels}: {error}")
            continue
        return kernels, compare_answers(outputs[:SECOND_SAMPLES], other, step, chooses=bench.task.chooses)
    return None


def spare_inputs(bench: Workbench) -> NDArray[Any]:
    """Returns raw inputs beside the test split on which flatbuffer and twin are compared, up to GATE_SAMPLES in all."""
    found = _pools(bench)
    return np.concatenate(found)[: _wanted(bench)] if found else bench.dataset.test.inputs[:0]


def compared_samples(bench: Workbench) -> int:
    """Returns on how many samples flatbuffer and twin are compared."""
    return len(bench.dataset.test) + min(sum(map(len, _pools(bench))), _wanted(bench))


def _pools(bench: Workbench) -> list[NDArray[Any]]:
    data = bench.dataset
    pools = [data.validation.inputs, data.train.inputs if len(data.train) else data.calibration]
    return [pool for pool in pools if pool is not None and len(pool)]


def _wanted(bench: Workbench) -> int:
    # A language model gives an answer for each token of a sample.
    answers = math.prod(bench.dataset.outputs[:-1]) if bench.task.chooses else 1
    return max(-(-GATE_SAMPLES // answers) - len(bench.dataset.test), 0)


def check_twin(
    bench: Workbench, twin: Twin, path: Path, outputs: NDArray[np.float32], reasons: list[str]
) -> dict[str, Any]:
    """Holds the flatbuffer against its twin; what fails is added to `reasons`."""
    split, spare, chooses = bench.dataset.test, spare_inputs(bench), bench.task.chooses
    twin.to(bench.device)
    with torch.no_grad(), twin.settled():
        expected, beside = (outputs_of(twin, bench.task, inputs, bench.device) for inputs in (split.inputs, spare))
    group = twin.group_of.get(twin.graph.output)
    # A float output has no steps: they are counted as if it were INT8.
    step = twin.groups[group].scale if group is not None else max(float(np.ptp(expected)), 1e-12) / 255
    pairs = [(outputs, outputs_of_flatbuffer(bench, path, spare)), (expected, beside)]
    both = [np.concatenate(pair) if len(spare) else pair[0] for pair in pairs]
    answers = compare_answers(both[0], both[1], step, chooses=chooses)
    twin.to("cpu")
    samples, model = bench.task.to_flatbuffer(bench.task.inputs(split.inputs[:LAYER_SAMPLES])), read_model(path)
    try:
        keeper = kept_tensors_apart if bench.apart else kept_tensors
        layers = compare_layers(twin, model, read_content(path), samples, keeper)
    except ValueError as error:
        reasons.append(f"the flatbuffer is not built as its twin: {error}")
        layers = []
    first = first_difference(layers)
    second = None
    if not fits(answers, bench.task.name) and layers and first is None:
        second = second_opinion(bench, path, model, outputs, step)
    _judge(bench, answers, second, layers, first, reasons)
    figures = [bench.task.metrics(found, split) for found in (outputs, expected)]
    if bench.task.name in (*NUMBERS, *OPEN) and second is None:
        reasons += figure_reasons(bench, figures[0], figures[1], step)
    return {
        "second_opinion": None if second is None else asdict(second[1]),
        "twin": {**asdict(answers), "accuracy": figures[1].get(ACCURACY.key), "metrics": figures[1]},
        "layers": [{**asdict(layer), "differs": layer.differs} for layer in layers],
        "first_differing_layer": first.layer if first is not None else None,
    }


def fits(answers: Agreement, task: str = "image-classification") -> bool:
    """Returns whether the flatbuffer gives its twin's answers as often as it must; numbers are to be within steps.

    What follows in a text is often open: one token in ten is undecided by less than a step, and rounding decides. Of a
    language model the others count, and its perplexity.
    """
    if task in NUMBERS:
        return answers.p999_steps <= NUMBER_STEPS
    return answers.clear_same >= CLEAR_GATE and (answers.same >= TWIN_GATE or task in OPEN)


def answers_in_words(bench: Workbench, answers: Agreement) -> str:
    """Returns how many answers are the twin's: `99.90 % of 5,000 samples`; of numbers, to two steps."""
    if not bench.task.chooses:
        return f"{answers.same:.2f} % of the numbers for {counted(answers.samples, 'sample')}, to two steps,"
    return f"{answers.same:.2f} % of {counted(answers.samples, answer_noun(bench.task.name))}"


def figure_reasons(bench: Workbench, ours: dict[str, float], theirs: dict[str, float], step: float) -> list[str]:
    """Returns why the flatbuffer's main figure is not its twin's, where that is more than rounding does to it."""
    found, expected = judged(bench.task.name, ours), judged(bench.task.name, theirs)
    if found is None or expected is None:
        return []
    (figure, value), (_, reference) = found, expected
    allowed = bench.task.tolerance(bench.dataset.test, reference, step)
    if abs(value - reference) <= allowed:
        return []
    shown = [figure_text(figure, one) for one in (value, reference)]
    told = f"the flatbuffer's {figure.label} is {shown[0]} and its twin's {shown[1]}"
    return [f"{told}, which differ by more than rounding explains ({allowed:.3g})"]


def _judge(
    bench: Workbench,
    answers: Agreement,
    second: tuple[str, Agreement] | None,
    layers: list[LayerDifference],
    first: LayerDifference | None,
    reasons: list[str],
) -> None:
    chooses = bench.task.chooses
    same = answers_in_words(bench, answers)
    if chooses and (answers.same >= TWIN_GATE or bench.task.name in OPEN):
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
    if second is not None and answers.mean_steps <= NOISE_MARGIN * second[1].mean_steps:
        # Every operator computes what the twin computes, and two correct sets of kernels fall apart just as far: the
        # model amplifies the last step of rounding, as deep networks with random weights do.
        bench.ctx.warn(
            f"The flatbuffer gives its twin's answer on {same} only. No operator is at fault: on {second[0]} the same "
            f"file gives LiteRT's answer on {second[1].same:.2f} %. This model amplifies rounding so much that its "
            "answers depend on the device."
        )
    elif not fits(answers, bench.task.name):
        needed = f"{TWIN_GATE:g} % ({CLEAR_GATE:g} % of the clear ones)" if chooses else "99.9 %"
        if bench.task.name in OPEN:
            needed = f"{CLEAR_GATE:g} % of the clear ones"
        reasons.append(f"the flatbuffer gives its twin's answer on {same}, {needed} are needed: {where}")
    elif first is not None and first.weights_differ:
        reasons.append(f"the flatbuffer holds other weights or scales than its twin: {where}")
    elif first is not None:
        bench.ctx.warn(
            f"Layer {first.layer} ({first.op}) differs from its twin by up to {first.max_steps:.1f} steps; "
            f"the answers agree on {same}."
        )
