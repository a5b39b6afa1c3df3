"""Weights to and from files: ours, which fit exactly, and users', which are checked name by name."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from pathlib import Path

import torch
from safetensors.torch import save
from torch import nn

from edgecompress.context import Context
from edgecompress.errors import ModelError
from edgecompress.models.checkpoints import UNUSED, choose
from edgecompress.models.nested import states_in
from edgecompress.models.tensors import cast, refusal, shortened, usable
from edgecompress.models.weight_files import State, no_state, read_content, read_safetensors
from edgecompress.store.files import write_bytes
from edgecompress.wording import counted

#: How many names a message lists before it only counts.
SHOWN = 8


def save_weights(model: nn.Module, path: Path) -> None:
    """Writes a model's parameters and buffers as safetensors, atomically; tied tensors are written under each name.

    Raises:
        ModelError: The model keeps a state that is no tensor.
        ResourceError: The file system refused.
    """
    tensors: State = {}
    written: set[int] = set()
    for name, tensor in model.state_dict().items():
        if not isinstance(tensor, torch.Tensor):
            raise ModelError(f"the model's state `{name}` is a {type(tensor).__name__}; only tensors can be saved")
        values = tensor.detach().cpu().contiguous()
        memory = values.untyped_storage().data_ptr()
        # The format has no notion of two tensors in the same memory.
        tensors[name] = values.clone() if memory in written else values
        written.add(memory)
    write_bytes(path, save(tensors, metadata={"format": "pt"}))


def load_weights(model: nn.Module, path: Path) -> None:
    """Gives a model the weights that `save_weights` wrote; every name and shape must match.

    Raises:
        ModelError: The file cannot be read, or is of another model.
    """
    _fit(model, {name: usable(tensor) for name, tensor in read_safetensors(path).items()}, path)


def load_foreign_weights(
    model: nn.Module,
    path: Path,
    *,
    head: str | None = None,
    fine_tune: bool = False,
    adapt: Callable[[State], State] | None = None,
    weights_key: str | None = None,
    ctx: Context | None = None,
) -> None:
    """Gives a model the weights in a user's file, cast to the model's types.

    What is done to the file's names is noted; where one of several sets is chosen without being told, it is warned of.

    Args:
        model: Changed in place.
        path: A safetensors file or a torch state dict, also one within a checkpoint or of a DataParallel model.
        head: Path of the layer that gives one number per class.
        fine_tune: Whether a head for another number of classes is left as it is in the model.
        adapt: Changes the file's tensors before they are compared with the model's.
        weights_key: Which set of weights of a checkpoint is taken; None: averaged ones first, see `choose`.
        ctx: Who is told.

    Raises:
        ModelError: The file cannot be read or does not fit; the message lists what is missing, unexpected or of
            another shape. The model is then unchanged.
    """
    own = model.state_dict()
    content = read_content(path)
    if not states_in(content, path):
        raise no_state(path, content)
    buffers = own.keys() - dict(model.named_parameters(remove_duplicate=False)).keys()
    chosen = choose(path, content, own, buffers, adapt=adapt, weights_key=weights_key)
    state, prefix = chosen.match.state, chosen.match.prefix
    skip: set[str] = set()
    weight = f"{head}.weight"
    if head is not None and weight in state and state[weight].shape != own[weight].shape:
        theirs, ours = state[weight], own[weight]
        if theirs.shape[1:] == ours.shape[1:]:
            if not fine_tune:
                raise ModelError(
                    f"weights {path} are for {counted(theirs.shape[0], 'class', 'classes')}, but the data has "
                    f"{ours.shape[0]}. Use data with the same classes, or give the model a `train` block: it is then "
                    "fine-tuned with a new head."
                )
            skip = {weight, f"{head}.bias"}
    _fit(model, state, path, skip, f" (`{prefix}` taken off the names)" if prefix else "")
    if ctx is not None:
        for note in chosen.notes:
            ctx.note(note)
        for guess in chosen.guesses:
            ctx.warn(guess)


def _fit(model: nn.Module, state: State, path: Path, skip: Iterable[str] = (), remark: str = "") -> None:
    """Copies a state dict into a model, all but `skip`, or raises ModelError and changes nothing."""
    own = {name: tensor for name, tensor in model.state_dict().items() if name not in set(skip)}
    state = {name: tensor for name, tensor in state.items() if name not in set(skip)}
    _refuse_kinds(own, state, path)
    missing = [name for name in own if name not in state and not name.endswith(UNUSED)]
    missing = [name for name in missing if not _tied(own, name, state)]
    odd = [name for name in state if name not in own]
    misfits = [f"{name} ({reason})" for name in own if name in state and (reason := _misfit(state[name], own[name]))]
    groups = {"missing": missing, "unexpected": odd, "wrong": misfits}
    problems = [f"{len(names)} {what}: {shortened(names, SHOWN)}" for what, names in groups.items() if names]
    if problems:
        raise ModelError(f"weights {path} do not fit the model{remark}. {'. '.join(problems)}.")
    learned = {name for name, _ in model.named_parameters(remove_duplicate=False)}
    learned |= {name for name in state if name.endswith(("running_mean", "running_var"))}
    for name, tensor in state.items():
        state[name], problem = cast(tensor, own[name], learned=name in learned)
        if problem:
            raise ModelError(f"weights {path}: {name} {problem}.")
    versioned: OrderedDict[str, torch.Tensor] = OrderedDict(state)
    # Some modules only load what carries the version of their format.
    versioned._metadata = getattr(model.state_dict(), "_metadata", None)  # type: ignore[attr-defined]  # noqa: SLF001
    model.load_state_dict(versioned, strict=False)


def _refuse_kinds(own: State, state: State, path: Path) -> None:
    """Raises ModelError where what would go into the model is no plain numbers: which tensors, and what they are."""
    kinds: dict[str, list[str]] = {}
    for name in own:
        if name in state and (why := refusal(state[name]) or _complex(state[name], own[name])):
            kinds.setdefault(why, []).append(name)
    for why, names in kinds.items():
        what = "is" if len(names) == 1 else f"and {len(names) - 1:,} more are each"
        raise ModelError(f"weights {path}: {names[0]} {what} {why}, and give that file.")


def _complex(theirs: torch.Tensor, ours: torch.Tensor) -> str:
    if ours.is_complex() or not theirs.is_complex():
        return ""
    return "of complex numbers, where the model has real ones. Save tensor.real, if nothing is in the imaginary part"


def _tied(own: State, name: str, state: State) -> bool:
    """Returns whether a tensor is one that a file has under another name: safetensors are written without copies."""
    mine = own[name]
    return any(
        other in state and tensor.data_ptr() == mine.data_ptr() and tensor.shape == mine.shape and mine.numel() > 0
        for other, tensor in own.items()
    )


def _misfit(theirs: torch.Tensor, ours: torch.Tensor) -> str:
    """Returns why one tensor cannot take another's place, empty where it can."""
    if theirs.shape != ours.shape:
        return f"is {tuple(theirs.shape)}, expected {tuple(ours.shape)}"
    if ours.is_floating_point() and not theirs.is_floating_point():
        return f"is {theirs.dtype}, expected {ours.dtype}"
    return ""


def same_share(first: nn.Module, second: nn.Module) -> float:
    """Returns the share of two models' weights that are equal, of those tensors that are not one number throughout.

    Built from two seeds, models have in common what they brought along: 1.0 is all of it, 0.0 none. Where there are
    none of such tensors, nothing differs.
    """
    same = total = 0
    for one, other in zip(first.parameters(), second.parameters(), strict=False):
        varies = one.numel() > 1 and bool((one != one.flatten()[0]).any())
        if varies and one.shape == other.shape:
            same += int((one == other).sum())
        total += one.numel() if varies else 0
    return same / total if total else 1.0
