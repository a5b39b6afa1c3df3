"""Codebooks of a whole twin, fitted as it is or again and again while it trains."""

from __future__ import annotations

import torch

from edgecompress.quantization.grids.codebooks import best_codes, weight_steps
from edgecompress.quantization.grids.fake import WEIGHT_QMAX
from edgecompress.quantization.twin.twin import Twin

#: How often codebooks are fitted in the course of a whole training.
FITS = 50
EIGHT_BITS = 8


def clusterable(twin: Twin) -> list[int]:
    """Returns the tensors whose integers can be clustered: INT8 weights with scales of their own."""
    tensors = twin.graph.tensors
    return [
        n
        for n in map(int, twin.weights)
        if tensors[n].quantized and tensors[n].bits == EIGHT_BITS and n not in twin.biases and n not in twin.group_of
    ]


@torch.no_grad()
def fit_codebooks(twin: Twin, clusters: int) -> None:
    """Gives every weight of a twin the codebook that fits it best as it is.

    Args:
        twin: Changed in place.
        clusters: How many integers each codebook may have.
    """
    for n in clusterable(twin):
        steps = weight_steps(twin.weights[str(n)], twin.weight_scale(n), twin.graph.tensors[n].axis)
        codes = torch.round(steps).clamp(-WEIGHT_QMAX, WEIGHT_QMAX).to(torch.int16).cpu().numpy()
        twin.codebooks[n] = torch.from_numpy(best_codes(codes, clusters)).float()


class CodebookSchedule:
    """Fits a training twin's codebooks again and again while its ranges follow the weights; then they stay."""

    def __init__(self, twin: Twin, clusters: int, share: float) -> None:
        """Takes the twin, the size of its codebooks, and the share of the training in which they may change."""
        self._twin, self._clusters, self._share = twin, clusters, share
        self._last: int | None = None

    def at(self, progress: float) -> None:
        """Fits the codebooks where it is time to; called before every step with the share of the training done."""
        now = int(progress * FITS)
        if progress < self._share and now != self._last:
            fit_codebooks(self._twin, self._clusters)
        self._last = now
