"""Swin's attention within shifted windows, with any number of heads."""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional


class WindowAttention(nn.Module):
    """Swin's shifted-window attention, versions 1 and 2, with any number of heads of a fixed width.

    Liu et al. 2021, "Swin Transformer"; Liu et al. 2022, "Swin Transformer V2" (cosine attention, positions by a small
    network). Takes (batch, height, width, channels).
    """

    #: Position biases of version 2 are at most this; scores grow by no more than a factor of 100.
    LARGEST_BIAS = 16.0
    LARGEST_SCALE = 100.0
    #: What is added to the scores of positions that a shift brought into one window.
    APART = -100.0

    def __init__(self, original: nn.Module) -> None:
        """Takes over the parameters, buffers and settings of torchvision's layer."""
        super().__init__()
        self.window_size: list[int]
        self.shift_size: list[int]
        self.num_heads: int
        self.qkv: nn.Linear
        self.proj: nn.Linear
        self.attention_dropout: float
        self.dropout: float
        _take_over(original, self)
        self.head_dim = self.qkv.out_features // 3 // self.num_heads
        self._kind = type(original)
        self._opened = self._size()

    def original(self) -> nn.Module | None:
        """Returns the same as torchvision's layer; None where heads or widths went, so that there is none."""
        if self._size() != self._opened:
            return None
        layer: nn.Module = self._kind.__new__(self._kind)
        nn.Module.__init__(layer)
        _take_over(self, layer)
        return layer

    def _size(self) -> tuple[int, int]:
        return self.num_heads, self.qkv.in_features

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Returns (batch, height, width, channels), each position mixed with the others in its window."""
        batch, height, width, _ = x.shape
        high, wide = self.window_size
        x = functional.pad(x, (0, 0, 0, -width % wide, 0, -height % high))
        rows, columns = x.shape[1] // high, x.shape[2] // wide
        # Where one window covers everything there is nothing to shift.
        down = 0 if high >= x.shape[1] else self.shift_size[0]
        right = 0 if wide >= x.shape[2] else self.shift_size[1]
        if down or right:
            x = torch.roll(x, (-down, -right), (1, 2))
        x = x.reshape(batch, rows, high, columns, wide, x.shape[3]).permute(0, 1, 3, 2, 4, 5)
        windows = x.reshape(batch * rows * columns, high * wide, x.shape[5])
        mixed = self._attend(windows, self._apart(rows, columns, down, right, x) if down or right else None)
        mixed = functional.dropout(self.proj(mixed), self.dropout, self.training)
        x = mixed.reshape(batch, rows, columns, high, wide, mixed.shape[2]).permute(0, 1, 3, 2, 4, 5)
        x = x.reshape(batch, rows * high, columns * wide, mixed.shape[2])
        if down or right:
            x = torch.roll(x, (down, right), (1, 2))
        return x[:, :height, :width, :].contiguous()

    def _attend(self, windows: torch.Tensor, apart: torch.Tensor | None) -> torch.Tensor:
        """Returns the heads' outputs side by side, (windows, positions, heads * head_dim)."""
        count, places, _ = windows.shape
        parts = self._project(windows).reshape(count, places, 3, self.num_heads, self.head_dim).permute(2, 0, 3, 1, 4)
        q, k, v = parts[0], parts[1], parts[2]
        scale: torch.Tensor | None = getattr(self, "logit_scale", None)
        if scale is None:
            scores = (q * self.head_dim**-0.5) @ k.transpose(-2, -1)
        else:
            scores = functional.normalize(q, dim=-1) @ functional.normalize(k, dim=-1).transpose(-2, -1)
            scores = scores * torch.clamp(scale, max=math.log(self.LARGEST_SCALE)).exp()
        scores = scores + self._positions(places)
        if apart is not None:
            scores = scores.reshape(-1, len(apart), self.num_heads, places, places) + apart[:, None]
            scores = scores.reshape(count, self.num_heads, places, places)
        weights = functional.dropout(scores.softmax(-1), self.attention_dropout, self.training)
        return (weights @ v).transpose(1, 2).reshape(count, places, self.num_heads * self.head_dim)

    def _project(self, windows: torch.Tensor) -> torch.Tensor:
        if getattr(self, "logit_scale", None) is None or self.qkv.bias is None:
            projected: torch.Tensor = self.qkv(windows)
            return projected
        # Version 2 has no bias for keys. Taken off again, so that whoever watches layers sees the whole layer called.
        size = self.qkv.out_features // 3
        projected = self.qkv(windows)
        return projected - functional.pad(self.qkv.bias[size : 2 * size], (size, size))

    def _positions(self, places: int) -> torch.Tensor:
        """Returns (1, heads, positions, positions) to add to the scores."""
        if hasattr(self, "cpb_mlp"):
            table: torch.Tensor = self.cpb_mlp(self.relative_coords_table).reshape(-1, self.num_heads)  # type: ignore[operator]
        else:
            table = self.get_parameter("relative_position_bias_table")
        chosen = table[self.get_buffer("relative_position_index")]
        biases = chosen.reshape(places, places, -1).permute(2, 0, 1).unsqueeze(0)
        return self.LARGEST_BIAS * torch.sigmoid(biases) if hasattr(self, "cpb_mlp") else biases

    def _apart(self, rows: int, columns: int, down: int, right: int, like: torch.Tensor) -> torch.Tensor:
        """Returns (windows, positions, positions): 0 for neighbours, APART for those that a shift made so."""
        high, wide = self.window_size
        sides = []
        for count, size, shift in ((rows, high, down), (columns, wide, right)):
            place = torch.arange(count * size)
            sides.append((place >= (count - 1) * size).long() + (place >= count * size - shift).long() * (shift > 0))
        regions = 3 * sides[0][:, None] + sides[1]
        regions = regions.reshape(rows, high, columns, wide).permute(0, 2, 1, 3).reshape(rows * columns, high * wide)
        differs = regions[:, None, :] != regions[:, :, None]
        return (differs * self.APART).to(like)


def _take_over(source: nn.Module, target: nn.Module) -> None:
    """Gives a module the settings, parameters, buffers and layers of another; the tensors are then those of both."""
    for name in ("window_size", "shift_size", "num_heads", "attention_dropout", "dropout", "training"):
        setattr(target, name, getattr(source, name))
    for store in ("_parameters", "_buffers", "_modules"):
        getattr(target, store).update(getattr(source, store))
    target._non_persistent_buffers_set |= source._non_persistent_buffers_set  # noqa: SLF001
