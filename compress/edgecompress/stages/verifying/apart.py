"""The shipped flatbuffer, run in processes of its own: it may be anybody's, or its runtime may need one."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecompress.stages.base import Workbench
from edgecompress.tflite.format.flatbuffer import read_model
from edgecompress.tflite.format.views import graph_views, least_bytes
from edgecompress.tflite.runtime.child import call
from edgecompress.tflite.runtime.memory import allowed_for, require_room
from edgecompress.tflite.runtime.patience import OWN_START_S

SCORING_BATCH = 256


def outputs_apart(
    bench: Workbench, path: Path, inputs: NDArray[Any], runtime: str, threads: int
) -> NDArray[np.float32]:
    """Returns the flatbuffer's outputs for raw inputs, as real numbers: (N, ...).

    Raises:
        ModelError: The runtime cannot run it, crashes or hangs; or its outputs are not as many as the task's.
        ResourceError: The runtime is not installed.
    """
    if not len(inputs):
        return np.zeros((0, *bench.dataset.outputs), np.float32)

    def told(done: int, total: int) -> None:
        bench.ctx.progress(done, total, "samples")

    # A file that the run has made itself may take what the machine has.
    limits: dict[str, Any] = {"start_s": OWN_START_S}
    if bench.apart:
        limits = {"memory_bytes": require_room(path, least_bytes(graph_views(read_model(path))))}
    with tempfile.TemporaryDirectory(prefix="edgecompress-") as folder:
        given, found = (Path(folder, f"{name}.npy") for name in ("inputs", "outputs"))
        _write_inputs(bench, inputs, given)
        arguments = {
            "path": str(path.absolute()),
            "inputs": str(given),
            "outputs": str(found),
            "real": True,
            "numbers": int(np.prod(bench.dataset.outputs)) if bench.apart else None,
            "runtime": runtime,
            "threads": threads,
        }
        call("outputs", arguments, on_progress=told, runtime=runtime, **limits)
        outputs: NDArray[np.float32] = np.load(found, allow_pickle=False)
        return outputs


def kept_tensors_apart(
    content: bytes, samples: NDArray[Any], numbers: Sequence[int]
) -> Iterator[dict[int, NDArray[Any]]]:
    """Gives what `kept_tensors` gives.

    Raises:
        ModelError: The plain kernels cannot run the file, crash or hang.
    """
    with tempfile.TemporaryDirectory(prefix="edgecompress-") as name:
        folder = Path(name)
        model, given = folder / "model.tflite", folder / "samples.npy"
        model.write_bytes(content)
        np.save(given, samples, allow_pickle=False)
        arguments = {"path": str(model), "samples": str(given), "folder": name, "numbers": [int(n) for n in numbers]}
        for number in range(call("tensors", arguments, memory_bytes=allowed_for(model))):
            with np.load(folder / f"{number}.npz", allow_pickle=False) as found:
                yield {int(n): found[n] for n in found.files}


def _write_inputs(bench: Workbench, inputs: NDArray[Any], path: Path) -> None:
    """Writes what the flatbuffer is given, as real numbers, a part at a time: as such they may be large."""
    written: NDArray[Any] | None = None
    for start in range(0, len(inputs), SCORING_BATCH):
        x = bench.task.to_flatbuffer(bench.task.inputs(inputs[start : start + SCORING_BATCH]))
        if written is None:
            written = np.lib.format.open_memmap(path, "w+", x.dtype, (len(inputs), *x.shape[1:]))
        written[start : start + len(x)] = x
    if written is not None:
        written.flush()  # type: ignore[attr-defined]
