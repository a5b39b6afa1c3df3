"""What every stage of one run shares: where files go, who is told of progress, and what may be run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Event:
    """Something worth telling while a run goes on.

    Attributes:
        kind: `stage-start`, `stage-end`, `stage-cached`, `progress`, `epoch`, `note` or `warning`.
        stage: The stage it belongs to, "" for the run.
        data: Plain JSON values; `progress` has done, total and unit; `epoch` has epoch, epochs, loss and
            validation figures.
    """

    kind: str
    stage: str
    data: dict[str, Any]


Listener = Callable[[Event], None]


@dataclass
class Context:
    """One run.

    Attributes:
        seed: The recipe's, from which all random numbers of the run come.
        trust: Whether `python:` models and data, which run code, are allowed.
        listeners: Told of every event.
        stage: Name of the stage at work.
        warnings: Plain sentences of the stage at work, for the report.
        checkpoints: Where the stage at work saves how far its trainings are; None: nowhere.
    """

    seed: int = 0
    trust: bool = False
    listeners: list[Listener] = field(default_factory=list)
    stage: str = ""
    warnings: list[str] = field(default_factory=list)
    checkpoints: Path | None = None

    def emit(self, kind: str, **data: Any) -> None:
        """Tells every listener."""
        event = Event(kind, self.stage, data)
        for listener in self.listeners:
            listener(event)

    def progress(self, done: int, total: int, unit: str = "") -> None:
        """Tells how far the stage is."""
        self.emit("progress", done=done, total=total, unit=unit)

    def note(self, message: str) -> None:
        """Tells something for the log."""
        self.emit("note", message=message)

    def warn(self, message: str) -> None:
        """Tells something the report must say too."""
        if message not in self.warnings:
            self.warnings.append(message)
            self.emit("warning", message=message)
