"""The arithmetic and the order of latency measurements; how long anything takes is not asserted."""

from __future__ import annotations

import gc
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest

from edgecompress.errors import ModelError, UsageError
from edgecompress.tflite.runtime import latency
from edgecompress.tflite.runtime.latency import _shares, find_runtime, measure, summarize
from edgecompress.tflite.runtime.runtimes import RUNTIMES
from tests.unit.made_flatbuffer import Op, int8, make_bytes

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("runs", [1, 5, 19, 20, 21, 39, 200, 1000])
def test_shares_add_up_and_differ_by_one_at_most(runs: int) -> None:
    shares = _shares(runs)
    assert sum(shares) == runs
    assert len(shares) == min(runs, 20)
    assert max(shares) - min(shares) <= 1
    assert min(shares) >= 1


def test_figures_of_given_times() -> None:
    rounds = {
        "a": [[1_000_000, 3_000_000], [2_000_000, 2_000_000]],
        "b": [[4_000_000, 4_000_000], [1_000_000, 1_000_000]],
    }
    found = summarize(rounds)
    assert list(found) == ["a", "b"]
    a, b = found["a"], found["b"]
    assert (a.p50_ms, a.mean_ms, a.min_ms, a.runs, a.ratio_to_first) == (2.0, 2.0, 1.0, 4, 1.0)
    assert a.p95_ms == pytest.approx(2.85)  # between the third and the fourth of 1, 2, 2, 3
    assert (b.p50_ms, b.mean_ms, b.min_ms) == (2.5, 2.5, 1.0)
    assert b.ratio_to_first == pytest.approx((4 / 2 + 1 / 2) / 2)


def test_the_ratio_is_that_of_the_typical_round_and_not_of_the_sums() -> None:
    """A pause of the machine in one round must not decide."""
    slow_round = [100_000_000]
    found = summarize({"first": [[1_000_000]] * 4 + [slow_round], "same": [[1_000_000]] * 5})
    assert found["same"].ratio_to_first == 1.0


def test_a_time_too_short_for_the_clock_gives_no_division_by_zero() -> None:
    assert summarize({"a": [[0]], "b": [[5]]})["b"].ratio_to_first == 5.0


def test_nothing_measured_gives_nothing() -> None:
    assert summarize({}) == {}


def test_an_unknown_runtime_is_named_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"unknown runtime `abacus`. Known: litert, tensorflow"):
        measure({"a": tmp_path / "x.tflite"}, runtime="abacus")
    assert find_runtime("litert") is RUNTIMES["litert"]


class FakeSession:
    """Writes down when it is invoked."""

    def __init__(self, label: str, log: list[str], clock: Callable[[], None]) -> None:
        self.label, self.log, self.clock = label, log, clock
        self.seeds: list[int] = []

    def fill(self, seed: int) -> None:
        self.seeds.append(seed)

    def invoke(self) -> None:
        assert self.seeds, "inputs are set before the first run"
        self.log.append(self.label)
        self.clock()


class FakeRuntime:
    """Sessions by the file's stem; time passes only in them."""

    name = "fake"

    def __init__(self, monkeypatch: pytest.MonkeyPatch, step_s: float = 0.125) -> None:
        self.log: list[str] = []
        self.sessions: dict[str, FakeSession] = {}
        self.threads: set[int] = set()
        self.now = 0.0
        self.step_s = step_s
        monkeypatch.setattr(latency.time, "perf_counter", lambda: self.now)
        monkeypatch.setattr(latency.time, "perf_counter_ns", lambda: round(self.now * 1e9))
        monkeypatch.setitem(RUNTIMES, "fake", self)

    def session(self, path: Path, threads: int = 1) -> FakeSession:
        self.threads.add(threads)
        self.sessions[path.stem] = FakeSession(path.stem, self.log, self.tick)
        return self.sessions[path.stem]

    def tick(self) -> None:
        self.now += self.step_s


PATHS = {name: Path(f"{name}.tflite") for name in ("a", "b", "c")}


def test_every_round_gives_each_file_its_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(latency, "TELL_S", 1000.0)
    fake = FakeRuntime(monkeypatch)
    told: list[tuple[int, int]] = []
    found = measure(
        PATHS, runtime="fake", threads=3, runs=40, warm_up_runs=2, seed=7, on_progress=lambda *done: told.append(done)
    )
    assert list(found) == ["a", "b", "c"]
    assert {entry.runs for entry in found.values()} == {40}
    assert {entry.p50_ms for entry in found.values()} == {125.0}
    assert fake.threads == {3}
    assert [session.seeds for session in fake.sessions.values()] == [[7]] * 3
    warm, log = fake.log[:6], fake.log[6:]
    assert warm == ["a", "a", "b", "b", "c", "c"]
    # 20 rounds; in each, each file runs three times on end: once to warm the caches and twice timed.
    turns = [log[place : place + 3] for place in range(0, len(log), 3)]
    assert len(turns) == 60
    assert all(len(set(turn)) == 1 for turn in turns)
    orders = ["".join(turn[0] for turn in turns[place : place + 3]) for place in range(0, 60, 3)]
    assert all(sorted(order) == ["a", "b", "c"] for order in orders)
    assert len(set(orders)) > 2  # nobody is always first
    assert [done for done, _ in told] == list(range(0, 121, 2))
    assert {total for _, total in told} == {120}
    assert all(before < after for before, after in pairwise(done for done, _ in told))


def test_slow_files_are_told_of_about_once_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who listens takes silence for a hang: also in a long round, and while files are warmed up."""
    fake = FakeRuntime(monkeypatch, step_s=0.5)
    told: list[tuple[float, int]] = []
    measure(
        {"a": PATHS["a"]}, runtime="fake", runs=400, warm_up_runs=4,
        on_progress=lambda done, _total: told.append((fake.now, done)),
    )  # fmt: skip
    assert told[:4] == [(0.0, 0), (1.0, 0), (2.0, 0), (3.0, 1)]
    assert told[-1] == (fake.now, 400)
    assert all(after[0] - before[0] <= 1.5 and before[1] <= after[1] for before, after in pairwise(told))


def test_the_order_is_the_same_for_the_same_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    logs = []
    for seed in (1, 1, 2):
        fake = FakeRuntime(monkeypatch)
        measure(PATHS, runtime="fake", runs=20, warm_up_runs=1, seed=seed)
        logs.append(fake.log)
    assert logs[0] == logs[1] != logs[2]


@pytest.mark.parametrize(
    ("step_s", "least", "runs"),
    [
        (0.001, 10, 200),  # fast: until the time is up
        (0.25, 10, 8),  # slow: not for longer than two seconds
        (0.125, 10, 10),  # in between: the least number of runs
        (5.0, 10, 1),  # very slow: once
    ],
)
def test_warm_up_ends_by_time_and_by_number(
    step_s: float, least: int, runs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = FakeRuntime(monkeypatch, step_s)
    session = fake.session(PATHS["a"])
    session.fill(0)
    latency._warm_up(session, least, latency._Paced(None, 1))
    assert len(fake.log) == pytest.approx(runs, abs=1 if step_s < 0.01 else 0)


def test_the_garbage_collector_rests_while_times_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeRuntime(monkeypatch)
    states: list[bool] = []
    monkeypatch.setattr(
        latency, "_timed", lambda session, runs, tell, before: states.append(gc.isenabled()) or [1] * runs
    )
    assert gc.isenabled()
    measure({"a": PATHS["a"]}, runtime="fake", runs=3)
    assert states == [False] * 3
    assert gc.isenabled()
    gc.disable()
    try:
        measure({"a": PATHS["a"]}, runtime="fake", runs=1)
        assert not gc.isenabled()
    finally:
        gc.enable()
    assert fake.log


def test_real_files_are_counted_and_labelled(tmp_path: Path) -> None:
    path = tmp_path / "relu.tflite"
    path.write_bytes(make_bytes([int8(1, 4), int8(1, 4)], [Op("RELU", (0,), (1,))]))
    found = measure({"one": path, "again": path}, runs=10, warm_up_runs=1)
    assert {label: entry.runs for label, entry in found.items()} == {"one": 10, "again": 10}
    assert found["one"].ratio_to_first == 1.0
    for entry in found.values():
        assert 0 < entry.min_ms <= entry.p50_ms <= entry.p95_ms
    with pytest.raises(ModelError, match="cannot run it"):
        measure({"gone": tmp_path / "gone.tflite"}, runs=1)
