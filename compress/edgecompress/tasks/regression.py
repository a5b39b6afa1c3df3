"""Numbers out: one or more per sample, whatever goes in."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - the usual name
from numpy.typing import NDArray

from edgecompress.data.base import Dataset, Split
from edgecompress.recipe.schema import Recipe
from edgecompress.report.intervals import Paired, Standing
from edgecompress.tasks.base import OnInputs
from edgecompress.tasks.standing import Marks, paired_errors, standing_of_errors
from edgecompress.wording import in_digits

#: Two predictions count as the same answer within this share of the numbers' standard deviation.
SAME = 0.1
#: Mean errors of two models that compute the same but for rounding differ by less than this share of them, or by less
#: than this share of an output step where they are that small.
ROUNDING_SHARE, ROUNDING_STEPS = 0.01, 0.1
#: Points of a plot.
PLOTTED = 500


class Regression(OnInputs):
    """The task over one dataset of samples with one or more numbers each.

    Networks predict (value - mean) / std of the train split, so that every number weighs the same and one step of an
    INT8 output suits all; figures are in the data's own units.
    """

    chooses = False

    def __init__(self, recipe: Recipe, dataset: Dataset) -> None:
        """Takes the numbers' mean and spread from the data.

        Raises:
            DataError: The data has other samples than the task is about.
        """
        super().__init__(recipe, dataset)
        self._mean, self._std = np.array(dataset.target_mean), np.array(dataset.target_std)

    def targets(self, inputs: torch.Tensor, labels: NDArray[Any]) -> torch.Tensor:
        """Returns the numbers as networks predict them, (N, targets)."""
        return torch.from_numpy(((labels - self._mean) / self._std).astype(np.float32)).to(inputs.device)

    def loss(self, outputs: torch.Tensor, labels: torch.Tensor, label_smoothing: float = 0.0) -> torch.Tensor:
        """Returns the mean smooth L1 loss (Girshick 2015), which outliers do not dominate: quadratic within one std."""
        del label_smoothing
        return F.smooth_l1_loss(outputs, labels)

    def distillation_loss(
        self, outputs: torch.Tensor, targets: torch.Tensor, labels: torch.Tensor, temperature: float, alpha: float
    ) -> torch.Tensor:
        """Returns (1 - alpha) * loss against the labels + alpha * loss against the teacher's outputs."""
        del temperature
        return (1 - alpha) * self.loss(outputs, labels) + alpha * self.loss(outputs, targets)

    def values(self, outputs: NDArray[np.float32]) -> NDArray[np.float64]:
        """Returns predictions in the data's units."""
        found: NDArray[np.float64] = outputs.astype(np.float64) * self._std + self._mean
        return found

    def metrics(self, outputs: NDArray[np.float32], split: Split) -> dict[str, float]:
        """Returns mae, rmse (both the mean over the numbers) and r2; without r2 where no number varies."""
        errors = self.values(outputs) - split.labels
        figures = {
            "mae": float(np.abs(errors).mean()),
            "rmse": float(np.sqrt(np.square(errors).mean(0)).mean()),
        }
        r2 = [one for one in _r2(errors, split.labels) if one is not None]
        return {**figures, "r2": float(np.mean(r2))} if r2 else figures

    def marks(self, outputs: NDArray[np.float32], split: Split) -> Marks:
        """Returns each sample's absolute error, the mean over the numbers."""
        errors: Marks = np.abs(self.values(outputs) - split.labels).mean(1)
        return errors

    def standing(self, marks: Marks, split: Split) -> Standing:
        """Returns the mean absolute error beside that of always answering the split's mean."""
        blind = np.abs(split.labels - split.labels.astype(np.float64).mean(0)).mean(1)
        return standing_of_errors(self.figure, marks, blind, "always answering the mean")

    def paired(self, marks: Marks, reference: Marks, split: Split) -> Paired:
        """Returns the comparison by the errors."""
        del split
        return paired_errors(self.figure, marks, reference)

    def agreement(self, outputs: NDArray[np.float32], reference: NDArray[np.float32]) -> float:
        """Returns the share of samples whose numbers all differ by at most a tenth of their standard deviation."""
        return 100.0 * float((np.abs(outputs - reference) <= SAME).all(1).mean())

    def tolerance(self, split: Split, value: float, step: float) -> float:
        """Returns 1 % of the mean error, or a tenth of an output step where the error is small beside that."""
        del split
        return max(ROUNDING_SHARE * value, ROUNDING_STEPS * step * float(self._std.mean()))

    def plots(self, outputs: NDArray[np.float32], split: Split) -> dict[str, Any]:
        """Returns predictions: per number its name, mae, rmse, r2 and pairs of true and predicted values (of some)."""
        values, labels = self.values(outputs), split.labels.astype(np.float64)
        errors = values - labels
        shown = np.linspace(0, len(labels) - 1, min(PLOTTED, len(labels))).round().astype(np.int64)
        names = self.dataset.target_names or tuple(f"target {number + 1}" for number in range(labels.shape[1]))
        return {
            "predictions": [
                {
                    "name": name,
                    "mae": float(np.abs(errors[:, number]).mean()),
                    "rmse": float(np.sqrt(np.square(errors[:, number]).mean())),
                    "r2": r2,
                    "true": _short(labels[shown, number], self._std[number]),
                    "predicted": _short(values[shown, number], self._std[number]),
                }
                for number, (name, r2) in enumerate(zip(names, _r2(errors, labels), strict=True))
            ]
        }


def _r2(errors: NDArray[np.float64], labels: NDArray[Any]) -> list[float | None]:
    """Returns the coefficient of determination of each number, None where it does not vary."""
    left = np.square(errors).sum(0)
    spread = np.square(labels - labels.astype(np.float64).mean(0)).sum(0)
    return [1.0 - float(a / b) if b > 0 else None for a, b in zip(left, spread, strict=True)]


def _short(values: NDArray[np.float64], std: float) -> list[float]:
    """Returns numbers in six digits, in more where their spread is small beside them."""
    return [float(in_digits(value, std, 6)) for value in values.tolist()]
