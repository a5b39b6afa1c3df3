"""Checkpoints with the right hash and the wrong content are set aside; the training ends with the same bits."""

from __future__ import annotations

import functools
import io
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from edgecompress.context import Event, plain_digest
from edgecompress.training import checkpoint as module
from tests.unit.training.test_checkpoint import Counter, CutError, assert_same, net, train, weights

Saved = dict[str, Any]
Weights = dict[str, torch.Tensor]
Curve = list[dict[str, Any]]
CUT = 12  # in the second of four epochs


def forge(path: Path, change: Callable[[Saved], object]) -> None:
    """Changes what a checkpoint holds, and its hash with it."""
    saved = torch.load(io.BytesIO(path.read_bytes()[module.DIGEST :]), weights_only=True)
    other = change(saved)
    buffer = io.BytesIO()
    torch.save(saved if other is None else other, buffer)
    payload = buffer.getvalue()
    path.write_bytes(plain_digest(f"checkpoint {path.parent.name} {path.name}", payload).encode() + payload)


def put(*path: Any, value: Any) -> Callable[[Saved], None]:
    def change(saved: Saved) -> None:
        node: Any = saved
        for key in path[:-1]:
            node = node[key]
        node[path[-1]] = value

    return change


def drop(*path: Any) -> Callable[[Saved], None]:
    def change(saved: Saved) -> None:
        node: Any = saved
        for key in path[:-1]:
            node = node[key]
        del node[path[-1]]

    return change


NAN, SHORT = torch.full((8, 4), float("nan")), torch.zeros(2)
FORGED: dict[str, Callable[[Saved], object]] = {
    "the empty one": lambda _: {
        "step": 5,
        "curve": [],
        "losses": [],
        "setbacks": [],
        "model": {},
        "optimizer": {},
        "random": {},
        "kept": None,
        "used": {},
    },
    "a list": lambda _: [1, 2],
    "nothing": lambda _: {},
    "a number": lambda _: 3,
    "a part is missing": drop("random"),
    "a part too many": put("more", value=1),
    "step before the first": put("step", value=-1),
    "step behind the last": put("step", value=33),
    "step is true": put("step", value=True),
    "step is text": put("step", value="12"),
    "another step": put("step", value=13),
    "a later epoch": put("step", value=28),
    "curve is text": put("curve", value="x"),
    "curve is empty": put("curve", value=[]),
    "entry is a number": put("curve", 0, value=3),
    "loss is nan": put("curve", 0, "loss", value=float("nan")),
    "loss is missing": drop("curve", 0, "loss"),
    "loss is text": put("curve", 0, "loss", value="low"),
    "epoch is another": put("curve", 0, "epoch", value=7),
    "losses are texts": put("losses", value=["a"] * 4),
    "losses are short": put("losses", value=[0.5]),
    "losses are infinite": put("losses", value=[float("inf")] * 4),
    "setbacks are numbers": put("setbacks", value=[1]),
    "too many setbacks": put("setbacks", value=["again"] * 100),
    "weights are a list": put("model", value=[]),
    "a tensor is missing": drop("model", "0.weight"),
    "a tensor too many": put("model", "more", value=SHORT),
    "a tensor of another shape": put("model", "0.weight", value=SHORT),
    "a tensor of another type": put("model", "0.weight", value=torch.zeros(8, 4, dtype=torch.float64)),
    "a sparse tensor": put("model", "0.weight", value=torch.ones(8, 4).to_sparse()),
    "a meta tensor": put("model", "0.weight", value=torch.ones(8, 4, device="meta")),
    "weights are nan": put("model", "0.weight", value=NAN),
    "averages are nan": put("model", "1.running_var", value=torch.full((8,), float("nan"))),
    "a weight is text": put("model", "0.weight", value="x"),
    "no groups": put("optimizer", "param_groups", value=[]),
    "other settings": put("optimizer", "param_groups", 0, "weight_decay", value=1e9),
    "rate is nan": put("optimizer", "param_groups", 0, "lr", value=float("nan")),
    "rate is text": put("optimizer", "param_groups", 0, "lr", value="x"),
    "other parameters": put("optimizer", "param_groups", 0, "params", value=[0, 1, 2, 3, 4]),
    "state of no parameter": put("optimizer", "state", 99, value={}),
    "state is a list": put("optimizer", "state", value=[]),
    "state of another optimizer": put("optimizer", "state", 0, value={"sum": SHORT}),
    "momentum of another shape": put("optimizer", "state", 0, value={"momentum_buffer": SHORT}),
    "momentum is nan": put("optimizer", "state", 0, value={"momentum_buffer": NAN}),
    "random state is short": put("random", "torch", value=torch.zeros(3, dtype=torch.uint8)),
    "random state is text": put("random", "torch", value="x"),
    "random state of numpy is short": put("random", "numpy", value=["MT19937", torch.zeros(3), 0, 0, 0.0]),
    "random state of numpy is none": put("random", "numpy", value=["MT19937"]),
    "random state of python is short": put("random", "python", value=[3, [1, 2], None]),
    "random state of python is none": put("random", "python", 2, value="x"),
    "random states are missing": put("random", value={}),
    "kept is nothing": put("kept", value=None),
    "kept is text": put("kept", value={"count": "many"}),
    "kept is nan": put("kept", value={"count": float("nan")}),
    "no word of what it is made from": drop("used"),
    "made from a list": put("used", value=[]),
    "made from files without hashes": put("used", value={"soft-targets-1": {"outputs.npy": "x"}}),
    "kept is another": put("kept", value={"other": 1}),
}


@pytest.fixture(autouse=True)
def _always(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "INTERVAL_S", 0.0)


@pytest.fixture(scope="module")
def cut(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., tuple[Weights, Curve, bytes]]:
    """What a training comes to, and the checkpoint it leaves where it is cut off; each made once."""

    @functools.cache
    def made(optimizer: str) -> tuple[Weights, Curve, bytes]:
        whole, folder = net(), tmp_path_factory.mktemp("cut")
        curve = train(whole, None, Counter(), optimizer=optimizer)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(module, "INTERVAL_S", 0.0)
            with pytest.raises(CutError):
                train(net(), folder, Counter(CUT), optimizer=optimizer)
        return weights(whole), curve, (folder / "net.checkpoint").read_bytes()

    return made


def notes(events: list[Event]) -> list[str]:
    return [event.data["message"] for event in events if event.kind == "note"]


@pytest.mark.parametrize("forgery", FORGED)
def test_a_forged_checkpoint_is_set_aside_and_the_training_starts_anew(
    tmp_path: Path, forgery: str, cut: Callable[..., tuple[Weights, Curve, bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected, curve, left = cut("sgd")
    (tmp_path / "net.checkpoint").write_bytes(left)
    forge(tmp_path / "net.checkpoint", FORGED[forgery])
    monkeypatch.setattr(module, "INTERVAL_S", math.inf)
    again, counter, events = net(), Counter(), list[Event]()
    assert train(again, tmp_path, counter, events) == curve
    assert_same(expected, weights(again))
    (note,) = notes(events)
    assert note.startswith("net.checkpoint is no checkpoint of this training (")
    assert note.endswith("): this training starts anew")
    assert counter.count == 32


ADAM = {
    "moments are negative": put("optimizer", "state", 0, "exp_avg_sq", value=torch.full((8, 4), -1.0)),
    "step is negative": put("optimizer", "state", 0, "step", value=torch.tensor(-5.0)),
    "step is missing": drop("optimizer", "state", 0, "step"),
    "of sgd": put("optimizer", "state", 0, value={"momentum_buffer": torch.zeros(8, 4)}),
}


@pytest.mark.parametrize("forgery", ADAM)
def test_what_adam_keeps_is_looked_at_too(
    tmp_path: Path, forgery: str, cut: Callable[..., tuple[Weights, Curve, bytes]]
) -> None:
    expected, _, left = cut("adamw")
    (tmp_path / "net.checkpoint").write_bytes(left)
    forge(tmp_path / "net.checkpoint", ADAM[forgery])
    again, events = net(), list[Event]()
    train(again, tmp_path, Counter(), events, optimizer="adamw")
    assert_same(expected, weights(again))
    assert len(notes(events)) == 1


@functools.cache
def undisturbed(spec: str, span: tuple[float, float]) -> tuple[Weights, Curve]:
    """Returns what a training with these settings, as JSON, comes to when nothing ends it."""
    model = net()
    curve = train(model, None, Counter(), span=span, **json.loads(spec))
    return weights(model), curve


@pytest.mark.parametrize("spec", [{"momentum": 0.0}, {"optimizer": "adam"}, {"on_divergence": "retry"}, {"epochs": 1}])
@pytest.mark.parametrize("span", [(0.0, 1.0), (0.3, 0.9), (0.1, 0.12)])
@pytest.mark.parametrize("cut_after", [0, 1, 2, 5])
def test_whatever_a_training_writes_is_taken(
    tmp_path: Path, spec: dict[str, Any], span: tuple[float, float], cut_after: int
) -> None:
    expected, curve = undisturbed(json.dumps(spec), span)
    cut, events = Counter(cut_after), list[Event]()
    try:
        train(net(), tmp_path, cut, span=span, **spec)
    except CutError:
        assert cut.count == cut_after
    again = net()
    assert train(again, tmp_path, Counter(), events, span=span, **spec) == curve
    assert_same(expected, weights(again))
    assert not any("is no checkpoint" in note for note in notes(events))


@pytest.mark.parametrize("harm", ["forged", "damaged", "gone"])
def test_without_the_epochs_start_a_setback_goes_back_to_the_checkpoint(tmp_path: Path, harm: str) -> None:
    with pytest.raises(CutError):
        train(net(), tmp_path, Counter(CUT), on_divergence="retry")
    anchor = tmp_path / "net.epoch.checkpoint"
    if harm == "forged":
        forge(anchor, lambda _: {})
    elif harm == "damaged":
        anchor.write_bytes(b"x")
    else:
        anchor.unlink()
    broken = False

    class Breaking(Counter):
        def after_step(self, optimizer: torch.optim.Optimizer) -> None:
            nonlocal broken
            super().after_step(optimizer)
            if self.count == 16 and not broken:  # the last step of the epoch
                broken = True
                optimizer.param_groups[0]["params"][0].data.fill_(float("nan"))

    model, events = net(), list[Event]()
    curve = train(model, tmp_path, Breaking(), events, on_divergence="retry")
    assert [entry["setbacks"] for entry in curve] == [0, 1, 1, 1]
    assert all(torch.isfinite(one).all() for one in weights(model).values())
    said = [note for note in notes(events) if note.startswith("net.epoch.checkpoint")]
    assert len(said) == (harm != "gone")
    assert all(note.endswith("it goes back to where it goes on now") for note in said)
