"""tflite-micro: the kernels of microcontrollers, run on this machine."""

from __future__ import annotations

import importlib
import importlib.util
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecompress.errors import ModelError, ResourceError
from edgecompress.machine import is_built
from edgecompress.quiet import quiet
from edgecompress.tflite.runtime import memory
from edgecompress.tflite.runtime.session import OneEnded, Progress, TensorDetails, random_values

#: What an interpreter may take; only what it needs is used, the rest is never touched.
ARENA_BYTES = 64 * 1024**2
_FAILURES = (RuntimeError, ValueError, TypeError, IndexError, MemoryError, OSError)


class MicroSession(OneEnded):
    """One flatbuffer in tflite-micro's interpreter."""

    def __init__(self, interpreter: Any, path: Path) -> None:
        """Takes an interpreter whose tensors are allocated."""
        from edgecompress.tflite.format.flatbuffer import read_model  # not where another Python only wants this table

        self._interpreter, self.path = interpreter, path
        graph = read_model(path).subgraphs[0]
        self.inputs = tuple(_details(interpreter.get_input_details(k)) for k in range(len(graph.inputs)))
        self.outputs = tuple(_details(interpreter.get_output_details(k)) for k in range(len(graph.outputs)))

    def run(self, inputs: NDArray[Any], told: Progress | None = None) -> NDArray[Any]:
        """Returns the raw output of each raw sample: (N, ...) in, (N, ...) out; `told` hears how many are done.

        Raises:
            ModelError: The samples do not fit the input, or the interpreter failed.
        """
        results = self.results_for(inputs)
        for index in range(len(inputs)):
            try:
                self._interpreter.set_input(inputs[index : index + 1], 0)
            except _FAILURES as error:
                raise _failure(self.path, error) from error
            self.invoke()
            results[index] = self._interpreter.get_output(0)[0]
            if told is not None:
                told(index + 1, len(inputs))
        return results

    def call(self, inputs: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
        """Returns all raw outputs for the raw values of all inputs, batch axis included.

        Raises:
            ModelError: They do not fit the inputs, or the interpreter failed.
        """
        try:
            for number, values in enumerate(inputs):
                self._interpreter.set_input(values, number)
        except _FAILURES as error:
            raise _failure(self.path, error) from error
        self.invoke()
        return [np.array(self._interpreter.get_output(number)) for number in range(len(self.outputs))]

    def fill(self, seed: int) -> None:
        """Sets every input to random values."""
        rng = np.random.default_rng(seed)
        try:
            for number, tensor in enumerate(self.inputs):
                self._interpreter.set_input(random_values(tensor, rng), number)
        except _FAILURES as error:
            raise _failure(self.path, error) from error

    def invoke(self) -> None:
        """Runs once on whatever the inputs hold.

        Raises:
            ModelError: The interpreter failed.
        """
        try:
            self._interpreter.invoke()
        except _FAILURES as error:
            raise _failure(self.path, error) from error


@dataclass(frozen=True)
class MicroRuntime:
    """tflite-micro, which has one thread and takes a fixed arena."""

    name: str = "tflite-micro"
    isolated: bool = True

    def require(self) -> None:
        """Raises what a session would raise where tflite-micro is not installed, without loading it.

        Raises:
            ResourceError: It is not installed.
        """
        if importlib.util.find_spec("tflite_micro") is None:
            way = "Install it with: pip install tflite-micro"
            if not is_built("tflite-micro"):
                where = f"{platform.system()} {platform.machine()}"
                way = f"It is not built for {where}: leave it out of benchmark.runtimes."
            raise ResourceError(f"the runtime tflite-micro is not installed. {way}")

    def load(self) -> None:
        """Imports tflite-micro.

        Raises:
            ResourceError: It is not installed.
        """
        self.require()
        with quiet():
            importlib.import_module("tflite_micro.python.tflite_micro.runtime")

    def session(self, path: Path, threads: int = 1) -> MicroSession:
        """Returns a session on a file; `threads` is of no use to it.

        Raises:
            ModelError: The runtime cannot run the file.
            ResourceError: The runtime is not installed.
        """
        del threads
        self.require()
        from tflite_micro.python.tflite_micro import runtime

        with quiet():
            try:
                return MicroSession(runtime.Interpreter.from_file(str(path), arena_size=ARENA_BYTES), path)
            except _FAILURES as error:
                raise _failure(path, error) from error


def _details(entry: dict[str, Any]) -> TensorDetails:
    scales = np.asarray(entry["quantization_parameters"]["scales"]).reshape(-1)
    zero_points = np.asarray(entry["quantization_parameters"]["zero_points"]).reshape(-1)
    return TensorDetails(
        name="",
        shape=tuple(int(side) for side in entry["shape"]),
        dtype=np.dtype(entry["dtype"]),
        scale=float(scales[0]) if len(scales) else 0.0,
        zero_point=int(zero_points[0]) if len(zero_points) else 0,
    )


def _failure(path: Path, error: BaseException) -> ModelError:
    # What the kernels print goes to the terminal, not into the exception.
    return ModelError(
        f"{path}: tflite-micro cannot run it: {' '.join(str(error).split()) or memory.without_reason(error)}"
    )
