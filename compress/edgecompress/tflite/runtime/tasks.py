"""What child processes do with a flatbuffer; each task takes plain JSON values and tells how far it is."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from edgecompress.errors import ModelError
from edgecompress.tflite.runtime import memory

Progress = Callable[[int, int], None]
#: What is told between the first word and the last is told this often at most.
TELL_S = 1.0
#: Samples that are held in memory at once.
BATCH = 256


class Paced:
    """Passes on the first word, the first invoke, the last one, and others about once a second."""

    def __init__(self, tell: Progress) -> None:
        """Takes who is told."""
        self._tell, self._told_at, self._done = tell, -math.inf, -1

    def __call__(self, done: int, total: int) -> None:
        """Hears that so many invokes of all are done."""
        now = time.monotonic()
        if now - self._told_at >= TELL_S or self._done < min(done, 1) or done == total:
            self._told_at, self._done = now, done
            self._tell(done, total)


def _session(arguments: dict[str, Any]) -> Any:
    from edgecompress.tflite.runtime.latency import find_runtime

    engine, threads = find_runtime(arguments["runtime"]), arguments.get("threads", 1)
    engine.load()
    memory.limit(threads)
    return engine.session(Path(arguments["path"]), threads)


def _bench(arguments: dict[str, Any], on_progress: Progress) -> Any:
    from dataclasses import asdict

    from edgecompress.tflite.runtime.latency import find_runtime, measure

    find_runtime(arguments["runtime"]).load()
    memory.limit(arguments.get("threads", 1) * len(arguments["paths"]))
    paths = {label: Path(path) for label, path in arguments.pop("paths").items()}
    measured = measure(paths, **arguments, on_progress=on_progress)
    return {label: asdict(latency) for label, latency in measured.items()}


def _invoke(arguments: dict[str, Any], _on_progress: Progress) -> Any:
    session = _session(arguments)
    session.fill(seed=0)
    session.invoke()
    return True


def _arena(arguments: dict[str, Any], _on_progress: Progress) -> Any:
    from dataclasses import asdict

    from edgecompress.tflite.runtime.arena import measure_arena
    from edgecompress.tflite.runtime.micro import MicroRuntime

    MicroRuntime().load()
    memory.limit()
    return asdict(measure_arena(Path(arguments["path"]), arguments["arena_bytes"]))


def _outputs(arguments: dict[str, Any], on_progress: Progress) -> Any:
    """Runs samples of raw values, or of real ones where `real`; outputs are of the same kind."""
    import numpy as np

    from edgecompress.tflite.runtime.session import dequantize_output, quantize_input

    session = _session(arguments)
    inputs = np.load(arguments["inputs"], mmap_mode="r", allow_pickle=False)
    real, tell = arguments.get("real", False), Paced(on_progress)
    source, sink = session.input, session.output
    expected = arguments.get("numbers")
    if expected is not None and math.prod(sink.shape[1:]) != expected:
        raise ModelError(f"its output is {sink.dtype}{list(sink.shape)}, where {expected:,} numbers were expected")
    if not math.prod(sink.shape[1:]):
        raise ModelError(f"its output is empty: {sink.dtype}{list(sink.shape)}")
    dtype = np.dtype(np.float32) if real else sink.dtype
    found = np.lib.format.open_memmap(arguments["outputs"], "w+", dtype, (len(inputs), *sink.shape[1:]))
    tell(0, len(inputs))
    for start in range(0, len(inputs), BATCH):
        some = np.asarray(inputs[start : start + BATCH])

        def told(done: int, _total: int, before: int = start) -> None:
            tell(before + done, len(inputs))

        raw = session.run(quantize_input(some, source) if real else some, told)
        found[start : start + len(raw)] = dequantize_output(raw, sink) if real else raw
    found.flush()
    return {"scale": sink.scale if sink.quantized else None}


def _tensors(arguments: dict[str, Any], on_progress: Progress) -> Any:
    """Runs real samples with LiteRT's plain kernels and writes the tensors of each to a file of its own."""
    import numpy as np

    from edgecompress.tflite.runtime.plain import CANNOT, kept_tensors
    from edgecompress.tflite.runtime.runtimes import RUNTIMES

    RUNTIMES["litert"].load()
    memory.limit()
    samples = np.load(arguments["samples"], allow_pickle=False)
    content = Path(arguments["path"]).read_bytes()
    try:
        for number, values in enumerate(kept_tensors(content, samples, arguments["numbers"])):
            named: dict[str, Any] = {str(n): value for n, value in values.items()}
            np.savez(Path(arguments["folder"], f"{number}.npz"), **named)
            on_progress(number + 1, len(samples))
    except (RuntimeError, ValueError, TypeError, IndexError) as error:  # how interpreters report what they cannot do
        cause = (str(error).strip().splitlines() or [type(error).__name__])[0].removeprefix(CANNOT)
        raise ModelError(CANNOT + cause) from error
    return len(samples)


TASKS: dict[str, Callable[[dict[str, Any], Progress], Any]] = {
    "arena": _arena,
    "bench": _bench,
    "invoke": _invoke,
    "outputs": _outputs,
    "tensors": _tensors,
}
