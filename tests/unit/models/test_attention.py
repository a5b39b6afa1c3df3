"""The attention layers that take others' places compute the same, and keep their state's names."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import nn

from edgecompress.errors import ModelError
from edgecompress.models.attention import (
    HeadAttention,
    close_attention,
    open_attention,
    replace_attention,
    replaced,
)
from edgecompress.models.window_attention import WindowAttention
from edgecompress.sources.torchvision_import import import_torchvision


class Around(nn.Module):
    """A module that holds one attention layer and calls it as it is told."""

    def __init__(self, **options: object) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(16, 4, **options)

    def forward(self, query: torch.Tensor, other: torch.Tensor | None = None, **more: object) -> tuple:
        other = query if other is None else other
        return self.attention(query, other, other, **more)


X, Y = (torch.randn(3, length, 16, generator=torch.Generator().manual_seed(length)) for length in (5, 7))
PADDED = torch.tensor([[False] * 3 + [True] * 2] * 3)
CASES: dict[str, tuple[dict, tuple, dict]] = {
    "batch first": ({"batch_first": True}, (X,), {}),
    "length first": ({}, (X,), {}),
    "no bias": ({"bias": False, "batch_first": True}, (X,), {"need_weights": False}),
    "other keys": ({"batch_first": True}, (X, Y), {}),
    "other keys, length first": ({}, (X.transpose(0, 1), Y.transpose(0, 1)), {}),
    "no batch": ({}, (X[0],), {}),
    "weights of each head": ({"batch_first": True}, (X,), {"average_attn_weights": False}),
    "causal": ({"batch_first": True}, (X,), {"attn_mask": torch.ones(5, 5).triu(1).bool(), "is_causal": True}),
    "mask for each head": ({"batch_first": True}, (X,), {"attn_mask": torch.randn(12, 5, 5)}),
    "padding": ({"batch_first": True}, (X,), {"key_padding_mask": PADDED}),
    "padding as numbers": (
        {"batch_first": True},
        (X,),
        {"key_padding_mask": torch.zeros(3, 5).masked_fill(PADDED, -math.inf)},
    ),
}


def drawn(model: nn.Module) -> nn.Module:
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
    return model.eval()


@pytest.mark.parametrize("case", CASES)
def test_an_opened_layer_gives_what_torchs_gives(case):
    options, inputs, more = CASES[case]
    model = drawn(Around(**options))
    opened = copy.deepcopy(model)
    open_attention(opened)
    assert type(opened.attention) is HeadAttention
    expected, weights = model(*inputs, **more)
    actual, its_weights = opened(*inputs, **more)
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-5)
    if weights is None:
        assert its_weights is None
    else:
        torch.testing.assert_close(its_weights, weights, rtol=1e-5, atol=1e-6)


def test_names_and_shapes_of_the_state_are_torchs_and_load_both_ways():
    model = drawn(Around(batch_first=True))
    opened = Around(batch_first=True)
    open_attention(opened)
    state = model.state_dict()
    assert {name: tensor.shape for name, tensor in opened.state_dict().items()} == {
        name: tensor.shape for name, tensor in state.items()
    }
    opened.load_state_dict(state, strict=True)
    torch.testing.assert_close(opened.eval()(X)[0], model(X)[0])
    model.load_state_dict(opened.state_dict(), strict=True)


def test_closing_brings_torchs_layer_back_with_the_same_parameters():
    model = Around(batch_first=True, dropout=0.25).train()
    before = model.attention
    open_attention(model)
    assert model.attention.in_proj_weight is before.in_proj_weight
    assert model.attention.in_proj_bias is before.in_proj_bias
    close_attention(model)
    after = model.attention
    assert type(after) is nn.MultiheadAttention
    assert after.in_proj_weight is before.in_proj_weight
    assert after.out_proj is before.out_proj
    assert (after.dropout, after.batch_first, after.training, after.head_dim) == (0.25, True, True, 4)


def test_dropout_acts_in_training_only():
    model = Around(batch_first=True, dropout=0.5)
    open_attention(model)
    torch.manual_seed(0)
    assert not torch.equal(model(X)[0], model(X)[0])
    assert torch.equal(model.eval()(X)[0], model(X)[0])


def test_layers_that_cannot_be_opened_are_left():
    hooked = Around()
    hooked.attention.register_forward_hook(lambda *_: None)
    for model in (Around(add_bias_kv=True), Around(add_zero_attn=True), Around(kdim=8, vdim=8), hooked):
        open_attention(model)
        assert type(model.attention) is nn.MultiheadAttention


@pytest.mark.parametrize("norm_first", [True, False])
def test_an_encoder_does_not_take_its_one_kernel_path(norm_first):
    layer = nn.TransformerEncoderLayer(16, 4, 32, batch_first=True, norm_first=norm_first)
    model = drawn(nn.TransformerEncoder(layer, 2, enable_nested_tensor=not norm_first))
    opened = copy.deepcopy(model)
    open_attention(opened)
    opened.layers[0].self_attn.num_heads = 2
    opened.layers[0].self_attn.in_proj = nn.Linear(16, 24)
    opened.layers[0].self_attn.out_proj = nn.Linear(8, 16)
    for grad in (torch.enable_grad, torch.no_grad):
        with grad():
            assert opened(X).shape == X.shape
            assert opened(X, src_key_padding_mask=PADDED).shape == X.shape
    untouched = copy.deepcopy(model)
    open_attention(untouched)
    with torch.no_grad():
        torch.testing.assert_close(untouched(X), model(X), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("version", "bias"), [(1, True), (2, True), (2, False)])
@pytest.mark.parametrize("size", [(13, 9), (8, 8), (3, 4)])
@pytest.mark.parametrize("shift", [[0, 0], [2, 1], [0, 2]])
def test_window_attention_gives_what_torchvisions_gives(version, bias, size, shift):
    swin = import_torchvision().models.swin_transformer
    kind = swin.ShiftedWindowAttention if version == 1 else swin.ShiftedWindowAttentionV2
    model = drawn(nn.Sequential(kind(16, [4, 4], shift, 2, qkv_bias=bias, attention_dropout=0.1)))
    opened = copy.deepcopy(model)
    open_attention(opened)
    assert type(opened[0]) is WindowAttention
    x = torch.randn(2, *size, 16, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(opened(x), model(x), rtol=1e-5, atol=1e-5)
    assert opened.state_dict().keys() == model.state_dict().keys()
    opened.load_state_dict(model.state_dict(), strict=True)
    close_attention(opened)
    assert type(opened[0]) is kind
    assert torch.equal(opened(x), model(x))


def test_one_layer_in_two_places_stays_one():
    layer = nn.MultiheadAttention(16, 4)
    model = nn.ModuleList([layer, layer])
    open_attention(model)
    assert model[0] is model[1]
    close_attention(model)
    assert model[0] is model[1]
    assert type(model[0]) is nn.MultiheadAttention


@pytest.mark.parametrize(
    "chosen",
    [{"gone": "multihead-attention"}, {"attention": "os.system"}, {"": "x"}, {"attention": "window-attention"}],
)
def test_what_cannot_be_replaced_is_refused_and_nothing_changes(chosen):
    model = Around()
    with pytest.raises(ModelError, match="cannot become a"):
        replace_attention(model, chosen)
    assert type(model.attention) is nn.MultiheadAttention


def test_replacements_are_told_by_path():
    base = nn.Sequential(Around(), Around(kdim=8, vdim=8))
    opened = copy.deepcopy(base)
    open_attention(opened)
    assert replaced(base, opened) == {"0.attention": "multihead-attention"}
    assert replaced(opened, opened) == {}
