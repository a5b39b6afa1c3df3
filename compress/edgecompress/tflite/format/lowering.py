"""torch operators as others that litert-torch converts rightly, or to operators that have an INT8 kernel.

They are decompositions of exported programs, so they hold for modules and functions alike. Each computes what torch
does.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch

aten = torch.ops.aten


def _overhang(size: int, kernel: int, stride: int, padding: int, dilation: int) -> int:
    """Returns by how much the last window of a pool in ceil mode reaches beyond the padded input, 0 or less for none.

    A window that would begin in the padding behind the input is left out, as torch does.
    """
    reach = dilation * (kernel - 1) + 1
    windows = math.ceil((size + 2 * padding - reach) / stride) + 1
    if (windows - 1) * stride >= size + padding:
        windows -= 1
    return (windows - 1) * stride + reach - size - 2 * padding


def _pair(values: Sequence[int] | int, default: Sequence[int] = ()) -> list[int]:
    found = [values] if isinstance(values, int) else list(values) or list(default)
    return found * 2 if len(found) == 1 else found


def _margins(
    x: torch.Tensor, kernel: list[int], stride: list[int], padding: list[int], dilation: list[int], *, ceil: bool
) -> list[int]:
    """Returns what to pad for all windows to lie within the input: left, right, top, bottom."""
    found = []
    for axis in (1, 0):
        beyond = _overhang(x.shape[axis - 2], kernel[axis], stride[axis], padding[axis], dilation[axis]) if ceil else 0
        found += [padding[axis], padding[axis] + max(beyond, 0)]
    return found


def _max_pool(
    x: torch.Tensor,
    kernel_size: list[int],
    stride: list[int] = [],  # noqa: B006 - torch's own signature
    padding: list[int] | int = 0,
    dilation: list[int] | int = 1,
    ceil_mode: bool = False,
) -> Any:
    """Pads explicitly where the last window hangs over: the converter forgets that part."""
    if not ceil_mode:
        return NotImplemented
    kernel = _pair(kernel_size)
    steps, apart = _pair(stride, kernel), _pair(dilation)
    margins = _margins(x, kernel, steps, _pair(padding), apart, ceil=True)
    padded = aten.constant_pad_nd.default(x, margins, float("-inf")) if any(margins) else x
    return aten.max_pool2d_with_indices.default(padded, kernel, steps, [0, 0], apart, False)


def _average_pool(
    x: torch.Tensor,
    kernel_size: list[int],
    stride: list[int] = [],  # noqa: B006
    padding: list[int] | int = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Any:
    """Divides by what torch counts where that is not the same for all windows, or not what the converter counts."""
    kernel = _pair(kernel_size)
    steps, padding = _pair(stride, kernel), _pair(padding)
    margins = _margins(x, kernel, steps, padding, [1, 1], ceil=ceil_mode)
    hangs = margins[1] > padding[1] or margins[3] > padding[0]
    same = all(_is_same(int(x.shape[a - 2]), kernel[a], steps[a], padding[a]) for a in (0, 1))
    plain = divisor_override is None and not hangs and (count_include_pad or not any(padding) or same)
    if plain and not ceil_mode:
        return NotImplemented
    padded = aten.constant_pad_nd.default(x, margins, 0.0) if any(margins) else x
    means = aten.avg_pool2d.default(padded, kernel, steps)
    whole = float(math.prod(kernel))
    if divisor_override:
        return means * (whole / divisor_override) if divisor_override != whole else means
    ends = [padding[axis] if count_include_pad else 0 for axis in (0, 1)]
    for axis in (0, 1):
        windows = int(means.shape[axis - 2])
        counts = _counts(int(x.shape[axis - 2]), kernel[axis], steps[axis], padding[axis], ends[axis], windows)
        if {*counts} == {kernel[axis]}:
            continue
        shape = [-1, 1] if axis == 0 else [1, -1]
        means = means * _constant([kernel[axis] / count for count in counts], x).reshape(shape)
    return means


def _is_same(size: int, kernel: int, stride: int, padding: int) -> bool:
    """Returns whether padding is that of TensorFlow's SAME, of which averages do not count the padded places."""
    return max((math.ceil(size / stride) - 1) * stride + kernel - size, 0) == 2 * padding


def _constant(values: list[float], like: torch.Tensor) -> torch.Tensor:
    """Returns a vector as operators make it: exported programs take no new constants here."""
    runs = [(value, len(list(same))) for value, same in itertools.groupby(values)]
    parts = [aten.full.default([count], value, dtype=like.dtype, device=like.device) for value, count in runs]
    found: torch.Tensor = aten.cat.default(parts)
    return found


def _counts(size: int, kernel: int, stride: int, padding: int, counted: int, windows: int) -> list[int]:
    """Returns how many places each window counts along one axis: the input's own and `counted` ones on both sides."""
    starts = (window * stride - padding for window in range(windows))
    return [min(start + kernel, size + counted) - max(start, -counted) for start in starts]


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
    """Cuts a transposed convolution's output out of the whole one where it is padded unevenly, group by group."""
    if not transposed or not (any(output_padding) or groups > 1):
        return NotImplemented
    if groups > 1:
        parts = zip(x.chunk(groups, 1), weight.chunk(groups, 0), strict=True)
        biases = [None] * groups if bias is None else bias.chunk(groups, 0)
        same = (stride, padding, dilation, True, output_padding, 1)
        pairs = zip(parts, biases, strict=True)
        return torch.cat([aten.convolution.default(*pair, one, *same) for pair, one in pairs], 1)
    beyond = any(extra > edge for extra, edge in zip(output_padding, padding, strict=True))
    none = [0] * len(stride)
    whole = aten.convolution.default(x, weight, None if beyond else bias, stride, none, dilation, True, none, 1)
    margins: list[int] = []
    for axis in range(len(stride)):
        reach = dilation[axis] * (int(weight.shape[axis + 2]) - 1) + 1
        size = (int(x.shape[axis + 2]) - 1) * stride[axis] - 2 * padding[axis] + reach + output_padding[axis]
        held = min(size, int(whole.shape[axis + 2]) - padding[axis])
        whole = whole.narrow(axis + 2, padding[axis], held)
        margins = [0, size - held, *margins]
    if any(margins):
        whole = aten.constant_pad_nd.default(whole, margins, 0.0)
    return whole + bias.reshape(-1, *[1] * len(stride)) if beyond and bias is not None else whole


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
    del threshold
    scaled = x * beta if beta != 1 else x
    found = torch.relu(scaled) + torch.log(torch.exp(-torch.abs(scaled)) + 1.0)
    return found / beta if beta != 1 else found


def _mish(x: torch.Tensor) -> torch.Tensor:
    return x * torch.tanh(_softplus(x))


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


def _pool3d(
    pool: Callable[..., torch.Tensor], x: torch.Tensor, kernel: list[int], stride: list[int], pad: list[int]
) -> torch.Tensor:
    """Pools over height and width, then over depth: the converter makes an operator of its own for windows of three."""
    *front, depth, height, width = x.shape
    flat = x.reshape(1, -1, height, width)
    flat = pool(flat, kernel[1:], stride[1:], pad[1:])
    rows, columns = flat.shape[-2:]
    flat = flat.reshape(1, -1, depth, rows * columns)
    flat = pool(flat, [kernel[0], 1], [stride[0], 1], [pad[0], 0])
    return flat.reshape(*front, -1, rows, columns)


def _triple(values: Sequence[int] | int, default: Sequence[int] = ()) -> list[int]:
    found = [values] if isinstance(values, int) else list(values) or list(default)
    return found * 3 if len(found) == 1 else found


def _max_pool3d(
    x: torch.Tensor,
    kernel_size: list[int],
    stride: list[int] = [],  # noqa: B006
    padding: list[int] | int = 0,
    dilation: list[int] | int = 1,
    ceil_mode: bool = False,
) -> Any:
    kernel = _triple(kernel_size)
    if {*_triple(dilation)} != {1}:
        return NotImplemented

    def pool(flat: torch.Tensor, size: list[int], steps: list[int], pad: list[int]) -> torch.Tensor:
        found: torch.Tensor = aten.max_pool2d_with_indices.default(flat, size, steps, pad, [1, 1], ceil_mode)[0]
        return found

    found = _pool3d(pool, x, kernel, _triple(stride, kernel), _triple(padding))
    return found, torch.zeros_like(found, dtype=torch.int64)  # nothing that is converted reads the places


def _average_pool3d(
    x: torch.Tensor,
    kernel_size: list[int],
    stride: list[int] = [],  # noqa: B006
    padding: list[int] | int = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Any:
    kernel = _triple(kernel_size)

    def pool(flat: torch.Tensor, size: list[int], steps: list[int], pad: list[int]) -> torch.Tensor:
        found: torch.Tensor = aten.avg_pool2d.default(flat, size, steps, pad, ceil_mode, count_include_pad)
        return found

    found = _pool3d(pool, x, kernel, _triple(stride, kernel), _triple(padding))
    return found * (math.prod(kernel) / divisor_override) if divisor_override else found


def _adaptive(reduce: Callable[..., torch.Tensor], x: torch.Tensor, sizes: list[int]) -> torch.Tensor:
    """Pools axis by axis: window i of n over s places reaches from i * s / n, rounded down, to (i + 1) * s / n, up."""
    for axis, wanted in zip(range(-len(sizes), 0), sizes, strict=True):
        size = int(x.shape[axis])
        if wanted == size:
            continue
        windows = [(k * size // wanted, -(-(k + 1) * size // wanted)) for k in range(wanted)]
        parts = [reduce(x.narrow(axis, start, end - start), [axis], True) for start, end in windows]
        x = torch.cat(parts, axis) if len(parts) > 1 else parts[0]
    return x


def _adaptive_max_pool(x: torch.Tensor, output_size: list[int]) -> Any:
    sizes = [int(side) for side in x.shape[-len(output_size) :]]
    if len(sizes) == 2 and all(size % wanted == 0 for size, wanted in zip(sizes, output_size, strict=True)):  # noqa: PLR2004
        kernel = [size // wanted for size, wanted in zip(sizes, output_size, strict=True)]
        found = aten.max_pool2d_with_indices.default(x, kernel, kernel)[0]
    else:
        found = _adaptive(torch.amax, x, output_size)
    return found, torch.zeros_like(found, dtype=torch.int64)


def _adaptive_average_pool(x: torch.Tensor, output_size: list[int]) -> Any:
    sizes = [int(side) for side in x.shape[-len(output_size) :]]
    if len(sizes) == 2 and all(size % wanted == 0 for size, wanted in zip(sizes, output_size, strict=True)):  # noqa: PLR2004
        kernel = [size // wanted for size, wanted in zip(sizes, output_size, strict=True)]
        return aten.avg_pool2d.default(x, kernel, kernel)
    return _adaptive(torch.mean, x, output_size)


#: Overload of a torch operator -> what it becomes; NotImplemented leaves it as it is.
LOWERINGS: dict[Any, Callable[..., Any]] = {
    aten._native_batch_norm_legit_no_training.default: _batch_norm,  # noqa: SLF001
    aten._adaptive_avg_pool2d.default: _adaptive_average_pool,  # noqa: SLF001 - what exported programs hold
    aten._adaptive_avg_pool3d.default: _adaptive_average_pool,  # noqa: SLF001
    aten.adaptive_max_pool2d.default: _adaptive_max_pool,
    aten.adaptive_max_pool3d.default: _adaptive_max_pool,
    aten.avg_pool2d.default: _average_pool,
    aten.avg_pool3d.default: _average_pool3d,
    aten.celu.default: _celu,
    aten.convolution.default: _convolution,
    aten.elu.default: _elu,
    aten.max_pool2d_with_indices.default: _max_pool,
    aten.max_pool3d_with_indices.default: _max_pool3d,
    aten.mish.default: _mish,
    aten.rrelu.default: _rrelu,
    aten.rrelu_with_noise_functional.default: _rrelu_with_noise,
    aten.selu.default: _selu,
    aten.sign.default: _sign,
    aten.softplus.default: _softplus,
}


def install() -> None:
    """Tells litert-torch of them, once."""
    from litert_torch.fx_infra import decomp

    for operator, lowering in LOWERINGS.items():
        decomp.add_pre_convert_decomp(operator, lowering)
