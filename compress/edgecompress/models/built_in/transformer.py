"""An encoder-only Transformer (Vaswani et al. 2017) for text and series, in a form that INT8 does not harm.

Three things differ from the usual one. Its norms are batch norms in front of linear layers (pre-norm), which become
part of the weights. Attention scores are shifted up and cut off at zero before the softmax: what must not be seen lies
at zero whatever its score was, the rest is far above it, and the range that INT8 has to cover stays small. Activations
between linear layers are ReLUs, which are fused.
"""

from __future__ import annotations

import torch
from torch import nn

from edgecompress.data.base import Ends
from edgecompress.errors import ModelError
from edgecompress.models.built_in.sequence import ChannelNorm, Unpadded, embedding_of

#: Scores are cut off this far below zero: a hidden place weighs exp(-14) = 8e-7 of one with score 0.
FLOOR = 14.0
#: What takes a score to the cut, however high it is.
HIDING = -40.0
#: Standard deviation of embeddings and positions at first: below that of what the layers add.
SPREAD = 0.1


class SelfAttention(nn.Module):
    """Attention of every step to every other, or to those before it."""

    def __init__(self, width: int, heads: int) -> None:
        """Takes the width of a step, which `heads` divides."""
        super().__init__()
        self.num_heads = heads
        self.scale = (width // heads) ** -0.5
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.out = nn.Linear(width, width)

    def forward(self, x: torch.Tensor, shown: torch.Tensor | None) -> torch.Tensor:
        """Returns (N, steps, width) for as much.

        Args:
            x: The steps, normalised.
            shown: What is added to the scores, FLOOR or HIDING; it broadcasts to (N, heads, steps, steps).
        """
        query = self._heads(self.query(x) if self.scale == 1.0 else self.query(x) * self.scale)
        scores = query @ self._heads(self.key(x)).transpose(2, 3)
        if shown is not None:
            scores = torch.relu(scores + shown)
        mixed = scores.softmax(-1) @ self._heads(self.value(x))
        answer: torch.Tensor = self.out(mixed.transpose(1, 2).flatten(2))
        return answer

    def _heads(self, x: torch.Tensor) -> torch.Tensor:
        return x.reshape(x.shape[0], x.shape[1], self.num_heads, -1).transpose(1, 2)

    @torch.no_grad()
    def fold_scale(self) -> None:
        """Makes the scale of the scores part of the queries' weights, in place."""
        self.query.weight.mul_(self.scale)
        self.query.bias.mul_(self.scale)
        self.scale = 1.0


class Block(nn.Module):
    """Attention and two linear layers, each added to what it read."""

    def __init__(self, width: int, heads: int, hidden: int, dropout: float) -> None:
        """Takes the widths."""
        super().__init__()
        self.norm1: nn.Module = ChannelNorm(width)
        self.attention = SelfAttention(width, heads)
        self.norm2: nn.Module = ChannelNorm(width)
        self.expand = nn.Linear(width, hidden)
        self.relu = nn.ReLU()
        self.reduce = nn.Linear(hidden, width)
        self.drop = nn.Dropout(dropout)

    def forward(self, x: torch.Tensor, shown: torch.Tensor | None) -> torch.Tensor:
        """Returns (N, steps, width) for as much; `shown` as in the attention."""
        x = x + self.drop(self.attention(self.norm1(x), shown))
        return x + self.drop(self.reduce(self.relu(self.expand(self.norm2(x)))))  # type: ignore[no-any-return]

    def for_conversion(self) -> nn.Module:
        """Returns the block with its norms in the weights."""
        if isinstance(self.norm1, ChannelNorm) and isinstance(self.norm2, ChannelNorm):
            self.norm1.fold_into(self.attention.query, self.attention.key, self.attention.value)
            self.norm2.fold_into(self.expand)
            self.attention.fold_scale()
            self.norm1, self.norm2 = nn.Identity(), nn.Identity()
        return self


class Transformer(nn.Module):
    """Embedding or linear layer, positions, blocks, and an answer for all steps together or for each."""

    def __init__(self, ends: Ends, *, layers: int, heads: int, width: int, hidden: int, dropout: float) -> None:
        """Builds it for (length,) tokens or (steps, features) series.

        Raises:
            ModelError: The heads do not divide the width.
        """
        super().__init__()
        if width % heads:
            raise ModelError(f"model transformer: width {width} cannot be divided among {heads} heads")
        steps = ends.input_shape[0]
        self.each = len(ends.outputs) == 2  # noqa: PLR2004 - an answer for each step
        table, channels = embedding_of(ends, width, SPREAD)
        self.embed = table if table is not None else nn.Linear(channels, width)
        self.positions = nn.Parameter(SPREAD * torch.randn(1, steps, width))
        self.drop = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(Block(width, heads, hidden, dropout) for _ in range(layers))
        self.norm: nn.Module = ChannelNorm(width)
        self.relu = nn.ReLU()
        self.collect = None if self.each else nn.Linear(width, width)
        self.fc = nn.Linear(width, ends.outputs[-1])
        tokens = ends.kind == "tokens"
        self.shown = Unpadded(HIDING, FLOOR) if tokens and not self.each else None
        self.kept = Unpadded(HIDING, 0.0) if tokens and not self.each else None
        causal = torch.full((steps, steps), HIDING).triu(1) + torch.full((steps, steps), FLOOR).tril()
        self.register_buffer("causal", causal[None, None] if tokens and self.each else None, persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Returns (N, outputs) for (N, length) tokens or (N, steps, features) series, or (N, steps, outputs)."""
        shown = self.causal if self.shown is None else self.shown(x).reshape(x.shape[0], 1, 1, -1)
        kept = self.kept(x) if self.kept is not None else None
        steps = self.drop(self.embed(x) + self.positions)
        for block in self.blocks:
            steps = block(steps, shown)
        steps = self.norm(steps)
        if self.collect is None:
            return self.fc(steps)  # type: ignore[no-any-return]
        found = self.collect(steps)
        # Of text the largest answer of each filter, of series the mean: padding is hidden from both.
        pooled = torch.relu(found).mean(1) if kept is None else torch.relu(found + kept).amax(1)
        return self.fc(pooled)  # type: ignore[no-any-return]

    def for_conversion(self) -> nn.Module:
        """Returns the network with its last norm in the weights."""
        if isinstance(self.norm, ChannelNorm):
            self.norm.fold_into(self.fc if self.collect is None else self.collect)
            self.norm = nn.Identity()
        return self


def transformer(
    ends: Ends, layers: int = 2, heads: int = 4, width: int = 64, hidden: int = 128, dropout: float = 0.1
) -> nn.Module:
    """Returns an encoder; for language modelling each step sees those before it alone.

    Args:
        ends: What it is built between.
        layers: Blocks of attention and two linear layers.
        heads: Of each attention; they divide the width.
        width: Numbers a step is described by.
        hidden: Units between the two linear layers.
        dropout: Share of the numbers left out in training.
    """
    return Transformer(ends, layers=layers, heads=heads, width=width, hidden=hidden, dropout=dropout)
