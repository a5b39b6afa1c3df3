"""Whether a checkpoint is of the training that would go on from it; what is not is set aside, and nothing has changed.

A file may have the right hash and the wrong content: written by another version, or made to look like ours. All that a
training relies on is looked at, and tried, before anything is taken.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from edgecompress.errors import ModelError
from edgecompress.models.tensors import refusal, usable
from edgecompress.sources.border import at_border, described
from edgecompress.training.checkpoint import Keeper, restore
from edgecompress.training.divergence import MOST_SETBACKS, first_broken, learned_names
from edgecompress.training.random_state import random_state, restore_random_state

#: What a checkpoint holds, by the version that reads it.
PARTS = frozenset({"step", "curve", "losses", "setbacks", "model", "optimizer", "random", "kept", "used"})
#: Optimizer -> what it keeps about a parameter.
KEPT = {
    torch.optim.SGD: frozenset({"momentum_buffer"}),
    torch.optim.Adam: frozenset({"step", "exp_avg", "exp_avg_sq"}),
    torch.optim.AdamW: frozenset({"step", "exp_avg", "exp_avg_sq"}),
}
#: What an entry of a curve has as a whole number, and what as text; all else in it are numbers.
COUNTS, TEXTS = ("epoch", "steps", "batch_size", "setbacks"), ("optimizer",)


@dataclass(frozen=True)
class Course:
    """One training, as it is before its first step.

    Attributes:
        model: What learns.
        optimizer: What changes it.
        keeper: What is changed beside it.
        first: Its first step.
        last: The step after its last one.
        per_epoch: Steps of an epoch.
        total: Steps of the whole training, of which this may be a part.
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer
    keeper: Keeper | None
    first: int
    last: int
    per_epoch: int
    total: int

    def why_unfit(self, saved: Any) -> str:
        """Returns why a checkpoint is none of this training, "" where it is; the training is as it was before."""
        before = copy.deepcopy((self.model.state_dict(), self.optimizer.state_dict()))
        kept, drawn = None if self.keeper is None else copy.deepcopy(self.keeper.state()), random_state()
        try:
            with at_border(lambda error: ModelError(described(error))):
                self._check(saved)
                restore(saved, self.model, self.optimizer, self.keeper)
        except ModelError as error:
            return str(error)
        finally:
            self.model.load_state_dict(before[0])
            self.optimizer.load_state_dict(before[1])
            restore_random_state(drawn)
            if self.keeper is not None:
                self.keeper.restore(kept)
        return ""

    def _check(self, saved: Any) -> None:
        _require(isinstance(saved, dict) and saved.keys() == PARTS, "it does not have the parts of a checkpoint")
        step, setbacks = saved["step"], saved["setbacks"]
        _require(
            _is_count(step) and self.first <= step <= self.last, f"its step is none of this training ({step!r:.40})"
        )
        texts = isinstance(setbacks, list) and all(isinstance(one, str) for one in setbacks)
        _require(texts and len(setbacks) <= MOST_SETBACKS, "its setbacks are none")
        self._check_curve(step, saved["curve"], saved["losses"])
        self._check_model(saved["model"])
        self._check_optimizer(saved["optimizer"])
        gauss = saved["random"]["python"][2]
        _require(gauss is None or _is_number(gauss), "its random state is none")
        if self.keeper is None:
            _require(saved["kept"] is None, "it holds more than this training keeps")
        else:
            _require(_alike(saved["kept"], self.keeper.state()), "what it holds beside the model is of another form")

    def _check_curve(self, step: int, curve: Any, losses: Any) -> None:
        """Raises where epochs are missing or there are too many, or where an entry is not one of theirs."""
        begun = self.first // self.per_epoch
        cut_off = step == self.last and step % self.per_epoch != 0
        epochs = step // self.per_epoch - begun + (1 if cut_off and step > self.first else 0)
        _require(isinstance(curve, list) and len(curve) == epochs, "its curve is not that of its step")
        for number, entry in enumerate(curve):
            good = isinstance(entry, dict) and all(isinstance(name, str) for name in entry)
            good = good and all(_is_number(value) for name, value in entry.items() if name not in TEXTS)
            good = good and all(isinstance(entry[name], str) for name in TEXTS if name in entry)
            good = good and all(_is_count(entry[name]) for name in COUNTS if name in entry)
            good = good and {"epoch", "steps", "loss"} <= entry.keys() and entry["epoch"] == begun + number + 1
            _require(good, "an entry of its curve is none")
        since = 0 if cut_off else step - max(self.first, step - step % self.per_epoch)
        known = isinstance(losses, list) and all(_is_number(one) for one in losses)
        _require(known and len(losses) == since, "its losses are not those of its step")

    def _check_model(self, state: Any) -> None:
        own = self.model.state_dict()
        _require(isinstance(state, Mapping) and state.keys() == own.keys(), "its weights are of another model")
        for name, tensor in state.items():
            _require(_is_like(tensor, own[name]), f"{name} in it is not the model's")
        broken = first_broken(state, learned_names(self.model))
        _require(broken is None, f"{broken} in it has values that are not finite")

    def _check_optimizer(self, saved: Any) -> None:
        own = self.optimizer.state_dict()
        _require(isinstance(saved, dict) and saved.keys() == own.keys(), "its optimizer is none")
        groups, state = saved["param_groups"], saved["state"]
        _require(isinstance(groups, list) and len(groups) == len(own["param_groups"]), "its optimizer is another")
        for group, ours in zip(groups, own["param_groups"], strict=True):
            settings = {name: value for name, value in ours.items() if name != "lr"}
            same = isinstance(group, dict) and {name: one for name, one in group.items() if name != "lr"} == settings
            _require(same and _is_number(group.get("lr")), "its optimizer has other settings")
        parameters = [one for group in self.optimizer.param_groups for one in group["params"]]
        _require(isinstance(state, dict), "the state of its optimizer is none")
        for number, entry in state.items():
            _require(_is_count(number) and number < len(parameters), "its optimizer is of another model")
            whole = isinstance(entry, dict) and (not entry or entry.keys() == KEPT[type(self.optimizer)])
            _require(whole, "its optimizer is another")
            for name, value in entry.items():
                _require(_is_state(name, value, parameters[number]), f"`{name}` of its optimizer is none")


def _require(held: bool, why: str) -> None:
    if not held:
        raise ModelError(why)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_like(tensor: Any, ours: torch.Tensor) -> bool:
    plain = isinstance(tensor, torch.Tensor) and not refusal(usable(tensor))
    return plain and tensor.shape == ours.shape and tensor.dtype == ours.dtype


def _is_state(name: str, value: Any, parameter: torch.Tensor) -> bool:
    """Returns whether what an optimizer keeps about a parameter is finite and of its shape."""
    if value is None:  # no momentum yet
        return name == "momentum_buffer"
    if not isinstance(value, torch.Tensor) or refusal(usable(value)) or not value.is_floating_point():
        return False
    shape = () if name == "step" else tuple(parameter.shape)
    negative = name in ("step", "exp_avg_sq") and bool((value < 0).any())
    return tuple(value.shape) == shape and bool(torch.isfinite(value).all()) and not negative


def _alike(value: Any, ours: Any) -> bool:
    """Returns whether a value has the form of another: the same keys and texts, finite numbers where there are some."""
    match ours:
        case dict():
            return (
                isinstance(value, dict) and value.keys() == ours.keys() and all(_alike(value[k], ours[k]) for k in ours)
            )
        case list() | tuple() if ours and all(_is_number(one) or one is None for one in ours):  # of any length
            return isinstance(value, type(ours)) and all(_is_number(one) or one is None for one in value)
        case list() | tuple():
            same = isinstance(value, type(ours)) and len(value) == len(ours)
            return same and all(_alike(one, other) for one, other in zip(value, ours, strict=True))
        case torch.Tensor():
            return _is_like(value, ours) and bool(torch.isfinite(value).all())
        case bool() | str():
            return type(value) is type(ours) and value == ours
        case int() | float():
            return _is_number(value)
    return value is None or _is_number(value)
