"""Checkpoints inside a training, so that a run that was killed goes on where it was and ends with the same bytes.

One file per training. It holds everything that the rest of the training depends on: weights and buffers, the
optimizer's state, the random states, the losses of the epoch so far and whatever the caller keeps beside the model
(a twin's ranges). Order of samples, augmentation and schedule are functions of seed and step, so they need no place.
"""

from __future__ import annotations

import hmac
import io
import pickle
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn

from edgecompress.context import Context
from edgecompress.errors import ModelError
from edgecompress.store.files import write_bytes
from edgecompress.store.manifests import is_made
from edgecompress.store.reading import is_regular, read_into_memory
from edgecompress.training.random_state import random_state, restore_random_state

#: A checkpoint is written when this much time has passed since the last one.
INTERVAL_S = 30.0
#: What reading a damaged or foreign file raises.
UNREADABLE = (OSError, ValueError, KeyError, TypeError, RuntimeError, EOFError, pickle.UnpicklingError)
#: What putting back a checkpoint of something else raises.
FOREIGN = (*UNREADABLE, AttributeError, IndexError, AssertionError)
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

    def __init__(self, ctx: Context, name: str, *, now: Callable[[], float] = time.monotonic) -> None:
        """Takes the run, which knows where checkpoints lie (nowhere, outside of a run), and the training's name."""
        self.path: Path | None = None if ctx.checkpoints is None else ctx.checkpoints / f"{name}.checkpoint"
        self._ctx, self._now = ctx, now
        self._written = now()
        self._held: bytes | None = None

    def load(self) -> dict[str, Any] | None:
        """Returns what was saved, None where nothing was, or nothing that can be read: a note then says so."""
        if self.path is None or not is_regular(self.path):
            return None
        try:
            content = read_into_memory(self.path)
            payload = content[DIGEST:]
            if not hmac.compare_digest(self._seal(payload), content[:DIGEST]):
                raise ValueError("its hash differs, or it was not sealed here")
            saved = _unpack(payload)
            if not is_made(saved["used"]):
                raise ValueError("it does not say what it was made from")
            if other := self._ctx.conflict(saved["used"]):
                raise ValueError(f"it began from another {other.rpartition('-')[0]}")
        except FOREIGN as error:
            self._ctx.note(f"{self.path.name} is damaged ({error}): this training starts anew")
            return None
        for name, files in saved["used"].items():
            self._ctx.use(name, files)
        return saved

    def resume(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        keeper: Keeper | None,
        steps: range,
        before: Callable[[int], None],
    ) -> Progress | None:
        """Puts a training back to where it was saved and returns how far that is; None where it starts anew.

        Args:
            model: As the training begins with it.
            optimizer: The same.
            keeper: State beside the model's own.
            steps: Those of the training.
            before: Called with the step that it goes on with, before anything is put back.
        """
        saved = self.load()
        if saved is None:
            return None
        start = _unpack(_pack(Progress(steps.start), model, optimizer, keeper, {}))
        try:
            _require_progress(saved, steps)
            before(saved["step"])
            return restore(saved, model, optimizer, keeper)
        except ModelError as error:
            self._ctx.note(f"{error}: this training starts anew")
            before(steps.start)
            restore(start, model, optimizer, keeper)
            return None

    def last(self) -> dict[str, Any] | None:
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


def _unpack(payload: bytes) -> dict[str, Any]:
    saved: dict[str, Any] = torch.load(io.BytesIO(payload), map_location="cpu", weights_only=True)
    return saved


def restore(
    saved: dict[str, Any], model: nn.Module, optimizer: torch.optim.Optimizer, keeper: Keeper | None
) -> Progress:
    """Puts a training back to where it was saved and returns how far that is.

    Raises:
        ModelError: It was saved of another model; this one has been changed in part.
    """
    try:
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        restore_random_state(saved["random"])
        if keeper is not None:
            keeper.restore(saved["kept"])
        return Progress(saved["step"], saved["curve"], saved["losses"], saved["setbacks"])
    except FOREIGN as error:
        reason = str(error).partition("\n")[0]
        raise ModelError(f"a checkpoint does not fit the model ({reason})") from error


def _require_progress(saved: dict[str, Any], steps: range) -> None:
    """Makes sure that a checkpoint is of a training with these steps.

    Raises:
        ModelError: It is not.
    """
    step, curve, losses, setbacks = (saved.get(key) for key in ("step", "curve", "losses", "setbacks"))
    fits = isinstance(step, int) and steps.start <= step <= steps.stop
    fits = fits and all(isinstance(one, list) for one in (curve, losses, setbacks))
    fits = fits and all(isinstance(loss, float) for loss in losses or ())
    fits = fits and all(isinstance(told, str) for told in setbacks or ())
    fits = fits and all(isinstance(entry, dict) and {"epoch", "loss", "steps"} <= entry.keys() for entry in curve or ())
    if not fits:
        raise ModelError("a checkpoint does not fit the training (its steps are others)")
