"""Which tensors of a training program's checkpoint are a model's: one set of several, without what wrappers added.

A checkpoint holds more than weights: averages of them beside the raw ones, the tensors of a loss, counters. And
wrappers put something before or into the names: Lightning `model.`, DataParallel `module.`, torch.compile `_orig_mod.`,
a class of the user's own whatever its attribute is called.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from edgecompress.errors import ModelError
from edgecompress.models.nested import holds_tensors, states_in
from edgecompress.models.weight_files import State
from edgecompress.wording import counted, verb

Adapt = Callable[[State], State]
#: Where training programs put the state dict in what they save, the likeliest first; "" is the file itself.
WRAPPERS = ("", "state_dict", "model_state_dict", "model", "net", "weights", "module")
#: Names of weights that are averages over the training, as words of a key.
AVERAGED = re.compile(r"(?<![a-z])(ema|swa|averaged?|avg|shadow|polyak)(?![a-z])")
#: What wrappers put between the parts of a name, where they wrap a part of the model only.
INNER = frozenset({"module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"})
#: Attributes that hold a loss or a metric, beside the model.
LOSSES = re.compile(
    r"criteri(on|a|ons)|.*loss(es|_fn|_func|fn)?|(train_|val_|valid_|test_)?(metrics?|acc|accuracy|f1|auroc)"
)
#: What profilers (thop) and averaging (torch.optim.swa_utils, LitEma, ema_pytorch) leave in a model.
COUNTERS = frozenset({"total_ops", "total_params", "n_averaged", "num_updates", "decay", "initted"})
#: Batch norms of old files lack it, and it does not take part in inference.
UNUSED = "num_batches_tracked"
#: How many prefixes are tried.
MOST_PREFIXES = 8
SHOWN = 4


@dataclass(frozen=True)
class Match:
    """One set of tensors under the names of the model.

    Attributes:
        key: Where it lies in the checkpoint, dotted; "" is the file itself.
        prefix: What stood before all names.
        added: What the model's names have in front and the file's lack.
        inner: Whether names of wrappers were taken out of their middles.
        state: The tensors, with the prefix taken off.
        beside: Names of tensors that are no part of the model.
        lacking: How many of the model's tensors are not there.
        misshapen: How many are there in another shape.
        averaged: Whether they are averages over the training.
        filled: The set that buffers were taken from, where an average has parameters alone; "" else.
    """

    key: str
    prefix: str
    added: str
    inner: bool
    state: State
    beside: tuple[str, ...]
    lacking: int
    misshapen: int
    averaged: bool
    filled: str = ""

    @property
    def name(self) -> str:
        """By which `weights_key` chooses it: key and prefix, `.` where there is neither."""
        return ".".join(filter(None, (self.key, self.prefix.rstrip(".")))) or "."

    @property
    def rank(self) -> tuple[int, int, bool, int, int]:
        """The less, the likelier it is meant."""
        plain = WRAPPERS.index(self.key) if self.key in WRAPPERS else len(WRAPPERS)
        # Within one set, what has the model's own names is the model.
        return self.lacking, self.misshapen, not self.averaged, plain, 0 if not self.prefix else 1


@dataclass(frozen=True)
class Chosen:
    """The tensors that a model gets.

    Attributes:
        match: The set.
        notes: What was done to the names, in sentences.
        guesses: What was chosen without being told, in sentences.
    """

    match: Match
    notes: tuple[str, ...]
    guesses: tuple[str, ...]


def choose(
    path: Path,
    content: Any,
    own: State,
    buffers: Collection[str] = (),
    *,
    adapt: Adapt | None = None,
    weights_key: str | None = None,
) -> Chosen:
    """Returns the set of tensors that suits a model best, under the model's names.

    Of several that suit, averages over the training come first, then the usual names of a state dict.

    Args:
        path: The file, for messages.
        content: What it holds: tensors by name, or mappings of such.
        own: The model's state dict.
        buffers: Which of it are no parameters: averages may be without them.
        adapt: Brings published tensors into the model's form.
        weights_key: The set to take; None: the likeliest.

    Raises:
        ModelError: There is no such key, or two sets suit equally well and are not the same.
    """
    sets = {key: _dotted(state, own) for key, state in states_in(content, path).items()}
    matches = [match for key, state in sets.items() for match in _matches(key, state, own, adapt, content)]
    matches = [_filled(match, matches, own, buffers) for match in matches]
    asked = _asked(path, matches, sets, weights_key) if weights_key is not None else matches
    match, *others = sorted(asked, key=lambda one: one.rank)
    fits = match.lacking == 0
    rivals = [
        one for one in others if one.lacking == 0 and one.misshapen == match.misshapen and not _same(one, match, own)
    ]
    if fits and weights_key is None and (equal := [one for one in rivals if one.rank == match.rank]):
        names = ", ".join(f"`{one.name}`" for one in (match, *equal)[:SHOWN])
        raise ModelError(
            f"weights {path}: several sets of weights in it fit the model and are not the same ({names}). Say which "
            f"one with `weights_key: {match.name}`."
        )
    guesses = []
    if weights_key is None and fits and rivals:
        what = "the averaged weights" if match.averaged else "the weights"
        guesses.append(
            f"weights {path}: {what} `{match.name}` were taken, not `{rivals[0].name}`, which fit too. "
            f"`weights_key: {rivals[0].name}` takes those, `weights_key: {match.name}` says that these are meant."
        )
    if weights_key is None and fits and not match.averaged and (unread := _unread(content, matches, match)):
        guesses.append(
            f"weights {path}: it has averaged weights as well (`{unread}`), which do not fit the model by their names, "
            f"or were never updated: `{match.name}` was taken."
        )
    return Chosen(match, tuple(_notes(path, match)), tuple(guesses))


def _dotted(state: State, own: State) -> State:
    """Returns a set of tensors with the dots in the names of averages that LitEma (Stable Diffusion) leaves out."""
    flat = {name.replace(".", ""): name for name in own}
    if len(flat) != len(own):
        return state
    names = {}
    for name in state:
        first, _, rest = name.rpartition(".")
        averages = AVERAGED.search(first.lower()) is not None and rest in flat
        names[name] = f"{first}.{flat[rest]}" if averages else name
    return {names[name]: one for name, one in state.items()} if len({*names.values()}) == len(names) else state


def _filled(match: Match, matches: list[Match], own: State, buffers: Collection[str]) -> Match:
    """Returns an average of parameters alone with the buffers of the raw weights beside it; others as they are."""
    missing = [name for name in own if name not in match.state and not name.endswith(UNUSED)]
    if not match.averaged or not missing or not set(missing) <= set(buffers):
        return match
    whole = [one for one in matches if one.lacking == 0 and not one.averaged]
    if not whole:
        return match
    raw = min(whole, key=lambda one: one.rank)
    return replace(match, state=match.state | {name: raw.state[name] for name in missing}, lacking=0, filled=raw.name)


def _matches(key: str, state: State, own: State, adapt: Adapt | None, content: Any) -> list[Match]:
    """Returns the ways in which a set of tensors may be the model's, the likeliest by its names alone first."""
    found: list[Match] = []
    for inner, named in _namings(state, own):
        for added, wanted in _shortened(own):
            found += [_match(key, (prefix, added), inner, named, own, adapt) for prefix in _prefixes(named, wanted)]
        if any(one.lacking == 0 for one in found):
            break
    least = min(one.lacking for one in found)
    found = [one for one in found if one.lacking == least or AVERAGED.search(one.prefix.lower())]
    shortest = {(one.prefix, one.added) for one in found}
    found = [one for one in found if not one.added or (one.prefix, "") not in shortest]
    return [_finished(one, [other for other in found if other is not one], state, own, content) for one in found]


def _namings(state: State, own: State) -> Iterator[tuple[bool, State]]:
    """Gives the tensors by their names, and by their names without what wrapped parts of the model."""
    yield False, state
    if any(INNER & set(name.split(".")) for name in own):
        return
    names = {name: ".".join(part for part in name.split(".") if part not in INNER) for name in state}
    if len(set(names.values())) == len(names) and any(old != new for old, new in names.items()):
        yield True, {names[name]: tensor for name, tensor in state.items()}


def _shortened(own: State) -> Iterator[tuple[str, frozenset[str]]]:
    """Gives the model's names, and without the parts that all begin with: (what was taken off, names)."""
    added, names = "", frozenset(own)
    yield added, names
    while len(first := {name.partition(".")[0] for name in names}) == 1 and all("." in name for name in names):
        added += f"{first.pop()}."
        names = frozenset(name.partition(".")[2] for name in names)
        yield added, names


def _prefixes(state: State, wanted: frozenset[str]) -> list[str]:
    """Returns what may stand before the model's names in a file, the commonest first."""
    seen: Counter[str] = Counter()
    deepest = max((name.count(".") for name in wanted), default=0)
    for name in state:
        parts = name.split(".")
        for cut in range(max(len(parts) - 1 - deepest, 0), len(parts)):
            if ".".join(parts[cut:]) in wanted:
                seen["".join(f"{part}." for part in parts[:cut])] += 1
    return [prefix for prefix, _ in seen.most_common(MOST_PREFIXES)] or [""]


def _match(key: str, ends: tuple[str, str], inner: bool, named: State, own: State, adapt: Adapt | None) -> Match:
    prefix, added = ends
    inside = {added + name[len(prefix) :]: tensor for name, tensor in named.items() if name.startswith(prefix)}
    inside = inside if adapt is None else adapt(inside)
    needed = [name for name in own if not name.endswith(UNUSED)]
    wrong = sum(name in inside and inside[name].shape != own[name].shape for name in needed)
    outside = tuple(name for name in named if not name.startswith(prefix))
    lacking = sum(name not in inside for name in needed)
    return Match(key, prefix, added, inner, inside, outside, lacking, wrong, averaged=False)


def _finished(match: Match, others: list[Match], state: State, own: State, content: Any) -> Match:
    """Returns a match without tensors that are known to be none of the model's, and with whether it is an average."""
    top = {name.partition(".")[0] for name in own}
    copies = tuple(one.prefix for one in others if one.prefix and one.lacking == 0)
    beside = [
        name
        for name in match.state
        if name not in own
        and (
            name.rpartition(".")[2] in COUNTERS
            or (
                (first := name.partition(".")[0]) not in top
                and (
                    LOSSES.fullmatch(first.lower().strip("_")) is not None
                    or (not match.prefix and any(copy.startswith(f"{first}.") for copy in copies))
                )
            )
        )
    ]
    kept = {name: tensor for name, tensor in match.state.items() if name not in beside}
    averaged = AVERAGED.search(match.name.lower()) is not None
    count = state.get(match.prefix.removesuffix("module.") + "n_averaged")  # of torch.optim.swa_utils
    if count is not None and count.numel() == 1 and not count.is_meta:
        averaged = bool(count)  # 0: nothing was averaged yet, it is the model as it was at the start
    if match.key.startswith("ema_state_dict") and _of_mmengine(content):
        averaged = False  # it changes places: `state_dict` has the averages, this the raw weights
    return replace(match, state=kept, beside=(*match.beside, *beside), averaged=averaged)


def _of_mmengine(content: Any) -> bool:
    meta = content.get("meta") if isinstance(content, Mapping) else None
    return isinstance(meta, Mapping) and "mmengine_version" in meta


def _asked(path: Path, matches: list[Match], sets: Mapping[str, State], weights_key: str) -> list[Match]:
    """Returns the matches that a key means: of its very name, or else within it."""
    exact = [one for one in matches if weights_key in (one.name, one.key or ".")]
    own_name = [one for one in exact if one.name == weights_key]
    begins = [one for one in matches if f"{one.key}.".startswith(f"{weights_key}.")]
    prefixed = [
        one for one in matches if one.prefix.startswith(f"{weights_key}.") or one.prefix.endswith(f".{weights_key}.")
    ]
    found = own_name or exact or begins or prefixed
    if not found:
        names = dict.fromkeys([*(one.name for one in matches if one.lacking == 0), *(key or "." for key in sets)])
        listed = ", ".join(f"`{name}`" for name in list(names)[: 2 * SHOWN])
        raise ModelError(f"weights {path}: there is no `{weights_key}` (weights_key) in it. It holds: {listed}.")
    return found


def _same(one: Match, other: Match, own: State) -> bool:
    """Returns whether two sets hold the same numbers, as far as they are the model's."""
    if one.state.keys() != other.state.keys():
        return False
    pairs = ((one.state[name], other.state[name], ours) for name, ours in own.items() if name in one.state)
    return all(_equal(first, second) for first, second, ours in pairs if first.shape == ours.shape)


def _equal(one: torch.Tensor, other: torch.Tensor) -> bool:
    known = not (one.is_meta or other.is_meta)
    return one is other or (known and one.dtype == other.dtype and torch.equal(one, other))


def _unread(content: Any, matches: list[Match], taken: Match) -> str:
    """Returns the key of averaged weights that no match could be made of, "" where there are none."""
    if isinstance(content, Mapping):
        for name, inner in content.items():
            averages = isinstance(name, str) and AVERAGED.search(name.lower()) is not None
            read = any(one.averaged and one.lacking == 0 and one.key.split(".")[0] == name for one in matches)
            swapped = _of_mmengine(content) and name == "ema_state_dict"
            if averages and not read and not swapped and holds_tensors(inner):
                return str(name)
    return next(
        (name.partition(".")[0] for name in taken.beside if AVERAGED.search(name.partition(".")[0].lower())), ""
    )


def _notes(path: Path, match: Match) -> Iterator[str]:
    done = []
    if match.key:
        done.append(f"`{match.key}` was read")
    if match.prefix:
        done.append(f"`{match.prefix}` taken off the names")
    if match.added:
        done.append(f"`{match.added}` put before them")
    if match.inner:
        done.append("what DataParallel, torch.compile or FSDP put into the names taken out")
    if match.filled:
        done.append(f"buffers, which it has not, taken from `{match.filled}`")
    if match.beside:
        count = len(match.beside)
        more = f" and {count - SHOWN:,} more" if count > SHOWN else ""
        is_none = verb(count, "is no part", "are no parts")
        done.append(
            f"{counted(count, 'tensor')} that {is_none} of the model left out ({', '.join(match.beside[:SHOWN])}{more})"
        )
    if done:
        yield f"weights {path}: {', '.join(done)}."
