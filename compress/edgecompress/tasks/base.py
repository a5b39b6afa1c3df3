"""What a task is: how inputs reach the network, what is learnt, and what is measured."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from edgecompress.data.base import Dataset, Split
from edgecompress.errors import DataError
from edgecompress.figures import Figure, main_figure
from edgecompress.recipe.schema import Recipe
from edgecompress.report.intervals import Paired, Standing
from edgecompress.tasks.inputs import CHANGES, INPUTS
from edgecompress.tasks.reordering import Reordering
from edgecompress.tasks.standing import Marks

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
#: Points by which the figures of two models may differ that compute the same but for rounding.
ROUNDING_POINTS = 0.2


class Task(Protocol):
    """Everything the stages need to know about a kind of problem; one instance serves one dataset.

    Attributes:
        name: As the recipe has it.
        dataset: What it is about.
        chooses: Whether an answer is the place of the largest of several outputs (along the last axis), as of classes
            and tokens; otherwise outputs are numbers that answer by their size.
    """

    name: str
    dataset: Dataset
    chooses: bool

    @property
    def figure(self) -> Figure:
        """What models are judged by."""

    def inputs(self, batch: NDArray[Any]) -> torch.Tensor:
        """Returns the network's input for raw samples, (N, *dataset.input_shape): float32, int32 for tokens."""

    def augmented(self, batch: NDArray[Any], index: NDArray[np.int64], view: int) -> torch.Tensor:
        """Returns the network's input for one augmented view of train samples.

        The change depends on (recipe seed, view, the sample's index in train) only, so that stored soft targets
        match. `index` holds the samples' positions in the train split.
        """

    def targets(self, inputs: torch.Tensor, labels: NDArray[Any]) -> torch.Tensor:
        """Returns what `loss` holds the outputs for network inputs against: mostly the labels."""

    def loss(self, outputs: torch.Tensor, labels: torch.Tensor, label_smoothing: float = 0.0) -> torch.Tensor:
        """Returns the mean hard-target loss; `labels` are `targets`."""

    def distillation_loss(
        self, outputs: torch.Tensor, targets: torch.Tensor, labels: torch.Tensor, temperature: float, alpha: float
    ) -> torch.Tensor:
        """Returns (1 - alpha) * hard loss + alpha * soft loss against the teacher's raw outputs `targets`."""

    def metrics(self, outputs: NDArray[np.float32], split: Split) -> dict[str, float]:
        """Returns the task's figures (see `edgecompress.figures`) over a split, without those it cannot tell."""

    def marks(self, outputs: NDArray[np.float32], split: Split) -> Marks:
        """Returns a number per sample by which models are compared: 1 or 0 for right or wrong, or its error."""

    def standing(self, marks: Marks, split: Split) -> Standing:
        """Returns how a model stands beside an answer that looks at no input; `marks` are the model's on the split."""

    def paired(self, marks: Marks, reference: Marks, split: Split) -> Paired:
        """Returns the comparison of two models on the samples of a split, by the marks of both."""

    def reordering(self, outputs: NDArray[np.float32], split: Split) -> Reordering | None:
        """Returns the order of the classes in which the answers fit far better, None where there is none."""

    def agreement(self, outputs: NDArray[np.float32], reference: NDArray[np.float32]) -> float:
        """Returns the share of answers that are the same, in percent."""

    def tolerance(self, split: Split, value: float, step: float) -> float:
        """Returns how far two models' main figures on a split may differ that compute the same but for rounding.

        Args:
            split: What they are scored on.
            value: The figure of one of them.
            step: Of the network's output, in its own units.
        """

    def input_range(self) -> tuple[float, float] | None:
        """Returns the least and largest value the prepared input can take, to fix the input's quantization.

        None for numbers that are not quantized, such as tokens.
        """

    def to_flatbuffer(self, inputs: torch.Tensor) -> NDArray[Any]:
        """Returns the input of the flatbuffer, not quantized yet (NHWC for pictures), for the network's (NCHW)."""

    def plots(self, outputs: NDArray[np.float32], split: Split) -> dict[str, Any]:
        """Returns the data of the task's plots for the report, plain JSON values (of classes: confusion matrix)."""


class OnInputs:
    """What all tasks share: their names, and how raw samples of the dataset become what a network takes."""

    chooses = True

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
        self.name: str = recipe.task
        known = CHANGES.get(dataset.kind, ())
        if wrong := [change for change in recipe.data.augment if change not in known]:
            what = f"for {dataset.kind} there are {', '.join(known)}" if known else f"{dataset.kind} are not augmented"
            raise DataError(f"data.augment: `{wrong[0]}` cannot be used here: {what}.")
        self.dataset = dataset
        self._inputs = INPUTS[dataset.kind](recipe, dataset)

    @property
    def figure(self) -> Figure:
        """What models are judged by."""
        return main_figure(self.name)

    def reordering(self, outputs: NDArray[np.float32], split: Split) -> Reordering | None:
        """Returns nothing: only classes have an order that may be another."""
        del outputs, split
        return None

    def targets(self, inputs: torch.Tensor, labels: NDArray[Any]) -> torch.Tensor:
        """Returns the labels, on the inputs' device."""
        return torch.from_numpy(labels).to(inputs.device)

    def tolerance(self, split: Split, value: float, step: float) -> float:
        """Returns 0.2 points: what 99.8 % of equal answers allow."""
        del split, value, step
        return ROUNDING_POINTS

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
