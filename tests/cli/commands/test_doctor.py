"""`edgecompress doctor`."""

from __future__ import annotations

import json
from typing import Any

import pytest

from edgecompress_cli.main import invoke

FOUND: dict[str, Any] = {
    "ok": True,
    "edgecompress": "1.2.3",
    "python": "3.11.7",
    "platform": "Linux",
    "libraries": [
        {"name": "torch", "version": "2.13.0", "required": True},
        {"name": "timm", "version": None, "required": False},
    ],
    "missing": [],
    "conversion": "",
    "runtimes": {
        "litert": {"works": True, "version": "2.3.0", "reason": ""},
        "tflite-runtime": {"works": False, "version": "2.14.0", "reason": "it was built for NumPy 1"},
        "tflite-micro": {"works": False, "version": None, "reason": "not installed"},
    },
    "machine": {
        "processor": "AMD EPYC",
        "cores": 2,
        "threads": 2,
        "features": ["avx2"],
        "memory_bytes": 8 * 1024**3,
        "memory_available_bytes": 4 * 1024**3,
    },
    "folders": [
        {"name": "store", "path": "runs/.store", "size_bytes": 2**20, "free_bytes": 2**30},
        {"name": "temporary", "path": "/tmp", "size_bytes": None, "free_bytes": 2**30},  # noqa: S108
    ],
    "data": {"fashion-mnist": None},
}


def test_shows_what_works_and_what_does_not(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("edgecompress.pipeline.diagnosis.diagnose", lambda: FOUND)
    assert invoke(["doctor"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:3] == [
        "edgecompress 1.2.3, Python 3.11.7, Linux",
        "AMD EPYC, 2 cores (avx2)",
        "memory: 8.0 GiB, 4.0 GiB available",
    ]
    for line in (
        "litert          2.3.0    works",
        "tflite-runtime  2.14.0   does not work: it was built for NumPy 1",
        "tflite-micro    -        not installed",
        "timm     -        optional",
        "store folder runs/.store: 1.0 MiB, 1.0 GiB free",
        "temporary folder /tmp: 1.0 GiB free",
        "data fashion-mnist: not found (brought by: make data)",
        "A run can work here.",
    ):
        assert line in lines


def test_missing_parts_are_named_and_the_exit_code_is_4(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = {"works": False, "version": None, "reason": "not installed"}
    found = FOUND | {"ok": False, "missing": ["torch"], "runtimes": FOUND["runtimes"] | {"litert": broken}}
    found["libraries"] = [{"name": "torch", "version": None, "required": True}]
    found["machine"] = FOUND["machine"] | {"memory_bytes": 0, "features": []}
    monkeypatch.setattr("edgecompress.pipeline.diagnosis.diagnose", lambda: found)
    assert invoke(["doctor"]) == 4
    out = capsys.readouterr().out
    assert "torch    -        MISSING" in out
    assert "memory: unknown" in out
    assert out.splitlines()[-1] == "A run cannot work here: torch, litert must be installed."
    assert invoke(["doctor", "--json"]) == 4
    assert json.loads(capsys.readouterr().out) == found


def test_a_runtime_is_set_up_and_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("edgecompress.pipeline.diagnosis.diagnose", lambda: FOUND)
    monkeypatch.setattr("edgecompress.tflite.runtime.private_env.install", lambda: "/cache/tflite-runtime")
    assert invoke(["doctor", "--install", "tflite-runtime"]) == 0
    captured = capsys.readouterr()
    assert "/cache/tflite-runtime" in captured.err
    assert "A run can work here." in captured.out


def test_only_one_runtime_needs_setting_up(capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["doctor", "--install", "litert"]) == 2
    assert "only tflite-runtime needs an environment of its own" in capsys.readouterr().err


def test_a_platform_without_a_converter_is_told_in_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = FOUND | {"ok": False, "missing": ["litert-torch"], "conversion": "no flatbuffer can be made on a toaster"}
    monkeypatch.setattr("edgecompress.pipeline.diagnosis.diagnose", lambda: found)
    assert invoke(["doctor"]) == 4
    out = capsys.readouterr().out
    assert out.splitlines()[-1] == "A run cannot work here to its end: no flatbuffer can be made on a toaster"
    assert "must be installed" not in out
