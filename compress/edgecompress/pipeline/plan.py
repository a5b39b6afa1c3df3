"""The plan: which steps a recipe takes, the fingerprint of each, and what is finished already.

A step's fingerprint covers its part of the recipe, the fingerprints of the steps it builds on, the data's content, the
versions of libraries and the program's own code as far as the step can reach it; so the same fingerprint means the same
result. A finished result is reused if it was made from the very files that the steps before it have now, which its
manifest tells; where those have still to be made, that cannot be told yet. No torch is imported here.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from edgecompress.errors import ResourceError
from edgecompress.machine import cores, cpu_name
from edgecompress.pipeline.branches import reach_of
from edgecompress.pipeline.changes import CODE, changed, changed_rooms, last_parts, listed
from edgecompress.recipe.schema import DistillSpec, Recipe
from edgecompress.recipe.steps import LIBRARIES, STAGE_ORDER, has_stage, reads, step_inputs
from edgecompress.recipe.techniques import FLOAT_PARTS
from edgecompress.sources.fingerprints import library_version, model_parts
from edgecompress.store.code import Program, read_program
from edgecompress.store.files import sha256_json
from edgecompress.store.manifests import Made
from edgecompress.store.store import MISSING, StageResult, Store, contents
from edgecompress.wording import verb

#: Keys of the `data` block that say where data are: what counts is their content.
PLACES = {"path", "test_path", "download"}
FRESH = "asked to be made again (--fresh)"


@dataclass(frozen=True)
class Step:
    """One stage of one run.

    Attributes:
        stage: Its name.
        fingerprint: Names its result in the store.
        parts: What the fingerprint is made of, for the lock file and for telling what changed.
        result: The finished result, None where it has to be made.
        reason: Why it is cached or has to be made, in words.
        kept: Rooms of the program whose code is another than the one that made the result, which was kept all the same.
        waits: Whether there is a finished result, which is reused if what it was made from comes out as it was.
    """

    stage: str
    fingerprint: str
    parts: dict[str, Any]
    result: StageResult | None
    reason: str
    kept: tuple[str, ...] = ()
    waits: bool = False

    @property
    def fresh(self) -> bool:
        """Whether it is made again because that was asked for, checkpoints and all."""
        return self.reason == FRESH


@dataclass(frozen=True)
class Plan:
    """The steps of a run in order.

    Attributes:
        steps: What is done.
        data_sha256: Hash of the data's content.
    """

    steps: tuple[Step, ...]
    data_sha256: str

    @property
    def cached(self) -> bool:
        """Whether nothing has to be made."""
        return all(step.result is not None for step in self.steps)


def make_plan(
    recipe: Recipe,
    store: Store,
    *,
    trust: bool = False,
    until: str | None = None,
    fresh: bool = False,
    keep_cache: bool = False,
) -> Plan:
    """Returns the plan of a recipe.

    Args:
        recipe: What is asked for.
        store: Where finished steps lie.
        trust: Whether `python:` sources may be used; a data source's function is called, to hash what it gives.
        until: The last stage to do, all by default.
        fresh: Make every step again.
        keep_cache: Reuse finished steps that differ in nothing but the program's own code.

    Raises:
        ResourceError: Data or weights cannot be found.
        UsageError: `until` is no stage of this recipe.
    """
    from edgecompress.data.loading import fingerprint as data_fingerprint
    from edgecompress.errors import UsageError

    stages = [stage for stage in STAGE_ORDER if has_stage(recipe, stage)]
    if until is not None:
        if until not in stages:
            raise UsageError(f"--until {until}: this recipe has the stages {', '.join(stages)}")
        stages = stages[: stages.index(until) + 1]
    data = data_fingerprint(recipe, trust=trust)
    return Plan(_steps(recipe, store, stages, data, (), {}, fresh=fresh, keep_cache=keep_cache), data)


def follow(
    recipe: Recipe,
    store: Store,
    plan: Plan,
    results: Mapping[str, StageResult],
    *,
    fresh: bool = False,
    keep_cache: bool = False,
) -> Plan:
    """Returns a plan with the steps that have no result yet decided anew: which of theirs fit what there is by now.

    Args:
        recipe: The run's.
        store: Where finished steps lie.
        plan: As it was.
        results: What the first steps of it came to.
        fresh: As for `make_plan`.
        keep_cache: As for `make_plan`.
    """
    stages = [step.stage for step in plan.steps]
    done = plan.steps[: len(results)]
    steps = _steps(recipe, store, stages, plan.data_sha256, done, results, fresh=fresh, keep_cache=keep_cache)
    return Plan(steps, plan.data_sha256)


def _steps(
    recipe: Recipe,
    store: Store,
    stages: list[str],
    data: str,
    done: tuple[Step, ...],
    results: Mapping[str, StageResult],
    *,
    fresh: bool,
    keep_cache: bool,
) -> tuple[Step, ...]:
    """Returns the steps of a run, of which the first are done."""
    last, program = last_parts(recipe, store), read_program()
    steps, there = list(done), dict(results)
    prints = {step.stage: step.fingerprint for step in done}
    made_before = next((step.stage for step in done if step.result is None), None)
    for stage in stages[len(done) :]:
        parts = _parts(recipe, stage, prints, data, program)
        needed = reads(recipe, stage)
        open_ = [name for name in needed if name not in there]
        inputs = None if open_ else contents(there[name] for name in needed)
        step = _step(stage, parts, store, inputs, fresh=fresh, keep_cache=keep_cache)
        if step.result is not None and open_:
            reason = f"finished before, reused if {listed(open_)} {verb(len(open_), 'comes', 'come')} out as before"
            step = Step(stage, sha256_json(parts), parts, None, reason, waits=True)
        if step.result is None and step.reason == MISSING:
            follows = f"follows {made_before}" if made_before is not None else ""
            step = replace(step, reason=changed(parts, last.get(stage)) or follows or MISSING)
        if step.result is None:
            made_before = made_before or stage
        else:
            there[stage] = step.result
        prints[stage] = step.fingerprint
        steps.append(step)
    return tuple(steps)


def _step(
    stage: str, parts: dict[str, Any], store: Store, inputs: Made | None, *, fresh: bool, keep_cache: bool
) -> Step:
    fingerprint = sha256_json(parts)
    if fresh:
        return Step(stage, fingerprint, parts, None, FRESH)
    result, reason = store.load(stage, fingerprint, inputs)
    if result is None and keep_cache:
        rest = {key: value for key, value in parts.items() if key != CODE}
        for other, theirs in store.finished(stage):
            if {key: value for key, value in theirs.items() if key != CODE} != rest:
                continue
            kept, _ = store.load(stage, other, inputs)
            if kept is not None:
                rooms = changed_rooms(parts, theirs)
                return Step(stage, other, theirs, kept, f"kept: made by other code ({listed(rooms)})", tuple(rooms))
    return Step(stage, fingerprint, parts, result, reason)


def altered(recipe: Recipe, plan: Plan, stage: str) -> str:
    """Returns what of that which a step's result depends on is not as it was planned any more; "" where all is.

    Data are not read again. A file that is gone does not count: it was there when it was read.

    Args:
        recipe: The run's.
        plan: As it was before the run.
        stage: The step; those before it are looked at as well.
    """
    prints: dict[str, str] = {}
    program = read_program()
    for step in plan.steps[: 1 + [step.stage for step in plan.steps].index(stage)]:
        with contextlib.suppress(ResourceError):
            parts = _parts(recipe, step.stage, prints, plan.data_sha256, program)
            if not step.kept and sha256_json(parts) != step.fingerprint:  # what was kept is known to be another's
                return changed(parts, step.parts)
        prints[step.stage] = step.fingerprint
    return ""


def _parts(recipe: Recipe, stage: str, prints: dict[str, str], data: str, program: Program) -> dict[str, Any]:
    """Returns everything a stage's result depends on."""
    parts: dict[str, Any] = {
        "stage": stage,
        "code": program.hashes(reach_of(recipe, stage)),
        "libraries": {name: library_version(name) for name in LIBRARIES[stage]},
        "inputs": step_inputs(recipe, stage, prints),
    }
    if stage in ("teacher", "distill", "prune", "quantize"):
        parts |= {
            "data": data,
            "task": recipe.task,
            "seed": recipe.seed,
            "device": recipe.device,
            "threads": recipe.threads,
        }
        parts["split"] = recipe.data.model_dump(mode="json", exclude=PLACES)
        published = _published(recipe)
        if published is not None:
            parts["normalization"] = published
    match stage:
        case "teacher":
            parts["teacher"] = model_parts(recipe, recipe.teacher)
        case "distill":
            parts["student"] = model_parts(recipe, recipe.student)
            parts["distill"] = _dump(recipe.distill)
        case "prune":
            parts |= _prune_parts(recipe)
        case "quantize":
            parts |= _quantize_parts(recipe)
        case "export":
            parts |= {"io": recipe.io, "metadata": recipe.export.metadata, "sparse": recipe.may_be_sparse}
            parts |= {"streaming": True} if recipe.export.streaming else {}
        case "verify":
            parts |= {
                "data": data,
                "split": recipe.data.model_dump(mode="json", exclude=PLACES),
                "seed": recipe.seed,
                "report": _dump(recipe.report),
            }
        case "benchmark":
            parts["benchmark"] = _dump(recipe.benchmark)
            parts["machine"] = [cpu_name(), cores()]
    return parts


def _prune_parts(recipe: Recipe) -> dict[str, Any]:
    """Returns what pruning depends on: also what times its models, where a latency decides on the widths."""
    spec = recipe.prune
    if spec is None:
        return {}
    parts = {"prune": _dump(spec), "soft": _soft_parts(recipe, learn=spec.learn_from_teacher)}
    if spec.goal[0] == "latency" and spec.widths is None:
        parts["timed"] = {
            "runtime": recipe.benchmark.runtimes[0],
            "threads": recipe.benchmark.threads,
            "cpu": cpu_name(),
        }
    return parts


def _quantize_parts(recipe: Recipe) -> dict[str, Any]:
    """Returns what quantization depends on: of the block, what its mode uses."""
    spec = recipe.quantize
    if spec is None:
        return {}
    trains = "qat" in (spec.mode, spec.escalate)
    unused = {*FLOAT_PARTS} | ({"train", "learn_from_teacher", "ranges"} if not trains else set())
    unused |= {key for key in ("max_drop_points", "escalate", "clusters") if getattr(spec, key) is None}
    unused |= set() if spec.portable else {"portable"}
    parts: dict[str, Any] = {"quantize": spec.model_dump(mode="json", exclude=unused)}
    parts["quantize"] |= dict.fromkeys(recipe.float_parts, "float32")
    if recipe.float_parts or (spec.allow and spec.max_drop_points is not None):
        parts["wide_output"] = recipe.io == "float32"  # the last layer may be among those that repairs keep wider
    if recipe.benchmark.runtimes[0] == "tflite-micro":
        parts["micro"] = True  # other operators are fast there
    if trains:
        parts["soft"] = _soft_parts(recipe, learn=spec.learn_from_teacher)
    return parts


def _published(recipe: Recipe) -> str | None:
    """Returns the model whose published normalisation all models of the run share, None where the data has its own."""
    for spec in (recipe.student, recipe.teacher):
        if spec is not None and spec.weights is not None and spec.model.startswith(("torchvision/", "timm/")):
            return spec.model
    return None


def _soft_parts(recipe: Recipe, *, learn: bool) -> dict[str, Any] | None:
    if not learn or recipe.teacher is None:
        return None
    spec = recipe.distill or DistillSpec()
    return {"temperature": spec.temperature, "alpha": spec.alpha, "views": spec.views}


def _dump(block: Any) -> dict[str, Any] | None:
    return None if block is None else block.model_dump(mode="json")
