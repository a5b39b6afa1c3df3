"""What every stage of one run shares: where files go, who is told of progress, and what may be run."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgecompress.errors import StaleInputError


@dataclass(frozen=True)
class Event:
    """Something worth telling while a run goes on.

    Attributes:
        kind: `stage-start`, `stage-end`, `stage-cached`, `progress`, `epoch`, `doing`, `note` or `warning`.
        stage: The stage it belongs to, "" for the run.
        data: Plain JSON values; `progress` has done, total and unit; `epoch` has epoch, epochs, loss and
            validation figures.
    """

    kind: str
    stage: str
    data: dict[str, Any]


Listener = Callable[[Event], None]


def plain_digest(place: str, content: bytes) -> str:
    """Returns the hash of a file's content and of what it is the content of, in hex."""
    return hashlib.sha256(f"{place}\n".encode() + content).hexdigest()


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
        digest: Seals checkpoints: place and content -> seal.
        used: Steps beside the stages (conversions, soft targets) that the stage at work has read: name -> file ->
            SHA-256.
        known: The same for all that the stages of this run were made from, and have read.
    """

    seed: int = 0
    trust: bool = False
    listeners: list[Listener] = field(default_factory=list)
    stage: str = ""
    warnings: list[str] = field(default_factory=list)
    checkpoints: Path | None = None
    digest: Callable[[str, bytes], str] = plain_digest
    used: dict[str, Mapping[str, str]] = field(default_factory=dict)
    known: dict[str, Mapping[str, str]] = field(default_factory=dict)

    def use(self, name: str, files: Mapping[str, str]) -> None:
        """Notes that the stage at work reads the files of a step beside the stages.

        Raises:
            StaleInputError: Another stage of this run was made from other ones.
        """
        known = self.known.get(name, files)
        self.known[name] = files
        if known != files:
            raise StaleInputError(
                f"{name.rpartition('-')[0]} had to be made again, and has other bytes than those from which earlier "
                "stages were made (on another kind of CPU, say). Run the recipe again."
            )
        self.used[name] = files

    def conflict(self, made: Mapping[str, Mapping[str, str]]) -> str:
        """Returns the first of these steps of which this run knows other files, "" where there is none."""
        return next((name for name, files in made.items() if self.known.get(name, files) != files), "")

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

    def doing(self, message: str) -> None:
        """Tells what native code is at from now on, as it stands behind `while`: should it crash, that is said."""
        self.emit("doing", message=message)

    def warn(self, message: str) -> None:
        """Tells something the report must say too."""
        if message not in self.warnings:
            self.warnings.append(message)
            self.emit("warning", message=message)
