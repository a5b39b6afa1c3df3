"""What is told where the converter, or a runtime, is not to be had."""

from __future__ import annotations

import importlib.util
import platform
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from torch import nn

from edgecompress import machine
from edgecompress.errors import ResourceError
from edgecompress.pipeline import diagnosis
from edgecompress.recipe.schema import Recipe
from edgecompress.stages.before.preflight import preflight
from edgecompress.tflite.format.convert import convert
from edgecompress.tflite.runtime.runtimes import RUNTIMES


@pytest.fixture
def absent(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Modules that count as not installed."""
    names: set[str] = set()
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: None if name in names else real(name, *more))
    return names


@pytest.fixture
def arm(monkeypatch: pytest.MonkeyPatch, absent: set[str]) -> None:
    """A Raspberry Pi."""
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(platform, "system", lambda: "Linux")
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    absent |= {"litert_torch", "litert_converter", "tflite_micro"}


def test_nothing_is_missing_where_all_is_installed() -> None:
    assert machine.why_no_conversion() == ""


@pytest.mark.parametrize("module", ["litert_torch", "litert_converter"])
def test_where_it_could_be_installed_that_is_the_way_out(
    monkeypatch: pytest.MonkeyPatch, absent: set[str], module: str
) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(platform, "machine", lambda: "arm64")
    absent.add(module)
    assert machine.why_no_conversion().endswith("is not installed: pip install -c constraints.txt litert-torch")


@pytest.mark.usefixtures("arm")
def test_where_it_is_not_built_the_sentence_says_what_works() -> None:
    told = machine.why_no_conversion()
    assert told.startswith("no flatbuffer can be made on Linux aarch64: litert-converter, which litert-torch needs,")
    assert "run --until distill or prune" in told
    assert "pip install" not in told


@pytest.mark.usefixtures("arm")
def test_it_is_told_before_anything_is_trained_and_where_it_is_needed(tmp_path: Path) -> None:
    recipe = Recipe(version=1, student={"model": "resnet8"}, quantize={"mode": "ptq"})
    bench: Any = SimpleNamespace(recipe=recipe, dataset=SimpleNamespace(name="made", train=[1], test=[1]))
    for stages in ({"export"}, {"quantize", "export", "verify", "benchmark"}):
        with pytest.raises(ResourceError, match="no flatbuffer can be made on Linux aarch64"):
            preflight(bench, stages)
    preflight(bench, {"verify", "benchmark"})
    with pytest.raises(ResourceError, match="no flatbuffer can be made on Linux aarch64"):
        convert(nn.Linear(2, 2), (2,), tmp_path / "none.tflite")
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("arm")
def test_a_runtime_that_is_not_built_is_not_offered_for_installing(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        ResourceError, match=r"tflite-micro is not installed\. It is not built for Linux aarch64: leave"
    ):
        RUNTIMES["tflite-micro"].require()
    monkeypatch.setattr(diagnosis, "_version", lambda *names: None if "tflite-micro" in names else "1.0")
    monkeypatch.setattr(diagnosis, "_child", lambda *_args: "")
    monkeypatch.setattr(diagnosis.private_env, "child_environment", lambda: ("python3.11", ["/private"]))
    found = diagnosis.probe_runtimes()
    assert found["tflite-micro"]["reason"] == "not built for Linux aarch64"
    assert diagnosis.diagnose()["conversion"] == machine.why_no_conversion() != ""
