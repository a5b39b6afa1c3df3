"""The built-in models: any picture, any width, the published sizes, all INT8 after conversion."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from edgecompress.errors import ModelError
from edgecompress.models.building import BUILT_IN, SEQUENCES
from edgecompress.models.built_in import mobilenet_v1, mobilenet_v2
from edgecompress.models.built_in.blocks import halvings, rounded, strides
from edgecompress.models.count import count
from edgecompress.quantization.structure.structure import quantized_structure
from edgecompress.recipe.names import MODELS
from edgecompress.tflite.facts.census import census
from edgecompress.tflite.format.convert import convert
from edgecompress.tflite.format.flatbuffer import read_model
from tests.unit.models.conftest import Build

PICTURES = [name for name in MODELS if name not in SEQUENCES]
SHAPES = [(1, 1, 1), (1, 8, 8), (2, 5, 9), (1, 28, 28), (3, 33, 32), (1, 49, 10), (3, 96, 96), (3, 224, 200)]


def test_the_table_holds_the_names_a_recipe_may_use() -> None:
    assert tuple(BUILT_IN) == MODELS


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", PICTURES)
def test_every_model_takes_every_picture(build: Build, name: str, shape: tuple[int, int, int]) -> None:
    model = build(name, shape, 3).eval()
    with torch.no_grad():
        assert model(torch.randn(2, *shape)).shape == (2, 3)


@pytest.mark.parametrize("name", PICTURES)
def test_width_scales_a_model(build: Build, name: str) -> None:
    narrow, wide = (0.1, 1.4) if name.startswith("mobilenet") else (1, 40)
    small = count(build(name, args={"width": narrow}), (3, 32, 32))
    large = count(build(name, args={"width": wide}), (3, 32, 32))
    assert large.params > 4 * small.params
    assert large.macs > 4 * small.macs


@pytest.mark.parametrize("name", ["resnet8", "resnet20"])
def test_a_network_of_fewer_stages_is_smaller(build: Build, name: str) -> None:
    sizes = [count(build(name, args={"stages": stages}), (3, 32, 32)).params for stages in (1, 2, 3)]
    assert sizes[2] == count(build(name), (3, 32, 32)).params
    assert sizes[2] > 3 * sizes[1] > 9 * sizes[0]
    with pytest.raises(ModelError, match=r"too large|cannot be built"):
        build(name, args={"stages": 60})


@pytest.mark.parametrize(
    ("name", "args", "classes", "params"),
    [
        ("resnet8", {}, 10, 78_042),
        ("resnet20", {}, 10, 272_474),  # He et al. 2016: 0.27 M
        ("mobilenet-v1", {"width": 1.0}, 1000, 4_231_976),  # the paper: 4.2 M
        ("mobilenet-v2", {"width": 1.0}, 1000, 3_504_872),  # torchvision's
    ],
)
def test_parameters_are_those_of_the_published_networks(
    build: Build, name: str, args: dict[str, float], classes: int, params: int
) -> None:
    assert count(build(name, classes=classes, args=args), (3, 32, 32)).params == params


@pytest.mark.parametrize(("name", "millions"), [("mobilenet-v1", 569), ("mobilenet-v2", 301)])
def test_macs_are_those_of_the_papers(build: Build, name: str, millions: int) -> None:
    model = build(name, (3, 224, 224), 1000, args={"width": 1.0})
    assert count(model, (3, 224, 224)).macs == pytest.approx(millions * 1e6, rel=0.002)


def test_default_widths_are_those_of_mlperf_tiny(build: Build) -> None:
    wake_words = build("mobilenet-v1", (3, 96, 96), 2)
    channels = [layer.out_channels for layer in wake_words.modules() if isinstance(layer, nn.Conv2d)]
    assert (channels[0], channels[-1]) == (8, 256)
    assert count(wake_words, (3, 96, 96)).macs == pytest.approx(7.49e6, rel=0.001)
    keywords = build("ds-cnn", (1, 49, 10), 12)
    assert count(keywords, (1, 49, 10)).params == 23_180
    stem = next(layer for layer in keywords.modules() if isinstance(layer, nn.Conv2d))
    assert (stem.kernel_size, stem.stride, stem.out_channels) == ((10, 4), (2, 2), 64)


@pytest.mark.parametrize(
    ("side", "times"), [(1, 0), (3, 0), (5, 0), (6, 1), (8, 1), (28, 3), (32, 3), (64, 4), (95, 4), (96, 5), (224, 5)]
)
def test_pictures_are_halved_while_three_pixels_are_left(side: int, times: int) -> None:
    assert halvings((3, side, 2 * side), 5) == times


def test_the_earliest_strides_are_left_out_first() -> None:
    assert strides((2, 1, 2, 2, 1, 2, 2), (3, 32, 32)) == [1, 1, 1, 2, 1, 2, 2]


def test_channels_are_rounded_as_in_the_paper() -> None:
    assert [rounded(channels) for channels in (1, 11.2, 12, 24 * 0.35, 32 * 0.35, 1280)] == [8, 16, 16, 8, 16, 1280]


def test_built_in_models_have_no_dropout(build: Build) -> None:
    for name in PICTURES:
        assert not [layer for layer in build(name).modules() if isinstance(layer, nn.Dropout)]


def test_a_seed_gives_the_weights_and_leaves_the_callers_generator_alone(build: Build) -> None:
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    first, again, other = build("resnet8", seed=1), build("resnet8", seed=1), build("resnet8", seed=2)
    assert torch.equal(torch.rand(1), expected)
    assert torch.equal(first.conv.weight, again.conv.weight)
    assert not torch.equal(first.conv.weight, other.conv.weight)
    assert first.training


@pytest.mark.parametrize(
    ("name", "args", "message"),
    [
        ("resnet8", {"wdth": 8}, "takes no argument `wdth`; did you mean `width`\\? Its arguments: width=16"),
        ("resnet8", {"num_classes": 8}, "takes no argument `num_classes`"),
        ("resnet9", {"width": 0}, "`width` must be a whole number above 0 and at most 1024, not 0"),
        ("resnet20", {"width": 1.5}, "whole number"),
        ("ds-cnn", {"width": "64"}, "not '64'. Its arguments: width=64"),
        ("ds-cnn", {"width": True}, "not True"),
        ("ds-cnn", {"width": 10**9}, "at most 1024"),
        ("mobilenet-v1", {"width": -0.5}, "a number above 0"),
        ("mobilenet-v2", {"width": float("nan")}, "not nan"),
    ],
)
def test_wrong_arguments_are_named(build: Build, name: str, args: dict[str, object], message: str) -> None:
    with pytest.raises(ModelError, match=f"model {name}.*{message}"):
        build(name, args=args)


def test_samples_that_are_no_pictures_are_refused(build: Build) -> None:
    with pytest.raises(ModelError, match="takes pictures"):
        build("resnet8", (6, 50))


@pytest.mark.parametrize(
    ("name", "args", "shape"),
    [
        ("ds-cnn", {"width": 8}, (1, 49, 10)),
        ("mobilenet-v1", {"width": 0.1}, (3, 12, 12)),
        ("mobilenet-v2", {"width": 0.1}, (1, 14, 12)),
    ],
)
def test_a_family_converts_to_int8_throughout(
    build: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, args: dict[str, float], shape: Any
) -> None:
    # A layer of each kind: that there are more of them takes its time, and tells nothing more.
    monkeypatch.setattr(mobilenet_v1, "LAYERS", mobilenet_v1.LAYERS[:3])
    monkeypatch.setattr(mobilenet_v2, "STAGES", mobilenet_v2.STAGES[:3])
    path = tmp_path / "float.tflite"
    convert(build(name, shape, 4, args=args), shape, path)
    found = census(read_model(quantized_structure(path.read_bytes())))
    assert found.not_int8 == ()
    assert "TRANSPOSE" not in found.ops
    assert "BATCH_MATMUL" not in found.ops
    assert found.ops["AVERAGE_POOL_2D"].count == 1
