"""The loop over a plan's steps: reuse what is finished and fits, make the rest.

Stages are found in the literal table STAGES; the loop knows nothing about any of them.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from edgecompress.context import Context
from edgecompress.errors import DataError, ModelError, ResultError, StaleInputError
from edgecompress.pipeline.doubts import warn_at_once
from edgecompress.pipeline.plan import Plan, Step, altered, follow, make_plan
from edgecompress.recipe.schema import Recipe
from edgecompress.recipe.steps import reads
from edgecompress.report.forms import require_form
from edgecompress.store.aside import Aside
from edgecompress.store.file_lock import exclusive
from edgecompress.store.store import StageResult, Store, contents

#: How often a run goes back because what stands beside its stages came out otherwise: each conversion may do so once.
MOST_RETURNS = 10


@dataclass(frozen=True)
class Asked:
    """What a run was asked for, from which its plan follows.

    Attributes:
        recipe: The recipe.
        store: Where finished steps lie.
        trust: Whether users' code may run.
        until: The last stage, None for all.
        fresh: Whether every step is made again.
        keep_cache: Whether results of other code are reused.
    """

    recipe: Recipe
    store: Store
    trust: bool = False
    until: str | None = None
    fresh: bool = False
    keep_cache: bool = False

    def plan(self) -> Plan:
        """Returns the plan as things are now; data are read."""
        how = {"fresh": self.fresh, "keep_cache": self.keep_cache}
        return make_plan(self.recipe, self.store, trust=self.trust, until=self.until, **how)

    def follow(self, plan: Plan, results: Mapping[str, StageResult]) -> Plan:
        """Returns the plan with what follows some results decided anew; data are not read again."""
        how = {"fresh": self.fresh, "keep_cache": self.keep_cache}
        return follow(self.recipe, self.store, plan, results, **how)


@dataclass
class _Work:
    """A run at work.

    Attributes:
        aside: What it has set aside, and made itself.
        results: What its stages came to, the first ones first.
        told: What of finished stages has been told, by their files.
        bench: What stages work with, None until one has to be made.
        returns: How often it went back.
    """

    aside: Aside
    results: dict[str, StageResult] = field(default_factory=dict)
    told: dict[str, dict[str, str]] = field(default_factory=dict)
    bench: Any = None
    returns: int = 0


def carry_out(asked: Asked, plan: Plan, ctx: Context, aside: Aside) -> tuple[Plan, dict[str, StageResult]]:
    """Goes through a plan; returns it as it turned out, with what its stages came to.

    Which files a user's code opens is known once it has run: what depends on them is planned anew then. Whether a
    finished stage fits one that had to be made again is known once that is made; and where a conversion or soft targets
    come out otherwise than finished stages know them, those are made again as well. What is believed and turns out of
    the wrong form where it is used is set aside and made again, once.
    """
    work = _Work(aside)
    while len(work.results) < len(plan.steps):
        try:
            plan = _go_on(asked, plan, work, ctx)
        except ResultError as error:
            aside.take(error)
            plan = _without(error, asked, plan, work)
        except StaleInputError as error:
            work.returns += 1
            if asked.fresh or work.returns > MOST_RETURNS:
                raise
            ctx.note(f"{str(error).removesuffix(' Run the recipe again.')} They are made again where they do not fit.")
            work.results.clear()
            plan = asked.follow(plan, {})
    ctx.stage = ""
    # A step that this run has made, and then found finished, has run.
    made = {step.stage for step in plan.steps if aside.has_made(step.stage, step.fingerprint)}
    steps = tuple(replace(step, result=None) if step.stage in made else step for step in plan.steps)
    return replace(plan, steps=steps), work.results


def _go_on(asked: Asked, plan: Plan, work: _Work, ctx: Context) -> Plan:
    """Comes to the result of the next step; returns the plan, as far as it follows from that."""
    step = plan.steps[len(work.results)]
    ctx.stage, ctx.warnings = step.stage, []
    if step.result is not None:
        require_form(step.result, asked.recipe)
        _take(step.stage, step.result, work, ctx)
        return plan
    ctx.emit("stage-start", reason=step.reason, fingerprint=step.fingerprint)
    if work.bench is None:
        _set_up(asked, plan, work, ctx)
        if altered(asked.recipe, plan, plan.steps[-1].stage):
            work.results.clear()
            return asked.plan()
    result = _make(step, plan, work, asked)
    work.results[step.stage] = result
    work.told[step.stage] = result.content
    warn_at_once(step.stage, result, ctx)
    ctx.emit("stage-end", seconds=result.seconds, metrics=_brief(result))
    if not asked.fresh and any(later.waits for later in plan.steps[len(work.results) :]):
        return asked.follow(plan, work.results)
    return plan


def _without(error: ResultError, asked: Asked, plan: Plan, work: _Work) -> Plan:
    """Returns the plan from the first step on that has been set aside; what came before stays."""
    bad = set(error.steps)
    firsts = list(itertools.takewhile(lambda one: (one.stage, one.fingerprint) not in bad, work.results.values()))
    for stage in list(work.results)[len(firsts) :]:
        del work.results[stage]
    if work.bench is not None:
        rehearsed = work.bench.rehearsed
        work.bench.rehearsed = {name: one for name, one in rehearsed.items() if (one.stage, one.fingerprint) not in bad}
    return asked.follow(plan, work.results)


def _take(stage: str, result: StageResult, work: _Work, ctx: Context) -> None:
    """Takes a finished stage as it is, and tells that once."""
    work.results[stage] = result
    if work.told.get(stage) != result.content:
        work.told[stage] = result.content
        ctx.emit("stage-cached", seconds=result.seconds)
        warn_at_once(stage, result, ctx)


def _set_up(asked: Asked, plan: Plan, work: _Work, ctx: Context) -> None:
    """Imports everything heavy, so that a run with nothing to do answers at once, and looks at what is to be made."""
    from edgecompress.stages.before.preflight import preflight
    from edgecompress.stages.table import Workbench

    bench = Workbench(asked.recipe, ctx, asked.store)
    bench.results = work.results
    preflight(bench, {other.stage for other in plan.steps[len(work.results) :] if other.result is None})
    _require_same_data(asked.recipe, plan, trust=ctx.trust)
    work.bench = bench  # not before: what was looked at in vain is looked at again


def _require_same_data(recipe: Recipe, plan: Plan, *, trust: bool) -> None:
    """Makes sure that what was loaded is what the plan is about, or results would be stored under another's name.

    A `python:` source is not asked again: it may take long, and what it gave is what was hashed.

    Raises:
        DataError: The data was changed or removed meanwhile.
    """
    from edgecompress.data.loading import fingerprint

    if recipe.data.source.startswith("python:"):
        return
    if fingerprint(recipe, trust=trust) != plan.data_sha256:
        raise DataError(f"the data ({recipe.data.source}) changed while it was read. Run again when it stays as it is.")


def _make(step: Step, plan: Plan, work: _Work, asked: Asked) -> StageResult:
    """Makes a step, unless another run does so just now: then waits for it."""
    ctx, store = work.bench.ctx, asked.store

    def waiting(holder: str) -> None:
        ctx.note(f"{holder} is making this stage already: waiting for it")

    with exclusive(store.lock(step.stage, step.fingerprint), waiting):
        inputs = contents(work.results[name] for name in reads(asked.recipe, step.stage))
        made, _ = store.load(step.stage, step.fingerprint, inputs)
        if made is not None and not step.fresh:
            require_form(made, asked.recipe)
            return made
        result = _make_alone(step, plan, work, asked)
        work.aside.made(result)
        return result


def _make_alone(step: Step, plan: Plan, work: _Work, asked: Asked) -> StageResult:
    from edgecompress.stages.table import STAGES

    started, bench, store = time.monotonic(), work.bench, asked.store
    inputs = contents(work.results[name] for name in reads(asked.recipe, step.stage))
    if step.fresh:
        store.drop_checkpoints(step.stage, step.fingerprint)
    bench.ctx.checkpoints = store.checkpoints(step.stage, step.fingerprint, inputs)
    bench.ctx.digest = store.seal.digest
    bench.ctx.used = {}
    for result in work.results.values():
        for name, files in result.used.items():
            if bench.ctx.known.setdefault(name, files) != files:
                raise StaleInputError(f"{name.rpartition('-')[0]} changed while the run was at work.")
    _require_as_planned(step, plan, work, asked.recipe)
    with store.workspace(step.stage, step.fingerprint) as folder:
        metrics = STAGES[step.stage](bench, folder)
        # Or it would be kept as the result of what was planned, for every later run.
        _require_as_planned(step, plan, work, asked.recipe)
        seconds, warnings = time.monotonic() - started, tuple(bench.ctx.warnings)
        result = store.finish(
            folder,
            step.stage,
            step.fingerprint,
            metrics,
            seconds,
            warnings,
            step.parts,
            made_from=inputs,
            used=bench.ctx.used,
        )
    store.drop_checkpoints(step.stage, step.fingerprint)
    return result


def _require_as_planned(step: Step, plan: Plan, work: _Work, recipe: Recipe) -> None:
    """Makes sure that what a step depends on, code and files of other stages included, is what was planned.

    Raises:
        ModelError: It was changed since the run began.
    """
    if changed := altered(recipe, plan, step.stage):
        raise ModelError(f"while the run was at work, {changed}. Run again when it stays as it is.")
    for name in reads(recipe, step.stage):
        if file := work.results[name].altered():
            raise ModelError(
                f"while the run was at work, {work.results[name].path(file)} changed, which stage {step.stage} is made "
                "from. Run again when it stays as it is."
            )


def _brief(result: StageResult) -> dict[str, Any]:
    """Returns the plain numbers of a stage, for the log."""
    return {name: value for name, value in result.metrics.items() if isinstance(value, int | float | str | bool)}
