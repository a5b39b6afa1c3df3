"""Pictures in, one class out."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - the usual name
from numpy.typing import NDArray

from compress.data.base import Dataset
from compress.recipe import Recipe
from compress.tasks.augment import augment, holes

#: With more classes a matrix of all pairs is of no use to a reader, and large.
MOST_CLASSES_PLOTTED = 100


class ImageClassification:
    """The task over one dataset of (N, H, W, C) pictures."""

    name = "image-classification"

    def __init__(self, recipe: Recipe, dataset: Dataset) -> None:
        """Takes augmentation and seed from the recipe, normalisation from the data."""
        self.dataset = dataset
        self._changes = recipe.data.augment
        self._seed = recipe.seed
        normalization = dataset.normalization
        std = torch.tensor(normalization.std, dtype=torch.float32)
        self._factor = normalization.value_scale / std
        self._offset = -torch.tensor(normalization.mean, dtype=torch.float32) / std

    def inputs(self, batch: NDArray[Any]) -> torch.Tensor:
        """Returns normalised pictures, (N, C, H, W) float32, laid out channels last."""
        x = torch.from_numpy(np.ascontiguousarray(batch)).float()
        return x.mul_(self._factor).add_(self._offset).permute(0, 3, 1, 2)

    def augmented(self, batch: NDArray[Any], index: NDArray[np.int64], view: int) -> torch.Tensor:
        """Returns the normalised pictures of one augmented view; see `compress.tasks.augment`."""
        x = self.inputs(augment(batch, index, changes=self._changes, seed=self._seed, view=view))
        if "cutout" in self._changes:
            hidden = torch.from_numpy(holes((x.shape[2], x.shape[3]), index, seed=self._seed, view=view))
            x.masked_fill_(hidden[:, None], 0.0)  # 0 is the mean of the data
        return x

    def loss(self, outputs: torch.Tensor, labels: torch.Tensor, label_smoothing: float = 0.0) -> torch.Tensor:
        """Returns the mean cross-entropy."""
        return F.cross_entropy(outputs, labels, label_smoothing=label_smoothing)

    def distillation_loss(
        self, outputs: torch.Tensor, targets: torch.Tensor, labels: torch.Tensor, temperature: float, alpha: float
    ) -> torch.Tensor:
        """Returns (1 - alpha) * cross-entropy + alpha * T^2 * KL(teacher at T || student at T).

        T^2 keeps the soft gradients' size whatever the temperature (Hinton, Vinyals, Dean 2015).
        """
        soft = F.kl_div(
            F.log_softmax(outputs / temperature, 1),
            F.log_softmax(targets / temperature, 1),
            reduction="batchmean",
            log_target=True,
        )
        return (1 - alpha) * self.loss(outputs, labels) + alpha * temperature**2 * soft

    def metrics(self, outputs: NDArray[np.float32], labels: NDArray[np.int64]) -> dict[str, float]:
        """Returns accuracy and macro_f1, in percent; classes that neither occur nor are answered do not count in F1."""
        answers = outputs.argmax(1)
        classes = self.dataset.num_classes
        hits = np.bincount(labels[answers == labels], minlength=classes)
        both = np.bincount(labels, minlength=classes) + np.bincount(answers, minlength=classes)
        f1 = 2.0 * hits[both > 0] / both[both > 0]
        return {"accuracy": 100.0 * float((answers == labels).mean()), "macro_f1": 100.0 * float(f1.mean())}

    def agreement(self, outputs: NDArray[np.float32], reference: NDArray[np.float32]) -> float:
        """Returns the share of samples with the same most likely class, in percent."""
        return 100.0 * float((outputs.argmax(1) == reference.argmax(1)).mean())

    def input_range(self) -> tuple[float, float]:
        """Returns the least and largest normalised value: of all a byte can hold; for floats, of the train split."""
        inputs = self.dataset.train.inputs if len(self.dataset.train) else self.dataset.calibration
        if inputs is None or inputs.dtype == np.uint8:
            ends = torch.tensor([0.0, 1.0])  # value * value_scale of a byte
            values = ends[:, None] / torch.tensor(self.dataset.normalization.std) + self._offset
        else:
            ends = torch.from_numpy(
                np.stack([inputs.min(axis=(0, 1, 2)), inputs.max(axis=(0, 1, 2))]).astype(np.float32)
            )
            values = ends * self._factor + self._offset
        return float(values.min()), float(values.max())

    def to_flatbuffer(self, inputs: torch.Tensor) -> NDArray[np.float32]:
        """Returns NHWC pictures for NCHW ones."""
        return inputs.permute(0, 2, 3, 1).contiguous().numpy()

    def plots(self, outputs: NDArray[np.float32], labels: NDArray[np.int64]) -> dict[str, Any]:
        """Returns confusion_matrix (row: label, column: answer), class_names and per_class_accuracy (percent)."""
        classes = self.dataset.num_classes
        if classes > MOST_CLASSES_PLOTTED:
            return {}
        matrix = np.bincount(labels * classes + outputs.argmax(1), minlength=classes**2).reshape(classes, classes)
        seen = matrix.sum(1)
        shares = [100.0 * matrix[k, k] / seen[k] if seen[k] else None for k in range(classes)]
        return {
            "confusion_matrix": matrix.tolist(),
            "class_names": list(self.dataset.class_names),
            "per_class_accuracy": [None if share is None else round(float(share), 4) for share in shares],
        }
