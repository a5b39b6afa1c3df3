"""Where LiteRT and the reference kernels part, and what it would cost to keep them together.

    python -m benchmarks.runtimes.requantization runs/fashion-mnist-qat/model.tflite \
        --recipe recipes/fashion-mnist-qat.yaml

A kernel multiplies its INT32 sums by a real number and rounds. XNNPACK (LiteRT) does so in float, ties to even; the
reference kernels round twice, in fixed point. A file's weights are therefore also stored otherwise here: with
multipliers just below a power of two, with even weights and odd biases, with both. One row per (file and way).
"""

from __future__ import annotations

import argparse
import copy
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from numpy.typing import NDArray

from benchmarks.table import RESULTS, Table
from edgecompress.data.loading import load_dataset
from edgecompress.quantization.graph.exchange import replace_values, set_quantization
from edgecompress.recipe.reading.load import load_recipe
from edgecompress.tasks.making import make_task
from edgecompress.tflite.format.flatbuffer import read_model
from edgecompress.tflite.format.packing import pack
from edgecompress.tflite.format.views import WEIGHTED_OPS, op_name, tensor_array
from edgecompress.tflite.runtime.runtimes import RUNTIMES
from edgecompress.tflite.runtime.session import dequantize_output, quantize_input

#: Way of storing -> whether multipliers lie just below powers of two, and what weights are multiples of.
WAYS = {"as shipped": (False, 1), "multipliers": (True, 1), "even weights": (False, 2), "both": (True, 2)}
COLUMNS = ("test_accuracy", "snr_db", "same_answer", "equal_outputs", "equal_in_convolutions", "equal_elsewhere")
KERNELS = (OpResolverType.AUTO, OpResolverType.BUILTIN_REF)


def stored_otherwise(model: schema.ModelT, *, powers: bool, multiple: int) -> None:
    """Stores the weights and biases of a model on other grids, in place."""
    graph = model.subgraphs[0]
    for operator in graph.operators:
        if op_name(model, operator) not in WEIGHTED_OPS or (not powers and multiple == 1):
            continue
        source, weight, bias = (int(n) for n in operator.inputs[:3])
        tensor = graph.tensors[weight]
        axis, old = int(tensor.quantization.quantizedDimension), np.asarray(tensor.quantization.scale, np.float64)
        shape = [-1 if side == axis else 1 for side in range(len(tensor.shape))]
        weights = tensor_array(model, weight).astype(np.float64) * old.reshape(shape)
        step = float(graph.tensors[source].quantization.scale[0])
        biases = tensor_array(model, bias).astype(np.float64) * old * step
        most = 127 // multiple * multiple
        largest = np.abs(weights).max(axis=tuple(side for side in range(weights.ndim) if side != axis))
        scale = np.maximum(largest / most, 1e-9).astype(np.float32)
        if powers:
            ratio = step / float(graph.tensors[int(operator.outputs[0])].quantization.scale[0])
            power = 2.0 ** np.ceil(np.log2(scale.astype(np.float64) * ratio))
            scale = (power / ratio).astype(np.float32)
            while (above := scale.astype(np.float64) * ratio >= power).any():
                scale[above] = np.nextafter(scale[above], np.float32(0.0))
        units = np.rint(weights / scale.reshape(shape) / multiple) * multiple
        bias_scale = scale.astype(np.float64) * step
        offset = multiple - 1  # an odd sum is no tie
        sums = np.rint((biases / bias_scale - offset) / multiple) * multiple + offset
        for number, values, new in (
            (weight, np.clip(units, -most, most).astype(np.int8), scale),
            (bias, sums.astype(np.int32), bias_scale.astype(np.float32)),
        ):
            set_quantization(graph.tensors[number], new, np.zeros(len(new), np.int64))
            replace_values(model, graph.tensors[number], values)


def outputs_of(content: bytes, kernels: OpResolverType, raw: NDArray[np.int8]) -> NDArray[np.int8]:
    """Returns a model's raw outputs, sample by sample."""
    interpreter = Interpreter(model_content=content, experimental_op_resolver_type=kernels)
    interpreter.allocate_tensors()
    source, sink = interpreter.get_input_details()[0]["index"], interpreter.get_output_details()[0]["index"]
    found = []
    for sample in raw:
        interpreter.set_tensor(source, sample[None])
        interpreter.invoke()
        found.append(interpreter.get_tensor(sink)[0].copy())
    return np.stack(found)


def answers_alone(
    model: schema.ModelT, content: bytes, raw: NDArray[np.int8]
) -> Iterator[tuple[schema.OperatorT, NDArray[np.int8], NDArray[np.int8]]]:
    """Gives, for each sample and operator, what both kernels make of the same inputs."""
    whole = Interpreter(
        model_content=content,
        experimental_op_resolver_type=KERNELS[1],
        experimental_preserve_all_tensors=True,
    )
    whole.allocate_tensors()
    parts = [(operator, [runner(model, operator, kernels) for kernels in KERNELS]) for operator in operators(model)]
    for sample in raw:
        whole.set_tensor(whole.get_input_details()[0]["index"], sample[None])
        whole.invoke()
        for operator, pair in parts:
            answers = []
            for interpreter, inputs in pair:
                for details, number in zip(interpreter.get_input_details(), inputs, strict=True):
                    interpreter.set_tensor(details["index"], whole.get_tensor(number))
                interpreter.invoke()
                answers.append(interpreter.get_tensor(interpreter.get_output_details()[0]["index"]).copy())
            yield operator, answers[0], answers[1]


def equal_alone(model: schema.ModelT, content: bytes, raw: NDArray[np.int8]) -> dict[bool, float]:
    """Returns the share of values on which both kernels of an operator agree, given the same inputs, in percent.

    The key tells operators with weights from the others.
    """
    counts = {True: [0, 0], False: [0, 0]}
    for operator, first, second in answers_alone(model, content, raw):
        count = counts[op_name(model, operator) in WEIGHTED_OPS]
        count[0] += int((first == second).sum())
        count[1] += first.size
    return {key: 100.0 * same / total for key, (same, total) in counts.items()}


def operators(model: schema.ModelT) -> Iterator[schema.OperatorT]:
    """Gives the operators whose one output is made from activations."""
    for operator in model.subgraphs[0].operators:
        if activations(model, operator) and len(operator.outputs) == 1:
            yield operator


def activations(model: schema.ModelT, operator: schema.OperatorT) -> list[int]:
    """Returns the numbers of an operator's inputs that are no constants."""
    numbers = dict.fromkeys(int(n) for n in operator.inputs if n >= 0)
    buffers = [(n, model.buffers[model.subgraphs[0].tensors[n].buffer].data) for n in numbers]
    return [n for n, data in buffers if data is None or len(data) == 0]


def runner(model: schema.ModelT, operator: schema.OperatorT, kernels: OpResolverType) -> tuple[Interpreter, list[int]]:
    """Returns an interpreter for one operator of a model, and which tensors of the model it reads."""
    graph = model.subgraphs[0]
    numbers = list(dict.fromkeys(int(n) for n in (*operator.inputs, *operator.outputs) if n >= 0))
    place = {number: position for position, number in enumerate(numbers)} | {-1: -1}
    alone = copy.copy(operator)
    alone.inputs = np.array([place[int(n)] for n in operator.inputs], np.int32)
    alone.outputs = np.array([place[int(n)] for n in operator.outputs], np.int32)
    inputs = activations(model, operator)
    small = schema.ModelT()
    small.version, small.description, small.metadata, small.signatureDefs = 3, b"", [], []
    small.buffers, small.operatorCodes = model.buffers, model.operatorCodes
    part = schema.SubGraphT()
    part.name, part.tensors, part.operators = b"main", [graph.tensors[n] for n in numbers], [alone]
    part.inputs, part.outputs = np.array([place[n] for n in inputs], np.int32), alone.outputs
    small.subgraphs = [part]
    interpreter = Interpreter(model_content=pack(small), experimental_op_resolver_type=kernels)
    interpreter.allocate_tensors()
    return interpreter, inputs


def main() -> None:
    """Measures what is missing and prints the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("file", type=Path)
    parser.add_argument("--recipe", type=Path, required=True, help="whose data and normalisation the file is for")
    parser.add_argument("--floating", type=Path, help="the float32 flatbuffer it was made from")
    parser.add_argument("--ways", nargs="+", default=list(WAYS), choices=list(WAYS))
    parser.add_argument("--samples", type=int, default=500, help="compared on the slow reference kernels")
    parser.add_argument("--layer-samples", type=int, default=40, help="on which operators are compared alone")
    options = parser.parse_args()
    recipe = load_recipe(options.recipe, ())
    data = load_dataset(recipe, trust=False)
    task = make_task(recipe, data)
    extra = data.calibration if data.calibration is not None else data.test.inputs[:0]
    x = task.to_flatbuffer(task.inputs(np.concatenate([data.test.inputs, extra])))
    floats = None if options.floating is None else RUNTIMES["litert"].session(options.floating).run(x)
    table = Table(RESULTS / "requantization.csv", COLUMNS)
    for way in options.ways:
        case = f"{recipe.name} {way}"
        if table.done(case, 0):
            continue
        model = read_model(options.file)
        stored_otherwise(model, powers=WAYS[way][0], multiple=WAYS[way][1])
        content = pack(model)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "model.tflite")
            path.write_bytes(content)
            session = RUNTIMES["litert"].session(path)
            raw = quantize_input(x, session.input)
            answers = session.run(raw)
            real = dequantize_output(answers, session.output)
        reference = outputs_of(content, KERNELS[1], raw[: options.samples])
        alone = equal_alone(model, content, raw[: options.layer_samples])
        snr = ""
        if floats is not None:
            snr = f"{10 * np.log10((floats**2).sum() / ((real - floats) ** 2).sum()):.2f}"
        table.append(
            case, 0, test_accuracy=f"{task.metrics(real[: len(data.test)], data.test)['accuracy']:.2f}",
            snr_db=snr,
            same_answer=f"{100.0 * (answers[: options.samples].argmax(1) == reference.argmax(1)).mean():.2f}",
            equal_outputs=f"{100.0 * (answers[: options.samples] == reference).mean():.2f}",
            equal_in_convolutions=f"{alone[True]:.3f}", equal_elsewhere=f"{alone[False]:.3f}",
        )  # fmt: skip
        print(table.rows()[-1], flush=True)
    table.show("file and way", COLUMNS)


if __name__ == "__main__":
    main()
