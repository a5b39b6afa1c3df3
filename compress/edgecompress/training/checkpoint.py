"""Checkpoints inside a training, so that a run that was killed goes on where it was and ends with the same bytes.

One file per training. It holds everything that the rest of the training depends on: weights and buffers, the
optimizer's state, the random states, the losses of the epoch so far and whatever the caller keeps beside the model
(a twin's ranges). Order of samples, augmentation and schedule are functions of seed and step, so they need no place.
"""

from __future__ import annotations

import hmac
import io
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn

from edgecompress.context import Context
from edgecompress.errors import ModelError
from edgecompress.sources.border import at_border, described
from edgecompress.store.files import write_bytes
from edgecompress.store.manifests import is_made
from edgecompress.store.reading import is_regular, read_into_memory
from edgecompress.training.random_state import random_state, restore_random_state

#: A checkpoint is written when this much time has passed since the last one.
INTERVAL_S = 30.0
#: Length of the hash at the file's head, in hex digits.
DIGEST = 64


class Keeper(Protocol):
    """State beside the model's own that training changes."""

    def state(self) -> Any:
        """Returns it as numbers, strings, lists, dicts and tensors."""

    def restore(self, state: Any) -> None:
        """Takes what `state` gave."""


@dataclass
class Progress:
    """How far a training is.

    Attributes:
        step: The next step to do.
        curve: Entries of the epochs finished.
        losses: Of the steps of the epoch that is not finished.
        setbacks: What was said when it had to go back; each one halved the learning rate.
    """

    step: int
    curve: list[dict[str, Any]] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    setbacks: list[str] = field(default_factory=list)


class Checkpoint:
    """The file of one training."""

    def __init__(
        self,
        ctx: Context,
        name: str,
        *,
        now: Callable[[], float] = time.monotonic,
        instead: str = "this training starts anew",
    ) -> None:
        """Takes the run, which knows where checkpoints lie (nowhere, outside of a run), and the training's name.

        `instead` says what happens where the file cannot be used.
        """
        self.path: Path | None = None if ctx.checkpoints is None else ctx.checkpoints / f"{name}.checkpoint"
        self._ctx, self._now, self._instead = ctx, now, instead
        self._written = now()
        self._held: bytes | None = None

    def load(self, fit: Callable[[Any], str] = lambda _saved: "") -> Any:
        """Returns what was saved, None where nothing was, or nothing that can be used: a note then says so.

        First its seal is looked at, then its form, then what it was made from.

        Args:
            fit: Returns why what was saved is of no use to this training, "" where it is.
        """
        if self.path is None or not is_regular(self.path):
            return None
        try:
            with at_border(lambda error: ModelError(described(error))):
                saved = _unpack(self._believed(read_into_memory(self.path)))
        except ModelError as error:
            self._ctx.note(f"{self.path.name} is damaged ({error}): {self._instead}")
            return None
        why = fit(saved) or self._of_others(saved)
        if why:
            self._ctx.note(f"{self.path.name} is no checkpoint of this training ({why}): {self._instead}")
            return None
        for name, files in saved["used"].items():
            self._ctx.use(name, files)
        return saved

    def _believed(self, content: bytes) -> bytes:
        """Returns what stands behind the seal.

        Raises:
            ModelError: It is not as it was sealed.
        """
        payload = content[DIGEST:]
        if not hmac.compare_digest(self._seal(payload), content[:DIGEST]):
            raise ModelError("its hash differs, or it was not sealed here")
        return payload

    def _of_others(self, saved: Any) -> str:
        """Returns why what was saved began from other steps beside the stages than there are, "" where it did not."""
        if not isinstance(saved, dict) or not is_made(saved.get("used")):
            return "it does not say what it was made from"
        other = self._ctx.conflict(saved["used"])
        return f"it began from another {other.rpartition('-')[0]}" if other else ""

    def last(self) -> Any:
        """Returns what was held last, in this process or, where that has held nothing, in the file."""
        return self.load() if self._held is None else _unpack(self._held)

    def hold(
        self, progress: Progress, model: nn.Module, optimizer: torch.optim.Optimizer, keeper: Keeper | None
    ) -> None:
        """Keeps it in memory for `last`, and in the file where there is one.

        Raises:
            ResourceError: The file system refused.
        """
        self._held = self._pack(progress, model, optimizer, keeper)
        self._write(self._held)

    def due(self) -> bool:
        """Returns whether it is time to save."""
        return self.path is not None and self._now() - self._written >= INTERVAL_S

    def save(
        self, progress: Progress, model: nn.Module, optimizer: torch.optim.Optimizer, keeper: Keeper | None
    ) -> None:
        """Writes the file, whole or not at all.

        Raises:
            ResourceError: The file system refused.
        """
        if self.path is not None:
            self._write(self._pack(progress, model, optimizer, keeper))

    def _write(self, payload: bytes) -> None:
        if self.path is not None:
            write_bytes(self.path, self._seal(payload) + payload)
            self._written = self._now()

    def _seal(self, payload: bytes) -> bytes:
        """Returns what stands at the file's head; that of another training is none for this one."""
        assert self.path is not None  # noqa: S101 - there is a payload, so there is a file
        return self._ctx.digest(f"checkpoint {self.path.parent.name} {self.path.name}", payload).encode()

    def _pack(
        self, progress: Progress, model: nn.Module, optimizer: torch.optim.Optimizer, keeper: Keeper | None
    ) -> bytes:
        used = {name: dict(files) for name, files in self._ctx.used.items()}
        return _pack(progress, model, optimizer, keeper, used)


def _pack(
    progress: Progress,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    keeper: Keeper | None,
    used: dict[str, dict[str, str]],
) -> bytes:
    buffer = io.BytesIO()
    torch.save(
        {
            "step": progress.step,
            "curve": progress.curve,
            "losses": progress.losses,
            "setbacks": progress.setbacks,
            "model": model.state_dict(),
            "optimizer": optimizer.state_dict(),
            "random": random_state(),
            "kept": None if keeper is None else keeper.state(),
            "used": used,
        },
        buffer,
    )
    return buffer.getvalue()


def _unpack(payload: bytes) -> Any:
    return torch.load(io.BytesIO(payload), map_location="cpu", weights_only=True)


def restore(
    saved: dict[str, Any], model: nn.Module, optimizer: torch.optim.Optimizer, keeper: Keeper | None
) -> Progress:
    """Puts a training back to where it was saved and returns how far that is."""
    model.load_state_dict(saved["model"])
    optimizer.load_state_dict(saved["optimizer"])
    restore_random_state(saved["random"])
    if keeper is not None:
        keeper.restore(saved["kept"])
    return Progress(saved["step"], saved["curve"], saved["losses"], saved["setbacks"])
