"""What a task is: how inputs reach the network, what is learnt, and what is measured."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from compress.data.base import Dataset
from compress.errors import DataError
from compress.recipe import Recipe
from compress.tasks.inputs import INPUTS

#: Task -> the kinds of data it is about, in words where they are others. Audio comes as frames of features: a series.
KINDS: dict[str, tuple[str, ...]] = {
    "image-classification": ("pictures",),
    "text-classification": ("tokens",),
    "timeseries-classification": ("series",),
    "audio-classification": ("series",),
    "regression": ("features", "series", "pictures", "tokens"),
    "anomaly-detection": ("features", "series"),
    "language-modeling": ("tokens",),
}


class Task(Protocol):
    """Everything the stages need to know about a kind of problem; one instance serves one dataset."""

    name: str
    dataset: Dataset

    def inputs(self, batch: NDArray[Any]) -> torch.Tensor:
        """Returns the network's input for raw samples, (N, *dataset.input_shape): float32, int32 for tokens."""

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

    def input_range(self) -> tuple[float, float] | None:
        """Returns the least and largest value the prepared input can take, to fix the input's quantization.

        None for numbers that are not quantized, such as tokens.
        """

    def to_flatbuffer(self, inputs: torch.Tensor) -> NDArray[Any]:
        """Returns the input of the flatbuffer, not quantized yet (NHWC for pictures), for the network's (NCHW)."""

    def plots(self, outputs: NDArray[np.float32], labels: NDArray[np.int64]) -> dict[str, Any]:
        """Returns the data of the task's plots for the report, plain JSON values (for pictures: confusion matrix)."""


class OnInputs:
    """The input's side that all tasks share: how raw samples of the dataset become what a network takes."""

    def __init__(self, recipe: Recipe, dataset: Dataset) -> None:
        """Chooses the way by the kind of the data.

        Raises:
            DataError: The data has other samples than the task is about.
        """
        if dataset.kind not in KINDS[recipe.task]:
            expected = " or ".join(KINDS[recipe.task])
            fitting = ", ".join(task for task, kinds in KINDS.items() if dataset.kind in kinds)
            raise DataError(
                f"task {recipe.task} is about {expected}, but source `{dataset.name}` has {dataset.kind}. "
                f"Tasks for {dataset.kind}: {fitting}."
            )
        self.dataset = dataset
        self._inputs = INPUTS[dataset.kind](recipe, dataset)

    def inputs(self, batch: NDArray[Any]) -> torch.Tensor:
        """Returns the network's input for raw samples, (N, *dataset.input_shape)."""
        return self._inputs.inputs(batch)

    def augmented(self, batch: NDArray[Any], index: NDArray[np.int64], view: int) -> torch.Tensor:
        """Returns the network's input for one augmented view of train samples."""
        return self._inputs.augmented(batch, index, view)

    def input_range(self) -> tuple[float, float] | None:
        """Returns the least and largest value the prepared input can take, None for numbers that are not quantized."""
        return self._inputs.input_range()

    def to_flatbuffer(self, inputs: torch.Tensor) -> NDArray[Any]:
        """Returns the input of the flatbuffer, not quantized yet, for the network's input."""
        return self._inputs.to_flatbuffer(inputs)
