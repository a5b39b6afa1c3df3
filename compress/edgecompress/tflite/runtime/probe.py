"""A child process that tries one TFLite runtime on a tiny INT8 flatbuffer.

`python -m edgecompress.tflite.runtime.probe build FILE PARENT` writes the flatbuffer (one RELU on four int8 values),
`python -m edgecompress.tflite.runtime.probe RUNTIME FILE PARENT` runs it. Native code that crashes takes the child
alone, and the child ends with the process that started it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from edgecompress.processes.lifeline import end_with

INPUT = (-100, -1, 0, 100)
EXPECTED = (0, 0, 0, 100)


def build() -> bytes:
    """Returns a flatbuffer that computes RELU of int8[1, 4], scale 1, zero point 0."""
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    def tensor(name: str) -> Any:
        quantization = schema.QuantizationParametersT()
        quantization.scale, quantization.zeroPoint = [1.0], [0]
        made = schema.TensorT()
        made.name, made.shape, made.type, made.buffer = name, [1, len(INPUT)], schema.TensorType.INT8, 0
        made.quantization = quantization
        return made

    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.RELU
    code.version = 2  # the version with int8
    relu = schema.OperatorT()
    relu.opcodeIndex, relu.inputs, relu.outputs = 0, [0], [1]
    graph = schema.SubGraphT()
    graph.tensors, graph.inputs, graph.outputs, graph.operators = [tensor("input"), tensor("output")], [0], [1], [relu]
    model = schema.ModelT()
    model.version, model.operatorCodes, model.subgraphs, model.buffers = 3, [code], [graph], [schema.BufferT()]
    builder = flatbuffers.Builder(256)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def _interpreter(module: str) -> Callable[[Path], list[int]]:
    def run(path: Path) -> list[int]:
        import importlib

        import numpy as np

        interpreter = importlib.import_module(module).Interpreter(model_path=str(path), num_threads=1)
        interpreter.allocate_tensors()
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], np.array([INPUT], np.int8))
        interpreter.invoke()
        output: list[int] = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])[0].tolist()
        return output

    return run


def _tensorflow(path: Path) -> list[int]:
    import os

    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    return _interpreter("tensorflow.lite.python.interpreter")(path)


def _tflite_micro(path: Path) -> list[int]:
    import numpy as np
    from tflite_micro.python.tflite_micro import runtime

    interpreter = runtime.Interpreter.from_file(str(path))
    interpreter.set_input(np.array([INPUT], np.int8), 0)
    interpreter.invoke()
    output: list[int] = interpreter.get_output(0)[0].tolist()
    return output


PROBES: dict[str, Callable[[Path], list[int]]] = {
    "litert": _interpreter("ai_edge_litert.interpreter"),
    "tensorflow": _tensorflow,
    "tflite-runtime": _interpreter("tflite_runtime.interpreter"),
    "tflite-micro": _tflite_micro,
}


def main(arguments: list[str]) -> int:
    """Builds or runs the flatbuffer; 0 if the runtime computed it right, else 1 and the reason on stderr."""
    task, path = arguments[0], Path(arguments[1])
    try:
        if task == "build":
            path.write_bytes(build())
            return 0
        output = PROBES[task](path)
    except (ImportError, AttributeError, OSError, RuntimeError, SystemError, TypeError, ValueError) as error:
        cause = error.__cause__ or error  # a binary built for NumPy 1 raises SystemError from an ImportError
        sys.stderr.write(f"\n{type(cause).__name__}: {' '.join(str(cause).split())}\n")
        return 1
    if tuple(output) != EXPECTED:
        sys.stderr.write(f"\ncomputed {output} where {list(EXPECTED)} is right\n")
        return 1
    return 0


if __name__ == "__main__":
    end_with(int(sys.argv[3]))
    sys.exit(main(sys.argv[1:3]))
