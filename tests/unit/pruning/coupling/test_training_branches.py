"""Auxiliary heads, which run in training only: a pruned model still trains."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from edgecompress.pruning.coupling.branches import outputs_and_branches
from edgecompress.pruning.structured.pruner import StructuredPruner
from edgecompress.sources.torchvision_import import import_torchvision
from tests.unit.pruning.pruning_nets import conv, example


class Auxiliary(nn.Module):
    """A network with a second head for training, behind a module of its own."""

    def __init__(self, *, breaks: bool = False) -> None:
        super().__init__()
        self.breaks = breaks
        self.stem, self.last, self.head = conv(3, 32), conv(32, 32), nn.Linear(32, 10)
        self.auxiliary = nn.Sequential(conv(32, 24), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(24, 10))

    def forward(self, x: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor, None]:
        x = self.stem(x)
        main = self.head(self.last(x).mean((2, 3)))
        if not self.training:
            return main
        if self.breaks:
            raise ValueError("this input is too small for the second head")
        return main, self.auxiliary(x), None


def pruned(model: nn.Module, inputs: torch.Tensor, ratio: float = 0.5) -> StructuredPruner:
    pruner = StructuredPruner(model, inputs, of="macs", ratio=ratio, steps=1)
    pruner.prune_step(1)
    return pruner


def test_a_model_with_a_second_head_still_trains():
    torch.manual_seed(0)
    model = Auxiliary().train()
    before = {name: tensor.clone() for name, tensor in model.named_buffers()}
    report = pruned(model, example()).report()
    assert model.stem[0].out_channels == model.auxiliary[0][0].in_channels < 32
    assert model.auxiliary[0][0].out_channels == model.auxiliary[3].in_features
    assert report.whole["auxiliary.3"] == "it makes the model's output"
    assert all(module.training for module in model.modules())
    assert torch.equal(model.stem[1].num_batches_tracked, before["stem.1.num_batches_tracked"])
    main, second, _ = model(example())
    (main.sum() + second.sum()).backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_branches_that_this_input_cannot_take_are_left_alone():
    torch.manual_seed(0)
    model = Auxiliary(breaks=True).eval()
    with torch.no_grad():
        results, branches = outputs_and_branches(model, example())
    assert (len(results), branches) == (1, [])
    report = pruned(model, example()).report()
    assert "not used" in report.whole["auxiliary.0.0"]
    assert model(example()).shape == (2, 10)


def test_branches_are_switched_on_one_by_one():
    model = Auxiliary().eval()
    with torch.no_grad():
        results, branches = outputs_and_branches(model, example())
    assert branches == [model]
    assert not any(module.training for module in model.modules())
    assert torch.equal(results[0], results[1][0])
    plain = nn.Sequential(conv(3, 16), nn.Flatten()).eval()
    assert outputs_and_branches(plain, example())[1] == []


@pytest.mark.parametrize("name", ["googlenet"])
def test_torchvisions_auxiliary_heads(name):
    torch.manual_seed(0)
    build = getattr(import_torchvision().models, name)
    model = build(weights=None, num_classes=10, init_weights=False)
    dense = copy.deepcopy(model)
    pruned(model, torch.zeros(1, 3, 32, 32), 0.6)
    assert model.aux1.conv.conv.in_channels < dense.aux1.conv.conv.in_channels == 512
    outputs = model.train()(torch.randn(2, 3, 32, 32))
    assert [output.shape for output in outputs] == [(2, 10)] * 3
