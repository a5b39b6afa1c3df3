"""Weights: ours come back exactly; users' files are read without running them, and misfits are listed."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from edgecompress.errors import ModelError
from edgecompress.models.weights import load_foreign_weights, load_weights, save_weights
from tests.unit.models.conftest import Build


class Tied(nn.Module):
    """Two names for one weight, and a buffer that is a view of another."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(6, 4)
        self.head = nn.Linear(4, 6, bias=False)
        self.head.weight = self.embedding.weight
        self.register_buffer("table", torch.arange(12.0).reshape(3, 4))
        self.register_buffer("turned", self.table.t())


def same(one: nn.Module, other: nn.Module) -> bool:
    a, b = one.state_dict(), other.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("name", ["resnet8", "mobilenet-v2", "torchvision/mnasnet0_5"])
def test_own_weights_come_back(build: Build, tmp_path: Path, name: str) -> None:
    first, second = build(name, seed=1), build(name, seed=2)
    save_weights(first, tmp_path / "w.safetensors")
    load_weights(second, tmp_path / "w.safetensors")
    assert same(first, second)


def test_tied_weights_stay_tied(tmp_path: Path) -> None:
    first, second = Tied(), Tied()
    save_weights(first, tmp_path / "w.safetensors")
    load_weights(second, tmp_path / "w.safetensors")
    assert same(first, second)
    assert second.head.weight is second.embedding.weight


def test_the_same_weights_give_the_same_bytes(build: Build, tmp_path: Path) -> None:
    for name in ("a", "b"):
        save_weights(build("resnet8"), tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_own_weights_of_another_model_are_refused(build: Build, tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    save_weights(build("resnet8"), path)
    expected = r"w.safetensors do not fit.*wrong: conv.weight \(is \(16, 3, 3, 3\), expected \(8, 3, 3, 3\)"
    with pytest.raises(ModelError, match=expected):
        load_weights(build("resnet8", args={"width": 8}), path)


FORMS = ["safetensors", "plain", "state_dict", "nested", "parallel", "compiled", "half", "bfloat16"]


@pytest.mark.parametrize("form", FORMS)
def test_a_users_file_is_loaded_whatever_wraps_it(build: Build, tmp_path: Path, form: str) -> None:
    trained = build("resnet8", seed=3)
    state = dict(trained.state_dict())
    casts = {"half": torch.float16, "bfloat16": torch.bfloat16}
    if form in casts:
        state = {k: v.to(casts[form]) if v.is_floating_point() else v for k, v in state.items()}
    prefix = {"parallel": "module.", "compiled": "_orig_mod.module."}.get(form, "")
    content: object = {prefix + name: tensor for name, tensor in state.items()}
    if form == "safetensors":
        save_file(state, tmp_path / "weights")  # told by its content, not by its name
    else:
        content = {"state_dict": content, "epoch": 3} if form == "state_dict" else content
        content = {"model_state_dict": content, "optimizer": {"lr": 0.1}} if form == "nested" else content
        torch.save(content, tmp_path / "weights")
    loaded = build("resnet8", weights="weights")
    for name, tensor in loaded.state_dict().items():
        assert tensor.dtype == trained.state_dict()[name].dtype
        torch.testing.assert_close(tensor, trained.state_dict()[name], atol=1e-2, rtol=1e-2)


class Malicious:
    """Runs a command when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("old_format", [False, True])
def test_a_pickle_that_would_run_code_is_refused_and_not_run(build: Build, tmp_path: Path, old_format: bool) -> None:
    victim = tmp_path / "made-by-the-pickle"
    content = {"conv.weight": Malicious(victim)}
    if old_format:
        (tmp_path / "bad.pt").write_bytes(pickle.dumps(content))
    else:
        torch.save(content, tmp_path / "bad.pt")
    with pytest.raises(ModelError, match=r"bad.pt: refused.*could run code.*safetensors"):
        build("resnet8", weights="bad.pt")
    assert not victim.exists()


def test_a_whole_pickled_model_is_refused_with_the_way_out(build: Build, tmp_path: Path) -> None:
    torch.save(build("resnet8"), tmp_path / "model.pt")
    with pytest.raises(ModelError, match=r"SmallResNet.*torch.save\(model.state_dict\(\), 'weights.pt'\)"):
        build("resnet8", weights="model.pt")


@pytest.mark.parametrize("name", ["w.safetensors", "w.pth"])
def test_damaged_and_missing_files_are_told_apart(build: Build, tmp_path: Path, name: str) -> None:
    with pytest.raises(ModelError, match=f"{name}: there is no such file"):
        build("resnet8", weights=name)
    state = build("resnet8").state_dict()
    if name.endswith(".safetensors"):
        save_file(state, tmp_path / name)
    else:
        torch.save(state, tmp_path / name)
    (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:5000])
    with pytest.raises(ModelError, match=f"{name}: damaged"):
        build("resnet8", weights=name)
    (tmp_path / name).write_bytes(b"")
    with pytest.raises(ModelError, match=f"{name}: damaged"):
        build("resnet8", weights=name)
    with pytest.raises(ModelError, match="Is a directory"):
        build("resnet8", weights=".")


@pytest.mark.parametrize("content", [{"epoch": 3}, [1, 2], {}])
def test_a_file_without_tensors_says_what_it_holds(build: Build, tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "w.pt")
    with pytest.raises(ModelError, match=r"no state dict in it .it holds: (epoch|list|nothing)"):
        build("resnet8", weights="w.pt")


def test_misfits_are_listed_and_counted_and_nothing_changes(build: Build, tmp_path: Path) -> None:
    model = build("resnet8")
    state = model.state_dict()
    state["fc.weight"] = torch.zeros(10, 32)
    state["conv.weight"] = torch.zeros(16, 3, 3, 3, dtype=torch.int8)
    state = {("old." + k if "stack3" in k else k): v + 1 for k, v in state.items()}
    save_file(state, tmp_path / "w.safetensors")
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(ModelError) as caught:
        load_foreign_weights(model, tmp_path / "w.safetensors")
    text = str(caught.value)
    assert "15 missing: stack3.conv1.weight" in text
    assert "and 7 more" in text
    assert "unexpected: old.stack3" in text
    assert "fc.weight (is (10, 32), expected (10, 64))" in text
    assert "conv.weight (is torch.int8, expected torch.float32)" in text
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_weights_that_are_not_finite_are_refused(build: Build, tmp_path: Path) -> None:
    state = build("resnet8").state_dict()
    state["fc.bias"][3] = float("nan")
    save_file(state, tmp_path / "w.safetensors")
    with pytest.raises(ModelError, match=r"fc.bias has values that are not finite"):
        build("resnet8", weights="w.safetensors")


def test_another_number_of_classes_needs_fine_tuning(build: Build, tmp_path: Path) -> None:
    trained = build("torchvision/squeezenet1_1", classes=12, seed=4)
    torch.save(trained.state_dict(), tmp_path / "w.pth")
    block = {"weights": "w.pth"}
    with pytest.raises(ModelError, match=r"are for 12 classes, but the data has 5.*`train`"):
        build("torchvision/squeezenet1_1", classes=5, **block)
    for how in ({"train": {"epochs": 1}}, {"fine_tune": True}):
        tuned = build("torchvision/squeezenet1_1", classes=5, **block, **how)
        assert torch.equal(tuned.features[0].weight, trained.features[0].weight)
        assert tuned.classifier[1].out_channels == 5
    same_classes = build("torchvision/squeezenet1_1", classes=12, **block)
    assert same(same_classes, trained)


@pytest.mark.parametrize("name", ["torchvision/googlenet", "torchvision/densenet121", "torchvision/mobilenet_v2"])
def test_torchvisions_own_files_load_for_grey_pictures_too(build: Build, tmp_path: Path, name: str) -> None:
    trained = build(name, classes=20, seed=5)
    state = dict(trained.state_dict())
    if "googlenet" in name:
        state |= {"aux1.fc2.weight": torch.zeros(20, 1024), "aux2.fc2.weight": torch.zeros(20, 1024)}
    if "densenet" in name:  # the names in the published files
        state = {k.replace(".norm1.", ".norm.1.").replace(".conv2.", ".conv.2."): v for k, v in state.items()}
    torch.save(state, tmp_path / "w.pth")
    grey = build(name, (1, 32, 32), 20, weights=str(tmp_path / "w.pth")).eval()
    picture = torch.randn(1, 1, 32, 32)
    with torch.no_grad():
        expected = trained.eval()(picture.expand(-1, 3, -1, -1))
        torch.testing.assert_close(grey(picture), expected, atol=1e-4, rtol=1e-4)
