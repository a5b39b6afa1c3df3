"""Which device, how many threads, and whether bfloat16 is used."""

from __future__ import annotations

import io

import pytest
import torch

from edgecompress.errors import ResourceError
from edgecompress.training import precision
from edgecompress.training.precision import autocast, has_bfloat16, pick_device, pick_threads

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


def test_threads_are_those_asked_for_or_all_that_may_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "usable_threads", lambda: 5)
    assert (pick_threads(3), pick_threads(None)) == (3, 5)


@pytest.mark.parametrize(
    ("name", "available", "kind"),
    [("auto", True, "cuda"), ("auto", False, "cpu"), ("cpu", True, "cpu"), ("cuda", True, "cuda")],
)
def test_the_device(name: str, available: bool, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: available)
    assert pick_device(name).type == kind


def test_a_gpu_that_is_not_there_is_not_replaced_in_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ResourceError, match="no CUDA device"):
        pick_device("cuda")


def cpuinfo(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr("builtins.open", lambda *_args, **_kwargs: io.StringIO(text))


@pytest.mark.parametrize(
    ("flags", "answer"),
    [
        ("flags\t\t: fpu avx2 avx512_bf16 amx_tile\n", True),
        ("flags\t\t: fpu avx2 amx_bf16\n", True),
        ("flags\t\t: fpu avx2 avx512f avx512_bf16x\n", False),
        ("model name\t: has avx512_bf16 in its name\nflags\t\t: fpu avx2\n", False),
        ("", False),
    ],
)
def test_bfloat16_on_a_cpu_is_told_by_its_flags(flags: str, answer: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
    cpuinfo(monkeypatch, flags)
    assert has_bfloat16(CPU) is answer


def test_a_system_without_that_file_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_args: object, **_kwargs: object) -> None:
        raise FileNotFoundError

    monkeypatch.setattr("builtins.open", fail)
    assert has_bfloat16(CPU) is False

    def unknown() -> str:
        raise AttributeError("get_cpu_capability")

    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", unknown)
    assert has_bfloat16(CPU) is False


def test_an_emulated_bfloat16_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """An older GPU can emulate it, which is slower than float32."""
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation)
    assert has_bfloat16(CUDA) is False
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: True)
    assert has_bfloat16(CUDA) is True


@pytest.mark.parametrize(
    ("shape", "supported", "dtype"),
    [
        ((3, 32, 32), True, torch.bfloat16),
        ((1, 16, 16), True, torch.bfloat16),
        ((1, 15, 17), True, torch.float32),
        ((4,), True, torch.float32),
        ((3, 32, 32), False, torch.float32),
    ],
)
def test_small_inputs_and_plain_cpus_stay_in_float32(
    shape: tuple[int, ...], supported: bool, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "has_bfloat16", lambda _device: supported)
    x = torch.ones(2, 2)
    with autocast(CPU, shape):
        assert (x @ x).dtype == dtype
    assert (x @ x).dtype == torch.float32
