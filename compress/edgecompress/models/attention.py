"""Attention layers that can have fewer heads than their embedding has room for, in the place of those that cannot.

torch's `nn.MultiheadAttention` and torchvision's window attention take the width of their heads from the embedding, so
a head cannot go without the others growing. These compute the same, with the parameters under the same names.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from edgecompress.errors import ModelError
from edgecompress.models.window_attention import WindowAttention


class PackedLinear(nn.Linear):
    """Projections of queries, keys and values in one matrix; in a file its weight is `in_proj_weight`."""

    def forward(self, x: torch.Tensor, part: int | None = None) -> torch.Tensor:
        """Returns all three projections of `x`, or one of them."""
        if part is None:
            return super().forward(x)
        size = self.out_features // 3
        rows = slice(part * size, (part + 1) * size)
        return functional.linear(x, self.weight[rows], None if self.bias is None else self.bias[rows])

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, f"{prefix.removesuffix('.')}_", keep_vars)


class HeadAttention(nn.Module):
    """`nn.MultiheadAttention` with any number of heads of a fixed width.

    Its state has `in_proj_weight` (3 * heads * head_dim, embed_dim), `in_proj_bias`, `out_proj.weight`
    (embed_dim, heads * head_dim) and `out_proj.bias`, and its forward pass takes what that of torch takes.
    """

    #: Keeps nn.TransformerEncoderLayer from its one-kernel path, which takes the heads' width from the embedding's.
    _qkv_same_embed_dim = False

    def __init__(self, original: nn.MultiheadAttention) -> None:
        """Takes over the parameters of a layer that `replaceable` accepts."""
        super().__init__()
        self.num_heads = original.num_heads
        self.head_dim = original.head_dim
        self.dropout = original.dropout
        self.batch_first = original.batch_first
        self.in_proj = _linear(PackedLinear, original.in_proj_weight, original.in_proj_bias)
        self.out_proj = original.out_proj
        self.train(original.training)
        self._opened = self.num_heads, self.embed_dim
        self.register_load_state_dict_pre_hook(_unpacked)  # type: ignore[no-untyped-call]

    @property
    def embed_dim(self) -> int:
        """The width of what goes in and comes out."""
        return self.in_proj.in_features

    @property
    def in_proj_weight(self) -> torch.Tensor:
        """The three projections' weight, under torch's name."""
        return self.in_proj.weight

    @property
    def in_proj_bias(self) -> torch.Tensor | None:
        """Their bias, under torch's name."""
        return self.in_proj.bias

    def original(self) -> nn.MultiheadAttention | None:
        """Returns the same as torch's layer; None where heads or widths went, so that there is none."""
        if (self.num_heads, self.embed_dim) != self._opened:
            return None
        layer = nn.MultiheadAttention(
            self.embed_dim, self.num_heads, self.dropout, self.in_proj.bias is not None,
            batch_first=self.batch_first, device="meta",
        )  # fmt: skip
        layer.in_proj_weight, layer.in_proj_bias = self.in_proj.weight, self.in_proj.bias  # type: ignore[assignment]
        layer.out_proj = self.out_proj
        return layer.train(self.training)

    def forward(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        key_padding_mask: torch.Tensor | None = None,
        need_weights: bool = True,
        attn_mask: torch.Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,  # noqa: ARG002 - a hint beside the mask, which torch wants as well
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Returns what `nn.MultiheadAttention` does: the output and, where asked for, the weights."""
        same = query is key and key is value
        batched = query.dim() == 3  # noqa: PLR2004 - (batch, length, width) in some order
        query, key, value = (self._to_batches(each, batched=batched) for each in (query, key, value))
        if same:
            parts = self.in_proj(query).reshape(*query.shape[:2], 3, self.num_heads, self.head_dim)
            q, k, v = (parts.permute(2, 0, 3, 1, 4)[part] for part in range(3))
        else:
            q, k, v = (self._heads(self.in_proj(each, part)) for part, each in enumerate((query, key, value)))
        scores = (q * self.head_dim**-0.5) @ k.transpose(-2, -1)
        if attn_mask is not None:
            shape = attn_mask.shape if attn_mask.dim() == 2 else (-1, self.num_heads, *attn_mask.shape[1:])  # noqa: PLR2004
            scores = _masked(scores, attn_mask.reshape(shape))
        if key_padding_mask is not None:
            rows = key_padding_mask if batched else key_padding_mask.unsqueeze(0)
            scores = _masked(scores, rows[:, None, None, :])
        weights = functional.dropout(scores.softmax(-1), self.dropout, self.training)
        mixed = (weights @ v).transpose(1, 2).reshape(*query.shape[:2], self.num_heads * self.head_dim)
        output = self.out_proj(mixed)
        if not batched:
            output = output.squeeze(0)
        elif not self.batch_first:
            output = output.transpose(0, 1)
        if not need_weights:
            return output, None
        shown = weights.mean(1) if average_attn_weights else weights
        return output, shown if batched else shown.squeeze(0)

    def _to_batches(self, x: torch.Tensor, *, batched: bool) -> torch.Tensor:
        if not batched:
            return x.unsqueeze(0)
        return x if self.batch_first else x.transpose(0, 1)

    def _heads(self, x: torch.Tensor) -> torch.Tensor:
        return x.reshape(*x.shape[:2], self.num_heads, self.head_dim).transpose(1, 2)


#: What a plan may call a replacement -> its class and the layers it takes the place of, by module and name.
REPLACEMENTS: dict[str, tuple[type[HeadAttention | WindowAttention], frozenset[str]]] = {
    "multihead-attention": (HeadAttention, frozenset({"torch.nn.modules.activation.MultiheadAttention"})),
    "window-attention": (
        WindowAttention,
        frozenset(
            f"torchvision.models.swin_transformer.ShiftedWindowAttention{version}" for version in ("", "V2")
        ),
    ),
}  # fmt: skip


def replacement_of(module: nn.Module) -> str | None:
    """Returns the name in REPLACEMENTS of the class a module has; None where it has none of ours."""
    return next((name for name, (kind, _) in REPLACEMENTS.items() if type(module) is kind), None)


def replaceable(module: nn.Module) -> str | None:
    """Returns the name in REPLACEMENTS of what can take a module's place; None where nothing can."""
    kind = f"{type(module).__module__}.{type(module).__qualname__}"
    name = next((name for name, (_, kinds) in REPLACEMENTS.items() if kind in kinds), None)
    return None if name is None or kept_reason(module) else name


def kept_reason(module: nn.Module) -> str:
    """Returns why an attention layer keeps its class, "" where it need not."""
    if module._forward_hooks or module._forward_pre_hooks or module._backward_hooks:  # noqa: SLF001
        return "it has hooks"
    if isinstance(module, nn.MultiheadAttention):
        if module.in_proj_weight is None:
            return "its queries, keys and values have widths of their own"
        if module.bias_k is not None or module.add_zero_attn:
            return "it adds a key and a value of its own"
    return ""


def replace_attention(model: nn.Module, chosen: Mapping[str, str]) -> None:
    """Puts replacements into a model, in place; parameters stay the same objects.

    Args:
        model: The modules' tree.
        chosen: Path of a module -> a name in REPLACEMENTS.

    Raises:
        ModelError: There is no such module, or it is none that such a class can replace; the model is then unchanged.
    """
    found = dict(model.named_modules(remove_duplicate=False))
    for path, name in chosen.items():
        if path not in found or not path or name not in REPLACEMENTS or replaceable(found[path]) != name:
            kind = type(found[path]).__name__ if path in found else "missing"
            raise ModelError(
                f"{path or 'the root'} is {kind}, which cannot become a {name}; expected one of "
                f"{', '.join(REPLACEMENTS)} in the place of the attention layer it is named after"
            )
    made: dict[int, nn.Module] = {}
    for path, name in chosen.items():
        old = found[path]
        if id(old) not in made:
            made[id(old)] = REPLACEMENTS[name][0](old)
        _put(model, path, made[id(old)])
    _no_nested_tensors(model)


def replaced(base: nn.Module, pruned: nn.Module) -> dict[str, str]:
    """Returns path of each module of `pruned` that took the place of one of `base` -> the name of its class."""
    theirs = dict(base.named_modules(remove_duplicate=False))
    found = {path: replacement_of(module) for path, module in pruned.named_modules(remove_duplicate=False)}
    return {
        path: name
        for path, name in found.items()
        if name is not None and path in theirs and replaceable(theirs[path]) == name
    }


def with_attention(model: nn.Module, chosen: Mapping[str, str]) -> nn.Module:
    """Returns a copy of a model with replacements in it (see `replace_attention`); the model itself where none are."""
    if not chosen:
        return model
    other = copy.deepcopy(model)
    replace_attention(other, chosen)
    return other


def open_attention(model: nn.Module) -> None:
    """Replaces, in place, every attention layer that otherwise could not lose heads."""
    found = {path: replaceable(module) for path, module in model.named_modules(remove_duplicate=False) if path}
    replace_attention(model, {path: name for path, name in found.items() if name is not None})


def close_attention(model: nn.Module) -> None:
    """Puts the original classes back, in place, wherever nothing was removed."""
    made: dict[int, nn.Module | None] = {}
    for path, module in list(model.named_modules(remove_duplicate=False)):
        if path and isinstance(module, HeadAttention | WindowAttention):
            if id(module) not in made:
                made[id(module)] = module.original()
            layer = made[id(module)]
            if layer is not None:
                _put(model, path, layer)


def _no_nested_tensors(model: nn.Module) -> None:
    """Keeps encoders from handing nested tensors, for torch's own layers only, to replaced ones."""
    for module in model.modules():
        if isinstance(module, nn.TransformerEncoder) and any(isinstance(m, HeadAttention) for m in module.modules()):
            module.use_nested_tensor = False


def _put(model: nn.Module, path: str, module: nn.Module) -> None:
    parent, _, name = path.rpartition(".")
    setattr(model.get_submodule(parent), name, module)


def _linear(kind: type[PackedLinear], weight: nn.Parameter, bias: nn.Parameter | None) -> PackedLinear:
    layer = kind(weight.shape[1], weight.shape[0], bias=bias is not None, device="meta")
    layer.weight = weight
    layer.bias = bias  # type: ignore[assignment]
    return layer


def _unpacked(_module: nn.Module, state: dict[str, Any], prefix: str, *_more: object) -> None:
    """Renames the packed projection's tensors from torch's names to those of the layer that holds them."""
    for name in ("weight", "bias"):
        if f"{prefix}in_proj_{name}" in state:
            state[f"{prefix}in_proj.{name}"] = state.pop(f"{prefix}in_proj_{name}")


def _masked(scores: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Returns scores with a mask applied: true means -inf, numbers are added."""
    return scores.masked_fill(mask, -math.inf) if mask.dtype == torch.bool else scores + mask
