"""A pruned structure that is slower than its parent: other widths near the target, or a clear verdict."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from edgecompress.context import Context, Event
from edgecompress.errors import ModelError
from edgecompress.models.count import count
from edgecompress.stages.prune import check_reached
from edgecompress.stages.pruning.backoff import SETTLED, back_off
from edgecompress.stages.pruning.backoff import settle as settled
from edgecompress.stages.pruning.targets import find_aim, pruner_for
from edgecompress.stages.pruning.yardstick import SLOWER, Timing, Yardstick
from edgecompress.store.store import Store
from tests.unit.stages.pruning.test_targets import SHAPE, Scales, bench, net


class Clock(Scales):
    """Says by a model's widths how it compares with the unpruned one; answers in turn, the last one again and again."""

    slower = Yardstick.slower

    def __init__(self, base: nn.Module, ratios: Callable[[list[int]], list[float]]) -> None:
        super().__init__(None, base)
        self._ratios = ratios
        self.timed: list[list[int]] = []

    def time(self, model: nn.Module) -> Timing:
        widths = [layer.out_channels for layer in model.modules() if isinstance(layer, nn.Conv2d)]
        self.timed.append(widths)
        answers = self._ratios(widths)
        ratio = answers[min(self.timed.count(widths), len(answers)) - 1]
        return Timing(2.0, 2.0 * ratio, ratio)


def settle(ratios: Callable[[list[int]], list[float]], **prune: Any) -> tuple[Any, ...]:
    made, spec = bench(**prune)
    warnings: list[str] = []
    made.ctx.warn = warnings.append
    model = net()
    clock = Clock(model, ratios)
    aim = find_aim(made, model, spec, yardstick=clock)
    return made, spec, aim, clock, lambda: back_off(made, model, spec, aim, clock), warnings


@pytest.mark.parametrize("of", ["macs", "params", "size"])
def test_what_is_no_slower_stays_as_it_was_asked_for(of: str) -> None:
    made, spec, aim, clock, run, warnings = settle(lambda _: [SLOWER], of=of, ratio=0.5)
    chosen = run()
    assert chosen.ratio == aim.ratio
    assert chosen.widths is not None
    assert pruned_widths(made, spec, chosen) == clock.timed[0], "what was timed is what is made, whatever the steps"
    assert len(clock.timed) == 1
    assert warnings == []


def test_noise_is_measured_away() -> None:
    _, _, aim, clock, run, warnings = settle(lambda _: [1.2, 1.0], of="macs", ratio=0.5)
    assert run().ratio == aim.ratio
    assert len(clock.timed) == 2
    assert warnings == []


@pytest.mark.parametrize(("of", "ratio"), [("macs", 0.58), ("params", 0.58), ("size", 0.56)])
def test_widths_in_coarser_steps_take_the_place_of_slow_ones(of: str, ratio: float) -> None:
    """As if kernels were fast on multiples of 16 only."""
    made, spec, aim, clock, run, warnings = settle(
        lambda widths: [0.8 if all(width % 16 == 0 for width in widths) else 1.1], of=of, ratio=ratio, steps=2
    )
    assert any(width % 16 for width in pruned_widths(made, spec, aim))
    chosen = run()
    widths = pruned_widths(made, spec, chosen)
    assert all(width % 16 == 0 for width in widths)
    assert clock.timed[-1] == widths
    model = pruned_model(made, spec, chosen)
    left = clock.value("size", model) if of == "size" else getattr(count(model, SHAPE), of)
    assert left == pytest.approx(aim.target, rel=0.03)
    assert len(warnings) == 1
    assert "slower than the unpruned model (2.2 ms, 2 ms before)" in warnings[0]
    assert "take 1.6 ms" in warnings[0]


def pruned_model(made: Any, spec: Any, aim: Any) -> nn.Module:
    model = net()
    pruner = pruner_for(made, model, spec, aim, 2)
    for step in (1, 2):
        pruner.prune_step(step)
    return model


def pruned_widths(made: Any, spec: Any, aim: Any) -> list[int]:
    return [layer.out_channels for layer in pruned_model(made, spec, aim).modules() if isinstance(layer, nn.Conv2d)]


def test_where_everything_is_slower_the_run_ends_with_both_latencies() -> None:
    _, _, _, clock, run, _ = settle(lambda _: [1.25], of="macs", ratio=0.5)
    with pytest.raises(ModelError, match=r"slower than the unpruned one on litert: 2\.5 ms, 2 ms before") as refused:
        run()
    different = len({tuple(widths) for widths in clock.timed})
    assert different >= 3
    assert f"nor were {different - 1} other choices of widths within 3% of" in str(refused.value)
    assert "count in latency (prune.of: latency), or leave the prune block out" in str(refused.value)


def test_widths_of_a_lock_file_are_not_exchanged() -> None:
    _, _, aim, _, run, warnings = settle(lambda _: [0.9], steps=2, widths={"0": [48, 32]})
    assert run().widths == aim.widths == {"0": (48, 32)}
    assert warnings == []
    _, _, _, clock, run, _ = settle(lambda _: [1.25], steps=2, widths={"0": [48, 32]})
    with pytest.raises(ModelError, match=r"run the recipe without `prune\.widths`"):
        run()
    assert [tuple(widths) for widths in clock.timed] == [(32, 96, 64)] * 2


def test_a_share_out_of_reach_is_still_told() -> None:
    made, spec = bench(of="macs", ratio=0.6, round_to=64)
    model = net()
    aim = find_aim(made, model, spec)
    with pytest.raises(ModelError, match="cannot remove"):
        back_off(made, model, spec, aim, Clock(model, lambda _: [1.0]))


def test_the_final_widths_are_timed_again() -> None:
    made, spec, aim, *_ = settle(lambda _: [1.0], of="macs", ratio=0.5, steps=2)
    model = pruned_model(made, spec, aim)
    found = check_reached(made, model, spec, aim, Clock(net(), lambda _: [1.2, 0.7]))
    assert found["latency"] == {"runtime": "litert", "before_ms": 2.0, "after_ms": 1.4, "ratio": 0.7}
    assert found["target"]["reached"] == count(model, SHAPE).macs
    with pytest.raises(ModelError, match=r"slower than the unpruned one on litert: 2\.4 ms, 2 ms before\. The ways"):
        check_reached(made, model, spec, aim, Clock(net(), lambda _: [1.1, 1.2]))


def test_an_interrupted_run_goes_on_with_the_widths_it_had(tmp_path: Path) -> None:
    """The second measurement would choose others."""
    slow_first = settle(
        lambda widths: [0.8 if all(width % 16 == 0 for width in widths) else 1.1], of="macs", ratio=0.58, steps=2
    )
    made, spec, _, clock, _, _ = slow_first
    made.ctx, made.store = Context(checkpoints=tmp_path), Store(tmp_path / "store")
    warnings = made.ctx.warnings
    aim = settled(made, net(), spec, clock)
    assert aim.widths is not None
    assert len(warnings) == 1
    again, told = Clock(net(), lambda _: [0.5]), list(warnings)
    warnings.clear()
    assert settled(made, net(), spec, again) == aim
    assert (again.timed, warnings) == ([], told)
    made.ctx.checkpoints = None
    assert settled(made, net(), spec, again).widths != aim.widths
    assert len(again.timed) == 1


def drop(*keys: str) -> Callable[[dict[str, Any]], None]:
    def change(document: dict[str, Any]) -> None:
        node = document
        for key in keys[:-1]:
            node = node[key]
        del node[keys[-1]]

    return change


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda one: one["aim"].update(ratio="0.5"), "cannot be read"),
        (lambda one: one["aim"].update(ratio=True), "cannot be read"),
        (lambda one: one["aim"].update(widths={"0": 8}), "cannot be read"),
        (lambda one: one["aim"].update(counts=3), "cannot be read"),
        (lambda one: one.update(aim=[]), "cannot be read"),
        (lambda one: one.update(warnings=[3]), "cannot be read"),
        (lambda one: one.update(used=3), "cannot be read"),
        (lambda one: one.update(used={"soft-targets-1": {"outputs.npy": "x"}}), "does not say what it was made from"),
        (drop("aim"), "cannot be read"),
        (drop("aim", "target"), "cannot be read"),
        (drop("used"), "cannot be read"),
    ],
)
def test_widths_of_the_wrong_form_are_settled_anew(
    tmp_path: Path, change: Callable[[dict[str, Any]], object], why: str
) -> None:
    """Their seal fits: anybody can make one, and so could another version."""
    made, spec, _, clock, _, _ = settle(lambda _: [0.9], of="macs", ratio=0.5, steps=2)
    made.ctx, made.store = Context(checkpoints=tmp_path), Store(tmp_path / "store")
    aim = settled(made, net(), spec, clock)
    events: list[Event] = []
    made.ctx.listeners.append(events.append)
    path = tmp_path / SETTLED
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(made.store.seal.sealed(f"widths {path.parent.name}", document)))
    assert settled(made, net(), spec, clock) == aim
    notes = [event.data["message"] for event in events if event.kind == "note"]
    assert notes[0].startswith(f"{SETTLED} {why}")
    assert notes[0].endswith(": the widths are settled anew")
    events.clear()
    assert settled(made, net(), spec, clock) == aim
    assert [event.data["message"] for event in events] == ["the widths were settled before"]


def test_a_missed_target_is_warned_of() -> None:
    made, spec, aim, _, _, warnings = settle(lambda _: [0.9], of="macs", ratio=0.5, steps=2)
    check_reached(made, net(), spec, aim, Clock(net(), lambda _: [1.0]))
    assert "widths go in steps of 8" in warnings[0]
    fixed = spec.model_copy(update={"widths": {"0": 32}})
    check_reached(made, net(), fixed, aim, Clock(net(), lambda _: [1.0]))
    assert "prune.widths are as they were given" in warnings[1]
