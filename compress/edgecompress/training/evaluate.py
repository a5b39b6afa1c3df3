"""Outputs of a model over a split."""

from __future__ import annotations

import contextlib
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from edgecompress.models.blame import blaming
from edgecompress.tasks.base import Task
from edgecompress.training.layout import arranged, safe_kernels
from edgecompress.training.precision import autocast

#: Small enough for the activations to stay in the processor's cache: 500 at a time take twice as long a sample.
BATCH_SIZE = 64


@torch.inference_mode()
def outputs_of(
    model: nn.Module,
    task: Task,
    inputs: NDArray[Any],
    device: torch.device,
    *,
    fast: bool = False,
    batch_size: int = BATCH_SIZE,
) -> NDArray[np.float32]:
    """Returns a model's raw outputs, (N, classes) float32, in evaluation mode.

    Args:
        model: The network; its mode is restored.
        task: Prepares the inputs.
        inputs: Raw samples.
        device: Where the model is.
        fast: Use bfloat16 where it pays; for figures shown during training only.
        batch_size: Samples at a time.

    Raises:
        ModelError: The model's code raised something.
    """
    training = model.training
    model.eval()
    parts = []
    try:
        for start in range(0, len(inputs), batch_size):
            x = arranged(model, task.inputs(inputs[start : start + batch_size]).to(device))
            arithmetic = autocast(device, task.dataset.value_shape) if fast else contextlib.nullcontext()
            with blaming(model, "while it was scored"), safe_kernels(model, device), arithmetic:
                y = model(x)
            parts.append(y.float().cpu().numpy())
    finally:
        model.train(training)
    return np.concatenate(parts) if parts else np.zeros((0, *task.dataset.outputs), np.float32)
