"""`edgecompress bench`, on a flatbuffer of one operator."""

from __future__ import annotations

import json
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from edgecompress.tflite.runtime import bench, child, latency
from edgecompress.tflite.runtime.probe import build
from edgecompress_cli.main import invoke

pytestmark = pytest.mark.slow

Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def _model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("relu.tflite").write_bytes(build())


def test_the_same_file_twice_takes_the_same_time(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    """In this process, by a clock that goes on by a millisecond whenever it is read."""
    clock = count()
    times = SimpleNamespace(perf_counter=lambda: 1e-3 * next(clock), perf_counter_ns=lambda: 1_000_000 * next(clock))
    monkeypatch.setattr(latency, "time", times)

    def call(task: str, arguments: dict[str, Any], *, on_progress: child.Progress, **_: object) -> Any:
        return child.TASKS[task](arguments, on_progress)

    monkeypatch.setattr(bench, "call", call)
    assert invoke(["bench", "relu.tflite", "relu.tflite", "--runs", "10"]) == 0
    out, err = capsys.readouterr()
    header, first, second, note = out.splitlines()
    assert header.split("  ")[0] == "file"
    assert first.split()[:3] == second.split()[:3] == ["relu.tflite", "litert", "1"]
    assert first.split()[-1] == second.split()[-1] == "1.00"
    assert note == "Time ratio: against relu.tflite, same runtime and threads; below 1 is faster."
    assert err.splitlines()[-1] == "20 of 20 runs"


def test_json_has_a_row_per_file_and_thread_count(capsys: Capture) -> None:
    assert invoke(["bench", "relu.tflite", "--runs", "10", "--threads", "1", "--threads", "2", "--json"]) == 0
    out, err = capsys.readouterr()
    document = json.loads(out)
    assert (document["ok"], document["first"], document["runs"]) == (True, "relu.tflite", 10)
    assert [row["threads"] for row in document["results"]] == [1, 2]
    for row in document["results"]:
        assert (row["file"], row["runtime"], row["runs"]) == ("relu.tflite", "litert", 10)
        assert 0 < row["min_ms"] <= row["p50_ms"] <= row["p95_ms"]
    assert "of 20 runs" in err


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["relu.tflite", "--runtime", "litter"], 2, "unknown runtime `litter`. Known: litert"),
        (["relu.tflite", "--runs", "0"], 2, "--runs 0: a number from 1 to 1,000,000 was expected"),
        (["gone.tflite"], 4, "gone.tflite"),
        ([], 2, "Missing argument"),
    ],
)
@pytest.mark.parametrize("as_json", [False, True])
def test_errors(arguments: list[str], code: int, message: str, as_json: bool, capsys: Capture) -> None:
    assert invoke(["bench", *arguments, *(["--json"] if as_json else [])]) == code
    out, err = capsys.readouterr()
    said = json.loads(out)["error"]["message"] if as_json else err
    assert message in said
