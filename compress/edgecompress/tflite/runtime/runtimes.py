"""Runtimes that execute flatbuffers, behind one protocol.

A session is bound to one file and a number of threads. The protocol asks for nothing that a runtime in another process
could not do: arrays go in, arrays come out.
"""

from __future__ import annotations

import importlib
import importlib.util
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecompress.errors import ModelError, ResourceError
from edgecompress.quiet import quiet
from edgecompress.tflite.runtime import memory, private_env
from edgecompress.tflite.runtime.micro import MicroRuntime
from edgecompress.tflite.runtime.session import OneEnded, Progress, Runtime, TensorDetails, random_values

#: How interpreters report what they cannot do; anything else is a bug of ours.
_FAILURES = (RuntimeError, ValueError, TypeError, MemoryError, OSError)


class InterpreterSession(OneEnded):
    """A session on one of the interpreters with TensorFlow Lite's Python interface."""

    def __init__(self, interpreter: Any, runtime: str, path: Path) -> None:
        """Takes an interpreter whose tensors are allocated."""
        self._interpreter = interpreter
        self._runtime, self.path = runtime, path
        ins, outs = interpreter.get_input_details(), interpreter.get_output_details()
        self.inputs = tuple(_details(entry) for entry in ins)
        self.outputs = tuple(_details(entry) for entry in outs)
        self._input_numbers = [int(entry["index"]) for entry in ins]
        self._output_numbers = [int(entry["index"]) for entry in outs]

    def run(self, inputs: NDArray[Any], told: Progress | None = None) -> NDArray[Any]:
        """Returns the raw output of each raw sample: (N, ...) in, (N, ...) out; `told` hears how many are done.

        Raises:
            ModelError: The samples do not fit the input, or the interpreter failed.
        """
        results = self.results_for(inputs)
        number_in, number_out = self._input_numbers[0], self._output_numbers[0]
        set_tensor, invoke, get_tensor = (
            self._interpreter.set_tensor,
            self._interpreter.invoke,
            self._interpreter.get_tensor,
        )
        try:
            for index in range(len(inputs)):
                set_tensor(number_in, inputs[index : index + 1])
                invoke()
                results[index] = get_tensor(number_out)[0]
                if told is not None:
                    told(index + 1, len(inputs))
        except (*_FAILURES, IndexError) as error:  # an output that turns out to be empty
            raise _failure(self.path, self._runtime, error) from error
        return results

    def call(self, inputs: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
        """Returns all raw outputs for the raw values of all inputs, batch axis included.

        Raises:
            ModelError: They do not fit the inputs, or the interpreter failed.
        """
        try:
            for number, values in zip(self._input_numbers, inputs, strict=True):
                self._interpreter.set_tensor(number, values)
            self._interpreter.invoke()
            return [self._interpreter.get_tensor(number) for number in self._output_numbers]
        except _FAILURES as error:
            raise _failure(self.path, self._runtime, error) from error

    def fill(self, seed: int) -> None:
        """Sets every input to random values."""
        rng = np.random.default_rng(seed)
        try:
            for number, tensor in zip(self._input_numbers, self.inputs, strict=True):
                self._interpreter.set_tensor(number, random_values(tensor, rng))
        except _FAILURES as error:
            raise _failure(self.path, self._runtime, error) from error

    def invoke(self) -> None:
        """Runs once on whatever the inputs hold.

        Raises:
            ModelError: The interpreter failed.
        """
        try:
            self._interpreter.invoke()
        except _FAILURES as error:
            raise _failure(self.path, self._runtime, error) from error


@dataclass(frozen=True)
class InterpreterRuntime:
    """A runtime with TensorFlow Lite's Python interface.

    Attributes:
        name: What recipes and commands call it.
        module: The module with `Interpreter` and `OpResolverType`.
        resolver: Name of the set of kernels.
        package: What to install where the module is missing.
        isolated: Whether it needs a process of its own.
    """

    name: str
    module: str
    resolver: str
    package: str
    isolated: bool = False

    def require(self) -> None:
        """Raises what a session would raise where the runtime is not installed, without loading it.

        Raises:
            ResourceError: It is not installed.
        """
        if self.name == "tflite-runtime":
            private_env.child_environment()
        elif importlib.util.find_spec(self.module.partition(".")[0]) is None:
            raise ResourceError(
                f"the runtime {self.name} is not installed. Install it with: pip install {self.package}"
            )

    def load(self) -> None:
        """Imports the runtime's module.

        Raises:
            ResourceError: It is not installed.
        """
        with quiet(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self._import()

    def session(self, path: Path, threads: int = 1) -> InterpreterSession:
        """Returns a session on a file.

        Raises:
            ModelError: The runtime cannot run the file.
            ResourceError: The runtime is not installed.
        """
        # The interpreters announce themselves (delegates, deprecation) from C++ and by warnings.
        with quiet(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            module = self._import()
            try:
                interpreter = module.Interpreter(
                    model_path=str(path),
                    num_threads=threads,
                    experimental_op_resolver_type=getattr(module.OpResolverType, self.resolver),
                )
                interpreter.allocate_tensors()
            except _FAILURES as error:
                raise _failure(path, self.name, error) from error
            return InterpreterSession(interpreter, self.name, path)

    def _import(self) -> ModuleType:
        try:
            return importlib.import_module(self.module)
        except ImportError as error:
            raise ResourceError(
                f"the runtime {self.name} is not installed ({error}). Install it with: pip install {self.package}"
            ) from error


#: `litert`: LiteRT with its optimised kernels (XNNPACK). `tensorflow`: TensorFlow's reference kernels, which are slow
#: and plain; a second opinion on what a flatbuffer computes. `tflite-runtime`: the last release for older devices.
#: `tflite-micro`: the kernels of microcontrollers.
RUNTIMES: dict[str, Runtime] = {
    "litert": InterpreterRuntime("litert", "ai_edge_litert.interpreter", "AUTO", "ai-edge-litert"),
    "tensorflow": InterpreterRuntime(
        "tensorflow", "tensorflow.lite.python.interpreter", "BUILTIN_REF", "tensorflow-cpu"
    ),
    "tflite-runtime": InterpreterRuntime(
        "tflite-runtime", "tflite_runtime.interpreter", "AUTO", "tflite-runtime", isolated=True
    ),
    "tflite-micro": MicroRuntime(),
}


def _details(entry: dict[str, Any]) -> TensorDetails:
    scale, zero_point = entry["quantization"]
    return TensorDetails(
        name=str(entry["name"]),
        shape=tuple(int(side) for side in entry["shape"]),
        dtype=np.dtype(entry["dtype"]),
        scale=float(scale),
        zero_point=int(zero_point),
    )


def _failure(path: Path, runtime: str, error: BaseException) -> ModelError:
    # The message names the operator ("Node number 3 (CONV_2D) failed to prepare."), after the reason in the kernel.
    cause = "; ".join(line.strip() for line in str(error).splitlines() if line.strip())
    return ModelError(f"{path}: {runtime} cannot run it: {cause or memory.without_reason(error)}")
