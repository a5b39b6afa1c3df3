"""Latency of files from anywhere: one child process per runtime and thread count, so that a crash is an answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgecompress.errors import ModelError, UsageError
from edgecompress.tflite.format.flatbuffer import read_model
from edgecompress.tflite.format.views import graph_views, least_bytes
from edgecompress.tflite.runtime.child import call
from edgecompress.tflite.runtime.latency import Latency, find_runtime
from edgecompress.tflite.runtime.memory import allowed_for, require_room
from edgecompress.tflite.runtime.patience import START_S

#: What may be asked for.
MOST_RUNS, MOST_THREADS = 1_000_000, 256


@dataclass(frozen=True)
class BenchRow:
    """One file under one runtime with one number of threads.

    Attributes:
        file: As the user named it.
        runtime: Name of the runtime.
        threads: Interpreter threads.
        latency: What was measured; its ratio is to the first file under the same runtime and threads.
    """

    file: str
    runtime: str
    threads: int
    latency: Latency


def bench(
    paths: Sequence[Path],
    *,
    runtimes: Sequence[str] = ("litert",),
    threads: Sequence[int] = (1,),
    runs: int = 200,
    on_progress: Callable[[int, int], None] | None = None,
) -> list[BenchRow]:
    """Returns the latency of each file per runtime and thread count; files are measured interleaved.

    The same file may be given twice: the ratio of the two tells how noisy the machine is.

    Args:
        paths: Flatbuffers.
        runtimes: Names of runtimes.
        threads: Thread counts.
        runs: Timed runs per file, runtime and thread count.
        on_progress: Told how many timed runs of all are done.

    Raises:
        UsageError: A runtime is unknown, or a number is below 1 or too large.
        ResourceError: A file cannot be read, is no flatbuffer, or cannot be run.
    """
    for name in runtimes:
        find_runtime(name)
    for option, number, most in (("--runs", runs, MOST_RUNS), *(("--threads", n, MOST_THREADS) for n in threads)):
        if not 1 <= number <= most:
            raise UsageError(f"{option} {number}: a number from 1 to {most:,} was expected")
    allowed = sum(require_room(path, least_bytes(graph_views(read_model(path))), str(path)) for path in paths)
    rows: list[BenchRow] = []
    cases = [(runtime, count) for runtime in runtimes for count in threads]
    for number, (runtime, count) in enumerate(cases):

        def progress(done: int, total: int, before: int = number) -> None:
            if on_progress is not None:
                on_progress(before * total + done, len(cases) * total)

        files = {str(place): str(path.absolute()) for place, path in enumerate(paths)}
        arguments = {"paths": files, "runtime": runtime, "threads": count, "runs": runs}
        try:
            measured = call(
                "bench",
                arguments,
                start_s=START_S * len(paths),
                on_progress=progress,
                runtime=runtime,
                memory_bytes=allowed,
            )
        except ModelError as error:
            _find_culprit(paths, runtime)
            if len(paths) == 1:
                raise ModelError(f"{paths[0]}: {error}") from error
            raise
        rows += [
            BenchRow(str(path), runtime, count, Latency(**measured[str(place)])) for place, path in enumerate(paths)
        ]
    return rows


def _find_culprit(paths: Sequence[Path], runtime: str) -> None:
    """Runs each file alone, so that the message names the one that crashed.

    Raises:
        ModelError: One of them cannot be run.
    """
    for path in paths:
        try:
            arguments = {"path": str(path.absolute()), "runtime": runtime}
            call("invoke", arguments, runtime=runtime, memory_bytes=allowed_for(path))
        except ModelError as error:
            message = str(error).removeprefix(f"{path.absolute()}: ")
            raise ModelError(f"{path}: {message}") from error
