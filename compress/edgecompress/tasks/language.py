"""The next token, at every place of a text."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - the usual name
from numpy.typing import NDArray

from edgecompress.data.base import Dataset, Split
from edgecompress.errors import DataError
from edgecompress.recipe.schema import Recipe
from edgecompress.report.intervals import Paired, Standing
from edgecompress.tasks.base import OnInputs
from edgecompress.tasks.standing import Marks, paired_errors, standing_of_errors

#: Windows whose log-likelihoods are computed at a time: outputs are large.
BATCH = 64
#: Perplexities of two models that compute the same but for rounding differ by less than this share of them.
ROUNDING_SHARE = 0.002


class LanguageModeling(OnInputs):
    """The task over windows of tokens, each with the tokens one place later."""

    def __init__(self, recipe: Recipe, dataset: Dataset) -> None:
        """Takes the vocabulary from the data.

        Raises:
            DataError: The data has other samples than the task is about.
        """
        super().__init__(recipe, dataset)
        if dataset.vocabulary is None:
            raise DataError(f"task {self.name} needs text, but source `{dataset.name}` gives tokens of no vocabulary.")
        self._vocabulary = dataset.vocabulary
        self._bytes: list[tuple[NDArray[Any], int]] = []

    def loss(self, outputs: torch.Tensor, labels: torch.Tensor, label_smoothing: float = 0.0) -> torch.Tensor:
        """Returns the mean cross-entropy per token."""
        return F.cross_entropy(outputs.flatten(0, 1), labels.flatten(), label_smoothing=label_smoothing)

    def distillation_loss(
        self, outputs: torch.Tensor, targets: torch.Tensor, labels: torch.Tensor, temperature: float, alpha: float
    ) -> torch.Tensor:
        """Returns (1 - alpha) * cross-entropy + alpha * T^2 * KL(teacher at T || student at T), both per token."""
        soft = F.kl_div(
            F.log_softmax(outputs.flatten(0, 1) / temperature, 1),
            F.log_softmax(targets.flatten(0, 1) / temperature, 1),
            reduction="batchmean",
            log_target=True,
        )
        return (1 - alpha) * self.loss(outputs, labels) + alpha * temperature**2 * soft

    def metrics(self, outputs: NDArray[np.float32], split: Split) -> dict[str, float]:
        """Returns perplexity (per token), bits_per_byte of the text, and token_accuracy in percent."""
        if not len(split):
            return {}
        total, right = 0.0, 0
        for start in range(0, len(outputs), BATCH):
            logits = torch.from_numpy(outputs[start : start + BATCH]).flatten(0, 1)
            labels = torch.from_numpy(split.labels[start : start + BATCH]).flatten()
            total += float(F.cross_entropy(logits, labels, reduction="sum"))
            right += int((logits.argmax(1) == labels).sum())
        tokens = split.labels.size
        return {
            "perplexity": _perplexity(total / tokens),
            "bits_per_byte": total / math.log(2) / max(self.bytes_of(split.labels), 1),
            "token_accuracy": 100.0 * right / tokens,
        }

    def bytes_of(self, labels: NDArray[Any]) -> int:
        """Returns how many bytes of UTF-8 the tokens stand for."""
        if self._vocabulary.document().get("kind") == "byte":
            return int(labels.size)
        for known, count in self._bytes:
            if known is labels:
                return count
        count = sum(len(self._vocabulary.decode(row.tolist()).encode("utf-8", "replace")) for row in labels)
        self._bytes.append((labels, count))
        return count

    def marks(self, outputs: NDArray[np.float32], split: Split) -> Marks:
        """Returns each window's mean cross-entropy per token."""
        found = [np.zeros(0)]
        for start in range(0, len(outputs), BATCH):
            logits = torch.from_numpy(outputs[start : start + BATCH])
            labels = torch.from_numpy(split.labels[start : start + BATCH])
            found.append(F.cross_entropy(logits.transpose(1, 2), labels, reduction="none").double().mean(1).numpy())
        return np.concatenate(found)

    def standing(self, marks: Marks, split: Split) -> Standing:
        """Returns the perplexity beside that of the tokens' frequencies in the split itself."""
        counts = np.bincount(split.labels.ravel(), minlength=self.dataset.outputs[-1])
        surprise = -np.log(np.maximum(counts, 1) / split.labels.size)
        return standing_of_errors(
            self.figure, marks, surprise[split.labels].mean(1), "answering by how frequent each token is", _perplexity
        )

    def paired(self, marks: Marks, reference: Marks, split: Split) -> Paired:
        """Returns the comparison by the windows' cross-entropies."""
        del split
        return paired_errors(self.figure, marks, reference, _perplexity)

    def agreement(self, outputs: NDArray[np.float32], reference: NDArray[np.float32]) -> float:
        """Returns the share of tokens with the same most likely successor, in percent."""
        return 100.0 * float((outputs.argmax(-1) == reference.argmax(-1)).mean())

    def tolerance(self, split: Split, value: float, step: float) -> float:
        """Returns 0.2 % of the perplexity."""
        del split, step
        return ROUNDING_SHARE * value

    def plots(self, outputs: NDArray[np.float32], split: Split) -> dict[str, Any]:
        """Returns nothing: what such a model has to show is its text."""
        del outputs, split
        return {}


def _perplexity(cross_entropy: float) -> float:
    return math.exp(min(cross_entropy, 700.0))
