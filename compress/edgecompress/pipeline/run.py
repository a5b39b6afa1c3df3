"""The pipeline: a plan, the loop over its steps, and what is written of it into the run's folder."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from edgecompress.context import Context, Listener
from edgecompress.errors import ExitCode, ResourceError, ResultError
from edgecompress.pipeline.changes import remember
from edgecompress.pipeline.doubts import early_doubts
from edgecompress.pipeline.folder import alone, prepare, recorder
from edgecompress.pipeline.lock_file import differences, lock_file
from edgecompress.pipeline.making import Asked, carry_out
from edgecompress.pipeline.plan import Plan
from edgecompress.recipe.schema import Recipe
from edgecompress.report.schema import HTML, MARKDOWN, PICTURE
from edgecompress.report.verdict import DOUBTS
from edgecompress.store.aside import MISSHAPEN, Aside
from edgecompress.store.claims import Claim
from edgecompress.store.files import are_hashes, is_whole, sha256_file, sha256_json, write_bytes
from edgecompress.store.reading import read_document, read_into_memory
from edgecompress.store.store import Artifact, StageResult, Store
from edgecompress.version import __version__

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
#: All that a run may leave in its folder, its logs aside.
NAMES = (MODEL, REJECTED, *BESIDE, LOCK, PICTURE, MARKDOWN, HTML, REPORT)
#: The pages beside a report, and what of one tells how it came about, not what it is about.
PAGES = {LOCK, PICTURE, MARKDOWN, HTML}
OF_THE_MOMENT = ("stages", "environment")


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
    force: bool = False,
    recipe_file: Path | None = None,
    listeners: Sequence[Listener] = (),
) -> Outcome:
    """Carries out a recipe and returns how it ended; model.tflite and the report lie in `output`.

    Raises:
        EdgecompressError: The run could not be finished; the steps done before stay in the store.
    """
    started = time.monotonic()
    asked = Asked(recipe, store, trust, until, fresh, keep_cache)
    plan = asked.plan()
    changed = differences(recipe.locked, plan) if recipe.locked is not None else []
    store.require_writable({step.stage: step.reason for step in plan.steps if step.result is None})
    changed = [f"Not as in the lock file, so the bytes may differ: {difference}." for difference in changed]
    prepare(output)
    repeated = recipe.locked is not None  # the lock file lies in the folder of the recipe's run
    with (
        alone(output, NAMES, None if repeated else recipe_file, force=force) as claim,
        recorder(output) as record,
    ):
        ctx = Context(recipe.seed, trust=trust, listeners=[record, *listeners])
        ctx.emit(
            "run-start", stages=[step.stage for step in plan.steps], cached=[s.stage for s in plan.steps if s.result]
        )
        for doubt in (*claim.doubts, *changed):
            ctx.warn(doubt)
        for step in plan.steps:
            if step.kept:
                ctx.note(f"{step.stage}: a result of other code is kept ({', '.join(step.kept)})")
        if plan.cached and until is None:
            report = _finished_report(output, recipe, plan)
            if report is not None:
                for step in plan.steps:
                    ctx.stage = step.stage
                    ctx.emit("stage-cached", seconds=step.result.seconds if step.result else 0.0)
                return _outcome(report, output, plan, started, strict=strict)
        if not store.read_only:
            remember(recipe, store, {step.stage: step.parts for step in plan.steps})
        plan, results, report = _finish(asked, plan, output, ctx, claim)
        if report is None:
            return _stopped(recipe, results, output, plan, started, strict=strict)
        if recipe.locked is not None:
            _compare(recipe.locked, results["export"].artifacts[MODEL].sha256, ctx)
        return _outcome(report, output, plan, started, strict=strict)


def _finish(
    asked: Asked, plan: Plan, output: Path, ctx: Context, claim: Claim
) -> tuple[Plan, dict[str, StageResult], dict[str, Any] | None]:
    """Goes through a plan and writes its report, None where it was asked to end before.

    What was finished before and turns out to be of the wrong form only where it is reported on is made again, once.
    """
    aside = Aside(asked.store, ctx.note)
    while True:
        plan, results = carry_out(asked, plan, ctx, aside)
        if asked.until is not None and "benchmark" not in results:
            return plan, results, None
        try:
            claim.before_writing()
            with aside.blaming([step.result for step in plan.steps if step.result and step.stage in SOON_MADE]):
                report = _write_results(asked.recipe, plan, results, output, ctx)
        except ResultError as error:
            aside.take(error)
            plan = asked.plan()
            continue
        claim.written({*report["files"], *report["pages"], REPORT})
        return plan, results, report


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


def _write_results(
    recipe: Recipe, plan: Plan, results: dict[str, StageResult], output: Path, ctx: Context
) -> dict[str, Any]:
    """Writes flatbuffer, lock file and report; a flatbuffer that failed its verification gets another name."""
    from edgecompress.pipeline.report_inputs import report_inputs
    from edgecompress.report.document import build_report, write_report

    passed = bool(results["verify"].metrics["passed"])
    exported = results["export"].artifacts[MODEL]
    kept, dropped = (MODEL, REJECTED) if passed else (REJECTED, MODEL)
    _remove(output / dropped)
    if not (output / kept).is_file() or sha256_file(output / kept) != exported.sha256:
        _copy(exported, output / kept)
    _write_beside(results, output, passed=passed)
    lock = lock_file(recipe, plan, results, exported.sha256).encode()
    write_bytes(output / LOCK, lock)
    created_at = datetime.now(UTC).isoformat(timespec="seconds")
    inputs = report_inputs(recipe, plan, results, created_at=created_at, files=_files(results))
    pages = {LOCK: hashlib.sha256(lock).hexdigest()}
    report = {**build_report(recipe, inputs), "run_key": _run_key(recipe, plan, results), "pages": pages}
    report = write_report(output, report)
    ctx.note(f"report written to {output}")
    return report


def _beside(results: Mapping[str, StageResult], *, passed: bool) -> dict[str, Artifact]:
    """Returns what lies beside the flatbuffer."""
    found = {}
    for name, (stage, source) in BESIDE.items():
        artifact = results[stage].artifacts.get(source) if stage in results else None
        if artifact is not None and (passed or name != STEP):
            found[name] = artifact
    return found


def _files(results: Mapping[str, StageResult]) -> dict[str, str]:
    """Returns the files of a finished run's folder with their SHA-256, its pages aside."""
    passed = bool(results["verify"].metrics["passed"])
    beside = {name: artifact.sha256 for name, artifact in _beside(results, passed=passed).items()}
    return {MODEL if passed else REJECTED: results["export"].artifacts[MODEL].sha256, **beside}


def _write_beside(results: Mapping[str, StageResult], output: Path, *, passed: bool) -> None:
    """Writes what lies beside the flatbuffer; what an earlier run left goes."""
    former, beside = _former_files(output), _beside(results, passed=passed)
    for name in BESIDE:
        if name in beside:
            _copy(beside[name], output / name)
        elif name in former:
            _remove(output / name)


def _copy(artifact: Artifact, path: Path) -> None:
    """Writes a file of a stage into the run's folder: the one that was judged, and no other.

    Raises:
        ResourceError: It is not the one any more, cannot be read, or the file system refused.
    """
    try:
        content = read_into_memory(artifact.path)
    except OSError as error:
        raise ResourceError(f"cannot read {artifact.path}: {error.strerror or error}. Run again.") from error
    if hashlib.sha256(content).hexdigest() != artifact.sha256:
        raise ResourceError(f"{artifact.path} changed while the run was at work. Run again when it stays as it is.")
    write_bytes(path, content)


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise ResourceError(f"cannot remove {path}: {error.strerror or error}. It is of an earlier run.") from error


def _former_files(output: Path) -> set[str]:
    """Returns the files that the report in a folder lists, none where there is no report."""
    try:
        return set(read_document(output / REPORT, "a report")["files"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return set()


def _compare(locked: dict[str, Any], model_sha256: str, ctx: Context) -> None:
    """Tells whether a run from a lock file came to the same flatbuffer."""
    theirs = locked.get("model_sha256")
    if theirs == model_sha256:
        ctx.note("the flatbuffer is that of the lock file, byte for byte")
    elif theirs is not None:
        ctx.warn(f"The flatbuffer is not that of the lock file: SHA-256 {model_sha256[:12]} here, {theirs[:12]} there.")


def _run_key(recipe: Recipe, plan: Plan, results: Mapping[str, StageResult]) -> str:
    """Returns what the report depends on: the steps, and what only names or judges."""
    return sha256_json(
        {
            "steps": [step.fingerprint for step in plan.steps],
            # What is reported on, not only what it was asked to be: a result made again may have other bytes.
            "content": {stage: result.content for stage, result in results.items()},
            "name": recipe.name,
            "budget": recipe.budget.model_dump(mode="json"),
            "version": __version__,
            "kept": {step.stage: list(step.kept) for step in plan.steps if step.kept},
        }
    )


def _finished_report(output: Path, recipe: Recipe, plan: Plan) -> dict[str, Any] | None:
    """Returns the report in the folder if it is this run's, and it and all files beside it are there unharmed.

    Its seal anybody can make: so it is held against what the stages' results give.
    """
    from edgecompress.pipeline.report_inputs import report_inputs
    from edgecompress.report.document import build_report

    try:
        results = {step.stage: step.result for step in plan.steps if step.result is not None}
        report: dict[str, Any] = read_document(output / REPORT, "a report")
        if report["run_key"] != _run_key(recipe, plan, results) or not is_whole(report) or "verdict" not in report:
            return None
        hashes = {**report["files"], **report["pages"]}
        if not are_hashes(hashes) or set(report["pages"]) != PAGES:
            return None
        inputs = report_inputs(recipe, plan, results, created_at=str(report["created_at"]), files=_files(results))
        built = json.loads(json.dumps(build_report(recipe, inputs)))
        if any(report.get(key) != value for key, value in built.items() if key not in OF_THE_MOMENT):
            return None
        return report if all(sha256_file(output / name) == digest for name, digest in hashes.items()) else None
    except (OSError, RecursionError, ResultError, *MISSHAPEN):
        return None


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
