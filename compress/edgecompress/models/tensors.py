"""Which tensors of a stranger's file can be a model's numbers, and what they become in the model's types.

Training programs write more kinds of tensors than a model takes: quantized, sparse or nested ones, eight-bit floats,
tensors without values. Each is refused by its name with the way to save it otherwise. It is refused only where it would
be put into the model, so a stand-in takes its place until that is known.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

#: Types whose values a model's type can hold, exactly or rounded as usual. What is not here is packed, scaled or tiny.
PLAIN_TYPES = frozenset(
    {torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.complex64, torch.complex128, torch.bool}
    | {torch.int64, torch.int32, torch.int16, torch.int8, torch.uint64, torch.uint32, torch.uint16, torch.uint8}
)
#: Where a stand-in says why it is one.
_REASON = "edgecompress_reason"
_FORGOTTEN = "stored in a form that holds no plain numbers. Save it as a dense float32 tensor"
_LARGEST_HALF = 65504


def usable(tensor: torch.Tensor) -> torch.Tensor:
    """Returns a tensor of a file as plain numbers, or where it is none a stand-in of its shape (see `refusal`)."""
    why = _why_not(tensor)
    if not why:
        return tensor.detach()
    shape = () if tensor.is_nested else tuple(tensor.shape)
    stand_in = torch.empty(shape, device="meta")
    setattr(stand_in, _REASON, why)
    return stand_in


def refusal(tensor: torch.Tensor) -> str:
    """Returns what is wrong with a tensor that `usable` gave, and how to mend it; "" where it is plain numbers."""
    return str(getattr(tensor, _REASON, _FORGOTTEN)) if tensor.is_meta else ""


def _why_not(tensor: torch.Tensor) -> str:
    kind = type(tensor)
    if tensor.is_nested:
        return "a nested tensor (of several shapes in one). Save its parts as tensors of their own"
    if kind not in (torch.Tensor, nn.Parameter):
        how = "tensor.full_tensor()" if kind.__name__ == "DTensor" else "a plain torch.Tensor of the same values"
        return f"a {kind.__module__}.{kind.__name__}. Save {how} in its place"
    if tensor.is_quantized:
        return f"quantized ({_named(tensor.dtype)}). Save the weights of the float model, or tensor.dequantize()"
    if tensor.layout != torch.strided:
        return f"sparse ({_named(tensor.layout)}). Save tensor.to_dense() in its place"
    if tensor.is_meta:
        return "a meta tensor: it has a shape, but no values. Load the model's weights before it is saved"
    if tensor.dtype not in PLAIN_TYPES:
        scaled = " times the scale that belongs to it" if tensor.dtype.itemsize == 1 else ""
        return f"of the type {_named(tensor.dtype)}. Save it as float32{scaled}"
    return ""


def cast(theirs: torch.Tensor, ours: torch.Tensor, *, learned: bool) -> tuple[torch.Tensor, str]:
    """Returns a tensor in the type of another, and what is wrong with its values; "" where nothing is.

    Args:
        theirs: Plain numbers, of the same shape as `ours`.
        ours: Of the model. Where it holds numbers with fractions, so does `theirs`.
        learned: Whether it has to be finite; else it may hold infinity (a mask is as its author wrote it), but no NaN.
    """
    floating = theirs.is_floating_point() or theirs.is_complex()
    if floating:
        good = torch.isfinite(theirs) if learned else ~torch.isnan(theirs)
        if not bool(good.all()):
            return theirs, f"has values that are not finite; {_origin(theirs)}"
    if theirs.dtype == ours.dtype:
        return theirs, ""
    # Where `theirs` is an expanded view, what it becomes is no larger than the model's own tensor.
    found = theirs.to(ours.dtype)
    if ours.is_floating_point() or ours.is_complex():
        if bool((torch.isfinite(theirs) & ~torch.isfinite(found)).any()):
            largest = theirs[torch.isfinite(theirs)].abs().max().item()
            kind = _named(ours.dtype)
            return found, (
                f"has values up to {largest:.3g}, which the model's {kind} cannot hold (they would become infinite). "
                "Weights that large come of a training that failed, or of a number that was never set"
            )
    elif not bool((found.to(theirs.dtype) == theirs).all()) or (
        theirs.dtype == torch.uint64 and bool((found < 0).any())
    ):
        kind = _named(ours.dtype)
        return found, f"is {_named(theirs.dtype)} with values that the model's {kind} cannot hold. Save it as {kind}"
    return found, ""


def _origin(tensor: torch.Tensor) -> str:
    if tensor.dtype == torch.float16:
        return (
            "the training that made it failed, or it was above float16's largest value "
            f"({_LARGEST_HALF}): save it as float32"
        )
    return "the training that made it failed. Take the weights of an epoch before"


def _named(kind: object) -> str:
    return str(kind).removeprefix("torch.")


def shortened(names: Iterable[str], most: int, longest: int = 100) -> str:
    """Returns the first names of a list with a count of the rest; a stranger's names may be of any length."""
    listed = list(names)
    shown = [name if len(name) <= longest else f"{name[:longest]}..." for name in listed[:most]]
    more = f" and {len(listed) - most:,} more" if len(listed) > most else ""
    return ", ".join(shown) + more
