"""Models of torchvision and timm: heads, channels, arguments, published normalisation."""

from __future__ import annotations

import importlib
import sys

import pytest
import torch
from torch import nn

from edgecompress.errors import ModelError, ResourceError
from edgecompress.models.building import published_normalization
from edgecompress.models.construction import find_head, first_convolution, kernels_for_channels
from edgecompress.recipe.schema import ModelSpec
from edgecompress.sources import torchvision_import
from edgecompress.sources.torchvision_import import import_torchvision
from tests.unit.models.conftest import Build

HEADS = {
    "resnet18": "fc",
    "squeezenet1_1": "classifier.1",
    "mobilenet_v3_small": "classifier.3",
    "densenet121": "classifier",
    "googlenet": "fc",
    "shufflenet_v2_x0_5": "fc",
    "mnasnet0_5": "classifier.1",
}


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize(("name", "head"), HEADS.items())
def test_a_torchvision_model_fits_classes_and_channels(build: Build, name: str, head: str, channels: int) -> None:
    model = build(f"torchvision/{name}", (channels, 40, 32), 7).eval()
    with torch.no_grad():
        assert model(torch.zeros(2, channels, 40, 32)).shape == (2, 7)
    assert find_head(model, 7) == head


def test_the_same_class_count_as_imagenet_is_no_special_case(build: Build) -> None:
    assert find_head(build("torchvision/squeezenet1_1", classes=1000), 1000) == "classifier.1"


def test_a_vision_transformer_is_built_for_the_picture(build: Build) -> None:
    model = build("torchvision/vit_b_16", (1, 32, 32), 3)
    assert model.image_size == 32
    with pytest.raises(ModelError, match=r"inputs of 3 x 28 x 28 .* indivisible by patch size"):
        build("torchvision/vit_b_16", (3, 28, 28))


def test_grey_kernels_answer_to_grey_as_rgb_kernels_to_grey_in_rgb() -> None:
    weight, grey = torch.randn(4, 3, 3, 3), torch.randn(1, 1, 8, 8)
    expected = nn.functional.conv2d(grey.expand(-1, 3, -1, -1), weight)
    got = nn.functional.conv2d(grey, kernels_for_channels(weight, 1))
    torch.testing.assert_close(got, expected)
    four = nn.functional.conv2d(grey.expand(-1, 6, -1, -1), kernels_for_channels(weight, 6))
    torch.testing.assert_close(four, expected)


@pytest.mark.parametrize(
    ("model", "args", "message"),
    [
        ("torchvision/resnet19", {}, "no classification model `resnet19`; did you mean torchvision/resnet18"),
        ("torchvision/MobileNet-V2", {}, "did you mean torchvision/mobilenet_v2"),
        ("torchvision/fasterrcnn_resnet50_fpn", {}, "no classification model"),
        ("torchvision/zzqq", {}, "Known: alexnet, .*wide_resnet101_2"),
        ("torchvision/resnet18", {"weights": "DEFAULT"}, "must not have `weights`: name a file"),
        ("torchvision/resnet18", {"num_classes": 10}, "must not have `num_classes`: it comes from the data"),
        ("torchvision/mobilenet_v2", {"width": 0.5}, "with width=0.5: TypeError: .*Its arguments: width_mult=1.0"),
        ("torchvision/mobilenet_v2", {"width_mult": "x"}, "width_mult='x'"),
        ("torchvision/alexnet", {}, "cannot work on inputs of 3 x 32 x 32 .*data.image_size"),
        ("timm/mobilnetv3_small_050", {}, "did you mean timm/mobilenetv3_small_050"),
        ("timm/hf-hub:someone/something", {}, "has no model"),
        ("timm/resnet10t", {"pretrained": True}, "must not have `pretrained`"),
        ("timm/resnet10t", {"foo": 1}, "with foo=1: TypeError.*drop_rate="),
    ],
)
def test_what_cannot_be_built_is_explained(build: Build, model: str, args: dict[str, object], message: str) -> None:
    if model.startswith("timm/"):
        import_torchvision()
        pytest.importorskip("timm")
    with pytest.raises(ModelError, match=message):
        build(model, args=args)


def test_torchvision_arguments_reach_the_builder(build: Build) -> None:
    narrow = build("torchvision/mobilenet_v2", args={"width_mult": 0.35, "dropout": 0.0})
    assert sum(parameter.numel() for parameter in narrow.parameters()) < 500_000


def test_timm_models_fit_classes_channels_and_size(build: Build) -> None:
    import_torchvision()
    pytest.importorskip("timm")
    model = build("timm/mobilenetv3_small_050.lamb_in1k", (1, 32, 32), 6)
    found = first_convolution(model)
    assert found is not None
    assert found[1].in_channels == 1
    assert find_head(model, 6) == "classifier"
    build("timm/vit_tiny_patch16_224", (3, 32, 32), 6)


def test_without_timm_the_message_says_how_to_get_it(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ModelError, match="pip install timm"):
        build("timm/resnet18")


def test_published_normalization_belongs_to_published_weights() -> None:
    imagenet = published_normalization(ModelSpec(model="torchvision/mobilenet_v2", weights="w.pth"))
    assert imagenet is not None
    assert imagenet.mean == pytest.approx((0.485, 0.456, 0.406))
    assert imagenet.std == pytest.approx((0.229, 0.224, 0.225))
    assert imagenet.value_scale == pytest.approx(1 / 255)
    assert "mobilenet_v2" in imagenet.origin
    halves = published_normalization(ModelSpec(model="torchvision/googlenet", weights="w.pth"))
    assert halves is not None
    assert halves.mean == halves.std == (0.5, 0.5, 0.5)
    assert published_normalization(ModelSpec(model="torchvision/mobilenet_v2")) is None
    assert published_normalization(ModelSpec(model="resnet8", weights="w.pth")) is None
    with pytest.raises(ModelError, match="did you mean"):
        published_normalization(ModelSpec(model="torchvision/mobilenet_v9", weights="w.pth"))


def test_published_normalization_of_timm() -> None:
    import_torchvision()
    pytest.importorskip("timm")
    found = published_normalization(ModelSpec(model="timm/vit_tiny_patch16_224", weights="w.safetensors"))
    assert found is not None
    assert found.mean == (0.5, 0.5, 0.5)


def test_torchvision_is_imported_once_and_whole() -> None:
    torchvision = import_torchvision()
    assert import_torchvision() is torchvision
    assert torchvision.models.resnet18
    assert torchvision.transforms.Resize


def test_a_torchvision_that_never_imports_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = {name: module for name, module in sys.modules.items() if name.partition(".")[0] == "torchvision"}

    def fail(name: str) -> None:
        raise RuntimeError("operator torchvision::strange does not exist")

    try:
        monkeypatch.setattr(torchvision_import.importlib, "import_module", fail)
        with pytest.raises(ResourceError, match=r"cannot be imported beside torch.*torchvision::strange"):
            import_torchvision()
    finally:
        monkeypatch.undo()
        sys.modules.update(kept)
    assert importlib.import_module("torchvision") is kept.get("torchvision", sys.modules.get("torchvision"))


def test_a_missing_torchvision_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(name: str) -> None:
        raise ModuleNotFoundError("No module named 'torchvision'", name="torchvision")

    monkeypatch.setattr(torchvision_import.importlib, "import_module", fail)
    with pytest.raises(ResourceError, match="pip install torchvision"):
        import_torchvision()
