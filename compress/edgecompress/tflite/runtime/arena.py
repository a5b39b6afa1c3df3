"""The tensor arena a microcontroller needs for a flatbuffer, measured by tflite-micro's own allocator."""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgecompress.errors import ModelError, ResourceError
from edgecompress.tflite.format.flatbuffer import read_model

_FIGURE = re.compile(r"Arena allocation (total|head|tail) (\d+) bytes")
#: Output of tflite-micro that tells nothing about the cause of a failure.
_NOISE = re.compile(r"^\s*$|^\[Recording|Traceback")


@dataclass(frozen=True)
class Arena:
    """Memory tflite-micro's allocator took.

    Attributes:
        arena_bytes: All of it, as on this machine: pointers take 8 bytes here and 4 on most microcontrollers, so a
            device needs a little less.
        activation_bytes: The part that activations and scratch buffers share; with the reference kernels it is the same
            on every machine.
        persistent_bytes: What stays for the life of the interpreter: tensor structures, kernel data.
    """

    arena_bytes: int
    activation_bytes: int
    persistent_bytes: int


def measure_arena(path: Path, arena_bytes: int) -> Arena:
    """Returns the memory a flatbuffer takes under tflite-micro; to be called in a child process, for it can crash.

    Args:
        path: The flatbuffer.
        arena_bytes: What the interpreter may take at most.

    Raises:
        ModelError: tflite-micro cannot run the file.
        ResourceError: tflite-micro is not installed.
    """
    try:
        from tflite_micro.python.tflite_micro import runtime
    except ImportError as error:
        raise ResourceError(
            f"tflite-micro is not installed ({error}). Install it with: pip install tflite-micro"
        ) from error
    inputs = len(read_model(path).subgraphs[0].inputs)
    with _captured() as output:
        try:
            interpreter = runtime.Interpreter.from_file(str(path), arena_size=arena_bytes)
            for number in range(inputs):
                details = interpreter.get_input_details(number)
                interpreter.set_input(np.zeros(details["shape"], details["dtype"]), number)
            interpreter.invoke()
            interpreter.print_allocations()
        except (RuntimeError, ValueError, TypeError, IndexError) as error:
            lines = [line.strip() for line in output() if not _NOISE.search(line)]
            cause = "; ".join(lines[:2]) or " ".join(str(error).split()) or type(error).__name__
            raise ModelError(f"tflite-micro cannot run it: {cause}") from error
        figures = {name: int(size) for name, size in _FIGURE.findall("\n".join(output()))}
    if len(figures) != len(("total", "head", "tail")):
        raise ModelError("tflite-micro did not tell the size of its arena")
    return Arena(figures["total"], figures["head"], figures["tail"])


class _Lines:
    """What has been written to a descriptor's file so far."""

    def __init__(self, path: str) -> None:
        self._path = path

    def __call__(self) -> list[str]:
        return Path(self._path).read_text(encoding="utf-8", errors="replace").splitlines()


@contextlib.contextmanager
def _captured() -> Iterator[_Lines]:
    """Collects what is written to descriptor 2, which is how tflite-micro tells its figures and its errors."""
    with tempfile.NamedTemporaryFile(prefix="edgecompress-") as file:
        saved = os.dup(2)
        try:
            os.dup2(file.fileno(), 2)
            yield _Lines(file.name)
        finally:
            os.dup2(saved, 2)
            os.close(saved)
