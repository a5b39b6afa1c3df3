"""torch operators as others that litert-torch converts rightly, or to operators that have an INT8 kernel.

They are decompositions of exported programs, so they hold for modules and functions alike. Each computes what torch
does.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from types import ModuleType
from typing import Any

import torch

from edgecompress.tflite.lowering import order
from edgecompress.tflite.lowering.pools import (
    adaptive_average_pool,
    adaptive_max_pool,
    average_pool,
    average_pool3d,
    max_pool,
    max_pool3d,
)
from edgecompress.tflite.lowering.resizing import bilinear, by_matrices, cubic
from edgecompress.tflite.lowering.windows import bag_of_one, fold, tiles, unfold

aten = torch.ops.aten
#: From here on softplus is the identity but for 1/20,000.
LARGE_THRESHOLD = 10.0
#: Up to so many copies are joined rather than broadcast.
FEW_COPIES = 16


def _batch_norm(
    x: torch.Tensor,
    weight: torch.Tensor | None,
    bias: torch.Tensor | None,
    running_mean: torch.Tensor,
    running_var: torch.Tensor,
    momentum: float,
    eps: float,
) -> Any:
    """Gives a series a height of one, as the convolution in front of it has: the converter then folds both into one."""
    if x.ndim != 3:  # noqa: PLR2004 - (N, C, L)
        return NotImplemented
    operator = aten._native_batch_norm_legit_no_training.default  # noqa: SLF001
    found = operator(x.unsqueeze(2), weight, bias, running_mean, running_var, momentum, eps)
    return found[0].squeeze(2), found[1], found[2]


def _convolution(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    transposed: bool,
    output_padding: list[int],
    groups: int,
) -> Any:
    """Cuts a transposed convolution's output out of the whole one where it is padded unevenly, group by group.

    Over volumes, the converter knows no groups at all.
    """
    sizes = list(zip(map(int, x.shape[2:]), map(int, weight.shape[2:]), stride, padding, strict=True))
    gaps = [max(step - kernel, 0) for _, kernel, step, _ in sizes]
    # The converter knows no padding, and that which makes the output a multiple of the input.
    even = all(not edge or kernel - step == 2 * edge for _, kernel, step, edge in sizes)
    volumes = not transposed and groups > 1 and weight.ndim == 5  # noqa: PLR2004 - (out, in, D, H, W)
    if not volumes and (not transposed or (even and groups == 1 and not any(output_padding) and not any(gaps))):
        return NotImplemented
    if groups > 1:
        parts = zip(x.chunk(groups, 1), weight.chunk(groups, 0), strict=True)
        biases = [None] * groups if bias is None else bias.chunk(groups, 0)
        same = (stride, padding, dilation, transposed, output_padding, 1)
        pairs = zip(parts, biases, strict=True)
        return torch.cat([aten.convolution.default(*pair, one, *same) for pair, one in pairs], 1)
    if any(gaps):  # kernels smaller than their stride leave places out, which the converter cannot do
        weight = aten.constant_pad_nd.default(weight, [one for gap in reversed(gaps) for one in (0, gap)], 0.0)
    reaches = [apart * (kernel - 1) + 1 for apart, (_, kernel, _, _) in zip(dilation, sizes, strict=True)]
    beyond = any(extra > edge for extra, edge in zip(output_padding, padding, strict=True))
    none = [0] * len(stride)
    whole = aten.convolution.default(x, weight, None if beyond else bias, stride, none, dilation, True, none, 1)
    margins: list[int] = []
    for axis in range(len(stride)):
        size = (int(x.shape[axis + 2]) - 1) * stride[axis] - 2 * padding[axis] + reaches[axis] + output_padding[axis]
        held = min(size, int(whole.shape[axis + 2]) - padding[axis])
        whole = whole.narrow(axis + 2, padding[axis], held)
        margins = [0, size - held, *margins]
    if any(margins):
        whole = aten.constant_pad_nd.default(whole, margins, 0.0)
    return whole + bias.reshape(-1, *[1] * len(stride)) if beyond and bias is not None else whole


def _power(x: torch.Tensor, exponent: float) -> Any:
    """Lays tensors flat that have more axes than the operator takes."""
    if x.ndim <= 4:  # noqa: PLR2004
        return NotImplemented
    return aten.pow.Tensor_Scalar(x.flatten(1), exponent).reshape(x.shape)


def _same_convolution(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    stride: list[int] | int = 1,
    padding: str = "valid",
    dilation: list[int] | int = 1,
    groups: int = 1,
) -> Any:
    """Pads a series for `padding="same"`: the converter's own way of it fails."""
    step, apart = (value if isinstance(value, int) else value[0] for value in (stride, dilation))
    total = apart * (int(weight.shape[2]) - 1) if padding == "same" else 0
    if total:
        x = aten.constant_pad_nd.default(x, [total // 2, total - total // 2], 0.0)
    return aten.convolution.default(x, weight, bias, [step], [0], [apart], False, [0], groups)


def _nearest(x: torch.Tensor, output_size: list[int] | None, scale_factors: list[float] | None = None) -> Any:
    """Picks rows and columns where a size is no multiple of the input's: TFLite's operator picks others there."""
    sizes = [int(side) for side in x.shape[2:]]
    wanted = output_size or [int(side * scale) for side, scale in zip(sizes, scale_factors or [], strict=True)]
    if len(sizes) == 2 and all(out % size == 0 for out, size in zip(wanted, sizes, strict=True)):  # noqa: PLR2004
        return NotImplemented
    for axis, (size, out) in enumerate(zip(sizes, wanted, strict=True), start=2):
        if out == size:
            continue
        step = 1.0 / scale_factors[axis - 2] if scale_factors else size / out
        places = [min(int(k * step), size - 1) for k in range(out)]
        runs = [(place, len(list(same))) for place, same in itertools.groupby(places)]
        if len({count for _, count in runs}) == 1 and [place for place, _ in runs] == list(range(size)):
            x = x.repeat_interleave(runs[0][1], axis)
        else:
            parts = [x.narrow(axis, place, 1) for place, count in runs for _ in range(count)]
            x = torch.cat(parts, axis)
    return x


def _sign(x: torch.Tensor) -> torch.Tensor:
    """Compares with zero, which is exact in INT8; SIGN has no INT8 kernel."""
    one, zero = torch.ones_like(x), torch.zeros_like(x)
    return torch.where(x > 0, one, torch.where(x < 0, -one, zero))


def _elu(x: torch.Tensor, alpha: float = 1.0, scale: float = 1.0, input_scale: float = 1.0) -> torch.Tensor:
    """Takes the exponential of what is negative alone: its range is 0 to 1 then, and not that of e to the largest."""
    below = torch.exp(torch.clamp_max(x, 0.0) * input_scale) * (alpha * scale) - alpha * scale
    return torch.relu(x) * scale + below


def _celu(x: torch.Tensor, alpha: float = 1.0) -> torch.Tensor:
    return _elu(x, alpha, 1.0, 1.0 / alpha)


def _selu(x: torch.Tensor) -> torch.Tensor:
    """Has the constants of Klambauer et al. 2017."""
    return _elu(x, 1.6732632423543772, 1.0507009873554805)


def _softplus(x: torch.Tensor, beta: float = 1.0, threshold: float = 20.0) -> torch.Tensor:
    """Adds what is missing to a ReLU, log(1 + exp(-|x|)), which lies between 0 and log 2."""
    scaled = x * beta if beta != 1 else x
    found = torch.relu(scaled) + torch.log(torch.exp(-torch.abs(scaled)) + 1.0)
    found = found / beta if beta != 1 else found
    return found if threshold >= LARGE_THRESHOLD else torch.where(scaled > threshold, x, found)


def _logsumexp(x: torch.Tensor, dim: list[int], keepdim: bool = False) -> torch.Tensor:
    """Leaves out the look at infinities, which no INT8 scale holds: exponentials lie between 0 and 1 all the same."""
    axes = list(dim) or list(range(x.ndim))
    largest = torch.amax(x, axes, keepdim=True)
    found = torch.log(torch.sum(torch.exp(x - largest), axes, keepdim=True)) + largest
    return found if keepdim else found.squeeze(axes)


def _mish(x: torch.Tensor) -> torch.Tensor:
    return x * torch.tanh(_softplus(x))


def _repeat(x: torch.Tensor, repeats: list[int]) -> torch.Tensor:
    """Joins copies: what the converter makes of a repetition has them in another order, or not transposed."""
    x = x.reshape(*[1] * (len(repeats) - x.ndim), *x.shape)
    for axis, times in enumerate(repeats):
        if times != 1:
            x = torch.cat([x] * times, axis) if times else x.narrow(axis, 0, 0)
    return x


def _expand(x: torch.Tensor, size: list[int], *, implicit: bool = False) -> Any:
    """Joins copies of whole matrices, as heads of an attention share keys; the rest is left to be broadcast."""
    del implicit
    sides = [1] * (len(size) - x.ndim) + [int(side) for side in x.shape]
    times = [int(new) if old == 1 and new != -1 else 1 for old, new in zip(sides, size, strict=True)]
    matrices = max(times[-2:]) == 1 < min(sides[-2:]) if len(sides) > 2 else False  # noqa: PLR2004
    return _repeat(x, times) if matrices and 1 < max(times) <= FEW_COPIES else NotImplemented


def _leaky(x: torch.Tensor, slope: float) -> torch.Tensor:
    found: torch.Tensor = aten.leaky_relu.default(x, slope)
    return found


def _rrelu(
    x: torch.Tensor, lower: float = 1 / 8, upper: float = 1 / 3, training: bool = False, generator: Any = None
) -> Any:
    """Becomes the leaky ReLU it is in evaluation mode."""
    del generator
    return NotImplemented if training else _leaky(x, (lower + upper) / 2)


def _rrelu_with_noise(
    x: torch.Tensor,
    noise: torch.Tensor,
    lower: float = 1 / 8,
    upper: float = 1 / 3,
    training: bool = False,
    generator: Any = None,
) -> Any:
    found = _rrelu(x, lower, upper, training, generator)
    return found if found is NotImplemented else (found, noise)


def _trilinear(
    first: torch.Tensor,
    weight: torch.Tensor,
    second: torch.Tensor,
    expand1: list[int],
    expand2: list[int],
    expand3: list[int],
    sumdim: list[int],
    unroll_dim: int = 1,
) -> Any:
    """Multiplies each value of one input by each of the other, and these by the weights: what nn.Bilinear computes."""
    del unroll_dim
    if (expand1, expand2, expand3, sumdim) != ([1, 3], [0], [1, 2], [2, 3]):
        return NotImplemented
    products = first.unsqueeze(-1) * second.unsqueeze(-2)
    return aten.matmul.default(products.flatten(1), weight.flatten(1).transpose(0, 1))


#: Overload of a torch operator -> what it becomes; NotImplemented leaves it as it is.
LOWERINGS: dict[Any, Callable[..., Any]] = {
    aten._native_batch_norm_legit_no_training.default: _batch_norm,  # noqa: SLF001
    aten._embedding_bag_forward_only.default: bag_of_one,  # noqa: SLF001
    aten._trilinear.default: _trilinear,  # noqa: SLF001
    aten._upsample_bicubic2d_aa.vec: by_matrices(cubic, sides=2, antialias=True),  # noqa: SLF001
    aten._upsample_bilinear2d_aa.vec: by_matrices(sides=2, antialias=True),  # noqa: SLF001
    aten._adaptive_avg_pool2d.default: adaptive_average_pool,  # noqa: SLF001 - what exported programs hold
    aten._adaptive_avg_pool3d.default: adaptive_average_pool,  # noqa: SLF001
    aten.adaptive_max_pool2d.default: adaptive_max_pool,
    aten.adaptive_max_pool3d.default: adaptive_max_pool,
    aten._assert_async.msg: lambda _condition, _message: None,  # noqa: SLF001 - of one_hot; a flatbuffer checks nothing
    aten.avg_pool2d.default: average_pool,
    aten.bucketize.Tensor: order.bucketize,
    aten.avg_pool3d.default: average_pool3d,
    aten.celu.default: _celu,
    aten.col2im.default: fold,
    aten.conv1d.padding: _same_convolution,
    aten.convolution.default: _convolution,
    aten.cummax.default: order.running_extreme(torch.maximum),
    aten.cummin.default: order.running_extreme(torch.minimum),
    aten.cumprod.default: order.running_product,
    aten.cumsum.default: order.running_sum,
    aten.elu.default: _elu,
    aten.expand.default: _expand,
    aten.im2col.default: tiles,
    aten.index_add.default: order.index_add,
    aten.index_copy.default: order.index_copy,
    aten.index_fill.int_Scalar: order.index_fill,
    aten.kthvalue.default: order.kth,
    aten.logcumsumexp.default: order.running_logsumexp,
    aten.logsumexp.default: _logsumexp,
    aten.max_pool2d_with_indices.default: max_pool,
    aten.max_pool3d_with_indices.default: max_pool3d,
    aten.median.default: order.median_of_all,
    aten.median.dim: order.median,
    aten.mish.default: _mish,
    aten.nanmedian.default: order.median_of_all,  # no INT8 scale holds what is no number
    aten.nanmedian.dim: order.median,
    aten.pow.Tensor_Scalar: _power,
    aten.repeat.default: _repeat,
    aten.rrelu.default: _rrelu,
    aten.rrelu_with_noise_functional.default: _rrelu_with_noise,
    aten.scatter.src: order.scatter,
    aten.scatter.value: order.scatter_value,
    aten.scatter_add.default: order.scatter_add,
    aten.searchsorted.Tensor: order.searchsorted,
    aten.selu.default: _selu,
    aten.sign.default: _sign,
    aten.softplus.default: _softplus,
    aten.sort.default: order.sort,
    aten.sort.stable: order.stable_sort,
    aten.topk.default: order.topk,
    aten.unfold.default: unfold,
    aten.upsample_bilinear2d.vec: bilinear,
    aten.upsample_linear1d.vec: by_matrices(sides=1),
    aten.upsample_nearest2d.vec: _nearest,
    aten.upsample_nearest3d.vec: _nearest,
    aten.upsample_trilinear3d.vec: by_matrices(sides=3),
}


def install(decompositions: ModuleType) -> None:
    """Tells litert-torch of them, once.

    Args:
        decompositions: Its module `fx_infra.decomp`.
    """
    later = decompositions.pre_lower_decomp()
    for operator, lowering in LOWERINGS.items():
        decompositions.add_pre_convert_decomp(operator, lowering)
        if operator in later and later[operator] is not lowering:
            # What is left as it is here is still to be taken apart as before, when it is written.
            decompositions.add_pre_lower_decomp(operator, later[operator])
