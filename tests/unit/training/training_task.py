"""A task small enough to train in milliseconds: two blobs in four dimensions."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from edgecompress.data.base import Dataset, Normalization, Split
from edgecompress.training.defaults import Settled


def blobs(count: int, seed: int) -> Split:
    """Returns two overlapping classes."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 2, count).astype(np.int64)
    inputs = generator.standard_normal((count, 4)).astype(np.float32) + 1.5 * labels[:, None].astype(np.float32)
    return Split(inputs, labels)


def settled(**spec: object) -> Settled:
    """Returns a training: what is not given is that of a large one, all alike."""
    rest = {"epochs": 20, "optimizer": "sgd", "learning_rate": 0.1, "batch_size": 256, "weight_decay": 5e-4}
    more = {"momentum": 0.9, "on_divergence": "stop", "last_batch": "drop"}
    return Settled.model_validate({**rest, **more, **spec})


class BlobTask:
    """Implements the Task protocol for feature vectors; a view shifts the inputs by its number."""

    name = "blobs"

    def __init__(self, train: int = 256) -> None:
        empty = Normalization(1.0, (0.0,), (1.0,), "none")
        self.dataset = Dataset("blobs", blobs(train, 0), blobs(64, 1), blobs(64, 2), ("a", "b"), (4,), empty)
        self.views_asked: list[int] = []

    def inputs(self, batch: NDArray[Any]) -> torch.Tensor:
        return torch.from_numpy(np.asarray(batch, np.float32))

    def augmented(self, batch: NDArray[Any], index: NDArray[np.int64], view: int) -> torch.Tensor:
        assert len(batch) == len(index)
        self.views_asked.append(view)
        return self.inputs(batch) + 0.01 * view

    def loss(self, outputs: torch.Tensor, labels: torch.Tensor, label_smoothing: float = 0.0) -> torch.Tensor:
        return F.cross_entropy(outputs, labels, label_smoothing=label_smoothing)

    def distillation_loss(
        self, outputs: torch.Tensor, targets: torch.Tensor, labels: torch.Tensor, temperature: float, alpha: float
    ) -> torch.Tensor:
        soft = F.kl_div(
            F.log_softmax(outputs / temperature, 1), F.softmax(targets / temperature, 1), reduction="batchmean"
        )
        return (1 - alpha) * self.loss(outputs, labels) + alpha * temperature**2 * soft

    def targets(self, inputs: torch.Tensor, labels: NDArray[Any]) -> torch.Tensor:
        return torch.from_numpy(labels).to(inputs.device)

    def metrics(self, outputs: NDArray[np.float32], split: Split) -> dict[str, float]:
        return {"accuracy": 100.0 * float((outputs.argmax(1) == split.labels).mean())}
