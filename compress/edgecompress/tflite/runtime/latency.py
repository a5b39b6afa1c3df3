"""Latency of flatbuffers, measured interleaved so that noise of the machine hits all of them alike."""

from __future__ import annotations

import contextlib
import gc
import math
import random
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgecompress.errors import UsageError
from edgecompress.tflite.runtime.runtimes import RUNTIMES
from edgecompress.tflite.runtime.session import Runtime, Session

#: The runs are split into this many rounds; in each one every flatbuffer has its turn, in another order.
BLOCKS = 20
WARM_UP_RUNS = 10
WARM_UP_S = 0.2
#: No flatbuffer is warmed up for longer than this once it has run.
WARM_UP_LIMIT_S = 2.0
#: Between words on how far it is, in rounds that take long.
TELL_S = 1.0
NANOSECONDS_PER_MS = 1e6


@dataclass(frozen=True)
class Latency:
    """How long one invoke takes.

    Attributes:
        p50_ms: Median.
        p95_ms: 95th percentile.
        mean_ms: Mean.
        min_ms: Least.
        runs: Timed invokes.
        ratio_to_first: Median over the rounds of (this one's median / the first one's median): above 1 is slower
            than the first flatbuffer, whose own ratio is 1.
    """

    p50_ms: float
    p95_ms: float
    mean_ms: float
    min_ms: float
    runs: int
    ratio_to_first: float


def measure(
    paths: Mapping[str, Path],
    *,
    runtime: str = "litert",
    threads: int = 1,
    runs: int = 200,
    warm_up_runs: int = WARM_UP_RUNS,
    seed: int = 0,
    on_progress: Callable[[int, int], None] | None = None,
) -> dict[str, Latency]:
    """Returns the latency of each flatbuffer, by label.

    Only the invoke itself is timed, not the copying of inputs and outputs. Inputs are random, the same for every run.

    Args:
        paths: Label -> file. All of them are held in memory at once.
        runtime: A name of `RUNTIMES`.
        threads: Of each interpreter.
        runs: Timed invokes per flatbuffer.
        warm_up_runs: Least invokes before the first timed one.
        seed: Of the inputs and of the order within the rounds.
        on_progress: Told how many timed invokes of all are done: 0 once all flatbuffers are loaded, then after each
            round of each, and in long ones about once a second.

    Raises:
        UsageError: There is no such runtime.
        ModelError: The runtime cannot run a file.
        ResourceError: The runtime is not installed.
    """
    engine = find_runtime(runtime)
    sessions = {label: engine.session(path, threads) for label, path in paths.items()}
    done, total = 0, runs * len(sessions)
    tell = _Paced(on_progress, total)
    tell.now(done)
    for session in sessions.values():
        session.fill(seed)
        _warm_up(session, warm_up_runs, tell)
    rounds: dict[str, list[list[int]]] = {label: [] for label in sessions}
    order = list(sessions)
    rng = random.Random(seed)  # noqa: S311 - an order, not a secret
    with _no_garbage_collection():
        for share in _shares(runs):
            rng.shuffle(order)
            for label in order:
                rounds[label].append(_timed(sessions[label], share, tell, done))
                done += share
                tell.now(done)
    return summarize(rounds)


def summarize(rounds: Mapping[str, list[list[int]]]) -> dict[str, Latency]:
    """Returns the figures of measured times.

    Args:
        rounds: Label -> for each round the times of its invokes, in nanoseconds. All labels have the same rounds.
    """
    medians = {label: [statistics.median(block) for block in blocks] for label, blocks in rounds.items()}
    first = next(iter(medians.values()), [])
    result = {}
    for label, blocks in rounds.items():
        times = np.array([value for block in blocks for value in block], np.float64) / NANOSECONDS_PER_MS
        # A clock too coarse to see the first one's time gives no ratio to divide by; one tick stands for it.
        ratios = [mine / max(its, 1) for mine, its in zip(medians[label], first, strict=True)]
        result[label] = Latency(
            p50_ms=float(np.percentile(times, 50)),
            p95_ms=float(np.percentile(times, 95)),
            mean_ms=float(times.mean()),
            min_ms=float(times.min()),
            runs=len(times),
            ratio_to_first=float(statistics.median(ratios)),
        )
    return result


def find_runtime(name: str) -> Runtime:
    """Returns a runtime by its name.

    Raises:
        UsageError: There is none of that name.
    """
    if name not in RUNTIMES:
        raise UsageError(f"unknown runtime `{name}`. Known: {', '.join(RUNTIMES)}")
    return RUNTIMES[name]


def _shares(runs: int) -> list[int]:
    """Returns how many runs each round gets; they add up to `runs` and differ by one at most."""
    blocks = min(BLOCKS, runs)
    return [runs // blocks + (block < runs % blocks) for block in range(blocks)]


class _Paced:
    """Tells how many invokes are done, when asked to, and about once a second between."""

    def __init__(self, tell: Callable[[int, int], None] | None, total: int) -> None:
        self._tell, self._total, self._next = tell, total, math.inf

    def now(self, done: int) -> None:
        if self._tell is not None:
            self._tell(done, self._total)
            self._next = time.perf_counter() + TELL_S

    def perhaps(self, done: int) -> None:
        if time.perf_counter() >= self._next:
            self.now(done)


def _warm_up(session: Session, least: int, tell: _Paced) -> None:
    began = time.perf_counter()
    for count in range(1, 1_000_000):
        session.invoke()
        tell.perhaps(0)
        elapsed = time.perf_counter() - began
        if (count >= least and elapsed >= WARM_UP_S) or elapsed >= WARM_UP_LIMIT_S:
            return


def _timed(session: Session, runs: int, tell: _Paced, before: int) -> list[int]:
    """Returns the nanoseconds of each invoke, after one untimed that brings the weights back into the caches."""
    invoke, clock = session.invoke, time.perf_counter_ns
    invoke()
    tell.perhaps(before)
    times = []
    for done in range(1, runs + 1):
        began = clock()
        invoke()
        times.append(clock() - began)
        if done < runs:
            tell.perhaps(before + done)
    return times


@contextlib.contextmanager
def _no_garbage_collection() -> Iterator[None]:
    was_enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
