"""Unstructured pruning: single weights become zero and stay zero through training.

The masks hold in float32 and in everything made from it: folding a batch norm scales whole filters, and symmetric
quantization maps zero to zero.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from typing import Literal

import torch
from torch import nn
from torch.nn.modules.conv import _ConvNd

from edgecompress.errors import ModelError
from edgecompress.pruning.unstructured.patterns import Pattern

Score = Literal["magnitude", "lamp"]
Scope = Literal["global", "layer"]

#: Share of every layer's weights that is never pruned (at least one weight), so that no layer is cut off.
LAYER_FLOOR = 0.01
ANYWHERE = Pattern()


def prunable_weights(model: nn.Module) -> dict[str, nn.Parameter]:
    """Returns the weights of conv and linear layers by name; a weight that layers share appears once."""
    found: dict[str, nn.Parameter] = {}
    seen: set[int] = set()
    for path, module in model.named_modules():
        if isinstance(module, _ConvNd | nn.Linear):
            weight = module._parameters.get("weight")  # noqa: SLF001 (a parametrized weight is computed, not stored)
            if weight is not None and id(weight) not in seen:
                seen.add(id(weight))
                found[f"{path}.weight" if path else "weight"] = weight
    return found


def cubic_share(step: int, steps: int, final: float, initial: float = 0.0) -> float:
    """Returns the share of zeros after `step` of `steps`: final + (initial - final) * (1 - step / steps)^3.

    Prunes fast while much is redundant and slowly near the end (Zhu & Gupta 2017, equation 1). Steps beyond the
    last give `final`.
    """
    if steps < 1:
        raise ValueError(f"expected steps >= 1, got {steps}")
    done = min(max(step / steps, 0.0), 1.0)
    return final + (initial - final) * (1.0 - done) ** 3


class MagnitudeMasks:
    """Which weights are zero, over all conv and linear layers of one model.

    Once pruned, a weight stays pruned. Weights are looked up by name at every use, so modules may replace them.
    """

    def __init__(
        self,
        model: nn.Module,
        score: Score = "magnitude",
        layer_floor: float = LAYER_FLOOR,
        *,
        pattern: Pattern = ANYWHERE,
        scope: Scope = "global",
    ) -> None:
        """Starts with nothing pruned.

        Args:
            model: Whose weights are masked.
            score: How weights of different layers compare: by `magnitude`, or by `lamp` (Lee et al. 2021), which
                divides each squared weight by the sum of those in its layer that are no smaller.
            layer_floor: Share of each layer's weights that is never pruned; at least one weight is kept.
            pattern: Where zeros may lie. Layers that it does not fit are left dense: see `dense`.
            scope: Whether weights are ranked over all layers, or each layer loses the same share.

        Raises:
            ModelError: The model has no conv or linear layer, or none that the pattern fits.
        """
        self.model = model
        self._score = score
        self._floor = layer_floor
        weights = prunable_weights(model)
        if not weights:
            raise ModelError(f"{type(model).__name__} has no conv or linear layer, so there are no weights to prune")
        self._pattern = pattern
        self._scope = scope
        #: Weights that the pattern does not fit.
        self.dense = tuple(name for name, weight in weights.items() if not pattern.fits(weight))
        if len(self.dense) == len(weights):
            raise ModelError(
                f"no layer of {type(model).__name__} has input channels in groups of {pattern.size}, as the pattern "
                "wants them. Choose another pattern, or none."
            )
        #: Name of a weight -> True where it is kept.
        self._keep = {
            name: torch.ones_like(weight, dtype=torch.bool)
            for name, weight in weights.items()
            if name not in self.dense
        }

    @property
    def total(self) -> int:
        """How many weights could be masked."""
        return sum(keep.numel() for keep in self._keep.values())

    @property
    def share(self) -> float:
        """The share of weights that is masked."""
        return self.zeros() / self.total

    def zeros(self) -> int:
        """Returns how many weights are masked."""
        return sum(int((~keep).sum()) for keep in self._keep.values())

    def layer_shares(self) -> dict[str, float]:
        """Returns the masked share of each weight, by name."""
        return {name: 1.0 - float(keep.double().mean()) for name, keep in self._keep.items()}

    def update(self, share: float) -> None:
        """Masks the lowest-scored weights of the whole model until at least `share` of them is masked, and applies.

        The count is exact: the least whole number of weights that reaches the share. Ties go by layer, then by
        place. A share below what is masked changes nothing.

        Raises:
            ModelError: The share cannot be reached with every layer's floor kept, or a weight is not finite.
            ValueError: The share is not between 0 and 1.
        """
        if not 0.0 <= share < 1.0:
            raise ValueError(f"expected a share of at least 0 and below 1, got {share}")
        names = list(self._keep)
        found = {name: self._layer_scores(name) for name in names}
        for together in [names] if self._scope == "global" else [[name] for name in names]:
            sizes = [self._keep[name].numel() for name in together]
            kept = self._cut(torch.cat([found[name] for name in together]), share)
            for name, part in zip(together, torch.split(kept, sizes), strict=True):
                mask = self._keep[name]
                self._keep[name] = part.view_as(mask).to(mask.device)
        self.apply()

    def _cut(self, scores: torch.Tensor, share: float) -> torch.Tensor:
        """Returns which weights are kept where at least a share of those scored goes, the lowest scores first."""
        total, masked = len(scores), int((scores == -math.inf).sum())
        free = int((scores != math.inf).sum())
        wanted = max(_least(share, total), masked)
        if wanted > free and self._pattern.share is not None and share <= self._pattern.share + 1e-9:
            wanted = free  # what N of M leaves to be pruned
        if wanted > free:
            raise ModelError(
                f"cannot prune {share:.2%} of the weights: with {self._floor:.0%} of every layer kept, at most "
                f"{free / total:.2%} can go. Ask for a smaller ratio."
            )
        order = torch.sort(scores, stable=True)
        if self._pattern.size > 1 and not self._pattern.kept:  # whole blocks: they have one score
            while 0 < wanted < free and order.values[wanted] == order.values[wanted - 1]:
                wanted += 1
        keep = torch.ones_like(scores, dtype=torch.bool)
        keep[order.indices[:wanted]] = False
        return keep

    @torch.no_grad()
    def apply(self) -> None:
        """Sets the masked weights to zero, in place; call it after every optimizer step."""
        for weight, gone in self._pairs():
            weight.masked_fill_(gone, 0.0)

    def hold_gradients(self) -> None:
        """Makes the gradients of masked weights zero as they arise, from now on: nothing sees them."""
        for name in self._keep:
            hook = functools.partial(self._without_masked, name)
            self.model.get_parameter(name).register_hook(hook)  # type: ignore[no-untyped-call]

    def _without_masked(self, name: str, gradient: torch.Tensor) -> torch.Tensor:
        return gradient.masked_fill(~self._keep[name].to(gradient.device), 0.0)

    @torch.no_grad()
    def mask_gradients(self) -> None:
        """Sets the gradients of masked weights to zero, so that they count neither for clipping nor for momentum."""
        for weight, gone in self._pairs():
            if weight.grad is not None:
                weight.grad.masked_fill_(gone, 0.0)

    @torch.no_grad()
    def mask_optimizer(self, optimizer: torch.optim.Optimizer) -> None:
        """Sets what an optimizer remembers of masked weights (momentum, moments) to zero; call it after `update`."""
        for weight, gone in self._pairs():
            for value in optimizer.state.get(weight, {}).values():
                if isinstance(value, torch.Tensor) and value.shape == weight.shape:
                    value.masked_fill_(gone, 0.0)

    def state_dict(self) -> dict[str, torch.Tensor]:
        """Returns copies of the masks by weight name: bool, True where a weight is kept."""
        return {name: keep.clone() for name, keep in self._keep.items()}

    def load_state_dict(self, state: Mapping[str, torch.Tensor]) -> None:
        """Takes masks by weight name, as `state_dict` gave them, and applies them.

        They may come from another model in which the same weights have the same names (a folded one, for example).

        Raises:
            ModelError: Names or shapes do not fit this model; nothing is then changed.
        """
        odd = sorted(state.keys() ^ self._keep.keys())
        if odd:
            where = "the model" if odd[0] in state else "the masks"
            raise ModelError(f"the masks do not fit the model: {odd[0]} is not in {where} ({len(odd)} names differ)")
        for name, keep in self._keep.items():
            if state[name].shape != keep.shape or state[name].dtype != torch.bool:
                raise ModelError(
                    f"the masks do not fit the model: {name} is {tuple(state[name].shape)} {state[name].dtype}, "
                    f"expected {tuple(keep.shape)} torch.bool"
                )
        self._keep = {name: state[name].clone().to(keep.device) for name, keep in self._keep.items()}
        self.apply()

    def _pairs(self) -> list[tuple[nn.Parameter, torch.Tensor]]:
        """Returns each weight with True where it is masked, on the weight's device."""
        pairs = []
        for name, keep in self._keep.items():
            weight = self.model.get_parameter(name)
            if keep.device != weight.device:
                self._keep[name] = keep.to(weight.device)
            pairs.append((weight, ~self._keep[name]))
        return pairs

    @torch.no_grad()
    def _layer_scores(self, name: str) -> torch.Tensor:
        """Returns (N,) scores of one layer on the CPU: -inf where masked, +inf for those the floor protects."""
        weight = self.model.get_parameter(name).detach().flatten().double().cpu()
        if not bool(torch.isfinite(weight).all()):
            raise ModelError(
                f"{name} holds values that are not finite numbers, so weights cannot be ranked. "
                "The training before it diverged: lower its learning rate."
            )
        kept = self._keep[name].flatten().cpu()
        scores = lamp_scores(weight * kept) if self._score == "lamp" else weight.abs()
        shape = self._keep[name].shape
        scores = scores.masked_fill(~kept, -math.inf)
        scores = self._pattern.scores(scores.view(shape)).flatten()
        if self._pattern.kept:
            return scores  # N of M are kept as it is
        floor = max(1, math.ceil(self._floor * weight.numel()))
        # The last places of a stable ascending order: ties are decided as in the global ranking.
        scores[torch.sort(scores, stable=True).indices[-floor:]] = math.inf
        # Masks that were loaded may lie below the floor; what is pruned stays pruned all the same.
        return scores.masked_fill(~kept, -math.inf)


def lamp_scores(weight: torch.Tensor) -> torch.Tensor:
    """Returns w^2 / sum of v^2 over the weights v of the layer that are no smaller (Lee et al. 2021, equation 1).

    Args:
        weight: (N,) the weights of one layer. Equal weights are ordered by place, as the paper's index map does.
    """
    squares, order = torch.sort(weight.square(), stable=True)
    rest = squares.flip(0).cumsum(0).flip(0)
    scores = torch.zeros_like(squares)
    scores[order] = torch.where(rest > 0, squares / rest, 0.0)
    return scores


def _least(share: float, total: int) -> int:
    """Returns the least count with count / total >= share, whatever the rounding of share * total."""
    count = math.ceil(share * total)
    return count - 1 if count and (count - 1) / total >= share else count
