"""The teacher's outputs: stored once per augmented view, or computed at every step."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from edgecompress.context import Context
from edgecompress.errors import ModelError
from edgecompress.models.blame import blaming
from edgecompress.sources.border import of_result
from edgecompress.store.code import Reach, code_hashes
from edgecompress.store.files import sha256_json, write_bytes
from edgecompress.store.store import Store
from edgecompress.tasks.base import Task
from edgecompress.training.layout import arranged, safe_kernels, usual_kernels
from edgecompress.training.precision import autocast

STAGE = "soft-targets"
#: Small enough for the activations to stay in the processor's cache: 500 at a time take twice as long a sample.
BATCH_SIZE = 64
#: What the outputs depend on of the program, beside the teacher: how a view of the samples is made.
CODE = Reach(
    frozenset({"edgecompress.training.soft_targets.StoredTargets", "edgecompress.tasks.making.make_task"}),
)


class OnlineTeacher:
    """Runs the teacher at every step: any number of views, at the price of a forward pass each time."""

    def __init__(self, teacher: nn.Module, device: torch.device, input_shape: tuple[int, ...]) -> None:
        """Takes the teacher and the shape of its input, which decides on the arithmetic."""
        self.views: int | None = None
        self._teacher = teacher.to(device).eval()
        self._device = device
        self._input_shape = input_shape

    @torch.no_grad()
    def targets(self, index: NDArray[np.int64], view: int, inputs: torch.Tensor) -> torch.Tensor:
        """Returns the teacher's raw outputs for the batch."""
        del index, view
        # A copy: the student gets the same batch, and a teacher may write into its own.
        batch = arranged(self._teacher, inputs).clone()
        with (
            blaming(self._teacher, "the teacher, for its soft targets"),
            safe_kernels(self._teacher, self._device),
            autocast(self._device, self._input_shape),
        ):
            outputs: torch.Tensor = self._teacher(batch)
        return outputs.float()


class StoredTargets:
    """Keeps the teacher's outputs for a number of augmented views of the whole train split.

    A view is computed when it is first needed, as float16, and lies in the store under the teacher's fingerprint, so
    every stage and every run with the same teacher and data shares it.
    """

    def __init__(
        self,
        store: Store,
        ctx: Context,
        task: Task,
        *,
        views: int,
        teacher_fingerprint: str,
        teacher: Callable[[], nn.Module],
        device: torch.device,
    ) -> None:
        """Takes what it needs to compute a view that is not stored yet; `teacher`, laid out, is only called then."""
        self.views: int | None = views
        self._store, self._ctx, self._task = store, ctx, task
        self._fingerprint, self._make_teacher, self._device = teacher_fingerprint, teacher, device
        self._teacher: nn.Module | None = None
        self._loaded: dict[int, torch.Tensor] = {}
        self._code = code_hashes(CODE)

    def targets(self, index: NDArray[np.int64], view: int, inputs: torch.Tensor) -> torch.Tensor:
        """Returns the stored outputs for these samples of this view."""
        if view not in self._loaded:
            self._loaded[view] = self._view(view)
        return self._loaded[view][torch.from_numpy(index)].float().to(inputs.device)

    def _view(self, view: int) -> torch.Tensor:
        fingerprint = sha256_json({"teacher": self._fingerprint, "view": view, "code": self._code})

        def make(work: Path) -> dict[str, Any]:
            buffer = io.BytesIO()
            np.save(buffer, self._compute(view), allow_pickle=False)
            write_bytes(work / "outputs.npy", buffer.getvalue())
            return {"view": view}

        result = self._store.once(STAGE, fingerprint, make, self._ctx.note)
        with of_result(result):
            outputs = np.load(result.path("outputs.npy"), allow_pickle=False)
            shape = (len(self._task.dataset.train), *self._task.dataset.outputs)
            if outputs.dtype != np.float16 or outputs.shape != shape or not np.isfinite(outputs).all():
                raise ModelError(f"outputs.npy holds {outputs.dtype} {outputs.shape}, not finite float16 {shape}")
        self._ctx.use(result.name, result.content)
        return torch.from_numpy(outputs)

    @torch.inference_mode()
    def _compute(self, view: int) -> NDArray[np.float16]:
        with usual_kernels():  # whatever the student at work needs: any stage may be the first that asks
            return self._outputs(view)

    def _outputs(self, view: int) -> NDArray[np.float16]:
        if self._teacher is None:
            self._teacher = self._make_teacher().to(self._device).eval()
        inputs = self._task.dataset.train.inputs
        parts = []
        for start in range(0, len(inputs), BATCH_SIZE):
            index = np.arange(start, min(start + BATCH_SIZE, len(inputs)))
            x = arranged(self._teacher, self._task.augmented(inputs[index], index, view).to(self._device))
            with (
                blaming(self._teacher, "the teacher, for its soft targets"),
                safe_kernels(self._teacher, self._device),
                autocast(self._device, self._task.dataset.value_shape),
            ):
                outputs = self._teacher(x)
            # float16 holds logits to 3 digits; its range must not be left.
            parts.append(outputs.float().clamp(-60_000, 60_000).half().cpu().numpy())
            self._ctx.emit(
                "progress", done=start + len(index), total=len(inputs), unit=f"soft targets, view {view + 1}"
            )
        return np.concatenate(parts)
