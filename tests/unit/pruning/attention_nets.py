"""Small models with attention written in the ways that users write it."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import nn

WIDTH, HEADS, SIZE = 16, 4, 4


def mixed(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """(batch, heads, length, size) attended and laid side by side."""
    weights = (q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5).softmax(-1)
    return (weights @ v).transpose(1, 2).flatten(2)


class Apart(nn.Module):
    """Queries, keys and values by three layers."""

    def __init__(self) -> None:
        super().__init__()
        self.n_head, self.inner_dim = HEADS, WIDTH
        self.to_q, self.to_k, self.to_v = (nn.Linear(WIDTH, WIDTH, bias=False) for _ in range(3))
        self.to_out = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = (
            layer(x).view(x.shape[0], -1, self.n_head, self.inner_dim // self.n_head).transpose(1, 2)
            for layer in (self.to_q, self.to_k, self.to_v)
        )
        return self.to_out(mixed(q, k, v))


class Packed(nn.Module):
    """One layer for all three; `order` says whether the three or the heads come first. Slopes as in ALiBi."""

    def __init__(self, order: str) -> None:
        super().__init__()
        self.num_heads, self.order = HEADS, order
        self.qkv, self.proj = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.register_buffer("slopes", 2.0 ** -torch.arange(1.0, HEADS + 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        parts = (3, self.num_heads) if self.order == "three" else (self.num_heads, 3)
        x = self.qkv(x).reshape(*x.shape[:2], *parts, SIZE)
        x = x if self.order == "three" else x.transpose(2, 3)
        q, k, v = x.permute(2, 0, 3, 1, 4)
        places = torch.arange(x.shape[1], dtype=torch.float32)
        bias = -self.slopes[:, None, None] * (places[:, None] - places).abs()
        weights = (q @ k.transpose(-2, -1) * SIZE**-0.5 + bias).softmax(-1)
        return self.proj((weights @ v).transpose(1, 2).flatten(2))


class KeysAndValues(nn.Module):
    """Queries by one layer, keys and values by another; the width is kept in an attribute with any name."""

    def __init__(self) -> None:
        super().__init__()
        self.heads, self.together = HEADS, WIDTH
        self.q, self.kv, self.out = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, 2 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.scale = nn.Parameter(torch.ones(HEADS, 1, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q = self.q(x).view(*x.shape[:2], self.heads, -1).transpose(1, 2) * self.scale
        k, v = self.kv(x).view(*x.shape[:2], 2, self.heads, -1).permute(2, 0, 3, 1, 4)
        return self.out(mixed(q, k, v).reshape(*x.shape[:2], self.together))


class Inner(nn.Module):
    """Attention without the layer out of it."""

    def __init__(self) -> None:
        super().__init__()
        self.num_attention_heads, self.attention_head_size, self.all_head_size = HEADS, SIZE, WIDTH
        self.query, self.key, self.value = (nn.Linear(WIDTH, WIDTH) for _ in range(3))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, None]:
        shape = (*x.shape[:2], -1, self.attention_head_size)
        return mixed(*(layer(x).view(shape).transpose(1, 2) for layer in (self.query, self.key, self.value))), None


class Parent(nn.Module):
    """Attention whose last layer lies beside it, with the residual and the norm."""

    def __init__(self) -> None:
        super().__init__()
        self.self, self.dense, self.norm = Inner(), nn.Linear(WIDTH, WIDTH), nn.LayerNorm(WIDTH)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(x + self.dense(self.self(x)[0]))


class Torchs(nn.Module):
    """torch's own layer."""

    def __init__(self, **options: bool) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True, **options)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.attention(x, x, x)[0]


class SharedKeys(nn.Module):
    """Keys and values for pairs of heads."""

    def __init__(self) -> None:
        super().__init__()
        self.num_heads, self.num_kv_heads = HEADS, HEADS // 2
        self.q, self.k, self.v = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH // 2), nn.Linear(WIDTH, WIDTH // 2)
        self.out = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = (layer(x).view(*x.shape[:2], -1, SIZE).transpose(1, 2) for layer in (self.q, self.k, self.v))
        return self.out(mixed(q, k.repeat_interleave(2, 1), v.repeat_interleave(2, 1)))


class Talking(nn.Module):
    """Heads whose scores are mixed with one another (talking heads)."""

    def __init__(self) -> None:
        super().__init__()
        self.heads = HEADS
        self.qkv, self.talk, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(HEADS, HEADS), nn.Linear(WIDTH, WIDTH)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = self.qkv(x).view(*x.shape[:2], 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        scores = self.talk((q @ k.transpose(-2, -1)).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return self.out((scores.softmax(-1) @ v).transpose(1, 2).flatten(2))


class Fixed(nn.Module):
    """Takes the heads' width from what comes in, so that no head can go."""

    def __init__(self) -> None:
        super().__init__()
        self.heads = HEADS
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = self.qkv(x).view(*x.shape[:2], 3, self.heads, x.shape[2] // self.heads).permute(2, 0, 3, 1, 4)
        return self.out(mixed(q, k, v))


class Net(nn.Module):
    """A linear layer, a block of attention and one of two layers, both with residuals, and a head on the mean."""

    def __init__(self, attention: Callable[[], nn.Module]) -> None:
        super().__init__()
        self.start = nn.Linear(6, WIDTH)
        self.norm1, self.block = nn.LayerNorm(WIDTH), attention()
        self.norm2, self.up, self.down = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 32), nn.Linear(32, WIDTH)
        self.head = nn.Linear(WIDTH, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.start(x)
        x = x + self.block(self.norm1(x))
        x = x + self.down(torch.relu(self.up(self.norm2(x))))
        return self.head(x.mean(1))


class Case(NamedTuple):
    """How an attention layer is built, and where its parts lie from `block` on."""

    build: Callable[[], nn.Module]
    name: str
    out: str


CASES = {
    "torch": Case(Torchs, "block.attention", "block.attention.out_proj"),
    "torch without bias": Case(lambda: Torchs(bias=False), "block.attention", "block.attention.out_proj"),
    "three layers": Case(Apart, "block", "block.to_out"),
    "packed by three": Case(lambda: Packed("three"), "block", "block.proj"),
    "packed by heads": Case(lambda: Packed("heads"), "block", "block.proj"),
    "keys and values": Case(KeysAndValues, "block", "block.out"),
    "last layer outside": Case(Parent, "block.self", "block.dense"),
}

WHOLE = {
    "shared keys": (SharedKeys, "block", "no way was found"),
    "talking heads": (Talking, "block", "no way was found"),
    "fixed width": (Fixed, "block", "no way was found"),
    "extra keys": (lambda: Torchs(add_bias_kv=True), "block.attention", "adds a key and a value of its own"),
}


def make(build: Callable[[], nn.Module], seed: int = 0) -> Net:
    """A network with seeded weights, none of them trivial."""
    torch.manual_seed(seed)
    net = Net(build)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(torch.randn(parameter.shape) * 0.3)
    return net.eval()


def example(batch: int = 2) -> torch.Tensor:
    """Seeded sequences of 7 steps with 6 features."""
    return torch.randn(batch, 7, 6, generator=torch.Generator().manual_seed(1))
