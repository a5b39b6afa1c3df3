"""What a task is: how inputs reach the network, what is learnt, and what is measured."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from compress.data.base import Dataset


class Task(Protocol):
    """Everything the stages need to know about a kind of problem; one instance serves one dataset."""

    name: str
    dataset: Dataset

    def inputs(self, batch: NDArray[Any]) -> torch.Tensor:
        """Returns the network's float32 input for raw samples, (N, *dataset.input_shape)."""

    def augmented(self, batch: NDArray[Any], index: NDArray[np.int64], view: int) -> torch.Tensor:
        """Returns the network's input for one augmented view of train samples.

        The change depends on (recipe seed, view, the sample's index in train) only, so that stored soft targets
        match. `index` holds the samples' positions in the train split.
        """

    def loss(self, outputs: torch.Tensor, labels: torch.Tensor, label_smoothing: float = 0.0) -> torch.Tensor:
        """Returns the mean hard-target loss."""

    def distillation_loss(
        self, outputs: torch.Tensor, targets: torch.Tensor, labels: torch.Tensor, temperature: float, alpha: float
    ) -> torch.Tensor:
        """Returns (1 - alpha) * hard loss + alpha * soft loss against the teacher's raw outputs `targets`."""

    def metrics(self, outputs: NDArray[np.float32], labels: NDArray[np.int64]) -> dict[str, float]:
        """Returns the task's figures; `accuracy` is in percent."""

    def agreement(self, outputs: NDArray[np.float32], reference: NDArray[np.float32]) -> float:
        """Returns the share of samples with the same answer, in percent."""

    def input_range(self) -> tuple[float, float]:
        """Returns the least and largest value the prepared input can take, to fix the input's quantization."""

    def to_flatbuffer(self, inputs: torch.Tensor) -> NDArray[np.float32]:
        """Returns the float input of the flatbuffer (NHWC for pictures) for the network's input (NCHW)."""

    def plots(self, outputs: NDArray[np.float32], labels: NDArray[np.int64]) -> dict[str, Any]:
        """Returns the data of the task's plots for the report, plain JSON values (for pictures: confusion matrix)."""
