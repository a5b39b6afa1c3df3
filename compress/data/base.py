"""What a data source gives: splits in memory, names of the classes, and how inputs are prepared."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Split:
    """Samples and their labels.

    Attributes:
        inputs: (N, ...) array as the source has it; pictures are (N, H, W, C), uint8 or float32.
        labels: (N,) int64 class numbers.
    """

    inputs: NDArray[Any]
    labels: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, index: NDArray[np.int64]) -> Split:
        """Returns the samples at `index`, in that order."""
        return Split(self.inputs[index], self.labels[index])


@dataclass(frozen=True)
class Normalization:
    """x = (value * value_scale - mean) / std, per channel.

    Attributes:
        value_scale: 1/255 for uint8 pictures, 1 for float32 ones.
        mean: One number per channel, of value * value_scale.
        std: One number per channel.
        origin: Where the numbers are from, in words, for the report.
    """

    value_scale: float
    mean: tuple[float, ...]
    std: tuple[float, ...]
    origin: str


@dataclass(frozen=True)
class Dataset:
    """Everything the stages see of the data.

    Attributes:
        name: The source's name.
        train: What is learnt from; may be empty where a recipe trains nothing.
        validation: Held out of train, to choose by.
        test: Read once, for the report.
        class_names: One per class.
        input_shape: Shape of one sample as the network sees it: (C, H, W) for pictures.
        normalization: How inputs are prepared.
        calibration: Unlabelled inputs to calibrate on, where the source has its own; else they are drawn from train.
        notes: Plain sentences for the report (for example: what was dropped).
    """

    name: str
    train: Split
    validation: Split
    test: Split
    class_names: tuple[str, ...]
    input_shape: tuple[int, ...]
    normalization: Normalization
    calibration: NDArray[Any] | None = None
    notes: tuple[str, ...] = ()

    @property
    def num_classes(self) -> int:
        """How many classes there are."""
        return len(self.class_names)
