"""How raw samples become what a network takes, by the kind of data."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from edgecompress.data.base import Dataset
from edgecompress.errors import DataError
from edgecompress.recipe.schema import Recipe
from edgecompress.tasks.augment import augment, holes
from edgecompress.tasks.augment_series import NEEDS, augment_series

#: The changes to samples of each kind; others are not augmented.
CHANGES = {"pictures": ("crop", "flip", "shift", "cutout"), "series": tuple(NEEDS)}


class Inputs(Protocol):
    """The input's side of a task."""

    def inputs(self, batch: NDArray[Any]) -> torch.Tensor:
        """Returns the network's input for raw samples, (N, *dataset.input_shape)."""

    def augmented(self, batch: NDArray[Any], index: NDArray[np.int64], view: int) -> torch.Tensor:
        """Returns the network's input for one augmented view of train samples."""

    def input_range(self) -> tuple[float, float] | None:
        """Returns the least and largest value the prepared input can take; None for numbers that are not quantized."""

    def to_flatbuffer(self, inputs: torch.Tensor) -> NDArray[Any]:
        """Returns the input of the flatbuffer, not quantized yet, for the network's input."""


class Values:
    """Real numbers, normalised along the last axis of the raw samples: tables, and the base of series and pictures."""

    def __init__(self, _recipe: Recipe, dataset: Dataset) -> None:
        """Takes the normalisation from the data."""
        self._dataset = dataset
        normalization = dataset.normalization
        self._std = torch.tensor(normalization.std, dtype=torch.float32)
        self._factor = normalization.value_scale / self._std
        self._offset = -torch.tensor(normalization.mean, dtype=torch.float32) / self._std
        self._clip = math.inf if normalization.clip is None else normalization.clip

    def inputs(self, batch: NDArray[Any]) -> torch.Tensor:
        """Returns normalised values, float32, in the shape they have."""
        # A copy: of float samples the tensor would be the data themselves.
        x = torch.from_numpy(np.ascontiguousarray(batch)).to(torch.float32, copy=True)
        x.mul_(self._factor).add_(self._offset)
        return x if self._clip == math.inf else x.clamp_(-self._clip, self._clip)

    def augmented(self, batch: NDArray[Any], index: NDArray[np.int64], view: int) -> torch.Tensor:
        """Returns the same in every view: tables are not augmented."""
        del index, view
        return self.inputs(batch)

    def input_range(self) -> tuple[float, float]:
        """Returns the least and largest normalised value of the train split, or of the calibration set without one."""
        inputs = self._dataset.train.inputs if len(self._dataset.train) else self._dataset.calibration
        if inputs is None or not len(inputs):
            return -1.0, 1.0
        rows = inputs.reshape(-1, inputs.shape[-1])
        ends = torch.from_numpy(np.stack([rows.min(axis=0), rows.max(axis=0)]).astype(np.float32))
        values = (ends * self._factor + self._offset).clamp(-self._clip, self._clip)
        low, high = float(values.min()), float(values.max())
        if low == -high == -self._clip:
            # Many values lie just at the ends: there they become -127 and 127. On a grid from end to end they would be
            # ties, 127.5 steps from zero, which each host rounds as its floating point happens to come out.
            low *= 128.0 / 127.0
        return low, high

    def to_flatbuffer(self, inputs: torch.Tensor) -> NDArray[Any]:
        """Returns the values as they are."""
        return inputs.contiguous().numpy()


class Series(Values):
    """(N, steps, features) series."""

    def __init__(self, recipe: Recipe, dataset: Dataset) -> None:
        """Takes augmentation and seed from the recipe.

        Raises:
            DataError: A change is not for as many channels.
        """
        super().__init__(recipe, dataset)
        self._changes = recipe.data.augment
        self._seed = recipe.seed
        channels = dataset.input_shape[1]
        for change in self._changes:
            multiple, exactly = NEEDS[change]
            if channels % multiple or exactly not in (None, channels):
                needed = f"{exactly} channels" if exactly else f"a multiple of {multiple} channels"
                raise DataError(f"data.augment: `{change}` is for series of {needed}; these have {channels}.")

    def augmented(self, batch: NDArray[Any], index: NDArray[np.int64], view: int) -> torch.Tensor:
        """Returns the normalised series of one augmented view; see `edgecompress.tasks.augment_series`."""
        return self.inputs(augment_series(batch, index, changes=self._changes, seed=self._seed, view=view))


class Pictures(Values):
    """(N, H, W, C) pictures, which networks take as (N, C, H, W)."""

    def __init__(self, recipe: Recipe, dataset: Dataset) -> None:
        """Takes augmentation and seed from the recipe."""
        super().__init__(recipe, dataset)
        self._changes = recipe.data.augment
        self._seed = recipe.seed

    def inputs(self, batch: NDArray[Any]) -> torch.Tensor:
        """Returns normalised pictures, (N, C, H, W) float32, laid out channels last."""
        return super().inputs(batch).permute(0, 3, 1, 2)

    def augmented(self, batch: NDArray[Any], index: NDArray[np.int64], view: int) -> torch.Tensor:
        """Returns the normalised pictures of one augmented view; see `edgecompress.tasks.augment`."""
        x = self.inputs(augment(batch, index, changes=self._changes, seed=self._seed, view=view))
        if "cutout" in self._changes:
            hidden = torch.from_numpy(holes((x.shape[2], x.shape[3]), index, seed=self._seed, view=view))
            x.masked_fill_(hidden[:, None], 0.0)  # 0 is the mean of the data
        return x

    def input_range(self) -> tuple[float, float]:
        """Returns the least and largest normalised value: of all a byte can hold; for floats, of the train split."""
        inputs = self._dataset.train.inputs if len(self._dataset.train) else self._dataset.calibration
        if inputs is not None and inputs.dtype != np.uint8:
            return super().input_range()
        ends = torch.tensor([0.0, 1.0])  # value * value_scale of a byte
        values = ends[:, None] / self._std + self._offset
        return float(values.min()), float(values.max())

    def to_flatbuffer(self, inputs: torch.Tensor) -> NDArray[Any]:
        """Returns NHWC pictures for NCHW ones."""
        return inputs.permute(0, 2, 3, 1).contiguous().numpy()


class Tokens:
    """Token numbers, (N, length) int32, which nothing is done to."""

    def __init__(self, _recipe: Recipe, _dataset: Dataset) -> None:
        """Needs nothing."""

    def inputs(self, batch: NDArray[Any]) -> torch.Tensor:
        """Returns token numbers, int32."""
        # A copy: a network may write into its input, and these are the data themselves.
        return torch.from_numpy(np.array(batch, np.int32))

    def augmented(self, batch: NDArray[Any], index: NDArray[np.int64], view: int) -> torch.Tensor:
        """Returns the same in every view."""
        del index, view
        return self.inputs(batch)

    def input_range(self) -> None:
        """Returns None: token numbers are not quantized."""

    def to_flatbuffer(self, inputs: torch.Tensor) -> NDArray[Any]:
        """Returns token numbers as they are."""
        return inputs.contiguous().numpy()


#: What `dataset.kind` names.
INPUTS: dict[str, Callable[[Recipe, Dataset], Inputs]] = {
    "pictures": Pictures,
    "series": Series,
    "features": Values,
    "tokens": Tokens,
}
