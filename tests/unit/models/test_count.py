"""MACs and parameters against counts worked out by hand."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from edgecompress.errors import ModelError
from edgecompress.models.count import count


class Recurrent(nn.Module):
    def __init__(self, kind: type[nn.RNNBase]) -> None:
        super().__init__()
        self.layer = kind(8, 16, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x)[0][:, -1]


class Attention(nn.Module):
    def __init__(self, *, weights: bool) -> None:
        super().__init__()
        self.layer = nn.MultiheadAttention(16, 4, batch_first=True)
        self.weights = weights

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x, x, x, need_weights=self.weights)[0]


#: 10 steps of 16 features: projections in and out, then the two products of every step with every other.
ATTENTION = 10 * 16 * 48 + 10 * 16 * 16 + 2 * 10 * 10 * 16


@pytest.mark.parametrize(
    ("module", "shape", "macs"),
    [
        (nn.Linear(7, 5), (7,), 35),
        (nn.Conv2d(3, 8, 3, stride=2, padding=1), (3, 8, 8), 4 * 4 * 8 * 27),
        (nn.Conv2d(8, 8, 3, groups=4, padding=1), (8, 8, 8), 64 * 8 * 18),
        (nn.Conv1d(4, 6, 5, padding=2), (4, 20), 20 * 6 * 20),
        (nn.ConvTranspose2d(3, 5, 3, stride=2), (3, 8, 8), 64 * 3 * 5 * 9),
        (Recurrent(nn.LSTM), (10, 8), 10 * 4 * (8 * 16 + 16 * 16)),
        (Recurrent(nn.GRU), (10, 8), 10 * 3 * (8 * 16 + 16 * 16)),
        (Attention(weights=True), (10, 16), ATTENTION),
        (Attention(weights=False), (10, 16), ATTENTION),
        (nn.TransformerEncoderLayer(16, 4, 32, batch_first=True), (10, 16), ATTENTION + 2 * 10 * 16 * 32),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else None,
)
def test_multiply_accumulates(module: nn.Module, shape: tuple[int, ...], macs: int) -> None:
    assert count(module, shape).macs == macs


def test_layers_parameters_and_zeros() -> None:
    shared = nn.Linear(4, 4)
    model = nn.Sequential(shared, nn.ReLU(), shared, nn.Linear(4, 2, bias=False))
    with torch.no_grad():
        shared.weight.fill_(1)
        shared.bias.zero_()
        model[3].weight.fill_(2)
    found = count(model, (4,))
    assert (found.params, found.nonzero_params, found.macs) == (20 + 8, 16 + 8, 16 + 16 + 8)
    first, last = found.layers
    assert (first.name, first.kind, first.params, first.macs) == ("0", "Linear", 20, 32)  # both of its calls
    assert (last.name, last.output_shape) == ("3", (1, 2))


class ReadsAParameter(nn.Module):
    """A layer that is given a parameter as its input, as relative positions are."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.read = nn.Parameter(torch.ones(3, 4)), nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.read(self.table).sum() + self.read(x)


def test_a_layer_may_read_a_parameter() -> None:
    model = ReadsAParameter()
    model.read.bias.requires_grad = False
    assert count(model, (4,)).macs == 4 * 2 * 4
    assert [parameter.requires_grad for parameter in model.parameters()] == [True, True, False]


def test_the_model_and_torch_are_left_as_they_were() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout(0.5)).train()
    model[2].eval()
    before = model[1].running_mean.clone()
    switches = torch.backends.mkldnn.enabled, torch.backends.mha.get_fastpath_enabled()
    count(model, (4,))
    assert (torch.backends.mkldnn.enabled, torch.backends.mha.get_fastpath_enabled()) == switches
    assert [module.training for module in model] == [True, True, False]
    assert torch.equal(model[1].running_mean, before)
    assert not model[0]._forward_hooks
    with pytest.raises(ModelError, match="while its multiplications were counted"):
        count(model, (5,))
    assert (torch.backends.mkldnn.enabled, torch.backends.mha.get_fastpath_enabled()) == switches
    assert [module.training for module in model] == [True, True, False]
