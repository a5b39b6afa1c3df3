"""A run that was cut off inside its trainings goes on there and makes the same file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from compress.artifact import Store, sha256_file
from compress.context import Event
from compress.errors import ExitCode
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
