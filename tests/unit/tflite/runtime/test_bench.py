"""Rows of the bench command, with a stand-in for the child process, and once with a real one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgecompress.errors import ModelError, ResourceError, UsageError
from edgecompress.recipe.schema import BenchmarkSpec
from edgecompress.tflite.runtime import bench as module
from edgecompress.tflite.runtime.bench import bench
from tests.unit.made_flatbuffer import Op, int8, make_bytes

pytestmark = pytest.mark.slow

RELU = make_bytes([int8(1, 4), int8(1, 4)], [Op("RELU", (0,), (1,))])


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / "a.tflite", tmp_path / "b.tflite"]
    for path in paths:
        path.write_bytes(RELU)
    return paths


def measured(label: str, runs: int) -> dict[str, Any]:
    return {
        "p50_ms": 1.0 + int(label),
        "p95_ms": 2.0,
        "mean_ms": 1.0,
        "min_ms": 0.5,
        "runs": runs,
        "ratio_to_first": 1.0,
    }


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, dict[str, Any]]]:
    """Answers at once, without a child, and writes down what was asked."""
    asked: list[tuple[str, dict[str, Any]]] = []

    def call(task: str, arguments: dict[str, Any], *, on_progress: Callable[[int, int], None], **_: object) -> Any:
        asked.append((task, arguments))
        total = arguments["runs"] * len(arguments["paths"])
        on_progress(total, total)
        return {label: measured(label, arguments["runs"]) for label in arguments["paths"]}

    monkeypatch.setattr(module, "call", call)
    return asked


def test_there_is_a_row_per_file_runtime_and_thread_count(
    files: list[Path], calls: list[tuple[str, dict[str, Any]]]
) -> None:
    rows = bench(files, runtimes=["litert", "tensorflow"], threads=[1, 2], runs=7)
    assert [(row.runtime, row.threads, Path(row.file).name) for row in rows] == [
        (runtime, count, name)
        for runtime in ("litert", "tensorflow")
        for count in (1, 2)
        for name in ("a.tflite", "b.tflite")
    ]
    assert [row.latency.p50_ms for row in rows[:2]] == [1.0, 2.0]
    assert len(calls) == 4
    assert calls[0] == (
        "bench",
        {"paths": {"0": str(files[0]), "1": str(files[1])}, "runtime": "litert", "threads": 1, "runs": 7},
    )


def test_the_same_file_may_be_given_twice(files: list[Path], calls: list[tuple[str, dict[str, Any]]]) -> None:
    rows = bench([files[0], files[0]], runs=3)
    assert [row.file for row in rows] == [str(files[0])] * 2
    assert calls[0][1]["paths"] == {"0": str(files[0]), "1": str(files[0])}


def test_progress_runs_through_all_cases(files: list[Path], calls: list[tuple[str, dict[str, Any]]]) -> None:
    told: list[tuple[int, int]] = []
    bench(files, threads=[1, 2, 4], runs=5, on_progress=lambda *done: told.append(done))
    assert told == [(10, 30), (20, 30), (30, 30)]
    assert bench(files, runs=5)


@pytest.mark.parametrize(
    ("runs", "threads", "said"),
    [
        (0, [1], "--runs 0: a number from 1 to 1,000,000 was expected"),
        (5, [1, 0], "--threads 0: a number from 1 to 256 was expected"),
        (-1, [1], "--runs -1: a number from 1"),
        (5, [257], "--threads 257: a number from 1 to 256"),
        (10**9, [1], "--runs 1000000000: a number from 1 to 1,000,000"),
    ],
)
def test_numbers_that_cannot_be_meant_are_refused(files: list[Path], runs: int, threads: list[int], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        bench(files, runs=runs, threads=threads)


def test_what_may_be_asked_for_is_what_a_recipe_may_ask_for() -> None:
    limits = BenchmarkSpec.model_json_schema()["properties"]
    assert (limits["runs"]["maximum"], limits["threads"]["maximum"]) == (module.MOST_RUNS, module.MOST_THREADS)


def test_tensors_that_do_not_fit_into_memory_are_told_before_anything_runs(
    files: list[Path], calls: list[tuple[str, dict[str, Any]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    files[1].write_bytes(make_bytes([int8(1, 4), int8(1, 1 << 30)], [Op("RELU", (0,), (1,))]))
    with pytest.raises(ModelError, match=r"b\.tflite: its tensors need 1\.0 GiB at once.*EDGECOMPRESS_MEMORY_MIB=20"):
        bench(files)
    assert calls == []
    monkeypatch.setenv("EDGECOMPRESS_MEMORY_MIB", "2048")
    assert len(bench(files)) == 2
    monkeypatch.setenv("EDGECOMPRESS_MEMORY_MIB", "plenty")
    with pytest.raises(UsageError, match="EDGECOMPRESS_MEMORY_MIB is 'plenty': a whole number of MiB was expected"):
        bench(files)


def test_what_is_wrong_is_told_before_anything_runs(
    files: list[Path], calls: list[tuple[str, dict[str, Any]]], tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="unknown runtime `abacus`"):
        bench(files, runtimes=["litert", "abacus"])
    (tmp_path / "no.tflite").write_text("something else")
    with pytest.raises(ResourceError, match=r"no\.tflite is not a TFLite flatbuffer"):
        bench([*files, tmp_path / "no.tflite"])
    with pytest.raises(ResourceError, match="cannot read"):
        bench([tmp_path / "gone.tflite"])
    assert calls == []


def test_the_file_that_crashed_is_named(files: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    def call(task: str, arguments: dict[str, Any], **_: object) -> Any:
        if task == "bench" or arguments["path"] == str(files[1]):
            raise ModelError("the interpreter crashed (SIGSEGV).")
        return True

    monkeypatch.setattr(module, "call", call)
    with pytest.raises(ModelError, match=r"b\.tflite: the interpreter crashed \(SIGSEGV\)\.$"):
        bench(files)


def test_a_crash_that_no_file_repeats_is_told_as_it_was(files: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    def call(task: str, _arguments: dict[str, Any], **_: object) -> Any:
        if task == "bench":
            raise ModelError("the interpreter ran out of memory")
        return True

    monkeypatch.setattr(module, "call", call)
    with pytest.raises(ModelError, match=r"^the interpreter ran out of memory$"):
        bench(files)


def test_a_real_child_measures_and_names_its_culprit(files: list[Path], tmp_path: Path) -> None:
    rows = bench(files, runs=10)
    assert [row.latency.runs for row in rows] == [10, 10]
    assert rows[0].latency.ratio_to_first == 1.0
    odd = tmp_path / "odd.tflite"
    odd.write_bytes(make_bytes([int8(1, 4), int8(1, 4)], [Op("CUSTOM", (0,), (1,), custom="Whirl")]))
    with pytest.raises(ModelError, match=r"odd\.tflite: litert cannot run it: .*Whirl") as caught:
        bench([files[0], odd], runs=10)
    assert str(caught.value).count("odd.tflite") == 1
