"""A pruned model comes back from JSON and safetensors alone."""

from __future__ import annotations

import copy
import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from edgecompress.errors import ModelError
from edgecompress.pruning.architecture import apply_architecture, architecture_of
from edgecompress.pruning.structured.pruner import StructuredPruner
from tests.unit.pruning.pruning_nets import NETS, example, make


def pruned_from(base: nn.Module, inputs: torch.Tensor) -> nn.Module:
    model = copy.deepcopy(base)
    pruner = StructuredPruner(model, inputs, of="params", ratio=0.4, steps=2, round_to=4)
    pruner.prune_step(1)
    pruner.prune_step(2)
    return model


def round_trip(base: nn.Module, pruned: nn.Module, fresh: nn.Module, folder) -> dict:
    """Rebuilds `pruned` from files only, in `fresh`; returns the plan."""
    (folder / "plan.json").write_text(json.dumps(architecture_of(base, pruned)))
    save_file(
        {name: tensor.contiguous().clone() for name, tensor in pruned.state_dict().items()},
        folder / "model.safetensors",
    )
    plan = json.loads((folder / "plan.json").read_text())
    apply_architecture(fresh, plan)
    fresh.load_state_dict(load_file(folder / "model.safetensors"), strict=True)
    return plan


@pytest.mark.parametrize("name", NETS)
def test_a_rebuilt_model_gives_equal_outputs(name, tmp_path):
    base = make(name)
    pruned = pruned_from(base, example())
    fresh = make(name, seed=5)
    round_trip(base, pruned, fresh, tmp_path)
    with torch.no_grad():
        assert torch.equal(fresh.eval()(example()), pruned.eval()(example()))
    fresh.train()
    fresh(example()).sum().backward()
    assert (
        sum(p.numel() for p in fresh.parameters())
        == sum(p.numel() for p in pruned.parameters())
        < sum(p.numel() for p in base.parameters())
    )


def test_a_rebuilt_torchvision_model_gives_equal_outputs(tmp_path):
    from edgecompress.sources.torchvision_import import import_torchvision

    torchvision = import_torchvision()

    build = torchvision.models.mobilenet_v3_small
    torch.manual_seed(0)
    base, fresh = build(weights=None, num_classes=10), build(weights=None, num_classes=10)
    inputs = torch.randn(2, 3, 32, 32)
    pruned = pruned_from(base, inputs)
    plan = round_trip(base, pruned, fresh, tmp_path)
    with torch.no_grad():
        assert torch.equal(fresh.eval()(inputs), pruned.eval()(inputs))
    cut = [entry["attributes"] for entry in plan["modules"].values() if "groups" in entry["attributes"]]
    assert cut
    for depthwise in cut:
        assert depthwise["groups"] == depthwise["in_channels"] == depthwise["out_channels"]


def test_the_plan_is_json_and_holds_what_changed():
    base = make("attention")
    plan = architecture_of(base, pruned_from(base, example()))
    assert json.loads(json.dumps(plan)) == plan
    assert plan["version"] == 2
    norm = plan["modules"]["norm1"]
    assert norm["attributes"]["normalized_shape"] == norm["parameters"]["weight"]
    assert plan["modules"][""]["parameters"]["position"][-1] < 32
    assert plan["modules"]["head"]["attributes"] == {"in_features": norm["parameters"]["weight"][0]}


def test_an_unpruned_model_has_a_plan_that_changes_nothing():
    base = make("residual")
    plan = architecture_of(base, copy.deepcopy(base))
    assert not any(entry["attributes"] for entry in plan["modules"].values())
    before = {name: tensor.clone() for name, tensor in base.state_dict().items()}
    apply_architecture(base, plan)
    assert all(torch.equal(tensor, before[name]) for name, tensor in base.state_dict().items())


def test_tied_parameters_frozen_ones_and_dtypes_survive():
    class Tied(nn.Module):
        def __init__(self, width: int = 8) -> None:
            super().__init__()
            self.one, self.two = nn.Linear(width, width), nn.Linear(width, width)
            self.two.weight = self.one.weight
            self.one.bias.requires_grad_(False)
            self.register_buffer("scale", torch.ones(width, dtype=torch.float64))
            self.register_buffer("place", torch.arange(width), persistent=False)

    base, fresh = Tied(), Tied()
    apply_architecture(fresh, architecture_of(base, Tied(6)))
    assert fresh.two.weight is fresh.one.weight
    assert fresh.one.weight.shape == (6, 6)
    assert not fresh.one.bias.requires_grad
    assert fresh.two.bias.requires_grad
    assert fresh.scale.dtype == torch.float64
    assert fresh.place.shape == (6,)
    assert fresh.one.in_features == 6


def test_one_module_under_two_names_is_changed_once():
    def build(width: int) -> nn.Module:
        layer = nn.Linear(width, width)
        return nn.Sequential(layer, layer)

    fresh = build(8)
    apply_architecture(fresh, architecture_of(build(8), build(5)))
    assert fresh[0] is fresh[1]
    assert fresh[0].weight.shape == (5, 5)
    assert fresh(torch.ones(1, 5)).shape == (1, 5)


def plan_of(base: nn.Module, pruned: nn.Module, **changes: object) -> dict:
    plan = architecture_of(base, pruned)
    plan["modules"][""].update(changes)
    return plan


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 3}, "version 3; this program reads versions 1 and 2"),
        ({"base": {}}, "damaged: expected `base` with `parameters`"),
        (
            {"base": {"parameters": {"weight": [4, 9], "bias": [4]}}},
            r"has weight \[4, 9\], this one has weight \[4, 8\]",
        ),
        ({"base": {"parameters": {"weight": [4, 8]}}}, r"That one has no bias, this one has bias \[4\]"),
        (
            {"modules": {"": {"attributes": {}, "parameters": {}, "buffers": {}, "kept": {"out": [0, 2, 1]}}}},
            "damaged at the root: the channels kept of out do not ascend",
        ),
        (
            {"modules": {"": {"attributes": {}, "parameters": {}, "buffers": {}, "kept": {"in": [0, True]}}}},
            "the channels kept of in do not ascend",
        ),
        (
            {"modules": {"": {"attributes": {}, "parameters": {}, "buffers": {}, "kept": [1]}}},
            "expected `kept` to map sides to channels",
        ),
        ({"modules": 3}, "not an architecture plan"),
        ({"modules": {"gone": {"attributes": {}, "parameters": {}, "buffers": {}}}}, "it has no module gone"),
        ({"modules": {"": {"attributes": {}}}}, "damaged at the root"),
        (
            {"modules": {"": {"attributes": {"size": 3}, "parameters": {}, "buffers": {}}}},
            "the root has no attribute size",
        ),
        (
            {"modules": {"": {"attributes": {"in_features": [3]}, "parameters": {}, "buffers": {}}}},
            r"in_features is 8, not \[3\]",
        ),
        (
            {"modules": {"": {"attributes": {"in_features": 9}, "parameters": {}, "buffers": {}}}},
            "would change from 8 to 9",
        ),
        ({"modules": {"": {"attributes": {"in_features": True}, "parameters": {}, "buffers": {}}}}, "is 8, not True"),
        (
            {"modules": {"": {"attributes": {}, "parameters": {"weight": [4]}, "buffers": {}}}},
            r"is \(4, 8\), not \[4\]",
        ),
        ({"modules": {"": {"attributes": {}, "parameters": {"weight": 4}, "buffers": {}}}}, r"is \(4, 8\), not 4"),
        (
            {"modules": {"": {"attributes": {}, "parameters": {"weight": [4, -8]}, "buffers": {}}}},
            r"to \[4, -8\], and pruning only makes smaller",
        ),
        ({"modules": {"": {"attributes": {}, "parameters": {"scale": [4]}, "buffers": {}}}}, "has no parameter scale"),
        (
            {"modules": {"": {"attributes": {}, "parameters": {"weight": [4, 8]}, "buffers": {}}}},
            "says nothing of the root.bias",
        ),
    ],
)
def test_a_plan_that_does_not_fit_is_refused_and_changes_nothing(change, message):
    model = nn.Linear(8, 4)
    plan = {**architecture_of(model, nn.Linear(6, 4)), **change}
    with pytest.raises(ModelError, match=message):
        apply_architecture(model, plan)
    assert model.weight.shape == (4, 8)
    assert model.in_features == 8


def test_plans_of_version_1_are_still_read(tmp_path):
    base = make("residual")
    pruned = pruned_from(base, example())
    plan = {name: value for name, value in architecture_of(base, pruned).items() if name != "base"} | {"version": 1}
    fresh = make("residual", seed=5)
    apply_architecture(fresh, plan)
    fresh.load_state_dict(pruned.state_dict())
    assert torch.equal(fresh.eval()(example()), pruned.eval()(example()))


def test_something_that_is_no_plan_is_refused():
    with pytest.raises(ModelError, match="not an architecture plan"):
        apply_architecture(nn.Linear(1, 1), ["version"])


def test_other_trees_are_refused():
    with pytest.raises(ModelError, match="other modules"):
        architecture_of(nn.Sequential(nn.ReLU()), nn.Sequential(nn.ReLU(), nn.ReLU()))
    with pytest.raises(ModelError, match="0 is a ReLU in the base model, a Tanh in the pruned one"):
        architecture_of(nn.Sequential(nn.ReLU()), nn.Sequential(nn.Tanh()))
    with pytest.raises(ModelError, match="only makes smaller"):
        architecture_of(nn.Linear(4, 4), nn.Linear(8, 4))
