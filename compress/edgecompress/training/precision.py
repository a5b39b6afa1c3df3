"""Which device and which arithmetic training uses."""

from __future__ import annotations

import contextlib

import torch

from edgecompress.errors import ResourceError
from edgecompress.machine import usable_threads

#: Below this many input values a step is all overhead, and bfloat16 casts only add to it.
SMALLEST_INPUT_FOR_BFLOAT16 = 256


def pick_device(name: str) -> torch.device:
    """Returns the device a recipe asks for; `auto` takes a GPU where there is one.

    Raises:
        ResourceError: `cuda` was asked for and is not there.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise ResourceError("device: cuda was asked for, but torch finds no CUDA device here. Use device: auto or cpu.")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def pick_threads(threads: int | None) -> int:
    """Returns the number of training threads, by default as many as may compute at once."""
    return threads or usable_threads()


def has_bfloat16(device: torch.device) -> bool:
    """Returns whether the device multiplies bfloat16 in hardware."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    try:
        return (
            "avx512_bf16" in torch.backends.cpu.get_cpu_capability().lower()
            or _cpu_flag("avx512_bf16")
            or _cpu_flag("amx_bf16")
        )
    except (AttributeError, OSError):
        return False


def _cpu_flag(flag: str) -> bool:
    try:
        with open("/proc/cpuinfo", encoding="ascii", errors="replace") as stream:  # noqa: PTH123 - not a file on disk
            return any(flag in line.split() for line in stream if line.startswith(("flags", "Features")))
    except OSError:
        return False


def autocast(device: torch.device, input_shape: tuple[int, ...]) -> contextlib.AbstractContextManager[object]:
    """Returns bfloat16 autocast where it pays (2.5x on CPUs that have it), else nothing."""
    elements = 1
    for side in input_shape:
        elements *= side
    if elements >= SMALLEST_INPUT_FOR_BFLOAT16 and has_bfloat16(device):
        return torch.autocast(device.type, torch.bfloat16)
    return contextlib.nullcontext()
