"""The pipeline: go through the plan, reuse what is finished, make the rest, write the report.

The order of the stages is the literal table STAGES; the loop knows nothing about any of them.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from edgecompress.context import Context, Listener
from edgecompress.errors import DataError, ExitCode, ModelError, ResultError
from edgecompress.pipeline.doubts import early_doubts, warn_at_once
from edgecompress.pipeline.folder import alone, prepare, recorder
from edgecompress.pipeline.history import remember
from edgecompress.pipeline.lock_file import differences, finished_report, lock_file, run_key
from edgecompress.pipeline.plan import Plan, Step, altered, make_plan
from edgecompress.recipe.schema import Recipe
from edgecompress.report.forms import require_form
from edgecompress.report.verdict import DOUBTS
from edgecompress.store.aside import Aside
from edgecompress.store.file_lock import exclusive
from edgecompress.store.files import sha256_file, write_bytes
from edgecompress.store.store import StageResult, Store

MODEL = "model.tflite"
REJECTED = "rejected.tflite"
#: The model of one step, where `export.streaming` asks for it.
STEP = "model_step.tflite"
REPORT = "report.json"
LOCK = "recipe.lock.yaml"
#: Stages that take minutes at most: a report that cannot be made of what they left is tried once more with them anew.
SOON_MADE = frozenset({"export", "verify", "benchmark"})
#: File in the run's folder -> the stage that made it, and what it is called there: the pruned float model for
#: `load_pruned`, how text becomes tokens, the model of one step.
BESIDE = {
    "model.safetensors": ("prune", "weights.safetensors"),
    "architecture.json": ("prune", "architecture.json"),
    "vocabulary.json": ("export", "vocabulary.json"),
    STEP: ("export", STEP),
}


@dataclass(frozen=True)
class Outcome:
    """How a run ended.

    Attributes:
        exit_code: 0, 3 (budget missed; with `strict` also a doubtful result) or 5 (verification failed).
        output: The run's folder.
        report: The report's document, None where the run was stopped early with `until`.
        plan: The steps, as they were before the run.
        seconds: How long it took.
        messages: Why it did not end with 0.
        doubts: What makes the result doubtful, in sentences; of a run that was stopped early what is known so far.
    """

    exit_code: ExitCode
    output: Path
    report: dict[str, Any] | None
    plan: Plan
    seconds: float
    messages: tuple[str, ...] = ()
    doubts: tuple[str, ...] = ()


def run_pipeline(
    recipe: Recipe,
    *,
    output: Path,
    store: Store,
    trust: bool = False,
    until: str | None = None,
    fresh: bool = False,
    keep_cache: bool = False,
    strict: bool = False,
    listeners: Sequence[Listener] = (),
) -> Outcome:
    """Carries out a recipe and returns how it ended; model.tflite and the report lie in `output`.

    Raises:
        EdgecompressError: The run could not be finished; the steps done before stay in the store.
    """
    started = time.monotonic()
    plan = make_plan(recipe, store, trust=trust, until=until, fresh=fresh, keep_cache=keep_cache)
    changed = differences(recipe.locked, plan) if recipe.locked is not None else []
    prepare(output)
    with alone(output), recorder(output) as record:
        ctx = Context(recipe.seed, trust=trust, listeners=[record, *listeners])
        ctx.emit(
            "run-start", stages=[step.stage for step in plan.steps], cached=[s.stage for s in plan.steps if s.result]
        )
        for difference in changed:
            ctx.warn(f"Not as in the lock file, so the bytes may differ: {difference}.")
        for step in plan.steps:
            if step.kept:
                ctx.note(f"{step.stage}: a result of other code is kept ({', '.join(step.kept)})")
        if plan.cached and until is None:
            report = finished_report(output, recipe, plan)
            if report is not None:
                for step in plan.steps:
                    ctx.stage = step.stage
                    ctx.emit("stage-cached", seconds=step.result.seconds if step.result else 0.0)
                return _outcome(report, output, plan, started, strict=strict)
        remember(recipe, store, {step.stage: step.parts for step in plan.steps})

        def planned_anew() -> Plan:
            return make_plan(recipe, store, trust=trust, until=until, fresh=fresh, keep_cache=keep_cache)

        plan, results, report = _finished(recipe, plan, ctx, store, planned_anew, output, until)
        if report is None:
            return _stopped(recipe, results, output, plan, started, strict=strict)
        if recipe.locked is not None:
            _compare(recipe.locked, results["export"].artifacts[MODEL].sha256, ctx)
        return _outcome(report, output, plan, started, strict=strict)


def _finished(
    recipe: Recipe,
    plan: Plan,
    ctx: Context,
    store: Store,
    planned_anew: Callable[[], Plan],
    output: Path,
    until: str | None,
) -> tuple[Plan, dict[str, StageResult], dict[str, Any] | None]:
    """Goes through a plan and writes its report, None where it was asked to end before.

    What was finished before and turns out to be none where it is first used is made again, once.
    """
    aside = Aside(store, ctx.note)
    while True:
        try:
            plan, results = _carry_out(recipe, plan, ctx, store, planned_anew, aside)
            if until is not None and "benchmark" not in results:
                return plan, results, None
            with aside.blaming([step.result for step in plan.steps if step.result and step.stage in SOON_MADE]):
                return plan, results, _write_results(recipe, plan, results, output, ctx)
        except ResultError as error:
            aside.take(error)
            plan = planned_anew()


def _stopped(
    recipe: Recipe, results: dict[str, StageResult], output: Path, plan: Plan, started: float, *, strict: bool
) -> Outcome:
    """Returns the outcome of a run that was asked to end before its report."""
    doubts = early_doubts(recipe, results)
    found: dict[str, Any] = {"passed": True, "reasons": []}
    if "verify" in results:
        found |= results["verify"].metrics
    code = ExitCode.BUDGET if strict and doubts else ExitCode.DONE
    messages = doubts if code else ()
    if not found["passed"]:
        code, messages = ExitCode.VERIFICATION, tuple(found["reasons"])
    return Outcome(code, output, None, plan, time.monotonic() - started, messages, doubts)


def _carry_out(
    recipe: Recipe,
    plan: Plan,
    ctx: Context,
    store: Store,
    planned_anew: Callable[[], Plan],
    aside: Aside,
    bench: Any = None,
) -> tuple[Plan, dict[str, StageResult]]:
    """Goes through a plan; returns it with what was made.

    Which files a user's code opens is known once it has run: what depends on them is planned anew then.
    """
    results: dict[str, StageResult] = {}
    if bench is not None:
        bench.results = results
    for step in plan.steps:
        ctx.stage, ctx.warnings = step.stage, []
        if step.result is not None:
            require_form(step.result, recipe)
            results[step.stage] = step.result
            ctx.emit("stage-cached", seconds=step.result.seconds)
            warn_at_once(step.stage, step.result, ctx)
            continue
        if bench is None:
            # Everything heavy is imported here, so that a run with nothing to do answers at once.
            from edgecompress.stages.before.preflight import preflight
            from edgecompress.stages.table import Workbench

            ctx.emit("stage-start", reason=step.reason, fingerprint=step.fingerprint)
            bench = Workbench(recipe, ctx, store)
            bench.results = results
            preflight(bench, {other.stage for other in plan.steps if other.result is None})
            _require_same_data(recipe, plan, trust=ctx.trust)
            if altered(recipe, plan, plan.steps[-1].stage):
                return _carry_out(recipe, planned_anew(), ctx, store, planned_anew, aside, bench)
        else:
            ctx.emit("stage-start", reason=step.reason, fingerprint=step.fingerprint)
        results[step.stage] = _make(step, plan, bench, store, aside)
        warn_at_once(step.stage, results[step.stage], ctx)
        ctx.emit("stage-end", seconds=results[step.stage].seconds, metrics=_brief(results[step.stage]))
    ctx.stage = ""
    return plan, results


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


def _make(step: Step, plan: Plan, bench: Any, store: Store, aside: Aside) -> StageResult:
    """Makes a step, unless another run does so just now: then waits for it."""

    def waiting(holder: str) -> None:
        bench.ctx.note(f"{holder} is making this stage already: waiting for it")

    with exclusive(store.lock(step.stage, step.fingerprint), waiting):
        made, _ = store.load(step.stage, step.fingerprint)
        if made is not None and not step.fresh:
            require_form(made, bench.recipe)
            return made
        result = _make_alone(step, plan, bench, store)
        aside.made(result)
        return result


def _make_alone(step: Step, plan: Plan, bench: Any, store: Store) -> StageResult:
    from edgecompress.stages.table import STAGES

    started = time.monotonic()
    checkpoints = store.checkpoints(step.stage, step.fingerprint)
    if step.fresh:
        shutil.rmtree(checkpoints, ignore_errors=True)
    bench.ctx.checkpoints = checkpoints
    _require_as_planned(step, plan, bench.recipe)
    with store.workspace(step.stage, step.fingerprint) as work:
        metrics = STAGES[step.stage](bench, work)
        # Or it would be kept as the result of what was planned, for every later run.
        _require_as_planned(step, plan, bench.recipe)
        seconds, warnings = time.monotonic() - started, tuple(bench.ctx.warnings)
        result = store.finish(work, step.stage, step.fingerprint, metrics, seconds, warnings, step.parts)
    shutil.rmtree(checkpoints, ignore_errors=True)
    return result


def _require_as_planned(step: Step, plan: Plan, recipe: Recipe) -> None:
    """Makes sure that what a step depends on, code included, is what its fingerprint says.

    Raises:
        ModelError: It was changed since the run began.
    """
    if changed := altered(recipe, plan, step.stage):
        raise ModelError(f"while the run was at work, {changed}. Run again when it stays as it is.")


def _brief(result: StageResult) -> dict[str, Any]:
    """Returns the plain numbers of a stage, for the log."""
    return {name: value for name, value in result.metrics.items() if isinstance(value, int | float | str | bool)}


def _write_results(
    recipe: Recipe, plan: Plan, results: dict[str, StageResult], output: Path, ctx: Context
) -> dict[str, Any]:
    """Writes flatbuffer, lock file and report; a flatbuffer that failed its verification gets another name."""
    from edgecompress.pipeline.report_inputs import report_inputs
    from edgecompress.report.document import build_report, write_report

    passed = bool(results["verify"].metrics["passed"])
    exported = results["export"].artifacts[MODEL]
    kept, dropped = (MODEL, REJECTED) if passed else (REJECTED, MODEL)
    with contextlib.suppress(FileNotFoundError):
        (output / dropped).unlink()
    if not (output / kept).is_file() or sha256_file(output / kept) != exported.sha256:
        write_bytes(output / kept, exported.path.read_bytes())
    files = {kept: exported.sha256, **_write_beside(results, output, passed=passed)}
    lock = lock_file(recipe, plan, results, exported.sha256).encode()
    write_bytes(output / LOCK, lock)
    created_at = datetime.now(UTC).isoformat(timespec="seconds")
    inputs = report_inputs(recipe, plan, results, created_at=created_at, files=files)
    pages = {LOCK: hashlib.sha256(lock).hexdigest()}
    report = {**build_report(recipe, inputs), "run_key": run_key(recipe, plan), "pages": pages}
    report = write_report(output, report)
    ctx.note(f"report written to {output}")
    return report


def _write_beside(results: dict[str, StageResult], output: Path, *, passed: bool) -> dict[str, str]:
    """Writes what lies beside the flatbuffer, and returns file -> SHA-256; what an earlier run left goes."""
    former = _former_files(output)
    files: dict[str, str] = {}
    for name, (stage, source) in BESIDE.items():
        artifact = results[stage].artifacts.get(source) if stage in results else None
        if artifact is not None and (passed or name != STEP):
            write_bytes(output / name, artifact.path.read_bytes())
            files[name] = artifact.sha256
        elif name in former:
            (output / name).unlink(missing_ok=True)
    return files


def _former_files(output: Path) -> set[str]:
    """Returns the files that the report in a folder lists, none where there is no report."""
    try:
        return set(json.loads((output / REPORT).read_bytes())["files"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return set()


def _compare(locked: dict[str, Any], model_sha256: str, ctx: Context) -> None:
    """Tells whether a run from a lock file came to the same flatbuffer."""
    theirs = locked.get("model_sha256")
    if theirs == model_sha256:
        ctx.note("the flatbuffer is that of the lock file, byte for byte")
    elif theirs is not None:
        ctx.warn(f"The flatbuffer is not that of the lock file: SHA-256 {model_sha256[:12]} here, {theirs[:12]} there.")


def _outcome(report: dict[str, Any], output: Path, plan: Plan, started: float, *, strict: bool) -> Outcome:
    seconds = time.monotonic() - started
    doubts = tuple(reason["text"] for reason in report["verdict"]["reasons"] if reason["code"] in DOUBTS)
    verification = report.get("verification") or {}
    if not verification.get("passed", True):
        reasons = tuple(verification.get("reasons", ()))
        return Outcome(ExitCode.VERIFICATION, output, report, plan, seconds, reasons, doubts)
    budget = report.get("budget") or {}
    if not budget.get("passed", True):
        missed = tuple(line["text"] for line in budget["lines"] if not line["passed"])
        return Outcome(ExitCode.BUDGET, output, report, plan, seconds, missed, doubts)
    if strict and doubts:
        return Outcome(ExitCode.BUDGET, output, report, plan, seconds, doubts, doubts)
    return Outcome(ExitCode.DONE, output, report, plan, seconds, (), doubts)
