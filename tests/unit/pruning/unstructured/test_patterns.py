"""Zeros lie where the pattern puts them, as many as were asked, in the layers that it fits."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from edgecompress.errors import ModelError
from edgecompress.pruning.unstructured.masks import MagnitudeMasks, cubic_share
from edgecompress.pruning.unstructured.patterns import Pattern


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 16, 3), nn.Conv2d(16, 16, 3, groups=16), nn.Conv2d(16, 32, 3), nn.Flatten(), nn.Linear(32, 10)
    )


def rows(weight: torch.Tensor) -> torch.Tensor:
    """Returns a weight with its input channels last, as the flatbuffer has it."""
    return weight.detach().movedim(1, -1)


@pytest.mark.parametrize(
    ("name", "size", "kept", "share"),
    [("2:4", 4, 2, 0.5), ("4:16", 16, 4, 0.75), ("1x4", 4, 0, None), (None, 1, 0, None)],
)
def test_names(name: str | None, size: int, kept: int, share: float | None) -> None:
    found = Pattern.named(name)
    assert (found.size, found.kept, found.share) == (size, kept, share)


@pytest.mark.parametrize("name", ["4:2", "4:4", "0:4", "1x1", "2x4", "", "2:4:8"])
def test_other_names_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="expected a pattern"):
        Pattern.named(name)


@pytest.mark.parametrize(("name", "steps"), [("2:4", 1), ("2:4", 5), ("4:16", 3)])
def test_n_of_m_keeps_n_of_every_m_neighbours_and_the_largest_of_them(name: str, steps: int) -> None:
    model, pattern = net(), Pattern.named(name)
    before = {path: weight.detach().clone() for path, weight in model.named_parameters()}
    masks = MagnitudeMasks(model, pattern=pattern)
    assert masks.dense == ("0.weight", "1.weight")
    assert pattern.share is not None
    for step in range(1, steps + 1):
        masks.update(cubic_share(step, steps, pattern.share))
    assert masks.share == pattern.share
    for path in ("2.weight", "4.weight"):
        groups = rows(model.get_parameter(path)).reshape(-1, pattern.size)
        assert bool(((groups != 0).sum(1) == pattern.kept).all())
        largest = rows(before[path]).reshape(-1, pattern.size).abs().topk(pattern.kept, dim=1).values.sum(1)
        assert torch.allclose(groups.abs().sum(1), largest)
    for path in masks.dense:
        assert torch.equal(model.get_parameter(path), before[path])


def test_on_the_way_no_group_has_more_zeros_than_in_the_end() -> None:
    model, pattern = net(), Pattern.named("2:4")
    masks = MagnitudeMasks(model, pattern=pattern)
    masks.update(0.3)
    assert 0.3 <= masks.share < 0.31
    with torch.no_grad():  # as training would
        for weight in model.parameters():
            weight.add_(0.1 * torch.randn_like(weight))
    masks.apply()
    masks.update(0.5)
    assert masks.share == 0.5
    assert bool(((rows(model[2].weight).reshape(-1, 4) != 0).sum(1) == 2).all())


@pytest.mark.parametrize("name", ["1x4", "1x16"])
@pytest.mark.parametrize("share", [0.5, 0.8])
def test_blocks_go_as_a_whole(name: str, share: float) -> None:
    model, pattern = net(), Pattern.named(name)
    masks = MagnitudeMasks(model, pattern=pattern)
    assert masks.dense == ("1.weight",)
    masks.update(share)
    assert share <= masks.share <= share + 2 * pattern.size / masks.total
    for path in ("2.weight", "4.weight"):
        zeros = (rows(model.get_parameter(path)).reshape(-1, pattern.size) == 0).sum(1)
        assert set(zeros.tolist()) <= {0, pattern.size}
    first = (rows(model[0].weight).reshape(-1, 3) == 0).sum(1)  # three channels are one smaller block
    assert set(first.tolist()) <= {0, 3}


def test_each_layer_loses_the_same_share_where_asked() -> None:
    model = net()
    with torch.no_grad():
        model[4].weight.mul_(100)
    masks = MagnitudeMasks(model, scope="layer")
    masks.update(0.6)
    assert all(0.6 <= share < 0.6 + 1 / 144 for share in masks.layer_shares().values())
    everywhere = MagnitudeMasks(net(), scope="global")
    everywhere.update(0.6)
    assert max(everywhere.layer_shares().values()) - min(everywhere.layer_shares().values()) > 0.1


def test_a_model_that_no_pattern_fits_is_refused() -> None:
    with pytest.raises(ModelError, match="input channels in groups of 4"):
        MagnitudeMasks(nn.Conv2d(3, 8, 3), pattern=Pattern.named("2:4"))


def test_more_than_n_of_m_is_refused() -> None:
    masks = MagnitudeMasks(net(), pattern=Pattern.named("2:4"))
    with pytest.raises(ModelError, match="at most 50"):
        masks.update(0.6)
