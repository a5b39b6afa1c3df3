"""Whether a network starts from random weights, how many steps it had, and what is said of it at once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgecompress.context import Context
from edgecompress.pipeline.doubts import early_doubts, warn_at_once
from edgecompress.recipe.reading.load import load_recipe
from edgecompress.stages.base import Workbench
from edgecompress.stages.distill import run as distill
from edgecompress.stages.teacher import run as teacher
from edgecompress.store.store import StageResult, Store

NET = """
import numpy as np, torch
from torch import nn
class Net(nn.Module):
    def __init__(self, num_classes, kind="random"):
        super().__init__()
        if kind == "seeded": torch.manual_seed(3)
        self.a = nn.Linear(8, 16)
        if kind == "numpy": nn.init._no_grad_normal_(self.a.weight, 0, float(np.random.rand()))
        if kind == "backbone": self.a.load_state_dict(torch.load("whole.pt")["a"])
        self.b = nn.Linear(16, num_classes)
        if kind == "whole":
            for name, part in torch.load("whole.pt").items(): getattr(self, name).load_state_dict(part)
    def forward(self, x): return self.b(torch.relu(self.a(x.flatten(1))))
"""


@pytest.fixture
def kitchen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with series of two steps in three classes, a module, and weights that know them; permuted ones too."""
    import torch
    from torch import nn

    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    labels = np.arange(240) % 3
    inputs = rng.normal(size=(240, 2, 4)).astype(np.float32) * 0.3
    inputs[np.arange(240), 0, labels] += 2
    np.savez("d.npz", x_train=inputs[:180], y_train=labels[:180], x_test=inputs[180:], y_test=labels[180:])
    Path("net.py").write_text(NET)
    torch.manual_seed(0)
    a, b = nn.Linear(8, 16), nn.Linear(16, 3)
    optimizer = torch.optim.Adam([*a.parameters(), *b.parameters()], 0.02)
    flat = torch.tensor((inputs[:180] - inputs[:180].mean((0, 1))) / inputs[:180].std((0, 1))).flatten(1)
    for _ in range(60):
        optimizer.zero_grad()
        nn.functional.cross_entropy(b(torch.relu(a(flat))), torch.tensor(labels[:180])).backward()
        optimizer.step()
    torch.save({"a": a.state_dict(), "b": b.state_dict()}, "whole.pt")
    state = {f"a.{key}": value for key, value in a.state_dict().items()}
    state |= {f"b.{key}": value for key, value in b.state_dict().items()}
    torch.save(state, "good.pt")
    turned = {key: value[[1, 2, 0]] if key.startswith("b") else value for key, value in state.items()}
    torch.save(turned, "turned.pt")
    return tmp_path


def made(kitchen: Path, student: str, stage: Any = distill, block: str = "student") -> tuple[StageResult, list[str]]:
    """Returns a finished stage and the warnings that the pipeline gives at once."""
    head = "version: 1\ntask: timeseries-classification\ndata: {source: npz, path: d.npz}\n"
    Path("r.yaml").write_text(f"{head}{block}: {{model: {student}}}\n")
    said: list[str] = []
    ctx = Context(0, trust=True, listeners=[lambda event: said.append(event.data.get("message", ""))], stage=block)
    work = kitchen / "work"
    work.mkdir(exist_ok=True)
    metrics = stage(Workbench(load_recipe(Path("r.yaml")), ctx, Store(kitchen / "store")), work)
    name = "teacher" if block == "teacher" else "distill"
    result = StageResult(name, "ab", work, {}, metrics, 0.0, tuple(ctx.warnings))
    said.clear()
    warn_at_once(name, result, ctx)
    return result, said


TRAIN = "train: {epochs: 2, batch_size: 40}"


@pytest.mark.parametrize(
    ("student", "scratch", "steps"),
    [
        (f'"python:net:Net", {TRAIN}', True, 10),
        (f'"python:net:Net", args: {{kind: numpy}}, {TRAIN}', True, 10),
        (f'"python:net:Net", args: {{kind: seeded}}, {TRAIN}', True, 10),
        (f'"python:net:Net", args: {{kind: backbone}}, {TRAIN}', False, 10),
        (f'"python:net:Net", args: {{kind: whole}}, {TRAIN}', False, 10),
        (f'"python:net:Net", weights: good.pt, {TRAIN}', False, 10),
        ('"python:net:Net", weights: good.pt', False, 0),
        ('"python:net:Net", args: {kind: whole}, train: null', False, 0),
        ('"python:net:Net", train: null', True, 0),
        (f"tcn, args: {{width: 4}}, {TRAIN}", True, 10),
    ],
)  # fmt: skip
def test_who_starts_from_random_weights(kitchen: Path, student: str, scratch: bool, steps: int) -> None:
    result, _ = made(kitchen, student)
    assert (result.metrics["from_scratch"], result.metrics["optimizer_steps"]) == (scratch, steps)
    recipe = load_recipe(Path("r.yaml"))
    doubts = early_doubts(recipe, {"distill": result})
    assert any("random weights" in doubt for doubt in doubts) == scratch


def test_a_teacher_with_its_classes_in_another_order_is_told_at_once(kitchen: Path) -> None:
    result, said = made(kitchen, '"python:net:Net", weights: turned.pt', teacher, "teacher")
    assert result.metrics["reordered"]["moved"] == [["0", "2"], ["1", "0"], ["2", "1"]]
    assert [message[:40] for message in said] == [
        "On 18 validation samples the teacher has", "The teacher answers 0.00 % right, but 10",
    ]  # fmt: skip
    good, nothing = made(kitchen, '"python:net:Net", weights: good.pt', teacher, "teacher")
    assert (good.metrics["reordered"], nothing) == (None, [])
    assert early_doubts(load_recipe(Path("r.yaml")), {"teacher": good}) == ()


def test_without_validation_samples_nothing_is_said_at_once(kitchen: Path) -> None:
    made(kitchen, '"python:net:Net", weights: turned.pt')
    bench = Workbench(load_recipe(Path("r.yaml")), Context(0, trust=True), Store(kitchen / "store"))
    none = bench.dataset.validation.take(np.zeros(0, np.int64))
    vars(bench)["dataset"] = replace(bench.dataset, validation=none)
    metrics = distill(bench, kitchen / "work")
    assert (metrics["validation_standing"], metrics["reordered"]) == (None, None)
