"""`edgecompress report`: one run, several runs, and what is no run."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edgecompress.report.schema import VerificationSummary
from edgecompress.store.files import sealed
from edgecompress_cli.main import invoke
from tests.cli.conftest import Terminal
from tests.unit.report import sample

Write = Callable[..., Path]


def test_one_run_is_shown(write_run: Write, capsys: pytest.CaptureFixture[str]) -> None:
    write_run()
    assert invoke(["report", "run"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    lines = out.splitlines()
    assert lines[0] == "fashion-mnist-qat: Good: verified, within budget on all 4 lines."
    for line in (
        "Flatbuffer           53.2 KiB  122x smaller than FP32 teacher resnet9 (6,479.0 KiB)",
        "                               5.84x smaller than FP32 student resnet8 (310.8 KiB)",
        "Latency p50, litert  0.171 ms  28.2x faster than FP32 teacher resnet9 (4.82 ms)",
        "  kept    flatbuffer size: 53.2 KiB, at most 64 KiB allowed",
        "Before you rely on this",
        "run/model.tflite",
        "run/report.html",
    ):
        assert line in lines, line
    ratios = "FP32 teacher resnet9   122x   122x   122x    28.2x       40.2x  16.3x  -1.01 points (120 won, 221 lost"
    assert any(line.startswith(ratios) for line in lines)
    assert any(line.startswith("Result, INT8") and "95.88 %" in line and "0.202 ms" in line for line in lines)


def test_the_file_itself_may_be_named(write_run: Write, capsys: pytest.CaptureFixture[str]) -> None:
    write_run()
    assert invoke(["report", "run/report.json"]) == 0
    assert "run/model.tflite" in capsys.readouterr().out.splitlines()


def test_what_failed_is_said(write_run: Write, capsys: pytest.CaptureFixture[str]) -> None:
    write_run("failed", verification=sample.failed(), models=sample.without("teacher", "student"))
    tight = sample.recipe(budget={"size_kib": 10})
    write_run("missed", tight)
    write_run("plain", sample.recipe(budget=None), verification=None)
    assert invoke(["report", "failed"]) == 0
    failed = capsys.readouterr().out
    assert "Failed: do not ship this flatbuffer, its verification failed." in failed
    assert "  - MEAN (layer pool) holds float32: it writes float32 values" in failed
    assert "Not INT8" in failed
    assert invoke(["report", "missed"]) == 0
    missed = capsys.readouterr().out
    assert "Failed: budget missed (size_kib)." in missed
    assert "  MISSED  flatbuffer size: 53.2 KiB, at most 10 KiB allowed" in missed
    assert invoke(["report", "plain"]) == 0
    assert "Budget" not in capsys.readouterr().out.replace("not verified, no budget set", "")


def test_several_runs_are_compared(write_run: Write, capsys: pytest.CaptureFixture[str]) -> None:
    write_run("a")
    write_run("b", sample.recipe(seed=7, prune=None), models=(sample.TEACHER, replace(sample.RESULT, accuracy=91.0)))
    assert invoke(["report", "a", "b"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split("  ")[0] == "Run"
    assert "-1.85 points" in next(line for line in lines if line.startswith("b "))
    assert "Where the recipes differ" in lines
    assert any(line.split() == ["seed", "0", "7"] for line in lines)
    assert any(line.split() == ["prune", "given", "-"] for line in lines)


def test_runs_of_one_recipe_have_no_differences(write_run: Write, capsys: pytest.CaptureFixture[str]) -> None:
    write_run("a")
    assert invoke(["report", "a", "a"]) == 0
    assert "Where the recipes differ" not in capsys.readouterr().out


def test_json_of_one_run(write_run: Write, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_run()
    assert invoke(["report", "run", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document == {"ok": True, "output": "run", "report": json.loads((folder / "report.json").read_text())}


def test_json_of_several_runs(write_run: Write, capsys: pytest.CaptureFixture[str]) -> None:
    write_run("a")
    write_run("b", sample.recipe(seed=7))
    assert invoke(["report", "--json", "a", "b"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert [run["output"] for run in document["runs"]] == ["a", "b"]
    assert document["recipe_differences"] == [{"key": "seed", "values": [0, 7]}]
    assert document["comparison"][1]["size_bytes"] == 54_488
    assert document["ok"] is True
    assert document["notes"]


@pytest.mark.parametrize("as_json", [False, True])
def test_folder_without_a_finished_run(
    write_run: Write, capsys: pytest.CaptureFixture[str], as_json: bool, tmp_path: Path
) -> None:
    write_run("a")
    (tmp_path / "empty").mkdir()
    assert invoke(["report", "a", "empty", *(["--json"] if as_json else [])]) == 4
    out, err = capsys.readouterr()
    message = "empty holds no finished run: there is no report.json. Give the folder that `edgecompress run` wrote to."
    if as_json:
        assert json.loads(out)["error"]["message"] == message
    else:
        assert (out, err) == ("", f"error: {message}\n")


@pytest.mark.parametrize("columns", [60, 80, 120])
def test_nothing_is_wider_than_the_terminal(
    write_run: Write, open_terminal: Callable[[], Terminal], monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    write_run("a")
    write_run("b", sample.recipe(seed=7))
    terminal = open_terminal()
    monkeypatch.setenv("COLUMNS", str(columns))
    assert invoke(["report", "a"]) == 0
    assert invoke(["report", "a", "b"]) == 0
    text = re.sub(r"\x1b\[[\d;]*m", "", terminal.getvalue())
    assert max(len(line) for line in text.splitlines()) <= columns


def test_a_failed_verification_is_red(write_run: Write, open_terminal: Callable[[], Terminal]) -> None:
    write_run("a", verification=VerificationSummary(False, sample.CENSUS, ("it differs",)))
    terminal = open_terminal()
    assert invoke(["report", "a"]) == 0
    assert "\x1b[31m  - it differs\x1b[0m" in terminal.getvalue()


@pytest.mark.parametrize(
    ("damage", "folders"),
    [
        ({"models": [5]}, ["run"]),
        ({"models": [{}]}, ["run"]),
        ({"budget": 7}, ["run"]),
        ({"data": None}, ["run"]),
        ({"models": [5]}, ["run", "other"]),
        ({"recipe": 5}, ["other", "run"]),
    ],
)
def test_what_only_looks_like_a_report_is_refused(
    write_run: Write, capsys: pytest.CaptureFixture[str], damage: dict[str, Any], folders: list[str]
) -> None:
    path = write_run() / "report.json"
    write_run("other")
    path.write_text(json.dumps(sealed({**json.loads(path.read_text()), **damage})))
    assert invoke(["report", *folders]) == 4
    assert "the report cannot be shown" in capsys.readouterr().err
