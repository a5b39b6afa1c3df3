"""A model runs in the layout it was written for, and by kernels that do not crash."""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

import pytest
import torch
from torch import nn

from edgecompress.training.layout import (
    MARK,
    Layout,
    arranged,
    choose,
    lay_out,
    may_crash,
    narrow_strides,
    require_safe,
    safe_kernels,
)
from edgecompress.training.probe import Tell, attempt

CPU = torch.device("cpu")


class Convolution(nn.Module):
    """A convolution, and a way of somebody's own from its maps to the classes."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 4, 3, padding=1), nn.Linear(4 * 64, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.flat(torch.relu(self.conv(x))))

    def flat(self, y: torch.Tensor) -> torch.Tensor:
        return y.flatten(1)


class Views(Convolution):
    def flat(self, y: torch.Tensor) -> torch.Tensor:
        return y.view(y.size(0), -1)


class ViewsItsInput(Convolution):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x.view(len(x), -1).view_as(x))


class ViewsAfterPermuting(Convolution):
    def flat(self, y: torch.Tensor) -> torch.Tensor:
        return y.permute(0, 2, 3, 1).reshape(len(y), 8, -1).view(len(y), -1)


class AssumesStrides(Convolution):
    """Fails nowhere: it is the numbers that are others."""

    def flat(self, y: torch.Tensor) -> torch.Tensor:
        return torch.as_strided(y, (len(y), 256), (256, 1))


class ViewsInTraining(Convolution):
    def flat(self, y: torch.Tensor) -> torch.Tensor:
        return y.view(len(y), -1) if self.training else y.flatten(1)


class ViewsWhenScored(Convolution):
    def flat(self, y: torch.Tensor) -> torch.Tensor:
        return y.flatten(1) if self.training else y.view(len(y), -1)


class Flatten(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(x)
        return x.flatten(1)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
        (x,) = ctx.saved_tensors
        return (gradient.flatten() + 0 * x.view(-1)).view_as(x)


class ViewsBackwards(Convolution):
    def flat(self, y: torch.Tensor) -> torch.Tensor:
        return Flatten.apply(y)


class Crashes(Convolution):
    def flat(self, y: torch.Tensor) -> torch.Tensor:
        if not y.is_contiguous():
            os.kill(os.getpid(), signal.SIGSEGV)
        return y.flatten(1)


class CrashesWithOneDNN(Convolution):
    def flat(self, y: torch.Tensor) -> torch.Tensor:
        if torch.backends.mkldnn.flags:  # always
            os.kill(os.getpid(), signal.SIGABRT)
        return y.flatten(1)


class Drops(Convolution):
    def __init__(self) -> None:
        super().__init__()
        self.drop = nn.Dropout(0.5)

    def flat(self, y: torch.Tensor) -> torch.Tensor:
        return self.drop(y).flatten(1)


def chosen(model: nn.Module, *, built_in: bool = False) -> Layout:
    torch.manual_seed(0)
    x = torch.randn(8, 3, 8, 8).contiguous(memory_format=torch.channels_last)
    return choose(model, x, CPU, input_shape=(3, 8, 8), built_in=built_in)


@pytest.mark.parametrize("kind", [Convolution, Drops, ViewsAfterPermuting])
def test_what_gives_the_same_channels_last_is_run_so(kind: type[nn.Module]) -> None:
    assert chosen(kind()) is Layout.CHANNELS_LAST


@pytest.mark.parametrize(
    "kind", [Views, ViewsItsInput, AssumesStrides, ViewsInTraining, ViewsWhenScored, ViewsBackwards, Crashes]
)
def test_what_does_not_stays_as_it_was_written(kind: type[nn.Module]) -> None:
    model = kind()
    assert chosen(model) is Layout.CONTIGUOUS
    assert model.training
    assert all(parameter.grad is None for parameter in model.parameters())


def test_what_crashes_in_any_layout_is_run_without_onednn() -> None:
    model = CrashesWithOneDNN()
    assert chosen(model) is Layout.PLAIN
    setattr(model, MARK, Layout.PLAIN)
    before = torch.backends.mkldnn.enabled
    with safe_kernels(model, CPU):
        assert not torch.backends.mkldnn.enabled
    assert torch.backends.mkldnn.enabled is before


def test_a_model_without_filters_is_not_tried() -> None:
    assert chosen(nn.Sequential(nn.Flatten(), CrashesWithOneDNN().head)) is Layout.CONTIGUOUS


def test_batches_follow_the_model() -> None:
    x = torch.randn(8, 3, 8, 8).contiguous(memory_format=torch.channels_last)
    for kind, last in ((Views, False), (Convolution, True)):
        model = lay_out(kind(), x, CPU, input_shape=(3, 8, 8), built_in=False)
        assert arranged(model, x).is_contiguous(memory_format=torch.channels_last) is last
        assert model.conv.weight.is_contiguous() is not last
        model(arranged(model, x)).sum().backward()
    assert arranged(Views(), x).is_contiguous()  # one that nobody has laid out


def test_pictures_of_one_channel_lie_as_usual_too() -> None:
    """Both layouts have their numbers in the same order: it is by the strides that a convolution goes."""
    x = torch.randn(8, 8, 8, 1).permute(0, 3, 1, 2)
    assert x.is_contiguous()
    model = Views()
    model.conv = nn.Conv2d(1, 4, 3, padding=1)
    with pytest.raises(RuntimeError, match="view size"):
        model(x)
    assert choose(model, x, CPU, input_shape=(1, 8, 8), built_in=False) is Layout.CONTIGUOUS
    model(arranged(model, x)).sum().backward()


@pytest.mark.parametrize(
    ("layer", "narrow"),
    [
        (nn.Conv2d(4, 8, 1, 2), ((4, 8, 2, 2),)),
        (nn.Conv2d(15, 8, 1, (1, 2)), ((15, 8, 1, 2),)),
        (nn.Conv2d(16, 8, 1, 2), ()),
        (nn.Conv2d(32, 8, 1, 2, groups=4), ((8, 8, 2, 2),)),
        (nn.Conv2d(4, 8, 1), ()),
        (nn.Conv2d(4, 8, 3, 2, 1), ()),
        (nn.Linear(4, 4), ()),
    ],
)
def test_which_layers_are_known_to_crash(layer: nn.Module, narrow: tuple[tuple[int, ...], ...]) -> None:
    assert narrow_strides(nn.Sequential(layer, nn.ReLU())) == narrow


def narrow_net() -> nn.Module:
    return nn.Sequential(nn.Conv2d(4, 8, 1, 2), nn.Flatten(), nn.Linear(8 * 24 * 24, 3))


@pytest.mark.parametrize("built_in", [True, False])
def test_a_strided_layer_of_few_channels_trains(*, built_in: bool) -> None:
    x = torch.randn(16, 4, 48, 48).contiguous(memory_format=torch.channels_last)
    model = lay_out(narrow_net(), x, CPU, input_shape=(4, 48, 48), built_in=built_in)
    assert (getattr(model, MARK) is Layout.CHANNELS_LAST) is not may_crash(narrow_strides(model))
    with safe_kernels(model, CPU):
        for _ in range(3):
            model(arranged(model, x)).sum().backward()
    assert all(torch.isfinite(parameter.grad).all() for parameter in model.parameters())


def test_a_model_that_became_narrow_is_laid_out_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgecompress.training.layout.may_crash", bool)
    model = narrow_net().to(memory_format=torch.channels_last)
    setattr(model, MARK, Layout.CHANNELS_LAST)
    require_safe(model, torch.device("cuda"))
    assert getattr(model, MARK) is Layout.CHANNELS_LAST
    require_safe(model, CPU)
    assert getattr(model, MARK) is Layout.CONTIGUOUS
    assert model[0].weight.is_contiguous()
    twin = nn.Linear(2, 2)
    twin.narrow_strides = ((4, 8, 2, 2),)
    setattr(twin, MARK, Layout.CHANNELS_LAST)
    require_safe(twin, CPU)
    assert getattr(twin, MARK) is Layout.PLAIN


def test_a_trial_leaves_this_process_as_it_was(capfd: pytest.CaptureFixture[str]) -> None:
    found: list[str] = []

    def action(tell: Tell) -> None:
        sys.stdout.write("not to be seen")
        os.write(2, b"nor this")
        found.append("changed")
        torch.manual_seed(7)
        tell("a")
        raise ValueError

    torch.manual_seed(1)
    before = torch.get_rng_state()
    trial = attempt(action)
    assert (trial.told, trial.crashed, trial.possible) == ("a", False, True)
    assert not found
    assert torch.equal(torch.get_rng_state(), before)
    assert capfd.readouterr() == ("", "")


def test_how_a_trial_ended_is_told() -> None:
    def end(number: int) -> bool:
        return attempt(lambda _tell: os.kill(os.getpid(), number)).crashed

    assert end(signal.SIGSEGV)
    assert end(signal.SIGABRT)
    assert not end(signal.SIGKILL)  # the system ran out of memory, most often
    assert attempt(lambda _tell: signal.pause(), longest_s=0.05).told == ""


def test_without_fork_nothing_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "fork")
    assert not attempt(lambda tell: tell("d")).possible
    assert chosen(Convolution()) is Layout.CONTIGUOUS
