"""Evidence on the test split: outputs against outputs, samples alone against samples together."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from edgecompress.stages.verifying.evidence import Evidence, batch_dependence, centred_cosine
from tests.unit.tasks.test_standing import classifier, scores

RNG = np.random.default_rng(0)
CPU = torch.device("cpu")


def bench(classes: int = 3, samples: int = 30) -> Any:
    """Returns as much of a run as evidence asks for: every stage sees the same classifier's data."""
    task = classifier(np.arange(samples) % classes, classes)
    task.dataset.test.inputs[:] = RNG.normal(size=task.dataset.test.inputs.shape)
    stage = SimpleNamespace(artifacts={})
    return SimpleNamespace(
        task=task, dataset=task.dataset, device=CPU, task_of=lambda _stage: task, results={"distill": stage}
    )


class Net(nn.Module):
    """A linear classifier of series of four steps and two features, with something before it."""

    def __init__(self, before: nn.Module) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.before, self.head = before, nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.before(x.flatten(1)))


class MinusMean(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x - 0.1 * x.mean(0, keepdim=True)


class Noise(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + torch.randn_like(x)


def test_cosine_is_of_what_varies() -> None:
    floating = RNG.normal(size=(50, 4)).astype(np.float32) + np.float32(100)
    assert centred_cosine(floating, floating, chooses=True) == pytest.approx(1.0)
    assert centred_cosine(floating + RNG.normal(0, 1, (50, 4)).astype(np.float32), floating, chooses=False) < 0.85
    constant = np.full_like(floating, 100.0)
    assert centred_cosine(constant, floating, chooses=True) == 0.0
    assert centred_cosine(floating, constant, chooses=True) == 0.0
    assert centred_cosine(constant, constant, chooses=True) == 0.0
    assert centred_cosine(-floating, floating, chooses=False) == pytest.approx(-1.0)
    assert centred_cosine(floating[:1], floating[:1], chooses=True) is None
    assert centred_cosine(np.full_like(floating, np.nan), floating, chooses=False) == 0.0
    numbers = RNG.normal(size=(20, 5, 2)).astype(np.float32)
    assert centred_cosine(numbers, numbers, chooses=False) == pytest.approx(1.0)


def test_scores_that_the_quantizer_cut_off_do_not_count() -> None:
    floating = RNG.normal(-20, 8, size=(60, 5)).astype(np.float32)
    floating[np.arange(60), np.arange(60) % 5] = 10
    cut = np.maximum(floating, 0)
    assert centred_cosine(cut, floating, chooses=True) == pytest.approx(1.0)
    assert centred_cosine(cut, floating, chooses=False) < 0.95


@pytest.mark.parametrize(
    ("before", "depends"),
    [
        (nn.Identity(), False), (nn.LayerNorm(8), False), (nn.BatchNorm1d(8), False), (nn.Dropout(0.5), False),
        (MinusMean(), True), (nn.BatchNorm1d(8, track_running_stats=False), True),
    ],
)  # fmt: skip
def test_answers_that_depend_on_the_batch(before: nn.Module, depends: bool) -> None:
    found = batch_dependence(bench(), Net(before), "distill")
    assert found["samples"] == 16
    assert found["unsteady"] == 0.0
    if depends:
        assert found["difference"] is None or found["difference"] > 0.01
    else:
        assert found["difference"] < 1e-5


def test_random_answers_are_no_matter_of_batches() -> None:
    assert batch_dependence(bench(), Net(Noise()), "distill")["unsteady"] > 0.01


def test_few_test_samples_are_filled_up_from_train() -> None:
    run = bench()
    short = SimpleNamespace(inputs=run.dataset.test.inputs[:1])
    data = SimpleNamespace(test=short, train=run.dataset.train, value_shape=(4, 2), outputs=(3,))
    task = SimpleNamespace(dataset=data, inputs=run.task.inputs)
    alone = SimpleNamespace(device=CPU, task_of=lambda _stage: task)
    assert batch_dependence(alone, Net(MinusMean()), "distill")["difference"] > 0.01  # type: ignore[arg-type]


def test_a_runs_evidence() -> None:
    run = bench()
    labels = run.dataset.test.labels
    floating, shipped = scores((labels + 1) % 3, 3), scores(np.zeros(30, int), 3)
    gathered = Evidence(run)
    gathered.add_float("student", "distill", Net(nn.Identity()), floating)
    gathered.add_result(shipped)
    found = gathered.document(shipped, floating)
    assert [(one["key"], one["value"], round(one["baseline"], 2)) for one in found["models"]] == [
        ("student", 0.0, 33.33), ("quantized", 100 / 3, 33.33),
    ]  # fmt: skip
    assert (found["paired"][0]["key"], found["paired"][0]["gained"], found["paired"][0]["lost"]) == ("student", 10, 0)
    assert found["cosine"] == 0.0
    assert found["permuted"][0]["moved"] == [["class 0", "class 1"], ["class 1", "class 2"], ["class 2", "class 0"]]
    assert found["answers"] == "92492490"
    assert found["scale"] == []
    assert len(found["samples_digest"]) == 32
    assert [one["key"] for one in found["batch"]] == ["student"]


def test_the_digest_tells_test_splits_apart() -> None:
    one, same = bench(), bench()
    same.dataset.test.inputs[:] = one.dataset.test.inputs
    digests = []
    for run in (one, same):
        gathered = Evidence(run)
        gathered.add_result(scores(run.dataset.test.labels, 3))
        outputs = scores(run.dataset.test.labels, 3)
        digests.append(gathered.document(outputs, outputs)["samples_digest"])
    assert digests[0] == digests[1]
    same.dataset.test.labels[0] = 2
    assert gathered.document(outputs, outputs)["samples_digest"] != digests[0]
