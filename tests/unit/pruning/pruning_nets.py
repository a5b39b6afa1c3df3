"""Small networks, one for each way in which channels can hang together, and a count that does not use the product's."""

from __future__ import annotations

import torch
from torch import nn


def conv(inputs: int, outputs: int, size: int = 3, **more: int) -> nn.Sequential:
    """Conv, batch norm, ReLU."""
    layer = nn.Conv2d(inputs, outputs, size, padding=size // 2, bias=False, **more)
    return nn.Sequential(layer, nn.BatchNorm2d(outputs), nn.ReLU())


class Plain(nn.Module):
    """Two convs and a linear layer, nothing coupled."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.first = conv(3, width)
        self.second = conv(width, 2 * width, stride=2)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(2 * width, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.pool(self.second(self.first(x))).flatten(1))


class Residual(nn.Module):
    """A residual block with a shortcut conv and one without."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv(3, 16)
        self.a1, self.a2 = conv(16, 32, stride=2), nn.Sequential(nn.Conv2d(32, 32, 3, padding=1), nn.BatchNorm2d(32))
        self.short = nn.Conv2d(16, 32, 1, stride=2)
        self.b1, self.b2 = conv(32, 32), nn.Sequential(nn.Conv2d(32, 32, 3, padding=1), nn.BatchNorm2d(32))
        self.head = nn.Linear(32, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        x = torch.relu(self.a2(self.a1(x)) + self.short(x))
        x = torch.relu(self.b2(self.b1(x)) + x)
        return self.head(x.mean((2, 3)))


class Depthwise(nn.Module):
    """Depthwise-separable convs with squeeze-and-excitation."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv(3, 32)
        self.depthwise = conv(32, 32, groups=32)
        self.squeeze, self.excite = nn.Conv2d(32, 16, 1), nn.Conv2d(16, 32, 1)
        self.pointwise = conv(32, 64, 1)
        self.head = nn.Linear(64, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.depthwise(self.stem(x))
        gate = torch.sigmoid(self.excite(torch.relu(self.squeeze(x.mean((2, 3), keepdim=True)))))
        return self.head(self.pointwise(x * gate).mean((2, 3)))


class Concat(nn.Module):
    """Two branches side by side, added to a conv that has to follow both, then flattened."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv(3, 32)
        self.left, self.right = conv(32, 16), conv(32, 24)
        self.short = nn.Conv2d(32, 40, 1)
        self.last = conv(40, 16, stride=2)
        self.head = nn.Linear(16 * 4 * 4, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        x = torch.cat([self.left(x), self.right(x)], dim=1) + self.short(x)
        return self.head(self.last(x).flatten(1))


class Grouped(nn.Module):
    """A grouped conv between two others, one of them with group norm."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv(3, 32)
        self.grouped = nn.Conv2d(32, 48, 3, padding=1, groups=4)
        self.after = nn.Conv2d(48, 32, 1)
        self.norm = nn.GroupNorm(2, 32)
        self.head = nn.Linear(32, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.norm(self.after(torch.relu(self.grouped(self.stem(x))))))
        return self.head(x.mean((2, 3)))


class Shared(nn.Module):
    """One conv used twice in a row, between two others; a transposed conv and a one-slope PReLU behind."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv(3, 32)
        self.twice = nn.Conv2d(32, 32, 3, padding=1)
        self.up = nn.ConvTranspose2d(32, 24, 2, stride=2)
        self.act = nn.PReLU()
        self.head = nn.Linear(24, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.twice(torch.relu(self.twice(self.stem(x)))))
        return self.head(self.act(self.up(x)).mean((2, 3)))


class Attention(nn.Module):
    """A small Transformer over patches: attention heads, layer norms, a position table."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, 32, 2, stride=2)
        self.position = nn.Parameter(torch.randn(1, 16, 32) * 0.02)
        self.norm1, self.attention = nn.LayerNorm(32), nn.MultiheadAttention(32, 4, batch_first=True)
        self.norm2, self.up, self.down = nn.LayerNorm(32), nn.Linear(32, 64), nn.Linear(64, 32)
        self.head = nn.Linear(32, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.patch(x).flatten(2).transpose(1, 2) + self.position
        y = self.norm1(x)
        x = x + self.attention(y, y, y, need_weights=False)[0]
        x = x + self.down(torch.nn.functional.gelu(self.up(self.norm2(x))))
        return self.head(x.mean(1))


class Shuffle(nn.Module):
    """A channel shuffle: channels change places where no layer says so."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.after, self.end = conv(3, 32), conv(32, 32), conv(32, 64)
        self.head = nn.Linear(64, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        x = x.view(x.shape[0], 2, -1, *x.shape[2:]).transpose(1, 2).flatten(1, 2)
        return self.head(self.end(self.after(x)).mean((2, 3)))


NETS: dict[str, type[nn.Module]] = {
    "plain": Plain,
    "residual": Residual,
    "depthwise": Depthwise,
    "concat": Concat,
    "grouped": Grouped,
    "shared": Shared,
    "attention": Attention,
}


def make(name: str, seed: int = 0) -> nn.Module:
    """A network with seeded weights and batch-norm statistics that are not the trivial ones."""
    torch.manual_seed(seed)
    model = NETS[name]()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.5, 0.5)
            module.running_mean.uniform_(-0.5, 0.5)
            module.running_var.uniform_(0.5, 2.0)
    return model


def example(batch: int = 2) -> torch.Tensor:
    """A seeded batch of 3x8x8 pictures."""
    return torch.randn(batch, 3, 8, 8, generator=torch.Generator().manual_seed(1))


def macs_of(model: nn.Module) -> int:
    """Multiply-accumulates of convs and linear layers for one sample, from the shapes seen in a forward pass."""
    total = 0

    def add(module: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        nonlocal total
        if isinstance(module, nn.ConvTranspose2d):
            total += inputs[0].numel() * module.weight[0].numel()
        else:
            total += output.numel() * module.weight[0].numel()

    hooks = [
        m.register_forward_hook(add)
        for m in model.modules()
        if isinstance(m, nn.Conv2d | nn.ConvTranspose2d | nn.Linear)
    ]
    model.eval()
    with torch.no_grad():
        model(example(1))
    for hook in hooks:
        hook.remove()
    return total


def params_of(model: nn.Module) -> int:
    """All parameters."""
    return sum(parameter.numel() for parameter in model.parameters())
