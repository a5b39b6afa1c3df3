"""The loop over the steps: a result is reused only where it was made from the very bytes that are there now."""

from __future__ import annotations

import itertools
import json
import shutil
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from edgecompress.context import Context, Event
from edgecompress.errors import ModelError, ResultError
from edgecompress.pipeline.making import Asked, carry_out
from edgecompress.pipeline.plan import Plan
from edgecompress.recipe.schema import Recipe
from edgecompress.recipe.steps import STAGE_ORDER, reads, step_inputs
from edgecompress.store.aside import Aside
from edgecompress.store.files import sha256_file, sha256_json
from edgecompress.store.store import StageResult, Store

RECIPE = Recipe.model_validate(
    {"version": 1, "teacher": {"model": "resnet9"}, "student": {"model": "resnet8"}, "distill": {}, "prune": {},
     "quantize": {"mode": "qat"}}
)  # fmt: skip
#: What stages read beside other stages: name -> (the stage whose files it is made from, who reads it).
BESIDE = {"soft-targets": ("teacher", ("distill", "prune")), "flatbuffer": ("prune", ("quantize", "export", "verify"))}


class Kitchen:
    """A pipeline whose stages write what they read, and how the machine computes.

    Attributes:
        arithmetic: Stands for the kind of the processor: other bytes come out with another.
        made: What was made.
    """

    def __init__(self, store: Store) -> None:
        self.store, self.arithmetic, self.made = store, "", list[str]()
        self.during: Callable[[str], None] = lambda _stage: None

    def beside(self, bench: Any, name: str) -> str:
        source = sha256_file(bench.results[BESIDE[name][0]].path("out"))

        def make(work: Path) -> dict[str, Any]:
            (work / "out").write_text(json.dumps({"of": source, "arithmetic": self.arithmetic}))
            self.made.append(name)
            return {}

        result = self.store.once(name, sha256_json([name, source]), make, lambda _note: None)
        bench.ctx.use(result.name, result.content)
        return result.content["out"]

    def stage(self, stage: str) -> Callable[[Any, Path], dict[str, Any]]:
        def run(bench: Any, work: Path) -> dict[str, Any]:
            read = {other: sha256_file(bench.results[other].path("out")) for other in reads(RECIPE, stage)}
            read |= {name: self.beside(bench, name) for name, (_, readers) in BESIDE.items() if stage in readers}
            self.during(stage)
            (work / "out").write_text(json.dumps({"read": read, "arithmetic": self.arithmetic}))
            self.made.append(stage)
            return {}

        return run

    def run(self, *, events: list[Event] | None = None, **options: Any) -> tuple[Plan, dict[str, StageResult]]:
        self.made.clear()
        asked = Asked(RECIPE, self.store, **options)
        listeners = [] if events is None else [events.append]
        ctx = Context(listeners=listeners)  # type: ignore[arg-type]
        return carry_out(asked, asked.plan(), ctx, Aside(self.store, ctx.note))


class Workbench:
    """Stands for the real one."""

    def __init__(self, recipe: Recipe, ctx: Context, store: Store) -> None:
        self.recipe, self.ctx, self.store = recipe, ctx, store
        self.results: dict[str, StageResult] = {}
        self.rehearsed: dict[str, StageResult] = {}


@pytest.fixture
def kitchen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Kitchen:
    found = Kitchen(Store(tmp_path / "store"))
    table, preflight = ModuleType("edgecompress.stages.table"), ModuleType("edgecompress.stages.before.preflight")
    table.Workbench, table.STAGES = Workbench, {stage: found.stage(stage) for stage in STAGE_ORDER}  # type: ignore[attr-defined]
    preflight.preflight = lambda _bench, _todo: None  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, table.__name__, table)
    monkeypatch.setitem(sys.modules, preflight.__name__, preflight)

    def parts(recipe: Recipe, stage: str, prints: dict[str, str], *_: Any) -> dict[str, Any]:
        return {"stage": stage, "code": {}, "libraries": {}, "inputs": step_inputs(recipe, stage, prints)}

    monkeypatch.setattr("edgecompress.pipeline.making.require_form", lambda _result, _recipe: None)  # they have none
    monkeypatch.setattr("edgecompress.pipeline.plan._parts", parts)
    monkeypatch.setattr("edgecompress.pipeline.plan.read_program", lambda: None)
    monkeypatch.setattr("edgecompress.data.loading.fingerprint", lambda _recipe, *, trust: "data")
    monkeypatch.setattr("os.fsync", lambda _descriptor: None)  # hundreds of small runs
    return found


def evict(store: Store, names: Iterable[str]) -> None:
    for name in names:
        for folder in store.root.glob(f"{name}-*"):
            shutil.rmtree(folder)


def require_consistent(kitchen: Kitchen, results: dict[str, StageResult]) -> None:
    """Looks into the files themselves: each says what it was made from."""
    now = {stage: result.content["out"] for stage, result in results.items()}
    for name, (source, _) in BESIDE.items():
        there, _why = kitchen.store.load(name, sha256_json([name, now[source]]))
        if there is not None:
            now[name] = there.content["out"]
    for stage, result in results.items():
        assert sha256_file(result.path("out")) == now[stage]
        for name, digest in json.loads(result.path("out").read_text())["read"].items():
            assert digest == now.get(name, digest), (stage, name)


def subsets(names: Iterable[str], most: int) -> list[tuple[str, ...]]:
    known = tuple(names)
    return [subset for count in range(most + 1) for subset in itertools.combinations(known, count)]


@pytest.mark.slow
def test_whatever_is_lost_all_that_is_reused_was_made_from_what_is_there(kitchen: Kitchen, tmp_path: Path) -> None:
    """Each subset of stages, conversions and soft targets is lost, and what is made again has other bytes."""
    kitchen.run()
    assert kitchen.made == [
        "teacher", "soft-targets", "distill", "prune", "flatbuffer", "quantize", "export", "verify", "benchmark",
    ]  # fmt: skip
    whole = tmp_path / "whole"
    kitchen.store.root.rename(whole)
    others = itertools.cycle(subsets(BESIDE, len(BESIDE)))
    for number, stages in enumerate(subsets(STAGE_ORDER, len(STAGE_ORDER))):
        lost = {*stages, *next(others)}
        shutil.copytree(whole, kitchen.store.root)
        evict(kitchen.store, lost)
        kitchen.arithmetic = str(number)
        plan, results = kitchen.run()
        require_consistent(kitchen, results)
        assert [step.stage for step in plan.steps if step.result is None] == [
            stage for stage in STAGE_ORDER if stage in kitchen.made
        ], lost
        assert {*stages} <= {*kitchen.made}, lost
        again, _ = kitchen.run()
        assert kitchen.made == []
        assert again.cached
        shutil.rmtree(kitchen.store.root)


@pytest.mark.slow
def test_what_comes_out_as_it_was_makes_nothing_else_again(kitchen: Kitchen, tmp_path: Path) -> None:
    kitchen.run()
    whole = tmp_path / "whole"
    kitchen.store.root.rename(whole)
    for lost in subsets((*STAGE_ORDER, *BESIDE), 2):
        shutil.copytree(whole, kitchen.store.root)
        evict(kitchen.store, lost)
        _, results = kitchen.run()
        require_consistent(kitchen, results)
        assert [stage for stage in kitchen.made if stage in STAGE_ORDER] == [s for s in STAGE_ORDER if s in lost], lost
        shutil.rmtree(kitchen.store.root)


def test_each_stage_is_told_of_once(kitchen: Kitchen) -> None:
    kitchen.run()
    evict(kitchen.store, ["export", "flatbuffer"])
    kitchen.arithmetic, events = "other", list[Event]()
    kitchen.run(events=events)
    told = [(event.kind, event.stage) for event in events if event.kind in ("stage-cached", "stage-end")]
    assert told == [
        *(("stage-cached", stage) for stage in ("teacher", "distill", "prune", "quantize")),
        *(("stage-end", stage) for stage in ("quantize", "export", "verify", "benchmark")),
    ]  # what export converted is not what quantize was made from
    (note,) = [event.data["message"] for event in events if event.kind == "note"]
    assert "flatbuffer had to be made again, and has other bytes" in note


def test_files_of_another_stage_that_change_under_a_run_end_it(kitchen: Kitchen) -> None:
    def change(stage: str) -> None:
        if stage == "prune":
            (path,) = kitchen.store.root.glob("teacher-*/out")
            path.write_text("{}")

    kitchen.during = change
    with pytest.raises(ModelError, match=r"out changed, which stage prune is made from"):
        kitchen.run()
    assert not list(kitchen.store.root.glob("prune-*"))


def test_a_run_that_never_comes_to_rest_ends(kitchen: Kitchen, monkeypatch: pytest.MonkeyPatch) -> None:
    """Conversions that another machine keeps removing, and that come out otherwise each time."""
    real = kitchen.beside

    def restless(bench: Any, name: str) -> str:
        evict(kitchen.store, [name])
        kitchen.arithmetic += "x"
        return real(bench, name)

    monkeypatch.setattr(kitchen, "beside", restless)
    with pytest.raises(ModelError, match=r"has other bytes|changed while the run was at work"):
        kitchen.run()


def blame(kitchen: Kitchen, who: str, bad: str, times: int = 1) -> None:
    """Has a stage find, so many times, that what another one left is of the wrong form."""
    left = [times]

    def find(stage: str) -> None:
        if stage == who and left[0]:
            left[0] -= 1
            (folder,) = kitchen.store.root.glob(f"{bad}-*")
            fingerprint = json.loads((folder / "manifest.json").read_text())["fingerprint"]
            raise ResultError("no weights", (bad, fingerprint))

    kitchen.during = find


@pytest.mark.parametrize(
    ("bad", "again"),
    [
        ("teacher", ["teacher", "quantize", "export", "verify", "benchmark"]),
        ("prune", ["prune", "quantize", "export", "verify", "benchmark"]),
        ("flatbuffer", ["flatbuffer", "quantize", "export", "verify", "benchmark"]),
    ],
)
def test_what_is_of_the_wrong_form_is_made_again_with_what_does_not_fit_it_any_more(
    kitchen: Kitchen, bad: str, again: list[str]
) -> None:
    kitchen.run()
    evict(kitchen.store, ["quantize"])
    blame(kitchen, "quantize", bad)
    events: list[Event] = []
    plan, results = kitchen.run(events=events)
    require_consistent(kitchen, results)
    assert kitchen.made == [stage for stage in again if stage in ("quantize", bad)]
    notes = [event.data["message"] for event in events if event.kind == "note"]
    assert [note.split(" in the store ")[0] for note in notes] == [f"the result of {bad}"]
    assert {step.stage for step in plan.steps if step.result is None} == {"quantize", bad} - {"flatbuffer"}

    evict(kitchen.store, ["quantize"])
    kitchen.arithmetic = "other"
    blame(kitchen, "quantize", bad)
    _, results = kitchen.run()
    require_consistent(kitchen, results)
    assert set(again) <= set(kitchen.made)


def test_what_this_run_has_made_is_not_made_again(kitchen: Kitchen) -> None:
    kitchen.run()
    evict(kitchen.store, ["quantize"])
    blame(kitchen, "quantize", "prune", times=2)
    with pytest.raises(ResultError):
        kitchen.run()
    assert kitchen.made == ["prune"]
    blame(kitchen, "quantize", "prune")
    with pytest.raises(ResultError):
        kitchen.run(fresh=True)


def test_made_afresh_nothing_is_made_twice_because_of_a_conversion(kitchen: Kitchen) -> None:
    kitchen.run()
    blame(kitchen, "quantize", "flatbuffer")
    _, results = kitchen.run(fresh=True)
    require_consistent(kitchen, results)
    assert sorted(kitchen.made) == sorted([*STAGE_ORDER, "flatbuffer"])


def test_a_finished_stage_is_looked_at_once_it_is_taken(kitchen: Kitchen, monkeypatch: pytest.MonkeyPatch) -> None:
    kitchen.run()
    seen: list[str] = []

    def require(result: StageResult, _recipe: Recipe) -> None:
        seen.append(result.stage)
        if result.stage == "export" and seen.count("export") == 1:
            raise ResultError("no figures", (result.stage, result.fingerprint))

    monkeypatch.setattr("edgecompress.pipeline.making.require_form", require)
    kitchen.run()
    assert kitchen.made == ["export"]
    assert seen == ["teacher", "distill", "prune", "quantize", "export", "verify", "benchmark"]
