"""Outputs over a split are the model's own, whatever the batches."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from edgecompress.errors import ModelError
from edgecompress.training import evaluate, precision
from edgecompress.training.evaluate import outputs_of
from tests.unit.training.training_task import BlobTask

CPU = torch.device("cpu")


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Dropout(0.5), nn.Linear(6, 2))
        self.sizes: list[int] = []
        self.dtypes: list[torch.dtype] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.sizes.append(len(x))
        y = self.layers(x)
        self.dtypes.append(y.dtype)
        return y


@pytest.mark.parametrize("batch_size", [1, 7, 64, 1000])
def test_batches_do_not_matter(batch_size: int) -> None:
    task, model = BlobTask(), Net().eval()
    inputs = task.dataset.test.inputs
    with torch.no_grad():
        expected = model.layers(torch.from_numpy(inputs)).numpy()
    found = outputs_of(model, task, inputs, CPU, batch_size=batch_size)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    assert found.dtype == np.float32
    assert model.sizes == [batch_size] * (64 // batch_size) + ([64 % batch_size] if 64 % batch_size else [])


@pytest.mark.parametrize("training", [True, False])
def test_the_mode_comes_back_and_statistics_do_not_move(training: bool) -> None:
    task, model = BlobTask(), Net().train(training)
    before = model.layers[1].running_mean.clone()
    first = outputs_of(model, task, task.dataset.test.inputs, CPU)
    np.testing.assert_array_equal(outputs_of(model, task, task.dataset.test.inputs, CPU), first)  # no dropout
    assert model.training is training
    assert torch.equal(model.layers[1].running_mean, before)


def test_the_mode_comes_back_after_a_failure_too() -> None:
    task, model = BlobTask(), Net().train()
    with pytest.raises(ModelError, match=r"while it was scored\): RuntimeError: mat1 .*evaluate.py:\d+"):
        outputs_of(model, task, np.zeros((3, 5), np.float32), CPU)
    assert model.training


def test_an_empty_split_has_outputs_of_the_right_width() -> None:
    task = BlobTask()
    assert outputs_of(Net(), task, task.dataset.test.inputs[:0], CPU).shape == (0, 2)


def test_fast_uses_bfloat16_and_gives_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "has_bfloat16", lambda _device: True)
    monkeypatch.setattr(precision, "SMALLEST_INPUT_FOR_BFLOAT16", 1)
    task, model = BlobTask(), Net()
    slow = outputs_of(model, task, task.dataset.test.inputs, CPU)
    fast = outputs_of(model, task, task.dataset.test.inputs, CPU, fast=True)
    assert model.dtypes == [torch.float32, torch.bfloat16]
    assert fast.dtype == np.float32
    assert 0 < np.abs(fast - slow).max() < 0.1
    assert evaluate.BATCH_SIZE >= 64
