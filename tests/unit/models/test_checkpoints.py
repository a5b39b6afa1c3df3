"""What training programs save: averages beside raw weights, losses, and names with what wrappers put before them."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch.optim.swa_utils import AveragedModel

from edgecompress.context import Context, Event
from edgecompress.errors import ModelError
from edgecompress.models.weights import load_foreign_weights
from edgecompress.recipe.reading.load import load_recipe


class Net(nn.Module):
    """Two layers and a norm, whose buffers are no parameters."""

    def __init__(self, value: float = 0.0) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3))
        self.head = nn.Linear(3, 2)
        for parameter in self.parameters():
            nn.init.constant_(parameter, value)


class Lightning(nn.Module):
    def __init__(self, name: str, value: float) -> None:
        super().__init__()
        self.add_module(name, Net(value))
        self.criterion = nn.CrossEntropyLoss(weight=torch.ones(2))


def raw() -> dict[str, torch.Tensor]:
    return Net(1.0).state_dict()


def good() -> dict[str, torch.Tensor]:
    return Net(2.0).state_dict()


def before(prefix: str, state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {prefix + name: tensor for name, tensor in state.items()}


def averaged(steps: int) -> dict[str, torch.Tensor]:
    model = AveragedModel(Net(2.0))
    model.n_averaged.fill_(steps)
    return model.state_dict()


@pytest.fixture
def load(tmp_path: Path) -> Callable[..., tuple[Net, list[Event]]]:
    def from_file(content: Any, weights_key: str | None = None, model: nn.Module | None = None, **options: Any):
        path = tmp_path / "w.pt"
        torch.save(content, path)
        model, events = model or Net(), []
        load_foreign_weights(model, path, weights_key=weights_key, ctx=Context(listeners=[events.append]), **options)
        return model, events

    return from_file


def value(model: nn.Module) -> float:
    values = {float(parameter.detach().flatten()[0]) for parameter in model.parameters()}
    assert len(values) == 1
    return values.pop()


AVERAGES = {
    "timm": lambda: {"state_dict": raw(), "state_dict_ema": good(), "epoch": 3, "args": argparse.Namespace(lr=0.1)},
    "torchvision": lambda: {"model": raw(), "model_ema": averaged(7), "optimizer": {"state": {0: raw()}}},
    "ultralytics": lambda: {"ema": good(), "model": raw(), "updates": 7},
    "nested": lambda: {"model": {"state_dict": raw()}, "ema": {"state_dict": good(), "decay": 0.99}},
    "beside": lambda: {"state_dict": {**before("model.", raw()), **before("ema_model.module.", good())}},
    "flat": lambda: {**raw(), **before("ema_model.", good()), "ema_model.n_averaged": torch.tensor(4)},
    "swa": lambda: {"model": raw(), "swa_model": averaged(1), "best": np.float64(0.5)},
}


@pytest.mark.parametrize("form", AVERAGES)
def test_averaged_weights_come_first_and_that_is_said(load, form: str) -> None:
    model, events = load(AVERAGES[form]())
    assert value(model) == 2.0
    (warned,) = [event.data["message"] for event in events if event.kind == "warning"]
    assert "the averaged weights `" in warned
    assert "were taken, not" in warned


@pytest.mark.parametrize(
    ("form", "key", "expected"),
    [("timm", "state_dict", 1.0), ("timm", "state_dict_ema", 2.0), ("torchvision", "model", 1.0),
     ("torchvision", "model_ema", 2.0), ("nested", "model", 1.0), ("nested", "ema.state_dict", 2.0),
     ("beside", "state_dict.model", 1.0), ("beside", "model", 1.0), ("beside", "ema_model", 2.0),
     ("beside", "module", 2.0), ("flat", ".", 1.0)],
)  # fmt: skip
def test_a_key_chooses_without_a_word(load, form: str, key: str, expected: float) -> None:
    model, events = load(AVERAGES[form](), key)
    assert value(model) == expected
    assert all(event.kind == "note" for event in events)


def test_a_key_that_is_not_there_is_answered_with_those_that_are(load) -> None:
    with pytest.raises(ModelError, match=r"no `emma` \(weights_key\) in it. It holds: `state_dict`, `state_dict_ema`"):
        load(AVERAGES["timm"](), "emma")


def test_averages_that_were_never_made_are_not_taken(load) -> None:
    model, events = load({"model": raw(), "swa_model": averaged(0)})
    assert value(model) == 1.0
    assert any("`model` were taken, not `swa_model.module`" in event.data["message"] for event in events)


def test_mmengine_keeps_the_averages_in_the_place_of_the_weights(load) -> None:
    model, events = load({"state_dict": good(), "ema_state_dict": raw(), "meta": {"mmengine_version": "0.10"}})
    assert value(model) == 2.0
    assert any("`weights_key: ema_state_dict` takes those" in event.data["message"] for event in events)


@pytest.mark.parametrize(
    "content",
    [{"model": raw(), "ema": {"shadow_params": list(good().values()), "decay": 0.9}},
     {"state_dict": {**before("model.", raw()), "model_ema.other": torch.ones(2, 3)}}],
)  # fmt: skip
def test_averages_that_cannot_be_read_are_told_of(load, content: Any) -> None:
    model, events = load(content)
    assert value(model) == 1.0
    (warned,) = [event.data["message"] for event in events if event.kind == "warning"]
    assert "it has averaged weights as well" in warned


def parameters(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: state[name] for name, _ in Net().named_parameters()}


def flat(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Returns names as LitEma writes them."""
    names = {f"model_ema.{name.replace('.', '')}": tensor for name, tensor in state.items()}
    return names | {"model_ema.decay": torch.tensor(0.99), "model_ema.num_updates": torch.tensor(7)}


@pytest.mark.parametrize(
    "content",
    [{"model": raw(), "ema": parameters(good())},
     {"state_dict": {**before("model.", raw()), **flat(parameters(good()))}}],
)  # fmt: skip
def test_averages_of_parameters_alone_take_the_buffers_of_the_raw_weights(load, content: Any) -> None:
    for state in content.values():
        for name in state:
            if name.endswith("running_mean"):
                state[name] = torch.full((3,), 7.0)
    model, events = load(content)
    assert value(model) == 2.0
    assert (model.body[1].running_mean == 7).all()
    assert any("buffers, which it has not, taken from `" in event.data["message"] for event in events)


def test_settings_beside_weights_are_read_as_data(load) -> None:
    model, _ = load({"state_dict": good(), "hyper_parameters": {"root": Path("/data"), "loss": np.float32(0.5)}})
    assert value(model) == 2.0


PREFIXES = {
    "Lightning": ("model.", {}),
    "DataParallel": ("module.", {}),
    "compiled": ("_orig_mod.", {}),
    "compiled within Lightning": ("model._orig_mod.", {}),
    "an attribute": ("backbone.net.", {}),
    "a loss beside": ("net.", {"criterion.weight": torch.ones(2), "loss_fn.scale": torch.ones(1)}),
}


@pytest.mark.parametrize(("prefix", "beside"), PREFIXES.values(), ids=PREFIXES)
@pytest.mark.parametrize("wrapped", [True, False])
def test_prefixes_are_taken_off_and_said(load, prefix: str, beside: dict[str, Any], wrapped: bool) -> None:
    state = {**before(prefix, good()), **beside}
    model, events = load({"state_dict": state} if wrapped else state)
    assert value(model) == 2.0
    (note,) = [event.data["message"] for event in events]
    assert f"`{prefix}` taken off the names" in note
    assert ("2 tensors that are no parts of the model left out (criterion.weight, loss_fn.scale)" in note) == bool(
        beside
    )


def test_a_lightning_module_s_own_names_and_a_loss(load) -> None:
    model, events = load({"state_dict": {**good(), "criterion.weight": torch.ones(2), "head.total_ops": torch.ones(1)}})
    assert value(model) == 2.0
    assert "2 tensors that are no parts of the model left out" in events[0].data["message"]


def test_parts_that_were_wrapped_alone(load) -> None:
    state = {name.replace("body.", "body.module."): tensor for name, tensor in good().items()}
    model, events = load(state)
    assert value(model) == 2.0
    assert "what DataParallel, torch.compile or FSDP put into the names taken out" in events[0].data["message"]


def test_the_model_may_be_the_wrapped_one(load) -> None:
    outer = Lightning("net", 0.0)
    del outer.criterion
    model, events = load(before("module.", good()), model=outer)
    assert value(model) == 2.0
    assert "`net.` put before them" in events[0].data["message"]


def test_safetensors_have_prefixes_too(tmp_path: Path) -> None:
    save_file(before("model.", good()), tmp_path / "w.safetensors")
    model = Net()
    load_foreign_weights(model, tmp_path / "w.safetensors")
    assert value(model) == 2.0


def test_two_models_of_one_kind_have_to_be_told_apart(load) -> None:
    both = {**before("student.", good()), **before("teacher.", raw())}
    with pytest.raises(ModelError, match=r"several sets .* \(`student`, `teacher`\). .*weights_key: student"):
        load(both)
    assert value(load(both, "teacher")[0]) == 1.0
    assert value(load({**before("student.", good()), **before("teacher.", good())})[0]) == 2.0


def test_a_deeper_model_is_no_shallow_one(load) -> None:
    deeper = {**good(), "body.2.weight": torch.ones(3, 3)}
    with pytest.raises(ModelError, match=r"1 unexpected: body.2.weight"):
        load(deeper)
    with pytest.raises(ModelError, match=r"\(`model.` taken off the names\). 1 unexpected: body.2.weight"):
        load(before("model.", deeper))
    with pytest.raises(ModelError, match=r"1 unexpected: neck.weight"):
        load({**good(), "neck.weight": torch.ones(3, 3)})


def test_a_plain_file_is_loaded_without_a_word(load) -> None:
    model, events = load(good())
    assert value(model) == 2.0
    assert events == []


def test_a_mapping_that_holds_itself_ends(load) -> None:
    content: dict[str, Any] = {"state_dict": good()}
    content["again"] = content
    assert value(load(content, "state_dict")[0]) == 2.0


def test_a_key_needs_a_file(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text("version: 1\nstudent: {model: resnet8, weights_key: ema}\n")
    with pytest.raises(Exception, match=r"student.weights_key: is not used"):
        load_recipe(path)
