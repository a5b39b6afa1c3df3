"""PTQ that repairs itself: a ladder of ever stronger steps, climbed until the accuracy fits.

plain (least and largest value) -> ranges (the estimator that does best: one for all activations, or for each the one
that harms the output least) -> equalize (cross-layer equalisation, channels that share a range evened out, and bias
correction) -> adaround (learned rounding, on equalised weights if these do better, and with an estimator for each
activation) -> wide-int16, wide-float32 (the most sensitive layers in wider types, where these are allowed; layer norms
before all others in float32). The first four start from the float weights; wider layers are added to the best of what
was there before.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

from edgecompress.quantization.proof.analysis import Gain, adding, sensitivity
from edgecompress.quantization.repairs.adaround import ITERATIONS, learn_rounding
from edgecompress.quantization.repairs.bias_correction import correct_biases
from edgecompress.quantization.repairs.equalize import equalize
from edgecompress.quantization.repairs.estimation import ESTIMATORS, Range, estimate, look
from edgecompress.quantization.repairs.even_channels import even_out
from edgecompress.quantization.repairs.range_search import search_estimators
from edgecompress.quantization.repairs.wide import WideSet, carry_weights, wide_sets
from edgecompress.quantization.structure.scheme import FloatPart, Scheme, Wide
from edgecompress.quantization.twin.twin import Twin
from edgecompress.wording import counted

#: Bytes of one activation for all samples that are walked through layer by layer.
LARGEST_ACTIVATION_BYTES = 512 * 1024**2
FEWEST_SAMPLES = 16
#: The choice of an estimator for each activation, beside those of one for all.
EACH = "each its own"
#: For activations that no estimator was chosen for.
OTHERS = "min-max"


@dataclass(frozen=True)
class Rung:
    """One step of the ladder.

    Attributes:
        name: `plain`, `ranges`, `equalize`, `adaround`, `wide-int16` or `wide-float32`.
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


@dataclass(frozen=True)
class _Start:
    """What learned rounding may start from.

    Attributes:
        state: Float weights, as they are or equalised, and ranges chosen for each activation.
        accuracy: With weights rounded to nearest, in percent.
        detail: How it came about, in words.
    """

    state: _State
    accuracy: float
    detail: str


@dataclass(frozen=True)
class Built:
    """A quantized model.

    Attributes:
        twin: Its twin, in evaluation mode.
        structure: The flatbuffer the twin was built from.
        labels: Layer name of each of its operators.
    """

    twin: Twin
    structure: bytes
    labels: list[str]


@dataclass(frozen=True)
class Widening:
    """What is needed to keep layers wider.

    Attributes:
        kinds: Types that are allowed, in the order they are tried.
        limit: Largest share of the multiplications in wider layers.
        scheme: Of the other layers.
        floating: The float flatbuffer.
        build: Makes a quantized model by a scheme.
        trial: Inputs on which the layers' sensitivity is measured.
        score: Tells how good the outputs for these are, in percent: (N, classes) -> number.
        norms: Layer norms and the sums they read, where these are not in float32 anyway.
    """

    kinds: Sequence[Wide]
    limit: float
    scheme: Scheme
    floating: schema.ModelT
    build: Callable[[Scheme], Built]
    trial: Sequence[torch.Tensor]
    score: Callable[[NDArray[np.float32]], float]
    norms: FloatPart | None = None

    def sets(self, kind: Wide, twin: Twin, gains: Callable[[], dict[int, Gain]]) -> Iterator[WideSet]:
        """Gives the sets of layers that are tried in a wider type, the least first.

        In float32 norms come first, and stay in every set that follows: they multiply by nothing, and where there are
        outliers it is they that lose most. (INT16 holds the spread of their variances no better, and has slow kernels.)
        """
        first = WideSet((), (), 0.0)
        if kind == "float32" and self.norms is not None and self.norms.tensors:
            first = WideSet(self.norms.tensors, self.norms.layers, 0.0)
            yield first
        for chosen in wide_sets(twin, gains(), self.floating, self.limit):
            yield first.joined(chosen)


@dataclass
class Ladder:
    """A climb.

    Attributes:
        model: What is quantized; another one where layers were made wider.
        batches: Calibration inputs.
        accuracy: Tells the accuracy of a twin as it is, in percent; called with the twin quantizing or floating.
        input_range: What the input can hold at all, where that is known.
        iterations: Of learned rounding, per layer.
        seed: Of learned rounding.
        widening: Set where layers may be kept wider.
        trial: Inputs on which estimators are compared for each activation; the calibration inputs where there are none.
        rungs: Those climbed so far.
        wide: The layers that are wider in `model`, None where all are as narrow as the others.
    """

    model: Built
    batches: Sequence[torch.Tensor]
    accuracy: Callable[[Twin], float]
    input_range: tuple[float, float] | None = None
    iterations: int = ITERATIONS
    seed: int = 0
    widening: Widening | None = None
    trial: Sequence[torch.Tensor] = ()
    rungs: list[Rung] = field(default_factory=list)
    wide: WideSet | None = None
    _starts: list[_Start] = field(default_factory=list)
    _estimators: dict[str, str] = field(default_factory=dict)

    @property
    def twin(self) -> Twin:
        """The twin of `model`."""
        return self.model.twin

    def climb(self, max_drop_points: float) -> bool:
        """Climbs until the accuracy fits and returns whether it does; else the model is left as the best rung had it.

        Raises:
            ModelError: The calibration samples cannot be used.
        """
        with self.twin.floating():
            reference = self.accuracy(self.twin)
        best: tuple[float, _State] | None = None
        floats = _State.of(self.twin)
        for name, step in (
            ("plain", self._plain),
            ("ranges", lambda: self._ranges("weights as they are")),
            ("equalize", self._equalize),
            ("adaround", self._adaround),
        ):
            for key, weight in floats.weights.items():
                self.twin.weights[key].data.copy_(weight)
            detail = step()
            accuracy = self.accuracy(self.twin)
            self.rungs.append(Rung(name, accuracy, reference - accuracy, detail))
            if reference - accuracy <= max_drop_points:
                return True
            if best is None or accuracy > best[0]:
                best = accuracy, _State.of(self.twin)
        if best is not None:
            best[1].restore(self.twin)
        return self.widening is not None and self._widen(self.widening, reference, max_drop_points)

    def _widen(self, widening: Widening, reference: float, max_drop_points: float) -> bool:
        """Keeps ever more layers wider; the model is left as the best try had it. Returns whether that one fits."""
        narrow = self.model
        gains = functools.cache(lambda: sensitivity(narrow.twin, widening.trial, widening.score, adding(narrow.twin)))
        best: tuple[float, Built, WideSet | None] = max(rung.accuracy for rung in self.rungs), narrow, None
        for kind in widening.kinds:
            found: tuple[float, WideSet] | None = None
            for chosen in widening.sets(kind, narrow.twin, gains):
                self.model = widening.build(chosen.scheme(widening.scheme, kind))
                accuracy = self._carry(narrow.twin)
                if found is None or accuracy > found[0]:
                    found = accuracy, chosen
                if accuracy > best[0]:
                    best = accuracy, self.model, chosen
                if reference - accuracy <= max_drop_points:
                    break
            if found is None:
                share = f"{100.0 * widening.limit:g} % of the multiplications"
                detail = f"no layer is within {share}"
                self.rungs.append(Rung(f"wide-{kind}", best[0], reference - best[0], detail))
                continue
            accuracy, chosen = found
            layers = ", ".join(chosen.layers)
            detail = f"{100.0 * chosen.macs_share:.1f} % of the multiplications in {kind}: {layers}"
            self.rungs.append(Rung(f"wide-{kind}", accuracy, reference - accuracy, detail))
            if reference - accuracy <= max_drop_points:
                break
        _, self.model, self.wide = best
        return reference - best[0] <= max_drop_points

    def _carry(self, narrow: Twin) -> float:
        """Gives the wider twin the repaired weights where they do better there, and returns its accuracy.

        What was repaired for errors that are gone now, as corrected biases are, may do harm.
        """
        self._ranges()
        accuracy, floats = self.accuracy(self.twin), _State.of(self.twin)
        carry_weights(narrow, self.twin)
        if all(torch.equal(self.twin.weights[key], weight) for key, weight in floats.weights.items()):
            return accuracy
        self._ranges()
        repaired = self.accuracy(self.twin)
        if accuracy > repaired:
            floats.restore(self.twin)
        return max(accuracy, repaired)

    def _plain(self) -> str:
        self.twin.calibrate(self.batches, self.input_range)
        return "least and largest values"

    def _ranges(self, weights: str = "") -> str:
        """Takes the ranges that do best; returns how they were chosen.

        Args:
            weights: How the weights were prepared, where learned rounding may start from them; then estimators are
                compared for each activation. Else the choice made before holds.
        """
        seen = look(self.twin, self.batches)
        options: dict[str, dict[int, Range]] = {name: estimate(seen, name) for name in ESTIMATORS}
        if weights:
            self._estimators = self._search(options)
        names = {k: self._estimators.get(self.twin.groups[k].name(self.twin.graph), OTHERS) for k in seen}
        own = {k: options[name][k] for k, name in names.items()}
        found: dict[str, float] = {}
        for name, ranges in {EACH: own, **options}.items():
            self.twin.set_ranges(ranges, self.input_range)
            found[name] = self.accuracy(self.twin)
            if weights and name == EACH:
                start = f"{weights}, {_counts(names)}"
                self._starts.append(_Start(_State.of(self.twin), found[name], start))
        best = max(found, key=lambda name: found[name])
        self.twin.set_ranges(own if best == EACH else options[best], self.input_range)
        return _counts(names) if best == EACH else f"range estimator {best}"

    def _search(self, options: Mapping[str, Mapping[int, Range]]) -> dict[str, str]:
        """Returns the estimator of each activation, by the name of its range group."""
        twin = self.twin
        known = twin.group_of.get(twin.graph.input) if self.input_range is not None else None
        free = {name: {k: one for k, one in ranges.items() if k != known} for name, ranges in options.items()}
        found = search_estimators(twin, list(self.trial) or list(self.batches), free, OTHERS)
        return {twin.groups[k].name(twin.graph): name for k, name in found.items()}

    def _equalize(self) -> str:
        even = f"{counted(equalize(self.twin), 'pair')} of layers equalised"
        if spread := even_out(self.twin, self.batches):
            even += f", channels in front of {counted(spread, 'depthwise convolution')} evened out"
        chosen = self._ranges(even)
        corrected = correct_biases(self.twin, self._samples())
        return f"{even}, {chosen}, {counted(corrected, 'bias', 'biases')} corrected"

    def _adaround(self) -> str:
        start = max(reversed(self._starts), key=lambda start: start.accuracy)  # the equalised one where it is a tie
        start.state.restore(self.twin)
        rounded = learn_rounding(self.twin, self._samples(), iterations=self.iterations, seed=self.seed)
        return f"{start.detail}, rounding of {counted(rounded, 'layer')} learned"

    def _samples(self) -> torch.Tensor:
        """Returns as many calibration samples as can be held layer by layer."""
        largest = 1
        for node in self.twin.graph.nodes:
            for shape in node.output_shapes:
                largest = max(largest, int(torch.Size(shape).numel()) if shape else 1)
        count = max(LARGEST_ACTIVATION_BYTES // (4 * largest), FEWEST_SAMPLES)
        return torch.cat(list(self.batches))[:count]


def _counts(names: Mapping[int, str]) -> str:
    """Returns how many activations have which estimator, in words; the most common one comes first."""
    found = Counter(names.values()).most_common()
    return "range estimators chosen for each activation: " + ", ".join(f"{count} {name}" for name, count in found)
