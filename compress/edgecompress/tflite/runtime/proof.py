"""The same flatbuffer on other runtimes: does it run there, and does it give the same answers?"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecompress.errors import ModelError
from edgecompress.tflite.runtime.child import call
from edgecompress.tflite.runtime.patience import OWN_START_S

#: Enough to tell 99.9 % of equal answers from fewer.
SAMPLES = 1000
REFERENCE = "litert"
ARENA_BYTES = 64 * 1024**2
#: Numbers are the same answer within this many steps (and what float32 blurs).
SAME_STEPS = 2.01


@dataclass(frozen=True)
class RuntimeProof:
    """What a runtime made of a flatbuffer, each in a process of its own.

    Attributes:
        runtime: Its name.
        runs: Whether it could run the file at all.
        reason: Why not.
        samples: Compared with LiteRT.
        same_answer: Share of answers with LiteRT's arg-max, in percent; of outputs that are numbers, of those within
            two steps of LiteRT's.
        bit_exact: Share of all output values that are equal to the bit, in percent.
        max_steps: Largest difference of an output, in its integer steps; None for float outputs.
        arena_bytes: Tensor arena, as tflite-micro's own allocator gives it; None on other runtimes.
        activation_bytes: The part of it that activations share.
        persistent_bytes: The part that stays.
        flash_bytes: What the model takes in a microcontroller's flash: the file (the interpreter's code not counted).
    """

    runtime: str
    runs: bool
    reason: str = ""
    samples: int = 0
    same_answer: float | None = None
    bit_exact: float | None = None
    max_steps: float | None = None
    arena_bytes: int | None = None
    activation_bytes: int | None = None
    persistent_bytes: int | None = None
    flash_bytes: int | None = None


def prove(path: Path, runtime: str, inputs: NDArray[Any], *, threads: int = 1, choices: int | None = 0) -> RuntimeProof:
    """Returns how a flatbuffer does on a runtime, measured against LiteRT.

    Args:
        path: The flatbuffer.
        runtime: A name of `RUNTIMES`.
        inputs: Raw samples, (N, ...), of the type of its input.
        threads: Of the interpreters.
        choices: How many outputs an answer is the largest of, such as tokens of a vocabulary; 0: all of a sample;
            None: outputs are numbers.

    Raises:
        ResourceError: The runtime is not installed.
    """
    with tempfile.TemporaryDirectory(prefix="edgecompress-") as folder:
        np.save(Path(folder, "inputs.npy"), inputs, allow_pickle=False)
        expected, _ = _outputs(path, REFERENCE, Path(folder), threads)
        try:
            outputs, scale = _outputs(path, runtime, Path(folder), threads)
            arena: dict[str, Any] = _arena(path) if runtime == "tflite-micro" else {}
        except ModelError as error:
            return RuntimeProof(runtime, runs=False, reason=str(error).removeprefix(f"{path.absolute()}: "))
    return RuntimeProof(
        runtime,
        runs=True,
        samples=len(inputs),
        same_answer=_same_answer(outputs, expected, scale, choices),
        bit_exact=100.0 * float((outputs == expected).mean()),
        max_steps=None
        if scale is None
        else float(np.abs(outputs.astype(np.int64) - expected.astype(np.int64)).max(initial=0)),
        **arena,
    )


def _same_answer(outputs: NDArray[Any], expected: NDArray[Any], scale: float | None, choices: int | None) -> float:
    if choices is None:
        # Integers count steps; float outputs are counted as if they had 255 of them.
        step = 1.0 if scale is not None else max(float(np.ptp(expected)), 1e-12) / 255
        return 100.0 * float((np.abs(outputs.astype(np.float64) - expected) <= SAME_STEPS * step).mean())
    answers = [one.reshape(-1, choices or one.shape[-1]).argmax(1) for one in (outputs, expected)]
    return 100.0 * float((answers[0] == answers[1]).mean())


def _outputs(path: Path, runtime: str, folder: Path, threads: int) -> tuple[NDArray[Any], float | None]:
    arguments = {
        "path": str(path.absolute()),
        "runtime": runtime,
        "threads": threads,
        "inputs": str(folder / "inputs.npy"),
        "outputs": str(folder / f"{runtime}.npy"),
    }
    found = call("outputs", arguments, start_s=OWN_START_S, runtime=runtime)
    outputs = np.load(folder / f"{runtime}.npy", allow_pickle=False)
    return outputs.reshape(len(outputs), -1), found["scale"]


def _arena(path: Path) -> dict[str, Any]:
    found = call("arena", {"path": str(path.absolute()), "arena_bytes": ARENA_BYTES}, start_s=OWN_START_S)
    return {**found, "flash_bytes": path.stat().st_size}
