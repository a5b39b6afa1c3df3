"""Fake quantization of weights, biases and constants: floats in, floats on the integers' grid out."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from edgecompress.quantization.graph.graph import TensorSpec
from edgecompress.tflite.format.tidy import BEYOND

WEIGHT_QMAX = 127
#: How far beyond all others a masked value is put where exponentials are taken: exp(-10) is a hundredth of an INT8
#: probability's step.
MASK_MARGIN = 10.0
#: Smallest weight scale: kernels turn scales into fixed-point multipliers, which underflow below this.
MIN_WEIGHT_SCALE = 1e-7


def is_infinite(constant: torch.Tensor) -> bool:
    """Returns whether a constant holds what stands for infinity: a mask."""
    return constant.is_floating_point() and constant.numel() > 0 and bool(constant.abs().max() >= BEYOND)


def without_infinities(x: torch.Tensor, margin: float) -> torch.Tensor:
    """Returns the finite values of an activation that a mask may have gone into, (values,).

    Where some were masked, one lies `margin` below the others (or above): what stands for infinity becomes the last
    step of the range.
    """
    masked = x.abs() >= BEYOND
    if not bool(masked.any()):
        return x
    finite = x[~masked]
    if not finite.numel():
        return torch.zeros(1, dtype=x.dtype, device=x.device)
    ends = []
    if bool((x <= -BEYOND).any()):
        ends.append(finite.amin() - margin)
    if bool((x >= BEYOND).any()):
        ends.append(finite.amax() + margin)
    return torch.cat([finite, torch.stack(ends)])


def weight_qmax(spec: TensorSpec) -> int:
    """Returns the largest integer of a weight: 127, or 7 where it has four bits."""
    return int(2 ** (min(spec.bits, 8) - 1)) - 1


def symmetric_scale(weight: torch.Tensor, axis: int | None, qmax: int = WEIGHT_QMAX) -> torch.Tensor:
    """Returns the scales of a weight: largest magnitude / qmax, per channel of `axis`, or one for all without it."""
    magnitude = weight.detach().abs()
    if axis is None:
        largest = magnitude.amax().reshape(1)
    else:
        largest = magnitude.amax(dim=[d for d in range(weight.ndim) if d != axis])
    return (largest / qmax).clamp_min(MIN_WEIGHT_SCALE)


def fake_weight(weight: torch.Tensor, scale: torch.Tensor, axis: int, qmax: int = WEIGHT_QMAX) -> torch.Tensor:
    """Returns the weight on the grid of its scales (symmetric, narrow range: -qmax to qmax)."""
    if len(scale) > 1:
        zero = torch.zeros(len(scale), dtype=torch.int32, device=weight.device)
        return torch.fake_quantize_per_channel_affine(weight, scale, zero, axis, -qmax, qmax)
    return torch.fake_quantize_per_tensor_affine(weight, float(scale[0]), 0, -qmax, qmax)


def fake_dynamic(x: torch.Tensor, kept: int) -> torch.Tensor:
    """Returns activations on the INT8 grid of their own range, as kernels for float inputs and INT8 weights make it.

    Args:
        x: Activations.
        kept: How many leading axes have ranges of their own.

    Source: xnn_f32_qd8_asymmetric_quantization_params in XNNPACK; widened to hold zero.
    """
    flat = x.detach().flatten(kept)
    low, high = flat.amin(-1).clamp_max(0.0), flat.amax(-1).clamp_min(0.0)
    shape = [*low.shape, *[1] * (x.ndim - kept)]
    scale = ((high - low) / 255.0).clamp_min(1e-30).reshape(shape)
    zero_point = torch.round(-128.0 - low.reshape(shape) / scale)
    steps = torch.clamp(torch.round(x.detach() / scale) + zero_point, -128, 127)
    return x + ((steps - zero_point) * scale - x.detach())


def bias_steps(bias: torch.Tensor, scale: torch.Tensor, *, uneven: bool = False) -> torch.Tensor:
    """Returns the integers of a bias, float64: the nearest ones, or the nearest odd ones, of two the larger."""
    exact = bias.detach().double() / scale.double()  # the 32 bits of the integer do not fit a float
    return 2.0 * torch.floor(exact / 2.0) + 1.0 if uneven else torch.round(exact)


def fake_bias(bias: torch.Tensor, scale: torch.Tensor, *, uneven: bool = False) -> torch.Tensor:
    """Returns the bias on the grid of its INT32 scales, or on the odd multiples of these.

    Fine as that grid is, a twin without it is a step away from the kernels in one value of a thousand.
    """
    rounded = (bias_steps(bias, scale, uneven=uneven) * scale.double()).float()
    return bias + (rounded - bias.detach())


def fake_constant(constant: torch.Tensor, scale: float, zero_point: int, dtype: np.dtype[Any]) -> torch.Tensor:
    """Returns a constant on the grid that the flatbuffer stores it on, with one scale for all of it.

    Rounded in float64, as it is written: evenly spaced constants are often halfway between two integers.
    """
    info = np.iinfo(dtype)
    steps = (torch.round(constant.double() / scale) + zero_point).clamp(int(info.min), int(info.max))
    return ((steps - zero_point) * scale).to(constant.dtype)
