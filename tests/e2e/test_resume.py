"""A run that was cut off inside its trainings goes on there and makes the same file; two runs never mix."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from compress.artifact import Store, sha256_file
from compress.context import Event
from compress.errors import ExitCode, ResourceError
from compress.file_lock import exclusive
from compress.pipeline import Outcome
from compress.training import checkpoint


class Killed(BaseException):
    """Nothing in the program catches it."""


def kill_at(stage: str, epoch_events: int) -> Callable[[Event], None]:
    """Returns a listener that ends the run at an epoch's end, before that step is saved."""
    seen = [0]

    def listen(event: Event) -> None:
        seen[0] += event.kind == "epoch" and event.stage == stage
        if seen[0] == epoch_events:
            raise Killed

    return listen


def test_the_flatbuffer_is_the_same_after_a_kill_in_every_training_stage(
    cook: Callable[..., Outcome], kitchen: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    undisturbed = cook()
    assert undisturbed.exit_code == ExitCode.DONE
    monkeypatch.setattr(checkpoint, "INTERVAL_S", 0.0)
    store = Store(tmp_path / "store")
    for stage, epochs in (("teacher", 1), ("distill", 2), ("prune", 1), ("prune", 2), ("quantize", 1)):
        with pytest.raises(Killed):
            cook(store=store, output="killed", listeners=[kill_at(stage, epochs)])
        (left,) = (store.root / "checkpoints").iterdir()
        assert left.name.startswith(stage)
    events: list[Event] = []
    outcome = cook(store=store, output="killed", listeners=[events.append])
    assert outcome.exit_code == ExitCode.DONE
    assert [event.stage for event in events if event.kind == "stage-cached"] == ["teacher", "distill", "prune"]
    notes = [event.data["message"] for event in events if event.kind == "note"]
    assert any(note.startswith("quantize: ") and note.endswith("steps were done before") for note in notes)
    assert sha256_file(kitchen / "killed" / "model.tflite") == sha256_file(kitchen / "run" / "model.tflite")
    assert not list((store.root / "checkpoints").iterdir())
    assert not list(store.root.glob(".*.partial"))


def test_a_second_run_in_one_folder_ends_with_a_clear_message(cook: Callable[..., Outcome], kitchen: Path) -> None:
    (kitchen / "run").mkdir()
    with exclusive(kitchen / "run" / ".lock"), pytest.raises(ResourceError, match=r"run is in use: process \d+ is"):
        cook()
    assert list((kitchen / "run").iterdir()) == []


def test_a_stage_that_another_run_is_making_is_waited_for(
    cook: Callable[..., Outcome], kitchen: Path, shared_store: Store, tmp_path: Path
) -> None:
    """The second of two runs takes the teacher that the first one has made meanwhile."""
    first = cook(until="teacher")
    (step,) = first.plan.steps
    made = shared_store.folder("teacher", step.fingerprint)
    store = Store(tmp_path / "store")
    lock = store.root / "locks" / made.name
    waits, notes = threading.Event(), list[str]()

    def listen(event: Event) -> None:
        if event.kind == "note":
            notes.append(event.data["message"])
            waits.set()

    outcomes: list[Outcome] = []
    with exclusive(lock):
        thread = threading.Thread(
            target=lambda: outcomes.append(cook(store=store, output="second", until="teacher", listeners=[listen]))
        )
        thread.start()
        assert waits.wait(60)
        shutil.copytree(made, store.folder("teacher", step.fingerprint))
    thread.join(60)
    assert outcomes[0].exit_code == ExitCode.DONE
    assert [note for note in notes if "is making this stage already" in note] == notes
    assert not lock.exists()
    assert not (kitchen / "second" / ".lock").exists()
