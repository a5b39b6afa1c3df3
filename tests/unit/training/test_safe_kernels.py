"""Strided 1x1 convolutions with few channels are trained by kernels that do not crash."""

from __future__ import annotations

import contextlib

import pytest
import torch
from torch import nn

from edgecompress.training.precision import safe_kernels

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("layer", "plain"),
    [
        (nn.Conv2d(4, 8, 1, 2), True),
        (nn.Conv2d(8, 8, 1, 2), False),
        (nn.Conv2d(16, 8, 1, 2, groups=4), True),
        (nn.Conv2d(4, 8, 1), False),
        (nn.Conv2d(4, 8, 3, 2, 1), False),
        (nn.Linear(4, 4), False),
    ],
)
def test_who_needs_them(layer: nn.Module, plain: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    before = torch.backends.mkldnn.enabled
    with safe_kernels(nn.Sequential(layer, nn.ReLU()), CPU):
        assert torch.backends.mkldnn.enabled is (before and not plain)
    assert torch.backends.mkldnn.enabled is before
    assert isinstance(safe_kernels(layer, torch.device("cuda")), contextlib.nullcontext)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
    assert isinstance(safe_kernels(layer, CPU), contextlib.nullcontext)


def test_what_crashed_trains() -> None:
    for channels in (1, 4, 7):
        layer = nn.Conv2d(channels, 12, 1, 2).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        x = torch.randn(32, channels, 12, 12).to(memory_format=torch.channels_last).requires_grad_()
        with safe_kernels(layer, CPU):
            layer(x).sum().backward()
        assert torch.isfinite(layer.weight.grad).all()
