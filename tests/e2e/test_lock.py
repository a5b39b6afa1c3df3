"""A lock file run as a recipe gives the same bytes, whatever the machine measures then."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from edgecompress.context import Event
from edgecompress.errors import DataError, ExitCode, ModelError
from edgecompress.pipeline.recheck import recheck
from edgecompress.pipeline.run import run_pipeline
from edgecompress.recipe.reading.load import load_recipe
from edgecompress.store.store import Store

TRAIN = {"epochs": 1, "batch_size": 64}
RECIPE: dict[str, Any] = {
    "version": 1,
    "name": "locked",
    "threads": 1,
    "data": {"source": "digits", "test": 0.3},
    "student": {"model": "python:mine:net", "train": TRAIN},
    "prune": {"of": "latency", "ratio": 0.4, "steps": 2, "round_to": 4, "train": TRAIN},
    "quantize": {"calibration_samples": 32},
    "benchmark": {"runs": 10},
}
NET = """
from torch import nn

def net(num_classes, input_shape):
    return nn.Sequential(
        nn.Conv2d(1, 24, 3, padding=1), nn.BatchNorm2d(24), nn.ReLU(), nn.Conv2d(24, 32, 3, stride=2), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, num_classes),
    )
"""
Timer = Callable[[float], None]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a recipe and the module it names."""
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(RECIPE))
    (tmp_path / "mine.py").write_text(NET)
    return tmp_path


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Timer:
    """Sets how much of a flatbuffer's time does not depend on its size: another machine, other widths."""

    def become(constant: float) -> None:
        def timed(paths: Mapping[str, Path], _spec: object, _runs: int) -> dict[str, tuple[float, float]]:
            times = {label: constant + 1e-6 * path.stat().st_size for label, path in paths.items()}
            return {label: (time, time / times["base"]) for label, time in times.items()}

        monkeypatch.setattr("edgecompress.stages.pruning.yardstick.timed", timed)

    return become


def run(recipe: Path, output: Path, *overrides: str, listeners: Any = ()) -> dict[str, Any]:
    """Runs a recipe from an empty store and returns its report."""
    outcome = run_pipeline(
        load_recipe(recipe, overrides), output=output, store=Store(output / "store"), trust=True, listeners=listeners
    )
    assert outcome.exit_code == ExitCode.DONE, outcome.messages
    report: dict[str, Any] = json.loads((output / "report.json").read_text())
    return report


def test_a_lock_file_repeats_its_run_to_the_same_bytes(folder: Path, machine: Timer) -> None:
    machine(0.001)
    first = run(folder / "recipe.yaml", folder / "runs" / "first")
    lock = folder / "runs" / "first" / "recipe.lock.yaml"
    widths = yaml.safe_load(lock.read_text())["widths"]
    assert widths == first["pruning"]["step_widths"]
    # Final widths are those that were measured, and half of the way there lies between.
    for name, (before, after) in first["pruning"]["widths"].items():
        if name in widths:
            assert before >= widths[name][0] >= widths[name][1] == after
    assert any(after < before for before, after in first["pruning"]["widths"].values())
    assert first["pruning"]["latency"]["ratio"] == pytest.approx(0.6, abs=0.06)

    machine(0.010)
    store = Store(folder / "other")
    other = run_pipeline(
        load_recipe(folder / "recipe.yaml"), output=folder / "other", store=store, trust=True, until="prune"
    )
    prune = other.plan.steps[-1]
    assert store.load("prune", prune.fingerprint)[0].metrics["step_widths"] != widths
    events: list[Event] = []
    again = run(lock, folder / "runs" / "again", listeners=[events.append])
    assert again["pruning"]["step_widths"] == widths
    assert again["pruning"]["target"]["tries"] == []
    assert again["files"] == first["files"]
    flatbuffers = [folder / "runs" / name / "model.tflite" for name in ("first", "again")]
    assert flatbuffers[0].read_bytes() == flatbuffers[1].read_bytes()
    told = [str(event.data.get("message")) for event in events]
    assert "the flatbuffer is that of the lock file, byte for byte" in told
    assert not [message for message in told if "Not as in the lock file" in message]
    assert recheck(folder / "runs" / "again", Store(folder / "runs" / "again" / "store"), trust=True)["passed"]
    # Its own lock file says the same, but for the fingerprints.
    locks = [yaml.safe_load((folder / "runs" / name / "recipe.lock.yaml").read_text()) for name in ("first", "again")]
    assert locks[0]["recipe"]["prune"]["widths"] is None
    assert locks[1]["recipe"]["prune"].pop("widths") == widths
    del locks[0]["recipe"]["prune"]["widths"]
    assert {**locks[0], "steps": None} == {**locks[1], "steps": None}


def test_other_versions_are_named_and_other_data_stops_the_run(folder: Path, machine: Timer) -> None:
    machine(0.001)
    run(folder / "recipe.yaml", folder / "runs" / "first", "prune=null", "quantize=null")
    lock = folder / "runs" / "first" / "recipe.lock.yaml"
    text = lock.read_text()
    changed = folder / "runs" / "first" / "changed.yaml"
    document = yaml.safe_load(text)
    torch = document["libraries"]["torch"]
    document["libraries"]["torch"], document["model_sha256"] = "1.0", "f" * 64
    changed.write_text(yaml.safe_dump(document))
    events: list[Event] = []
    run(changed, folder / "runs" / "changed", listeners=[events.append])
    told = [str(event.data.get("message")) for event in events if event.kind == "warning"]
    assert f"Not as in the lock file, so the bytes may differ: torch {torch} here, 1.0 there." in told
    assert any("The flatbuffer is not that of the lock file: SHA-256" in message for message in told)
    changed.write_text(text.replace(document["data_sha256"], "f" * 64))
    with pytest.raises(DataError, match="the data is not that of the lock file"):
        run(changed, folder / "runs" / "none")
    assert not (folder / "runs" / "none").exists()


def test_a_structure_slower_than_its_parent_ends_the_run_before_it_is_fine_tuned(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slower(paths: Mapping[str, Path], _spec: object, _runs: int) -> dict[str, tuple[float, float]]:
        return {label: (1.0, 1.0 if label == "base" else 1.2) for label in paths}

    monkeypatch.setattr("edgecompress.stages.pruning.yardstick.timed", slower)
    events: list[Event] = []
    with pytest.raises(ModelError, match=r"slower than the unpruned one on litert: 1\.2 ms, 1 ms before") as verdict:
        run(folder / "recipe.yaml", folder / "run", "prune.of=macs", listeners=[events.append])
    assert verdict.value.exit_code == ExitCode.RESOURCE
    assert {event.stage for event in events if event.kind == "epoch"} == {"distill"}
