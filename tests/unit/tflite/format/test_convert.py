"""The float flatbuffer computes what the module computes, and what cannot become one is said so."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from edgecompress.errors import ModelError
from edgecompress.tflite.format.convert import convert
from edgecompress.tflite.format.flatbuffer import read_model
from edgecompress.tflite.format.views import graph_views
from tests.unit.converted_net import INPUT_SHAPE, Converted, every_kind, images, run_flatbuffer


def test_the_flatbuffer_equals_the_module(converted: Converted) -> None:
    x = images(16, seed=11)
    with torch.no_grad():
        expected = converted.module(x).numpy()
    assert np.ptp(expected) > 0.1
    np.testing.assert_allclose(run_flatbuffer(converted.floating.read_bytes(), x), expected, atol=1e-4)


def test_pictures_go_in_channels_last_one_at_a_time(converted: Converted) -> None:
    view = graph_views(read_model(converted.floating))[0]
    channels, height, width = INPUT_SHAPE
    assert view.tensors[view.inputs[0]].shape == (1, height, width, channels)
    assert view.tensors[view.inputs[0]].dtype == "float32"
    assert [op.op for op in view.ops][:3] == ["CONV_2D", "DEPTHWISE_CONV_2D", "HARD_SWISH"]  # no transpose before them


class Vectors(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 4)
        self.drop = nn.Dropout(0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.drop(torch.tanh(self.layer(x)))


def test_vectors_and_models_in_training_mode_convert_and_come_back_unchanged(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = Vectors().train()
    module.layer.weight.requires_grad_(False)
    before = copy.deepcopy(module.state_dict())
    convert(module, (6,), tmp_path / "v.tflite")
    assert module.training
    assert module.drop.training
    assert [p.requires_grad for p in module.parameters()] == [False, True]
    assert all(torch.equal(before[key], value) for key, value in module.state_dict().items())
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(tmp_path / "v.tflite"))
    interpreter.allocate_tensors()
    x = torch.randn(1, 6)
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], x.numpy())
    interpreter.invoke()
    y = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
    with torch.no_grad():
        np.testing.assert_allclose(y, module.eval()(x).numpy(), atol=1e-5)


def test_channels_last_weights_convert_the_same(converted: Converted, tmp_path: Path) -> None:
    module = every_kind().to(memory_format=torch.channels_last)
    convert(module, INPUT_SHAPE, tmp_path / "x.tflite")
    x = images(2)
    np.testing.assert_allclose(
        run_flatbuffer((tmp_path / "x.tflite").read_bytes(), x),
        run_flatbuffer(converted.floating.read_bytes(), x),
        atol=1e-6,
    )
    assert module.stem[0].weight.is_contiguous(memory_format=torch.channels_last)


class Branching(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.flatten(1) if x.sum() > 0 else -x.flatten(1)


class Waves(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.fft.fft2(x).abs().flatten(1)


class Wave(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.fft.rfft(x).abs().flatten(1)


class Double(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.double().mean((2, 3)).float()


class Broken(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        raise ValueError("this layer is not finished\nand has a second line")


class Deep(nn.Module):
    """An operator over more axes than TFLite's takes."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.pad(x[:, None, None], (1, 1, 1, 1)).flatten(1)


@pytest.mark.parametrize(
    ("module", "cause"),
    [
        (Deep(), r"the converter refuses tfl.pad at .*test_convert.py:\d+. Build that part from other operations"),
        (Branching(), r"decides by the values of its input what to compute \(.*test_convert.py:\d+: `return x.flatten"),
        (Waves(), r"complex numbers have no counterpart .*test_convert.py:\d+: `return torch.fft.fft2"),
        (Double(), r"float64 has no counterpart .*test_convert.py:\d+: `return x.double"),
        (Broken(), r"ValueError: this layer is not finished \(.*test_convert.py:\d+: `raise ValueError"),
    ],
)
def test_what_cannot_be_converted_is_an_error_with_the_cause(module: nn.Module, cause: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=rf"could not be converted to a flatbuffer: .*{cause}") as caught:
        convert(module, (1, 8, 8), tmp_path / "x.tflite")
    assert "\n" not in str(caught.value)
    assert caught.value.__cause__ is not None or "complex" in cause  # which is seen in the file, too
    assert not list(tmp_path.iterdir())


def test_complex_numbers_that_the_converter_takes_are_refused(tmp_path: Path) -> None:
    cause = r"complex numbers have no counterpart .*test_convert.py:\d+: `return torch.fft.rfft"
    with pytest.raises(ModelError, match=cause):
        convert(Wave(), (1, 8, 8), tmp_path / "x.tflite")
    assert not list(tmp_path.iterdir())


def test_an_interruption_is_not_swallowed(tmp_path: Path) -> None:
    class Interrupted(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        convert(Interrupted(), (1, 8, 8), tmp_path / "x.tflite")
