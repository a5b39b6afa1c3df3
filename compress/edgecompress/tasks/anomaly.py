"""Anomalies: an auto-encoder learns to give back normal samples, and what it gives back badly is none."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - the usual name
from numpy.typing import NDArray

from edgecompress.data.base import Split
from edgecompress.figures import RECONSTRUCTION
from edgecompress.report.intervals import Paired, Standing, auc_interval
from edgecompress.tasks.base import ROUNDING_POINTS, OnInputs
from edgecompress.tasks.standing import Marks, paired_errors, paired_scores, standing_of_errors

#: Two reconstructions of a sample count as the same within this root mean square difference; the data's std is 1.
SAME = 0.1
#: The partial AUC is over false alarms up to this share, as for MLPerf Tiny's and DCASE's machines.
FALSE_ALARMS = 0.1
CURVE_POINTS, BINS = 200, 40
#: A sample's reconstruction is scored this many at a time.
BATCH = 1024
ROUNDING_SHARE = 0.01


class AnomalyDetection(OnInputs):
    """The task over samples of which label 0 is normal and every other one an anomaly.

    Only normal samples are learnt from. A sample's score is the mean squared difference between the network's input
    (normalised) and its output.
    """

    chooses = False

    def targets(self, inputs: torch.Tensor, labels: NDArray[Any]) -> torch.Tensor:
        """Returns the inputs themselves."""
        del labels
        return inputs

    def loss(self, outputs: torch.Tensor, labels: torch.Tensor, label_smoothing: float = 0.0) -> torch.Tensor:
        """Returns the mean squared difference."""
        del label_smoothing
        return F.mse_loss(outputs, labels)

    def distillation_loss(
        self, outputs: torch.Tensor, targets: torch.Tensor, labels: torch.Tensor, temperature: float, alpha: float
    ) -> torch.Tensor:
        """Returns (1 - alpha) * difference to the input + alpha * difference to the teacher's reconstruction."""
        del temperature
        return (1 - alpha) * self.loss(outputs, labels) + alpha * self.loss(outputs, targets)

    def scores(self, outputs: NDArray[np.float32], split: Split) -> NDArray[np.float64]:
        """Returns each sample's score, (N,)."""
        found = [np.zeros(0)]
        for start in range(0, len(outputs), BATCH):
            given = self.inputs(split.inputs[start : start + BATCH]).numpy()
            difference = outputs[start : start + BATCH].astype(np.float64) - given
            found.append(np.square(difference).reshape(len(given), -1).mean(1))
        return np.concatenate(found)

    def metrics(self, outputs: NDArray[np.float32], split: Split) -> dict[str, float]:
        """Returns auc and pauc (percent; where there are both kinds) and reconstruction_error (of normal samples)."""
        scores, bad = self.scores(outputs, split), split.labels != 0
        figures = {}
        if bad.any() and not bad.all():
            alarms, hits = roc(scores, bad)
            figures = {"auc": 100.0 * area(alarms, hits), "pauc": 100.0 * partial_area(alarms, hits, FALSE_ALARMS)}
        if not bad.all():
            figures["reconstruction_error"] = float(scores[~bad].mean())
        return figures

    def marks(self, outputs: NDArray[np.float32], split: Split) -> Marks:
        """Returns each sample's score."""
        return self.scores(outputs, split)

    def standing(self, marks: Marks, split: Split) -> Standing:
        """Returns the AUC beside that of chance; where there is none, the error beside that of answering the mean."""
        bad = split.labels != 0
        if bad.any() and not bad.all():
            value = area(*roc(marks, bad))
            low, high = auc_interval(value, int(bad.sum()), int((~bad).sum()))
            return Standing(self.figure.key, 100 * value, 100 * low, 100 * high, 50.0, "scores by chance", len(marks))
        blind = self.scores(np.zeros((len(split), *self.dataset.outputs), np.float32), split)
        return standing_of_errors(RECONSTRUCTION, marks, blind, "always giving back the mean")

    def paired(self, marks: Marks, reference: Marks, split: Split) -> Paired:
        """Returns the comparison by the AUC, or by the errors where there is none."""
        bad = split.labels != 0
        if bad.any() and not bad.all():
            return paired_scores(self.figure, marks, reference, bad)
        return paired_errors(RECONSTRUCTION, marks, reference)

    def agreement(self, outputs: NDArray[np.float32], reference: NDArray[np.float32]) -> float:
        """Returns the share of samples whose reconstructions differ by at most 0.1 (root mean square), in percent."""
        difference = np.square(outputs.astype(np.float64) - reference).reshape(len(outputs), -1).mean(1)
        return 100.0 * float((difference <= SAME**2).mean())

    def tolerance(self, split: Split, value: float, step: float) -> float:
        """Returns 0.2 points of AUC, or what one sample can make of it; without one, 1 % of the error or a step's."""
        bad = int((split.labels != 0).sum())
        rarer = min(bad, len(split) - bad)
        if rarer:
            return max(ROUNDING_POINTS, 100.0 / rarer)
        return max(ROUNDING_SHARE * value, step**2)

    def plots(self, outputs: NDArray[np.float32], split: Split) -> dict[str, Any]:
        """Returns roc (shares of false alarms and of hits) and scores: edges of bins, samples normal and anomalous."""
        scores, bad = self.scores(outputs, split), split.labels != 0
        # On a logarithmic axis: anomalies' scores are many times those of normal samples.
        known = scores[scores > 0]
        low, high = (known.min(), known.max()) if len(known) else (1.0, 1.0)
        edges = np.geomspace(low, high * (1 + 1e-9) if high > low else low * 2, BINS + 1)
        clipped = np.clip(scores, edges[0], edges[-1])
        plots: dict[str, Any] = {
            "scores": {
                "edges": [float(f"{edge:.6g}") for edge in edges],
                "normal": np.histogram(clipped[~bad], edges)[0].tolist(),
                "anomalous": np.histogram(clipped[bad], edges)[0].tolist(),
            }
        }
        if bad.any() and not bad.all():
            alarms, hits = roc(scores, bad)
            shown = np.unique(np.linspace(0, len(alarms) - 1, min(CURVE_POINTS, len(alarms))).round().astype(int))
            plots["roc"] = {
                "false_alarms": [round(float(share), 5) for share in alarms[shown]],
                "hits": [round(float(share), 5) for share in hits[shown]],
            }
        return plots


def roc(scores: NDArray[np.float64], bad: NDArray[np.bool_]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Returns the receiver operating characteristic: shares of false alarms and of hits, from none to all.

    Samples of the same score are taken together, so that the area counts a tie as a half.
    """
    order = np.argsort(-scores, kind="stable")
    last = np.flatnonzero(np.append(np.diff(scores[order]) != 0, True))
    hits = np.cumsum(bad[order])[last]
    alarms = 1 + last - hits
    return np.append(0.0, alarms / alarms[-1]), np.append(0.0, hits / hits[-1])


def area(alarms: NDArray[np.float64], hits: NDArray[np.float64]) -> float:
    """Returns the area under a curve of straight pieces."""
    return float((np.diff(alarms) * (hits[1:] + hits[:-1]) / 2).sum())


def partial_area(alarms: NDArray[np.float64], hits: NDArray[np.float64], most: float) -> float:
    """Returns the area up to a share of false alarms, scaled so that chance has 0.5 and the best 1 (McClish 1989)."""
    inside = alarms < most
    x = np.append(alarms[inside], most)
    y = np.append(hits[inside], np.interp(most, alarms, hits))
    least = most**2 / 2
    return 0.5 * (1 + (area(x, y) - least) / (most - least))
