"""The model of one step beside that of the whole sequence (`export.streaming`), and the proof that both give the same.

The whole sequence is what is trained, calibrated, scored and verified; the step has its integers and is measured
against it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edgecompress.errors import ModelError
from edgecompress.models.built_in.recurrent import OneStep, Unrolled
from edgecompress.models.conversion import converted_form
from edgecompress.quantization.structure.cells import find_cells, hand_on_floats
from edgecompress.quantization.structure.scheme import Scheme
from edgecompress.quantization.structure.stepping import take_integers
from edgecompress.quantization.structure.structure import quantized_structure
from edgecompress.recipe.steps import final_stage
from edgecompress.stages.base import MODEL, Workbench, flatbuffer_of, labels_of
from edgecompress.stages.quantizing.twins import LABELS, QUANTIZED
from edgecompress.store.files import write_bytes
from edgecompress.tflite.format.convert import convert_inputs
from edgecompress.tflite.format.finish import finish
from edgecompress.tflite.format.flatbuffer import read_model
from edgecompress.tflite.format.labels import operator_labels
from edgecompress.tflite.runtime.runtimes import RUNTIMES
from edgecompress.tflite.runtime.session import Session, dequantize_output, quantize_input, run_steps

#: The flatbuffer of one step, state in and out.
STEP = "model_step.tflite"
#: Test samples that are streamed.
SAMPLES = 64
#: Largest difference of float32 models, whose sums are not in one order.
FLOAT_DIFFERENCE = 1e-4


def write_step(bench: Workbench, work: Path) -> dict[str, Any]:
    """Writes the flatbuffer of one step and returns its size and how much state it hands on.

    Raises:
        ModelError: The network has no steps that can be streamed.
    """
    step, model, labels = _converted(bench, work)
    if bench.recipe.quantize is not None:
        quantized = bench.results["quantize"]
        whole = read_model(flatbuffer_of(quantized, QUANTIZED))
        take_integers(model, labels, whole, labels_of(quantized, LABELS))
    content, _ = finish(model, labels, bench.recipe.io if bench.recipe.quantize is not None else "float32")
    write_bytes(work / STEP, content)
    return {"file": STEP, "size_bytes": len(content), "states": step.states, "state_values": step.states * step.units}


def _converted(bench: Workbench, work: Path) -> tuple[OneStep, schema.ModelT, list[str]]:
    """Returns the module of one step, its flatbuffer in the recipe's types, and the operators' layers."""
    unrolled = converted_form(bench.load(final_stage(bench.recipe)))
    if not isinstance(unrolled, Unrolled) or unrolled.embed is not None or unrolled.each:
        raise ModelError(
            f"model {bench.recipe.compressed.model} cannot be streamed: export.streaming is for `gru` and `lstm` over "
            "series with one answer for all steps. Remove it, or choose such a student."
        )
    if bench.dataset.input_shape[0] < 2:  # noqa: PLR2004 - a step behind another
        raise ModelError(
            "export.streaming: the series have one step, so there is nothing to hand on and model.tflite is the model "
            "of one step already. Remove it, or give longer series."
        )
    step, path = OneStep(unrolled), work / "step.tflite"
    convert_inputs(step, step.example(bench.dataset.input_shape[-1]), path)
    content = path.read_bytes()
    path.unlink()
    spec = bench.recipe.quantize
    if spec is not None:
        scheme = Scheme(spec.weights, spec.activations)
        if bench.recipe.float_cells:
            floating = read_model(content)
            scheme = find_cells(floating, operator_labels(floating, step)).scheme(scheme)
        content = quantized_structure(content, scheme)
    model = read_model(content)
    if spec is not None and bench.recipe.float_cells:
        hand_on_floats(model)
    return step, model, operator_labels(model, step)


def check_step(bench: Workbench, reasons: list[str]) -> dict[str, Any] | None:
    """Returns how the step, repeated over test samples, compares with the whole sequence; None without streaming.

    What does not hold is added to `reasons`: integers must be equal to the bit.
    """
    if not bench.recipe.export.streaming:
        return None
    exported = bench.results["export"]
    whole, one = (RUNTIMES["litert"].session(flatbuffer_of(exported, name)) for name in (MODEL, STEP))
    inputs = bench.task.to_flatbuffer(bench.task.inputs(bench.dataset.test.inputs[:SAMPLES]))
    series = quantize_input(inputs, whole.input)
    expected, streamed = whole.run(series), run_steps(one, series)
    difference = np.abs(_real(whole, expected) - _real(one, streamed))
    equal = 100.0 * float((expected == streamed).all(axis=tuple(range(1, expected.ndim))).mean())
    figures = {"samples": len(series), "equal": equal, "max_difference": float(difference.max())}
    integers = bench.recipe.quantize is not None
    if (integers and equal < 100.0) or figures["max_difference"] > FLOAT_DIFFERENCE:  # noqa: PLR2004 - percent
        reasons.append(
            f"{STEP}, repeated over {figures['samples']} test samples, gives the answer of {MODEL} on {equal:.2f} % "
            f"only (up to {figures['max_difference']:.3g} apart)"
        )
    return {**exported.metrics["streaming"], **figures}


def _real(session: Session, raw: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return dequantize_output(raw, session.outputs[0])
