"""Which layer loses what: error, clipping and range of every operator of a twin, and what sparing it would bring back.

The float model is always the twin itself without quantization, on the same samples.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from edgecompress.quantization.graph.graph import Node
from edgecompress.quantization.graph.ops import WEIGHTED
from edgecompress.quantization.grids.ranges import RangeGroup
from edgecompress.quantization.proof.effort import node_macs
from edgecompress.quantization.proof.layers import Layer, outputs_sparing, sharing, walk, walkable
from edgecompress.quantization.twin.twin import Twin

#: Float32 resolves no more (24 bits): what is nearer than this counts as equal, and ratios end here.
MOST_DB = 150.0
#: Share of the values at each end of a range that do not count as using it: a few outliers make no use of 256 steps.
IGNORED_SHARE = 0.0005
#: Differences of accuracies are as large as the noise when they are no further above it: they are rounded.
POINTS_EPSILON = 1e-6
_Values = tuple[torch.Tensor, ...]


@dataclass(frozen=True)
class Gain:
    """What a network gains when a layer is kept in float.

    Attributes:
        points: Its score less that of the network as it is, in percent points.
        db: Signal-to-noise ratio of the network's output, mean over the samples, less that of the network as it is.
    """

    points: float
    db: float


@dataclass(frozen=True)
class LayerAnalysis:
    """How one operator fares in INT8.

    Attributes:
        index: Its position in the flatbuffer.
        layer: Layer name.
        op: Operator name.
        macs: Multiply-accumulates for one sample, None where it does not multiply by a matrix.
        snr_db: Signal-to-noise ratio of its output in the quantized model against the float model: the error of all
            operators up to here. At most MOST_DB, which means no error.
        local_snr_db: The same of the error it adds itself: its quantized result against its float result, both given
            what the quantized model has at its inputs.
        cosine: Mean over the samples of the cosine between its output in the quantized and in the float model.
        saturation: Share of its output values, in the float model, that lie outside of what its range can represent
            and are clipped; None where its output is not quantized.
        range_use: Share of its type's steps (256 of INT8) that hold its output but for the outermost 0.05 % of the
            values at each end; None where its output is not quantized.
        weight_ratio: Largest range of a channel's weights (max |w|) over the smallest, channels that are all zero left
            out; None where it has no weights of its own.
        gained_points: See `Gain`; None where it was not tried, as for an operator that only passes values on.
        gained_db: See `Gain`.
    """

    index: int
    layer: str
    op: str
    macs: int | None
    snr_db: float
    local_snr_db: float
    cosine: float
    saturation: float | None
    range_use: float | None
    weight_ratio: float | None
    gained_points: float | None = None
    gained_db: float | None = None


def decibels(signal: float, noise: float) -> float:
    """Returns the ratio of two energies in dB, between -MOST_DB and MOST_DB; without noise it is MOST_DB.

    Noise that is infinite or undefined leaves nothing of a signal.
    """
    if noise <= 0.0:
        return MOST_DB
    if signal <= 0.0 or not math.isfinite(noise) or math.isnan(signal):
        return -MOST_DB
    return min(max(10.0 * math.log10(signal / noise), -MOST_DB), MOST_DB) if signal / noise else -MOST_DB


def mean_snr_db(outputs: NDArray[np.float32], reference: NDArray[np.float32]) -> float:
    """Returns the signal-to-noise ratio of a network's outputs in dB, sample by sample, and the mean of these.

    Args:
        outputs: (N, ...).
        reference: The same without error.
    """
    exact = reference.reshape(len(reference), -1).astype(np.float64)
    noise = ((outputs.reshape(exact.shape) - exact) ** 2).sum(1)
    signal = (exact**2).sum(1)
    return float(np.mean([decibels(float(s), float(n)) for s, n in zip(signal, noise, strict=True)]))


def range_use(counts: NDArray[np.int64]) -> float:
    """Returns the share of the steps that hold the values but for IGNORED_SHARE of them at each end.

    Args:
        counts: How many values have each integer of the output's type, the least one first.
    """
    ignored = int(IGNORED_SHARE * counts.sum())
    least = int(np.argmax(np.cumsum(counts) > ignored))
    largest = len(counts) - 1 - int(np.argmax(np.cumsum(counts[::-1]) > ignored))
    return (largest - least + 1) / len(counts)


def weight_ratio(twin: Twin, node: Node) -> float | None:
    """Returns the largest over the smallest weight range among an operator's channels that are not all zero."""
    # Where activations stay float, an operator of its own turns the weights into real numbers.
    place = 0 if node.op == "DEQUANTIZE" else 1 if node.op in WEIGHTED else None
    n = -1 if place is None else node.inputs[place]
    if str(n) not in twin.weights or not twin.graph.tensors[n].quantized:
        return None
    weight, spec = twin.weights[str(n)].detach(), twin.graph.tensors[n]
    axis = spec.axis if len(spec.scale) > 1 else 3 if node.op == "DEPTHWISE_CONV_2D" else 0
    ranges = weight.abs().amax(dim=[d for d in range(weight.ndim) if d != axis]).double()
    ranges = ranges[ranges > 0]
    return float(ranges.max() / ranges.min()) if len(ranges) else None


def adding(twin: Twin) -> list[Node]:
    """Returns the operators that quantize something: they make values of their own, or read weights or constants.

    The others only pass on values that have been quantized before.
    """
    new = {n for group in twin.groups for n in group.observed}
    stored = {
        n
        for n, spec in enumerate(twin.graph.tensors)
        if spec.constant is not None and spec.quantized and n not in twin.group_of and n not in twin.biases
    }
    return [node for node in twin.graph.nodes if new & set(node.outputs) or stored & set(node.inputs)]


@torch.no_grad()
def sensitivity(
    twin: Twin,
    batches: Sequence[torch.Tensor],
    score: Callable[[NDArray[np.float32]], float],
    nodes: Iterable[Node],
    progress: Callable[[int, int], None] | None = None,
) -> dict[int, Gain]:
    """Returns, by node index, what the network gains when that layer alone is kept in float.

    From each layer on the rest of the network is computed once more. Operators whose outputs share a scale can only be
    spared together: they have the same gain. What `twin.spared` holds already is spared throughout.

    Args:
        twin: In evaluation mode.
        batches: Network inputs.
        score: What the network is judged by, in percent, from its outputs: (N, classes).
        nodes: The operators to try.
        progress: Told how many batches are done, and of how many.
    """
    together = {node.index: sharing(twin, node) for node in nodes}
    chosen = list(dict.fromkeys(together.values()))
    last = twin.group_of.get(twin.graph.output)
    limits = twin.groups[last].limits if last is not None else (-math.inf, math.inf)
    with twin.floating():
        reference = _joined([twin(batch) for batch in batches]).clip(*limits)
    pieces = list(walkable(twin, batches))
    outputs: list[list[torch.Tensor]] = []
    for done, x in enumerate(pieces, 1):
        outputs.append(outputs_sparing(twin, x, chosen))
        if progress is not None:
            progress(done, len(pieces))
    base, *spared = (_joined(parts).clip(*limits) for parts in zip(*outputs, strict=True))
    points, db = score(base), mean_snr_db(base, reference)
    gains = {
        key: Gain(score(found) - points, mean_snr_db(found, reference) - db)
        for key, found in zip(chosen, spared, strict=True)
    }
    return {index: gains[key] for index, key in together.items()}


def _joined(parts: Sequence[torch.Tensor]) -> NDArray[np.float32]:
    joined: NDArray[np.float32] = torch.cat(list(parts)).float().cpu().numpy()
    return joined


@torch.no_grad()
def analyse(twin: Twin, batches: Iterable[torch.Tensor]) -> list[LayerAnalysis]:
    """Returns every operator that computes real numbers, in the order of execution; what is gained is left open.

    Args:
        twin: In evaluation mode.
        batches: Network inputs; a graph that cannot take several is given them one by one.
    """
    sums: dict[int, _Sums] = {}
    for x in walkable(twin, batches):
        for layer in walk(twin, x):
            if layer.target[0].is_floating_point():
                sums.setdefault(layer.node.index, _Sums()).add(twin, layer, len(x))
    multiplied = node_macs(twin)
    found = []
    for node in twin.graph.nodes:
        if node.index in sums:
            total = sums[node.index]
            found.append(
                LayerAnalysis(
                    index=node.index,
                    layer=node.label,
                    op=node.op,
                    macs=multiplied[node.index],
                    snr_db=decibels(total.signal, total.noise),
                    local_snr_db=decibels(total.own_signal, total.own_noise),
                    cosine=total.cosines / total.samples,
                    saturation=total.clipped / total.values if total.values else None,
                    range_use=range_use(total.counts) if total.counts is not None else None,
                    weight_ratio=weight_ratio(twin, node),
                )
            )
    return found


def with_gains(layers: Iterable[LayerAnalysis], gains: Mapping[int, Gain]) -> list[LayerAnalysis]:
    """Returns the layers with what `sensitivity` found."""
    return [
        replace(layer, gained_points=gains[layer.index].points, gained_db=gains[layer.index].db)
        if layer.index in gains
        else layer
        for layer in layers
    ]


def rank(layers: Iterable[LayerAnalysis], noise_points: float = 0.0) -> list[LayerAnalysis]:
    """Returns the layers by what sparing them would bring, most first: points, then dB; the untried ones come last.

    Args:
        layers: As `analyse` gave them.
        noise_points: Points gained or lost that tell nothing, up to this many: they rank as none.
    """

    def key(layer: LayerAnalysis) -> tuple[float, float, int]:
        if layer.gained_points is None or layer.gained_db is None:
            return math.inf, math.inf, layer.index
        told = layer.gained_points if abs(layer.gained_points) > noise_points + POINTS_EPSILON else 0.0
        return -told, -layer.gained_db, layer.index

    return sorted(layers, key=key)


@dataclass
class _Sums:
    """What is summed up over the samples for one operator; see `LayerAnalysis`."""

    signal: float = 0.0
    noise: float = 0.0
    own_signal: float = 0.0
    own_noise: float = 0.0
    cosines: float = 0.0
    samples: int = 0
    clipped: int = 0
    values: int = 0
    counts: NDArray[np.int64] | None = None

    def add(self, twin: Twin, layer: Layer, samples: int) -> None:
        """Takes in a batch."""
        node = layer.node
        quantized = twin.run_node(node, layer.quantized, each=layer.each)
        with twin.floating():
            alone = twin.run_node(node, layer.given, each=layer.each)
        target, alone = within_limits(twin, node, layer.target), within_limits(twin, node, alone)
        target, alone, quantized = _without_infinities(target, alone, quantized)
        for n, exact, own, values in zip(node.outputs, target, alone, quantized, strict=True):
            if n in twin.group_of:
                self._use(twin.groups[twin.group_of[n]], exact, values)
            # A variance that was rounded to zero has an infinite root in float: not an error of the root's own.
            self._errors(exact.double(), own.where(own.isfinite(), values).double(), values.double())
        rows = [
            torch.cat([_rows(x, samples, shape) for x, shape in zip(outputs, node.output_shapes, strict=True)], dim=1)
            for outputs in (target, quantized)
        ]
        self.cosines += float(_cosine(rows[0].double(), rows[1].double()).mean()) * samples
        self.samples += samples

    def _errors(self, exact: torch.Tensor, own: torch.Tensor, values: torch.Tensor) -> None:
        self.signal += float(exact.square().sum())
        self.noise += float((values - exact).square().sum())
        self.own_signal += float(own.square().sum())
        self.own_noise += float((values - own).square().sum())

    def _use(self, group: RangeGroup, exact: torch.Tensor, values: torch.Tensor) -> None:
        least, largest = group.qmin - group.zero_point, group.qmax - group.zero_point
        steps = torch.round(exact / group.scale)
        self.clipped += int(((steps < least) | (steps > largest)).sum())
        self.values += exact.numel()
        places = torch.round(values / group.scale).clamp_(least, largest).sub_(least).int().reshape(-1)
        counts = torch.bincount(places, minlength=largest - least + 1).cpu().numpy()
        self.counts = counts if self.counts is None else self.counts + counts


def within_limits(twin: Twin, node: Node, outputs: _Values) -> _Values:
    """Returns an operator's float outputs, cut off where its ranges are on purpose: that is no error."""
    limits = [twin.groups[twin.group_of[n]].limits if n in twin.group_of else None for n in node.outputs]
    return tuple(x if limit is None else x.clamp(*limit) for x, limit in zip(outputs, limits, strict=True))


def _without_infinities(target: _Values, alone: _Values, quantized: _Values) -> tuple[_Values, _Values, _Values]:
    """Returns all three with zero where the float model has infinity, as where a maximum is padded."""
    if all(bool(x.isfinite().all()) for x in target):
        return target, alone, quantized
    sound = [x.isfinite() for x in target]
    found = (tuple(x.where(ok, 0.0) for x, ok in zip(xs, sound, strict=True)) for xs in (target, alone, quantized))
    return next(found), next(found), next(found)


def _rows(x: torch.Tensor, samples: int, shape: tuple[int, ...]) -> torch.Tensor:
    """Returns (N, values of a sample); a value that depends on no sample is the same in all rows."""
    one = math.prod(shape)
    return x.reshape(samples, -1) if x.numel() == samples * one else x.reshape(1, -1).expand(samples, -1)


def _cosine(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Returns the cosine row by row; two rows of zeros have the same direction, one of them has none."""
    first, second = a.norm(dim=1), b.norm(dim=1)
    product = first * second
    return torch.where(product > 0, (a * b).sum(1) / product, (first == second).double())
