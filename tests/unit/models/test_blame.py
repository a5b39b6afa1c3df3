"""What a model raises names its line, whoever wrote it; what the program itself raises is a bug of its own."""

from __future__ import annotations

import traceback
from pathlib import Path

import pytest
import torch
from torch import nn

from edgecompress.data.base import Ends
from edgecompress.errors import DataError, ModelError
from edgecompress.models.blame import blaming, place_of
from edgecompress.models.built_in.dense import mlp


def own(folder: Path, body: str) -> nn.Module:
    """Returns a module whose forward has this body, from a file of its own; the body is on its line 5."""
    file = folder / "net.py"
    file.write_text(
        f"import torch\nfrom torch import nn\nclass Net(nn.Linear):\n    def forward(self, x):\n        {body}\n"
    )
    space: dict[str, object] = {"__name__": "net"}
    exec(compile(file.read_text(), str(file), "exec"), space)  # noqa: S102 - as a recipe's module is
    return space["Net"](4, 2)  # type: ignore[operator, no-any-return]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("raise ValueError('no such\\nthing')", "ValueError: no such"),
        ("raise KeyError('mask')", "KeyError: 'mask'"),
        ("assert x.ndim == 9", "AssertionError"),
        ("return [][3]", "IndexError: list index out of range"),
        ("return super().forward(x[:, :3])", "RuntimeError: mat1 and mat2 shapes cannot be multiplied"),
        ("raise SystemExit(0)", "SystemExit: 0"),
        ("return next(iter([]))", "StopIteration"),
    ],
)
def test_a_line_of_the_users_is_named(body: str, said: str, tmp_path: Path) -> None:
    model = own(tmp_path, body)
    with pytest.raises(ModelError) as caught, blaming(model, "epoch 2"):
        model(torch.zeros(2, 4))
    assert str(caught.value).startswith(f"the model failed (epoch 2): {said}")
    assert str(caught.value).endswith(f"({tmp_path / 'net.py'}:5)")


def test_what_autograd_finds_names_the_class(tmp_path: Path) -> None:
    model = own(tmp_path, "y = super().forward(x).exp(); y.mul_(2); return y")
    loss = model(torch.zeros(2, 4)).sum()
    with pytest.raises(ModelError, match=r"modified by an inplace operation.*net.py:\d+\)$"), blaming(model, "epoch 1"):
        loss.backward()


def test_a_model_of_torchs_layers_alone_is_named() -> None:
    model = nn.Sequential(nn.Linear(4, 2))
    with pytest.raises(ModelError, match=r"RuntimeError: mat1 and mat2 shapes .*\(a Sequential\)"), blaming(model, "e"):
        model(torch.zeros(2, 5))


def test_errors_that_say_it_all_stay() -> None:
    for error in (DataError("gone"), MemoryError(), KeyboardInterrupt()):
        with pytest.raises(type(error)), blaming(nn.Linear(1, 1), "e"):
            raise error


def test_a_built_in_model_that_fails_is_a_bug() -> None:
    model = mlp(Ends((4,), (2,), "features"))
    with pytest.raises(RuntimeError) as caught:
        model(torch.zeros(2, 5))
    calls = list(traceback.walk_tb(caught.value.__traceback__))[1:]  # this test is not the program's
    assert len(calls) > 2
    assert place_of(calls, model) is None
