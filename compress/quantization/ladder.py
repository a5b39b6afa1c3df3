"""PTQ that repairs itself: a ladder of ever stronger steps, climbed until the accuracy fits.

plain (least and largest value) -> ranges (the estimator that does best) -> equalize (cross-layer equalisation and bias
correction) -> adaround (learned rounding). Each rung starts from the float weights, equalised ones for the last two.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from compress.quantization.adaround import ITERATIONS, learn_rounding
from compress.quantization.bias_correction import correct_biases
from compress.quantization.equalize import equalize
from compress.quantization.estimation import ESTIMATORS, estimate, look
from compress.quantization.twin import Twin

#: Bytes of one activation for all samples that are walked through layer by layer.
LARGEST_ACTIVATION_BYTES = 256 * 1024**2
FEWEST_SAMPLES = 16


@dataclass(frozen=True)
class Rung:
    """One step of the ladder.

    Attributes:
        name: `plain`, `ranges`, `equalize` or `adaround`.
        accuracy: In percent.
        drop_points: What the float model has more.
        detail: What was done, in words.
    """

    name: str
    accuracy: float
    drop_points: float
    detail: str


@dataclass
class _State:
    """A twin's weights and ranges."""

    weights: dict[str, torch.Tensor]
    ranges: list[dict[str, Any]]

    @classmethod
    def of(cls, twin: Twin) -> _State:
        """Returns a copy."""
        return cls({key: weight.detach().clone() for key, weight in twin.weights.items()}, twin.ranges())

    @torch.no_grad()
    def restore(self, twin: Twin) -> None:
        """Puts it back."""
        for key, weight in self.weights.items():
            twin.weights[key].data.copy_(weight)
        twin.load_ranges(self.ranges)


@dataclass
class Ladder:
    """A climb.

    Attributes:
        twin: What is quantized; in evaluation mode.
        batches: Calibration inputs.
        accuracy: Tells the accuracy of the twin as it is, in percent; called with the twin quantizing or floating.
        input_range: What the input can hold at all, where that is known.
        iterations: Of learned rounding, per layer.
        seed: Of learned rounding.
        rungs: Those climbed so far.
    """

    twin: Twin
    batches: Sequence[torch.Tensor]
    accuracy: Callable[[], float]
    input_range: tuple[float, float] | None = None
    iterations: int = ITERATIONS
    seed: int = 0
    rungs: list[Rung] = field(default_factory=list)

    def climb(self, max_drop_points: float) -> bool:
        """Climbs until the accuracy fits and returns whether it does; else the twin is left as the best rung had it.

        Raises:
            ModelError: The calibration samples cannot be used.
        """
        with self.twin.floating():
            reference = self.accuracy()
        best: tuple[float, _State] | None = None
        floats = _State.of(self.twin)
        for name, step in (
            ("plain", self._plain),
            ("ranges", self._ranges),
            ("equalize", self._equalize),
            ("adaround", self._adaround),
        ):
            for key, weight in floats.weights.items():
                self.twin.weights[key].data.copy_(weight)
            detail = step()
            accuracy = self.accuracy()
            self.rungs.append(Rung(name, accuracy, reference - accuracy, detail))
            if reference - accuracy <= max_drop_points:
                return True
            if best is None or accuracy > best[0]:
                best = accuracy, _State.of(self.twin)
        if best is not None:
            best[1].restore(self.twin)
        return False

    def _plain(self) -> str:
        self.twin.calibrate(self.batches, self.input_range)
        return "least and largest values"

    def _ranges(self) -> str:
        seen = look(self.twin, self.batches)
        found: dict[str, float] = {}
        for name in ESTIMATORS:
            self.twin.set_ranges(estimate(seen, name), self.input_range)
            found[name] = self.accuracy()
        best = max(found, key=lambda name: found[name])
        self.twin.set_ranges(estimate(seen, best), self.input_range)
        return f"range estimator {best}"

    def _equalize(self) -> str:
        pairs = equalize(self.twin)
        chosen = self._ranges()
        corrected = correct_biases(self.twin, self._samples())
        return f"{pairs} pairs of layers equalised, {chosen}, {corrected} biases corrected"

    def _adaround(self) -> str:
        pairs = equalize(self.twin)
        chosen = self._ranges()
        rounded = learn_rounding(self.twin, self._samples(), iterations=self.iterations, seed=self.seed)
        return f"{pairs} pairs of layers equalised, {chosen}, rounding of {rounded} layers learned"

    def _samples(self) -> torch.Tensor:
        """Returns as many calibration samples as can be held layer by layer."""
        largest = 1
        for node in self.twin.graph.nodes:
            for shape in node.output_shapes:
                largest = max(largest, int(torch.Size(shape).numel()) if shape else 1)
        count = max(LARGEST_ACTIVATION_BYTES // (4 * largest), FEWEST_SAMPLES)
        return torch.cat(list(self.batches))[:count]
