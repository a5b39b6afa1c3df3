"""One class out, whatever goes in: pictures, text, series or audio."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - the usual name
from numpy.typing import NDArray

from edgecompress.data.base import Split
from edgecompress.report.intervals import Paired, Standing
from edgecompress.tasks.base import OnInputs
from edgecompress.tasks.reordering import Reordering, reordering
from edgecompress.tasks.standing import Marks, paired_answers, standing_of_answers

#: With more classes a matrix of all pairs is of no use to a reader, and large.
MOST_CLASSES_PLOTTED = 100


class Classification(OnInputs):
    """The task over one dataset of samples with one class each."""

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

    def metrics(self, outputs: NDArray[np.float32], split: Split) -> dict[str, float]:
        """Returns accuracy and macro_f1, in percent; classes that neither occur nor are answered do not count in F1."""
        labels, answers = split.labels, outputs.argmax(1)
        classes = self.dataset.num_classes
        hits = np.bincount(labels[answers == labels], minlength=classes)
        both = np.bincount(labels, minlength=classes) + np.bincount(answers, minlength=classes)
        f1 = 2.0 * hits[both > 0] / both[both > 0]
        return {"accuracy": 100.0 * float((answers == labels).mean()), "macro_f1": 100.0 * float(f1.mean())}

    def marks(self, outputs: NDArray[np.float32], split: Split) -> Marks:
        """Returns 1 for each sample that is answered right, 0 for the others."""
        right: Marks = (outputs.argmax(1) == split.labels).astype(np.float64)
        return right

    def standing(self, marks: Marks, split: Split) -> Standing:
        """Returns the accuracy beside that of the split's most frequent class."""
        return standing_of_answers(self.figure, marks, split.labels)

    def paired(self, marks: Marks, reference: Marks, split: Split) -> Paired:
        """Returns the comparison by the samples that only one model has right."""
        del split
        return paired_answers(marks, reference)

    def reordering(self, outputs: NDArray[np.float32], split: Split) -> Reordering | None:
        """Returns the order of the classes in which the answers fit the labels far better, None where there is none."""
        return reordering(outputs.argmax(1), split.labels, self.dataset.num_classes)

    def agreement(self, outputs: NDArray[np.float32], reference: NDArray[np.float32]) -> float:
        """Returns the share of samples with the same most likely class, in percent."""
        return 100.0 * float((outputs.argmax(1) == reference.argmax(1)).mean())

    def plots(self, outputs: NDArray[np.float32], split: Split) -> dict[str, Any]:
        """Returns confusion_matrix (row: label, column: answer), class_names and per_class_accuracy (percent)."""
        classes = self.dataset.num_classes
        if classes > MOST_CLASSES_PLOTTED:
            return {}
        matrix = np.bincount(split.labels * classes + outputs.argmax(1), minlength=classes**2).reshape(classes, classes)
        seen = matrix.sum(1)
        shares = [100.0 * matrix[k, k] / seen[k] if seen[k] else None for k in range(classes)]
        return {
            "confusion_matrix": matrix.tolist(),
            "class_names": list(self.dataset.class_names),
            "per_class_accuracy": [None if share is None else round(float(share), 4) for share in shares],
        }
