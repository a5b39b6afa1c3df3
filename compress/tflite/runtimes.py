"""Runtimes that execute flatbuffers, behind one protocol.

A session is bound to one file and a number of threads. The protocol asks for nothing that a runtime in another process
could not do: arrays go in, arrays come out.
"""

from __future__ import annotations

import importlib
import warnings
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from compress.errors import ModelError, ResourceError
from compress.tflite.quiet import quiet

#: How interpreters report what they cannot do; anything else is a bug of ours.
_FAILURES = (RuntimeError, ValueError, TypeError, MemoryError, OSError)


@dataclass(frozen=True)
class TensorDetails:
    """An input or output of a flatbuffer.

    Attributes:
        name: As the file has it.
        shape: With the batch axis.
        dtype: Of the raw values.
        scale: real = scale * (raw - zero_point); 0.0 where the tensor is not quantized.
        zero_point: 0 where it is not quantized.
    """

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    scale: float = 0.0
    zero_point: int = 0

    @property
    def quantized(self) -> bool:
        """Whether the raw values are integers that stand for real numbers."""
        return self.scale > 0.0 and self.dtype.kind in "iu"


class Session(Protocol):
    """One flatbuffer, ready to run."""

    inputs: tuple[TensorDetails, ...]
    outputs: tuple[TensorDetails, ...]

    @property
    def input(self) -> TensorDetails:
        """The only input."""

    @property
    def output(self) -> TensorDetails:
        """The only output."""

    def run(self, inputs: NDArray[Any]) -> NDArray[Any]:
        """Returns the raw output of each raw sample: (N, ...) in, (N, ...) out."""

    def fill(self, seed: int) -> None:
        """Sets every input to random values, so that `invoke` has something to work on."""

    def invoke(self) -> None:
        """Runs once on whatever the inputs hold."""


class Runtime(Protocol):
    """Something that executes flatbuffers."""

    @property
    def name(self) -> str:
        """What recipes and commands call it."""

    def session(self, path: Path, threads: int = 1) -> Session:
        """Returns a session on a file.

        Raises:
            ModelError: The runtime cannot run the file.
            ResourceError: The runtime is not installed.
        """


class InterpreterSession:
    """A session on one of the interpreters with TensorFlow Lite's Python interface."""

    def __init__(self, interpreter: Any, runtime: str, path: Path) -> None:
        """Takes an interpreter whose tensors are allocated."""
        self._interpreter = interpreter
        self._runtime, self._path = runtime, path
        ins, outs = interpreter.get_input_details(), interpreter.get_output_details()
        self.inputs = tuple(_details(entry) for entry in ins)
        self.outputs = tuple(_details(entry) for entry in outs)
        self._input_numbers = [int(entry["index"]) for entry in ins]
        self._output_numbers = [int(entry["index"]) for entry in outs]

    @property
    def input(self) -> TensorDetails:
        """The only input."""
        return self._only(self.inputs, "input")

    @property
    def output(self) -> TensorDetails:
        """The only output."""
        return self._only(self.outputs, "output")

    def _only(self, tensors: tuple[TensorDetails, ...], what: str) -> TensorDetails:
        if len(tensors) != 1:
            raise ModelError(f"{self._path}: it has {len(tensors)} {what}s; a model with one {what} was expected.")
        return tensors[0]

    def run(self, inputs: NDArray[Any]) -> NDArray[Any]:
        """Returns the raw output of each raw sample: (N, ...) in, (N, ...) out.

        Raises:
            ModelError: The samples do not fit the input, or the interpreter failed.
        """
        source, sink = self.input, self.output
        batch = source.shape[0] if source.shape else 0
        if batch != 1 or source.shape[1:] != inputs.shape[1:] or source.dtype != inputs.dtype:
            raise ModelError(
                f"{self._path}: its input is {source.dtype}{list(source.shape)}, which samples of "
                f"{inputs.dtype}{list(inputs.shape[1:])} do not fit. "
                "Expected batch size 1 and samples of the same shape and type."
            )
        results = np.empty((len(inputs), *sink.shape[1:]), sink.dtype)
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
        except _FAILURES as error:
            raise _failure(self._path, self._runtime, error) from error
        return results

    def fill(self, seed: int) -> None:
        """Sets every input to random values: any value of an integer type, a standard normal of a float one.

        Integers that are no quantized real numbers (token numbers, lengths) are set to 0, which any of them may be.
        """
        rng = np.random.default_rng(seed)
        try:
            for number, tensor in zip(self._input_numbers, self.inputs, strict=True):
                self._interpreter.set_tensor(number, _random(tensor, rng))
        except _FAILURES as error:
            raise _failure(self._path, self._runtime, error) from error

    def invoke(self) -> None:
        """Runs once on whatever the inputs hold.

        Raises:
            ModelError: The interpreter failed.
        """
        try:
            self._interpreter.invoke()
        except _FAILURES as error:
            raise _failure(self._path, self._runtime, error) from error


@dataclass(frozen=True)
class InterpreterRuntime:
    """A runtime with TensorFlow Lite's Python interface, in this process.

    Attributes:
        name: What recipes and commands call it.
        module: The module with `Interpreter` and `OpResolverType`.
        resolver: Name of the set of kernels.
        package: What to install where the module is missing.
    """

    name: str
    module: str
    resolver: str
    package: str

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
#: and plain; a second opinion on what a flatbuffer computes.
RUNTIMES: dict[str, Runtime] = {
    "litert": InterpreterRuntime("litert", "ai_edge_litert.interpreter", "AUTO", "ai-edge-litert"),
    "tensorflow": InterpreterRuntime(
        "tensorflow", "tensorflow.lite.python.interpreter", "BUILTIN_REF", "tensorflow-cpu"
    ),
}


def quantize_input(values: NDArray[np.floating[Any]], details: TensorDetails) -> NDArray[Any]:
    """Returns the raw input for real values: rounded half to even, clipped to the type's range.

    Real values pass unchanged (as the input's type) where the input is not quantized.
    """
    if not details.quantized:
        return np.ascontiguousarray(values, details.dtype)
    limits = np.iinfo(details.dtype)
    # In float32, as the runtimes' own QUANTIZE operator computes it.
    steps = np.rint(np.asarray(values, np.float32) / np.float32(details.scale)) + details.zero_point
    raw: NDArray[Any] = np.clip(steps, limits.min, limits.max).astype(details.dtype)
    return raw


def dequantize_output(raw: NDArray[Any], details: TensorDetails) -> NDArray[np.float32]:
    """Returns the real values of a raw output, float32."""
    if not details.quantized:
        return raw.astype(np.float32)
    return ((raw.astype(np.int64) - details.zero_point) * np.float64(details.scale)).astype(np.float32)


def _random(tensor: TensorDetails, rng: np.random.Generator) -> NDArray[Any]:
    if tensor.dtype.kind == "f":
        return rng.standard_normal(tensor.shape).astype(tensor.dtype)
    if tensor.quantized:
        limits = np.iinfo(tensor.dtype)
        return rng.integers(limits.min, limits.max, tensor.shape, tensor.dtype, endpoint=True)
    return np.zeros(tensor.shape, tensor.dtype)


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
    return ModelError(f"{path}: {runtime} cannot run it: {cause or type(error).__name__}")
