"""Residual networks."""

from __future__ import annotations

import torch
from torch import nn


class Block(nn.Module):
    def __init__(self, i: int, o: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(i, o, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(o)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(o, o, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(o)
        self.shortcut = nn.Sequential(nn.Conv2d(i, o, 1, stride, bias=False), nn.BatchNorm2d(o)) if stride > 1 or i != o else nn.Identity()
        self.relu2 = nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.relu2(self.shortcut(x) + self.bn2(self.conv2(self.relu1(self.bn1(self.conv1(x))))))


class R8(nn.Module):
    def __init__(self, shape: tuple[int, int, int], classes: int, width: int = 16) -> None:
        super().__init__()
        self.conv = nn.Conv2d(shape[0], width, 3, 1, 1, bias=False)
        self.bn = nn.BatchNorm2d(width)
        self.relu = nn.ReLU()
        self.stack1 = Block(width, width, 1)
        self.stack2 = Block(width, 2 * width, 2)
        self.stack3 = Block(2 * width, 4 * width, 2)
        self.pool = nn.AvgPool2d(((shape[1] + 3) // 4, (shape[2] + 3) // 4))
        self.fc = nn.Linear(4 * width, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stack3(self.stack2(self.stack1(self.relu(self.bn(self.conv(x))))))
        return self.fc(self.pool(x).flatten(1))


class CB(nn.Sequential):
    def __init__(self, i: int, o: int, pool: bool = False) -> None:
        super().__init__(nn.Conv2d(i, o, 3, padding=1, bias=False), nn.BatchNorm2d(o), nn.ReLU(), *([nn.MaxPool2d(2)] if pool else []))


class Res(nn.Module):
    def __init__(self, c: int) -> None:
        super().__init__()
        self.a, self.b = CB(c, c), CB(c, c)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.b(self.a(x))


class R9(nn.Module):
    def __init__(self, shape: tuple[int, int, int], classes: int, width: int = 32) -> None:
        super().__init__()
        w = width
        self.prep, self.layer1 = CB(shape[0], w), nn.Sequential(CB(w, 2 * w, True), Res(2 * w))
        self.layer2, self.layer3 = CB(2 * w, 4 * w, True), nn.Sequential(CB(4 * w, 8 * w, True), Res(8 * w))
        self.pool = nn.MaxPool2d((shape[1] // 8, shape[2] // 8))
        self.fc = nn.Linear(8 * w, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.pool(self.layer3(self.layer2(self.layer1(self.prep(x))))).flatten(1))
