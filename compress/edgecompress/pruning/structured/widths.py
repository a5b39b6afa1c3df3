"""From ratings to widths: which channels go so that the asked share of parameters or MACs does."""

from __future__ import annotations

import bisect
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import nn
from torch.nn.modules.conv import _ConvNd

from edgecompress.models.count import Counts
from edgecompress.pruning.coupling.channels import Root, Share, is_depthwise
from edgecompress.pruning.recurrent import RECURRENT, cost_of, units_of

Measure = Literal["params", "macs"]

#: No layer falls below this share of its original width, however little its channels weigh.
SMALLEST_WIDTH_SHARE = 0.1
#: The search moves single widths by one place until it is this close to the target, as a share of it.
CLOSE_ENOUGH = 0.005
#: It moves widths further, which departs from the ranking, only while it is off by more than this; and pairs of
#: widths only then and in models of few segments, where one place of one width is a coarse step.
FAR_OFF = 0.03
FEW_SEGMENTS = 40


@dataclass(frozen=True)
class Segment:
    """Channels of one root that are coupled to the same layers, in atoms that go as a whole.

    Attributes:
        key: Names the segment from step to step: the root's path, a colon and a number.
        root: The root's path.
        atoms: The root's channels in each atom: one channel, or one from each part of a grouped layer.
        ratings: (atoms,) how much each matters.
        sides: (layer's path, axis) -> channels of it that an atom holds.
        kind: `heads` where an atom is an attention head.
    """

    key: str
    root: str
    atoms: tuple[tuple[int, ...], ...]
    ratings: torch.Tensor
    sides: Mapping[tuple[str, str], int]
    kind: Literal["channels", "heads"] = "channels"

    @property
    def width(self) -> int:
        """Channels of the root in this segment."""
        return len(self.atoms) * len(self.atoms[0])


def segments_of(root: Root, ratings: torch.Tensor) -> list[Segment]:
    """Returns a root's channels as segments: one, unless a concatenation lies behind it."""
    size = root.width // root.channel_groups
    atoms = [tuple(range(place, root.width, size)) for place in range(size)]
    uses: list[Counter[tuple[str, str]]] = [Counter() for _ in atoms]
    for item in root.coupled:
        for channel in item.roots:
            uses[channel % size][item.name, item.axis] += 1
    alike: dict[tuple[tuple[tuple[str, str], int], ...], list[int]] = {}
    for place, used in enumerate(uses):
        alike.setdefault(tuple(sorted(used.items())), []).append(place)
    return [
        Segment(
            f"{root.name}:{number}",
            root.name,
            tuple(atoms[place] for place in places),
            torch.stack([ratings[list(atoms[place])].mean() for place in places]),
            dict(used),
            root.kind,
        )
        for number, (used, places) in enumerate(alike.items())
    ]


def item_macs(counts: Counts, roots: Sequence[Root]) -> dict[str, int]:
    """Returns the multiply-accumulates of each conv and linear layer and of what else the roots are coupled to.

    Of an attention layer they are those of the products between positions.
    """
    macs: dict[str, int] = {}
    for layer in counts.layers:
        macs[layer.name] = macs.get(layer.name, 0) + layer.macs
    for item in (item for root in roots for item in root.coupled):
        if isinstance(item.target, (Share, *RECURRENT)):
            inner = f"{item.name}." if item.name else ""
            macs[item.name] = counts.modules.get(item.name, 0) - sum(
                number for name, number in macs.items() if name.startswith(inner)
            )
    return macs


@dataclass
class _Layer:
    """What one layer costs, as its two widths shrink."""

    dense_params: float  # proportional to both widths
    other_params: float  # proportional to the output width
    macs: float
    widths: dict[str, float]  # axis -> channels now
    square_params: float = 0.0  # proportional to the square of the output width
    square_macs: float = 0.0
    removed: dict[str, float] = field(default_factory=dict)


class CostModel:
    """Predicts parameters and MACs from widths: exact for convs, linear and recurrent layers, norms and heads."""

    def __init__(self, roots: Sequence[Root], macs: Mapping[str, int], totals: Mapping[Measure, int]) -> None:
        """Reads the layers' sizes.

        Args:
            roots: What can be pruned, as it is now.
            macs: Path of a layer -> its multiply-accumulates for one sample.
            totals: Parameters and MACs of the whole model as it is now.
        """
        self._totals = totals
        self._layers: dict[str, _Layer] = {}
        for root in roots:
            for item in root.coupled:
                if item.name not in self._layers:
                    self._layers[item.name] = _layer(item.target, macs.get(item.name, 0))
        self._base = {measure: self._sum(measure) for measure in totals}

    def cost(self, measure: Measure, segments: Sequence[Segment], removed: Sequence[int]) -> float:
        """Returns the whole model's parameters or MACs after `removed` atoms of each segment are gone."""
        for layer in self._layers.values():
            layer.removed = {}
        for segment, count in zip(segments, removed, strict=True):
            for (name, axis), channels in segment.sides.items():
                gone = self._layers[name].removed
                gone[axis] = gone.get(axis, 0.0) + channels * count
        return self._totals[measure] - self._base[measure] + self._sum(measure)

    def _sum(self, measure: Measure) -> float:
        total = 0.0
        for layer in self._layers.values():
            out, into = (1 - layer.removed.get(axis, 0.0) / layer.widths[axis] for axis in ("out", "in"))
            if measure == "macs":
                total += layer.macs * out * into + layer.square_macs * out * out
            else:
                total += layer.dense_params * out * into + layer.other_params * out + layer.square_params * out * out
        return total


def _layer(target: nn.Module | nn.Parameter | Share, macs: int) -> _Layer:
    if isinstance(target, Share):
        return _Layer(0, target.params, macs, {"out": target.width, "in": 1})
    if isinstance(target, RECURRENT):
        (dense, other, square), (dense_macs, square_macs) = cost_of(target, macs)
        sizes: dict[str, float] = {"out": units_of(target, "out"), "in": units_of(target, "in")}
        return _Layer(dense, other, dense_macs, sizes, square_params=square, square_macs=square_macs)
    if isinstance(target, _ConvNd | nn.Linear):
        bias = 0 if target.bias is None else target.bias.numel()
        if isinstance(target, nn.Linear):
            return _Layer(target.weight.numel(), bias, macs, {"out": target.out_features, "in": target.in_features})
        widths: dict[str, float] = {"out": target.out_channels, "in": target.in_channels}
        if is_depthwise(target):  # one width for both sides
            return _Layer(0, target.weight.numel() + bias, macs, widths)
        return _Layer(target.weight.numel(), bias, macs, widths)
    if isinstance(target, nn.Parameter):
        return _Layer(0, target.numel(), macs, {"out": max(target.shape, default=1), "in": 1})
    if isinstance(target, nn.PReLU) and target.num_parameters == 1:  # one slope for all channels: it stays
        return _Layer(0, 0, macs, {"out": math.inf, "in": 1})
    own = [parameter for parameter in target.parameters() if parameter is not None]
    widest = max((max(parameter.shape, default=1) for parameter in own), default=1)
    if isinstance(target, nn.MultiheadAttention):
        widest = target.embed_dim
    return _Layer(0, sum(parameter.numel() for parameter in own), macs, {"out": widest, "in": 1})


def allowed_atoms(segment: Segment, original_atoms: int, round_to: int) -> list[int]:
    """Returns how many atoms a segment may keep, ascending; the last is what it has now.

    Widths are multiples of `round_to` (and of the parts of a grouped layer), at least `round_to` and a tenth of the
    original width. A segment that is no wider than `round_to` is kept whole. Attention heads go one by one; one stays.
    """
    now = len(segment.atoms)
    if segment.kind == "heads":
        return list(range(1, now + 1))
    parts = len(segment.atoms[0])
    original = original_atoms * parts
    if original <= round_to:
        return [now]
    unit = math.lcm(parts, round_to) // parts
    least = math.ceil(max(round_to, SMALLEST_WIDTH_SHARE * original) / parts)
    if parts > 1:
        least = max(least, 2)  # one channel per part would turn a grouped conv into a depthwise one
    first = math.ceil(least / unit) * unit
    return [*range(first, now, unit), now]


def choose(
    segments: Sequence[Segment],
    allowed: Sequence[list[int]],
    cost: CostModel,
    measure: Measure,
    target: float,
    *,
    close_enough: float = CLOSE_ENOUGH,
) -> list[int]:
    """Returns how many atoms of each segment go so that the predicted cost comes nearest to `target`.

    All atoms are ranked in one list. The search bisects how far down that list the cut goes, rounding each
    segment's width to the nearest allowed one; then it moves one or two widths by one place while that helps.

    Args:
        segments: What can be cut.
        allowed: For each segment, the atom counts it may keep, ascending.
        cost: Predicts the cost.
        measure: What `target` counts.
        target: Parameters or MACs that should remain.
        close_enough: Widths are moved while the prediction misses `target` by more than this share of it.
    """
    search = _Search(segments, allowed, cost, measure, target)
    ranked = search.by_rank()
    best = search.moved(ranked, ranked, 1, close_enough)
    if search.off(best) > FAR_OFF and len(segments) <= FEW_SEGMENTS:
        # One place of one wide layer can be too coarse a step: each in turn is held where the ranking would not have
        # it, and the others are ranked around it.
        for number, options in enumerate(allowed):
            for place in range(max(ranked[number] - 2, 0), min(ranked[number] + 3, len(options))):
                pinned = search.by_rank((number, place))
                best = min(best, search.moved(pinned, pinned, 1, close_enough), key=search.off)
    # Further from the ranking only where the asked share would be missed otherwise.
    return search.removed(search.moved(best, ranked, max(map(len, allowed)), FAR_OFF))


class _Search:
    """Choices of widths: for each segment a place in its list of allowed atom counts."""

    def __init__(
        self,
        segments: Sequence[Segment],
        allowed: Sequence[list[int]],
        cost: CostModel,
        measure: Measure,
        target: float,
    ) -> None:
        self._segments, self._allowed = segments, allowed
        self._cost, self._measure, self._target = cost, measure, target
        order = torch.sort(torch.cat([segment.ratings for segment in segments]), stable=True).indices
        owner = torch.cat([torch.full((len(segment.atoms),), number) for number, segment in enumerate(segments)])
        self._owner = owner[order]

    def removed(self, at: Sequence[int]) -> list[int]:
        """Returns how many atoms of each segment go."""
        return [options[-1] - options[place] for options, place in zip(self._allowed, at, strict=True)]

    def off(self, at: Sequence[int]) -> float:
        """Returns how far the cost is from the target, as a share of it."""
        return abs(self._remaining(at) - self._target) / self._target

    def _remaining(self, at: Sequence[int]) -> float:
        return self._cost.cost(self._measure, self._segments, self.removed(at))

    def by_rank(self, pinned: tuple[int, int] | None = None) -> list[int]:
        """Returns the places that the ranking gives; one segment can be pinned to a place."""

        def places(cut: int) -> list[int]:
            counts = torch.bincount(self._owner[:cut], minlength=len(self._segments)).tolist()
            at = [
                _nearest(options, len(segment.atoms) - count)
                for segment, options, count in zip(self._segments, self._allowed, counts, strict=True)
            ]
            if pinned is not None:
                at[pinned[0]] = pinned[1]
            return at

        cuts = range(len(self._owner))
        cut = bisect.bisect_left(cuts, -self._target, key=lambda index: -self._remaining(places(index)))
        return min((places(each) for each in (cut, max(cut - 1, 0))), key=self.off)

    def moved(self, best: list[int], ranked: list[int], reach: int, enough: float) -> list[int]:
        """Returns places at most `reach` from the ranked ones, moved one or two at a time while that helps."""
        while self.off(best) > enough:
            moves = _moved(best, ranked, reach, self._allowed)
            nearer = min(moves, key=self.off, default=best)
            if self.off(nearer) >= self.off(best) > FAR_OFF and len(self._segments) <= FEW_SEGMENTS:
                pairs = (at for once in moves for at in _moved(once, ranked, reach, self._allowed))
                nearer = min(pairs, key=self.off, default=best)
            if self.off(nearer) >= self.off(best):
                break
            best = nearer
        return best


def lowest(segment: Segment, count: int) -> list[int]:
    """Returns the root's channels in the `count` atoms of a segment that matter least."""
    order = torch.sort(segment.ratings, stable=True).indices[:count].tolist()
    return [channel for place in order for channel in segment.atoms[place]]


def _moved(at: list[int], ranked: list[int], reach: int, allowed: Sequence[list[int]]) -> list[list[int]]:
    """Returns all places one step of one segment from `at`, and no more than `reach` from `ranked` there."""
    return [
        [*at[:number], at[number] + move, *at[number + 1 :]]
        for number in range(len(at))
        for move in (-1, 1)
        if 0 <= at[number] + move < len(allowed[number]) and abs(at[number] + move - ranked[number]) <= reach
    ]


def _nearest(options: list[int], kept: int) -> int:
    """Returns the place of the option nearest to `kept`; the larger one where two are as near."""
    right = bisect.bisect_left(options, kept)
    if right == 0:
        return 0
    if right == len(options):
        return right - 1
    return right if options[right] - kept <= kept - options[right - 1] else right - 1
