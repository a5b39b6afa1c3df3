"""What every runtime has in common: the tensors of a flatbuffer, a session on it, and how values become integers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from edgecompress.errors import ModelError

Progress = Callable[[int, int], None]


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
        """The output that is scored: the first one."""

    def run(self, inputs: NDArray[Any], told: Progress | None = None) -> NDArray[Any]:
        """Returns the raw output of each raw sample: (N, ...) in, (N, ...) out; `told` hears how many are done."""

    def call(self, inputs: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
        """Returns all raw outputs for the raw values of all inputs, batch axis included."""

    def fill(self, seed: int) -> None:
        """Sets every input to random values, so that `invoke` has something to work on."""

    def invoke(self) -> None:
        """Runs once on whatever the inputs hold."""


class Runtime(Protocol):
    """Something that executes flatbuffers."""

    @property
    def name(self) -> str:
        """What recipes and commands call it."""

    @property
    def isolated(self) -> bool:
        """Whether it must have a process of its own: it can crash, or its libraries exclude ours."""

    def require(self) -> None:
        """Raises what a session would raise where the runtime is not installed, without loading it.

        Raises:
            ResourceError: It is not installed.
        """

    def load(self) -> None:
        """Imports the runtime's libraries, so that what comes after is for the file.

        Raises:
            ResourceError: The runtime is not installed.
        """

    def session(self, path: Path, threads: int = 1) -> Session:
        """Returns a session on a file.

        Raises:
            ModelError: The runtime cannot run the file.
            ResourceError: The runtime is not installed.
        """


class OneEnded:
    """A session's inputs and outputs, and the checks that all sessions make.

    Attributes:
        inputs: Of the flatbuffer.
        outputs: Of the flatbuffer.
        path: The file.
    """

    inputs: tuple[TensorDetails, ...]
    outputs: tuple[TensorDetails, ...]
    path: Path

    @property
    def input(self) -> TensorDetails:
        """The only input."""
        return self._only(self.inputs, "input")

    @property
    def output(self) -> TensorDetails:
        """The output that is scored: the first one."""
        if not self.outputs:
            raise ModelError(f"{self.path}: it has no output.")
        return self.outputs[0]

    def _only(self, tensors: tuple[TensorDetails, ...], what: str) -> TensorDetails:
        if len(tensors) != 1:
            raise ModelError(f"{self.path}: it has {len(tensors)} {what}s; a model with one {what} was expected.")
        return tensors[0]

    def results_for(self, inputs: NDArray[Any]) -> NDArray[Any]:
        """Returns room for the raw outputs of samples that fit the input.

        Raises:
            ModelError: They do not fit it.
        """
        source, sink = self.input, self.output
        batch = source.shape[0] if source.shape else 0
        if batch != 1 or source.shape[1:] != inputs.shape[1:] or source.dtype != inputs.dtype:
            raise ModelError(
                f"{self.path}: its input is {source.dtype}{list(source.shape)}, which samples of "
                f"{inputs.dtype}{list(inputs.shape[1:])} do not fit. "
                "Expected batch size 1 and samples of the same shape and type."
            )
        return np.empty((len(inputs), *sink.shape[1:]), sink.dtype)


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


def random_values(tensor: TensorDetails, rng: np.random.Generator) -> NDArray[Any]:
    """Returns an input: any value of an integer type, a standard normal of a float one.

    Integers that are no quantized real numbers (token numbers, lengths) are 0, which any of them may be.
    """
    if tensor.dtype.kind == "f":
        return rng.standard_normal(tensor.shape).astype(tensor.dtype)
    if tensor.quantized:
        limits = np.iinfo(tensor.dtype)
        return rng.integers(limits.min, limits.max, tensor.shape, tensor.dtype, endpoint=True)
    return np.zeros(tensor.shape, tensor.dtype)


def run_steps(session: Session, series: NDArray[Any]) -> NDArray[Any]:
    """Returns the raw answer to the last step of each series, step by step through a model that hands its state on.

    The first input is a step and the first output the answer; the others are the state, which starts at real zeros and
    goes from outputs to inputs as raw integers.

    Args:
        session: On such a model.
        series: (N, steps, features) raw values.
    """
    start = [np.full(tensor.shape, tensor.zero_point, tensor.dtype) for tensor in session.inputs[1:]]
    answers = []
    for one in series:
        answer, state = np.zeros(0), start
        for step in range(len(one)):
            answer, *state = session.call([one[None, step : step + 1], *state])
        answers.append(answer[0])
    return np.stack(answers)
