"""What cannot be converted, or would not be INT8, is said before anything is trained, with the user's own line."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from edgecompress.context import Context, Event
from edgecompress.errors import EdgecompressError, ModelError, VerificationError
from edgecompress.pipeline.run import run_pipeline
from edgecompress.recipe.reading.load import load_recipe
from edgecompress.recipe.schema import Recipe
from edgecompress.stages.before.faults import first_fault, require_repeatable, require_same_function
from edgecompress.stages.before.rehearsal import predict_operators
from edgecompress.store.store import Store
from edgecompress.tflite.format.convert import convert

NETS = """
import torch
import torch.nn.functional as F
from torch import nn


class Base(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.conv, self.head = nn.Conv2d(1, 4, 3), nn.Linear(4, num_classes)

    def forward(self, x):
        return self.head(self.between(self.conv(x)).mean((2, 3)))


class Decides(Base):
    def between(self, x):
        return x if x.max() > 3 else -x


class Draws(Base):
    def between(self, x):
        return F.dropout(x, 0.5)


class Waves(Base):
    def between(self, x):
        return torch.sin(x)


class Deep(Base):
    def __init__(self, num_classes):
        super().__init__(num_classes)
        self.volume = nn.Conv3d(1, 1, 3, padding=1)

    def between(self, x):
        return self.volume(x[:, None])[:, 0]


class Fails(Base):
    def between(self, x):
        return x * (1 // (1 if len(x) == 1 else 0))


class Widens(Base):
    def __init__(self, num_classes):
        super().__init__(num_classes)
        self.up = nn.ConvTranspose3d(1, 1, 2, stride=2)

    def between(self, x):
        return self.up(x[:, None])[:, 0, :4]
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Callable[..., Recipe]:
    """A recipe for one of the networks."""
    rng = np.random.default_rng(0)
    np.savez(
        tmp_path / "data.npz",
        x_train=rng.integers(0, 255, (40, 8, 8)).astype(np.uint8), y_train=np.arange(40) % 2,
        x_test=rng.integers(0, 255, (10, 8, 8)).astype(np.uint8), y_test=np.arange(10) % 2,
    )  # fmt: skip
    (tmp_path / "nets.py").write_text(NETS)

    def make(name: str, **quantize: Any) -> Recipe:
        blocks = {
            "version": 1,
            "threads": 1,
            "data": {"source": "npz", "path": str(tmp_path / "data.npz")},
            "student": {"model": f"python:nets:{name}", "train": {"epochs": 50}},
            "quantize": {"mode": "ptq", "calibration_samples": 16, **quantize},
            "benchmark": {"runs": 10},
        }
        return load_recipe(blocks).model_copy(update={"base_dir": str(tmp_path)})

    return make


@pytest.mark.parametrize(
    ("name", "kind", "message"),
    [
        (
            "Decides",
            ModelError,
            r"decides by the values of its input what to compute \(.*nets.py:18: `return x if x.max",
        ),
        (
            "Draws",
            ModelError,
            r"other answers to the same input in evaluation mode: aten.*nets.py:23: `return F",
        ),
        (
            "Widens",
            ModelError,
            r"STABLEHLO_CONVOLUTION .*nets.py:51: `return self.up.*`: it has no such operator",
        ),
        (
            "Waves",
            VerificationError,
            r"SIN .*holds float32.*`quantize.allow: \[float32\]` .*nets.py:28: `return torch.sin",
        ),
        ("Fails", ModelError, r"ZeroDivisionError: .* by zero.*nets.py:42"),
    ],
)
def test_a_run_ends_before_training_where_it_could_not_end_well(
    recipe: Callable[..., Recipe], tmp_path: Path, name: str, kind: type[EdgecompressError], message: str
) -> None:
    told: list[Event] = []
    store = Store(tmp_path / "store")
    with pytest.raises(kind, match=message):
        run_pipeline(recipe(name), output=tmp_path / "run", store=store, trust=True, listeners=[told.append])
    assert not [event for event in told if event.kind == "epoch"]
    assert not list(store.root.glob("distill-*"))


def test_what_is_allowed_to_be_float_is_shown_as_such_and_kept(recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    store, told = Store(tmp_path / "store"), list[Event]()
    for _ in range(2):
        (row,) = predict_operators(
            recipe("Waves", allow=["float32"]), Context(trust=True, listeners=[told.append]), store
        )
        assert row["stage"] == "distill"
        assert row["ops"]["SIN"]["dtypes"] == {"float32": 1}
        assert row["ops"]["FULLY_CONNECTED"]["dtypes"] == {"int8": 1}
    notes = [event.data["message"] for event in told if event.kind == "note"]
    assert sum("converting the distill network" in note for note in notes) == 1  # the second time it is known


def test_training_for_int8_through_an_operator_of_litert_s_is_refused(
    recipe: Callable[..., Recipe], tmp_path: Path
) -> None:
    with pytest.raises(
        ModelError, match=r"mode: qat: CONV_3D \(layer .*\) has no gradient here.*nets.py:37.*or use mode: ptq"
    ):
        predict_operators(recipe("Deep", mode="qat", allow=["float32"]), Context(trust=True), Store(tmp_path / "store"))


class Two(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b, self.head = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3), nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(torch.relu(self.b(torch.relu(self.a(x)))).mean((2, 3)))


class Pictures:
    """A task that hands pictures on, channels last."""

    def to_flatbuffer(self, x: torch.Tensor) -> np.ndarray:
        return x.permute(0, 2, 3, 1).contiguous().numpy()


def test_a_file_that_computes_something_else_is_found_and_the_layer_named(tmp_path: Path) -> None:
    net, task, x = Two().eval(), Pictures(), torch.randn(3, 3, 9, 9)
    path = tmp_path / "float.tflite"
    convert(net, (3, 9, 9), path)
    require_same_function(task, net, path, x)  # type: ignore[arg-type]
    other = copy.deepcopy(net)
    with torch.no_grad():
        other.b.weight[0] *= -1
    with pytest.raises(ModelError, match=r"does not compute what the network does: the first layer that differs is b"):
        require_same_function(task, other, path, x)  # type: ignore[arg-type]
    assert first_fault(net, path, x[:1], task.to_flatbuffer(x[:1])) == ""


def test_a_module_that_writes_into_its_input_is_noticed_and_the_samples_stay() -> None:
    class Writes(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.mul_(0.5).sum(1)

    x = torch.randn(3, 4)
    before = x.clone()
    assert not require_repeatable(Writes(), x)
    torch.testing.assert_close(x, before)
    assert require_repeatable(nn.Linear(4, 2), x)
