"""What goes by the order of values, and what is put in places, comes out as torch computes it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.unit.tflite.lowering.test_operators import Each, Function, check

PLACES = torch.tensor([2, 0])
BOUNDARIES = torch.tensor([-1.0, 0.5])
IN_ORDER: list[Function] = [
    lambda x: x.topk(2, 1)[0] + x.topk(2, -2, largest=False)[1],
    lambda x: x.sort(2, descending=True)[0] + x.sort(1)[0],
    lambda x: torch.sort((x * 2).round(), stable=True, dim=2)[1].float(),
    lambda x: torch.cat([x.median(1)[0], x.kthvalue(2, 2)[0]], 1) * x.median(),
    lambda x: x.cumsum(2) + x.cumsum(0),
    lambda x: x.cumprod(1),
    lambda x: torch.cummax(x, 2)[0] + torch.cummin(x, 1)[1],
    lambda x: x.logcumsumexp(1),
    lambda x: (torch.bucketize(x, BOUNDARIES) + torch.searchsorted(BOUNDARIES, x, right=True)).float(),
]
PUT: list[Function] = [
    lambda x: x.index_add(2, PLACES, x[:, :, :2], alpha=2),
    lambda x: x.index_copy(1, PLACES, x[:, :2]).index_fill(2, torch.tensor([1, -1]), 0.5),
    lambda x: torch.zeros_like(x).scatter(2, x.argmax(2, keepdim=True), 1.0),
    lambda x: x.scatter(1, PLACES.view(1, 2, 1).expand(1, 2, 5), x[:, :2] * 3),
    lambda x: x.scatter_add(1, torch.tensor([0, 0, 1]).view(1, 3, 1).expand(1, 3, 5), x),
]


@pytest.mark.parametrize("functions", [IN_ORDER, PUT], ids=["in order", "put in places"])
def test_by_operators_that_run_everywhere(functions: list[Function], tmp_path: Path) -> None:
    ops = check(Each(functions), (3, 5), tmp_path)
    assert not [op for op in ops if op.startswith("STABLEHLO")]
