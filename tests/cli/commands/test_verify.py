"""`edgecompress verify`, with the check itself standing in."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from edgecompress.context import Event
from edgecompress.errors import ResourceError
from edgecompress_cli.main import invoke

Capture = pytest.CaptureFixture[str]


def verdict(passed: bool) -> dict[str, Any]:
    checks = [
        {"name": "model.tflite", "passed": passed, "detail": "unchanged since the run" if passed else "it is missing"},
        {"name": "agreement with the twin", "passed": None, "detail": "the twin is not in the store any more"},
    ]
    doubt = {"code": "chance", "text": "No better than chance."}
    told = {"status": "doubtful", "reasons": [doubt]} if passed else {"status": "good", "reasons": []}
    trusted = ["latency", "agreement with the twin"]
    return {"passed": passed, "accuracy": 92.85, "checks": checks, "verdict": told, "not_recomputed": trusted}


@pytest.fixture
def answer(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What `recheck` gives; it keeps what it was asked."""
    holder: dict[str, Any] = {"verdict": verdict(True)}

    def recheck(folder: Path, store: Any, *, trust: bool, listeners: Any) -> dict[str, Any]:
        holder["asked"] = (folder, store.root, trust)
        for listener in listeners:
            listener(Event("warning", "verify", {"message": "look"}))
        if isinstance(holder["verdict"], Exception):
            raise holder["verdict"]
        return holder["verdict"]

    monkeypatch.delenv("EDGECOMPRESS_STORE", raising=False)
    monkeypatch.delenv("EDGECOMPRESS_TRUST", raising=False)
    monkeypatch.setattr("edgecompress.pipeline.recheck.recheck", recheck)
    return holder


def test_a_run_as_it_was_left(answer: dict[str, Any], capsys: Capture) -> None:
    assert invoke(["verify", "runs/x"]) == 0
    out, err = capsys.readouterr()
    assert err == "Verify: warning: look\n"
    assert out.splitlines() == [
        "check                    result       detail",
        "model.tflite             ok           unchanged since the run",
        "agreement with the twin  not checked  the twin is not in the store any more",
        "runs/x: verified",
        "Taken from the report on trust: latency, agreement with the twin.",
        "The run's own verdict: doubtful",
        "  - No better than chance.",
    ]
    assert answer["asked"] == (Path("runs/x"), Path("runs/.store"), False)


def test_a_changed_run_ends_in_exit_5(answer: dict[str, Any], capsys: Capture) -> None:
    answer["verdict"] = verdict(False)
    assert invoke(["verify", "runs/x", "--trust"]) == 5
    out = capsys.readouterr().out
    assert "model.tflite             FAILED       it is missing" in out
    assert "runs/x: NOT as the run left it\n" in out
    assert out.endswith("\nThe run's own verdict: good\n")
    assert answer["asked"][2] is True


@pytest.mark.parametrize("passed", [True, False])
def test_json_is_one_document(answer: dict[str, Any], capsys: Capture, passed: bool) -> None:
    answer["verdict"] = verdict(passed)
    assert invoke(["verify", "runs/x", "--json"]) == (0 if passed else 5)
    document = json.loads(capsys.readouterr().out)
    assert document == {"ok": passed, "folder": "runs/x", **verdict(passed)}


def test_folder_without_a_run(answer: dict[str, Any], capsys: Capture) -> None:
    answer["verdict"] = ResourceError("runs/x holds no finished run")
    assert invoke(["verify", "runs/x"]) == 4
    assert capsys.readouterr().err.endswith("error: runs/x holds no finished run\n")
    assert invoke(["verify", "runs/x", "--json"]) == 4
    assert json.loads(capsys.readouterr().out)["error"]["kind"] == "resource"
