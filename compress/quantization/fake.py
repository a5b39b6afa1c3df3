"""Fake quantization of weights, biases and constants: floats in, floats on the integers' grid out."""

from __future__ import annotations

import numpy as np
import torch

from compress.quantization.graph import TensorSpec

WEIGHT_QMAX = 127
#: Smallest weight scale: kernels turn scales into fixed-point multipliers, which underflow below this.
MIN_WEIGHT_SCALE = 1e-7


def symmetric_scale(weight: torch.Tensor, axis: int | None) -> torch.Tensor:
    """Returns the scales of a weight: largest magnitude / 127, per channel of `axis`, or one for all without it."""
    magnitude = weight.detach().abs()
    if axis is None:
        largest = magnitude.amax().reshape(1)
    else:
        largest = magnitude.amax(dim=[d for d in range(weight.ndim) if d != axis])
    return (largest / WEIGHT_QMAX).clamp_min(MIN_WEIGHT_SCALE)


def fake_weight(weight: torch.Tensor, scale: torch.Tensor, axis: int) -> torch.Tensor:
    """Returns the weight on the grid of its scales (symmetric, narrow range: -127 to 127)."""
    if len(scale) > 1:
        zero = torch.zeros(len(scale), dtype=torch.int32, device=weight.device)
        return torch.fake_quantize_per_channel_affine(weight, scale, zero, axis, -WEIGHT_QMAX, WEIGHT_QMAX)
    return torch.fake_quantize_per_tensor_affine(weight, float(scale[0]), 0, -WEIGHT_QMAX, WEIGHT_QMAX)


def fake_bias(bias: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """Returns the bias on the grid of its INT32 scales.

    Fine as that grid is, a twin without it is a step away from the kernels in one value of a thousand.
    """
    exact = bias.detach().double()  # the 32 bits of the integer do not fit a float
    rounded = (torch.round(exact / scale.double()) * scale.double()).float()
    return bias + (rounded - bias.detach())


def fake_constant(constant: torch.Tensor, spec: TensorSpec) -> torch.Tensor:
    """Returns a constant on the grid that the flatbuffer stores it on, with one scale for all of it."""
    info = np.iinfo(spec.dtype)
    return torch.fake_quantize_per_tensor_affine(
        constant,
        float(spec.scale[0]),
        int(spec.zero_point[0]),
        max(int(info.min), -32768),
        min(int(info.max), 32767),
    )
