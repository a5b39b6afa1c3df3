"""A finished run, checked again: every hash, the flatbuffer's score on the test split, its agreement with the twin."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edgecompress.context import Context, Listener
from edgecompress.errors import ModelError, RecipeError, ResourceError
from edgecompress.figures import ACCURACY, answer_noun, figure_text, main_figure, main_value
from edgecompress.pipeline.run import LOCK, MODEL, REJECTED, REPORT
from edgecompress.recipe.reading.source import parse
from edgecompress.recipe.schema import Recipe
from edgecompress.report.verdict import assess
from edgecompress.store.files import is_whole, sha256_file
from edgecompress.store.store import StageResult, Store
from edgecompress.wording import counted

#: Accuracy is counted in samples; anything beyond float noise is another result.
SAME_SHARE = 1e-6


@dataclass(frozen=True)
class Check:
    """One thing looked at.

    Attributes:
        name: What was checked.
        passed: Whether it held; None where it could not be checked here, which fails nothing.
        detail: What was found.
    """

    name: str
    passed: bool | None
    detail: str


def recheck(folder: Path, store: Store, *, trust: bool = False, listeners: tuple[Listener, ...] = ()) -> dict[str, Any]:
    """Returns what was found in a run's folder: {passed, accuracy, metrics, checks, verdict}.

    `verdict` is the run's own, from its report: whether what is as the run left it is any good.
    `accuracy` is that of a classifier, None of other tasks; `metrics` are all figures on the test split.

    Raises:
        ResourceError: The folder holds no finished run, or its data cannot be read.
    """
    report, lock = read_run(folder)
    recipe = recipe_of(folder, lock)
    verdict = report.get("verdict") or assess(report)
    checks = [_hash_check(folder, name, digest) for name, digest in sorted(report["files"].items())]
    checks += [_hash_check(folder, LOCK, digest) for name, digest in report.get("pages", {}).items() if name == LOCK]
    if not is_whole(report):
        checks.append(Check(REPORT, False, "its content is not what the run wrote"))
    model = folder / MODEL
    if not model.is_file():
        detail = (
            "the run's flatbuffer had failed its verification" if (folder / REJECTED).is_file() else "it is missing"
        )
        checks.append(Check(MODEL, False, detail))
        return _found(checks, None, verdict)
    if sha256_file(model) != lock["model_sha256"] and all(check.passed for check in checks):
        checks.append(Check(f"{MODEL} against {LOCK}", False, "the lock file names another flatbuffer"))
    if not all(check.passed for check in checks):
        return _found(checks, None, verdict)  # a file that is not the run's must not be opened as if it were
    from edgecompress.data.loading import fingerprint

    checks.append(_data_check(fingerprint(recipe, trust=trust), lock))
    results: dict[str, StageResult] = {}
    # Those of the run itself: what a run of today would make is another question, with other code and libraries.
    for stage, made in (lock.get("steps") or {}).items():
        result, reason = store.load(stage, made)
        checks.append(_stage_check(stage, result is not None, reason))
        if result is not None:
            results[stage] = result
    metrics = _score(folder, recipe, results, store, report, trust, listeners, checks)
    return _found(checks, metrics, verdict)


def read_run(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns report and lock file of a finished run.

    Raises:
        ResourceError: The folder holds none, or they are damaged.
    """
    try:
        report = json.loads((folder / REPORT).read_bytes())
        lock = parse((folder / LOCK).read_text(encoding="utf-8"), LOCK).data
    except FileNotFoundError as error:
        raise ResourceError(
            f"{folder} holds no finished run: {Path(str(error.filename)).name} is missing. "
            "Give the folder of `edgecompress run`."
        ) from error
    except (OSError, ValueError, RecursionError, RecipeError) as error:
        raise ResourceError(
            f"{folder}: report.json or {LOCK} cannot be read ({str(error).splitlines()[0]}). Run the recipe again."
        ) from error
    if not _is_report(report) or not isinstance(lock, dict) or not {"model_sha256", "data_sha256"} <= lock.keys():
        raise ResourceError(f"{folder}: report.json or {LOCK} is not what a run writes. Run the recipe again.")
    return report, lock


def _is_report(report: Any) -> bool:
    """Returns whether a document has of a report what is read here."""
    try:
        files, task = report["files"], report["task"]
        value = main_value(report["models"][-1], main_figure(task))
    except (KeyError, TypeError, IndexError, AttributeError):
        return False
    named = all(
        isinstance(names, dict) and all(isinstance(digest, str) for digest in names.values())
        for names in (files, report.get("pages", {}))
    )
    return named and isinstance(value, int | float)


def recipe_of(folder: Path, lock: dict[str, Any]) -> Recipe:
    """Returns the recipe in a run's lock file.

    Raises:
        ResourceError: This version knows no such recipe.
    """
    try:
        return Recipe.model_validate({**lock["recipe"]}).model_copy(update={"base_dir": str(lock["base_dir"])})
    except (KeyError, TypeError, ValueError) as error:  # pydantic's errors are ValueErrors
        raise ResourceError(
            f"{folder}: {LOCK} holds no recipe that this version knows. Run the recipe again."
        ) from error


def _hash_check(folder: Path, name: str, digest: str) -> Check:
    path = folder / name
    if not path.is_file():
        return Check(name, False, "it is missing")
    same = sha256_file(path) == digest
    return Check(name, same, "unchanged since the run" if same else "its SHA-256 is not the one in report.json")


def _data_check(data_sha256: str, lock: dict[str, Any]) -> Check:
    same = data_sha256 == lock["data_sha256"]
    return Check("data", same, "the same as in the run" if same else "its content has changed since the run")


def _stage_check(stage: str, there: bool, reason: str) -> Check:
    if there:
        return Check(f"stage {stage}", True, "its files match their hashes")
    damaged = "damaged" in reason or "missing" in reason or "cannot be read" in reason
    return Check(f"stage {stage}", False if damaged else None, reason if damaged else "not in the store any more")


def _score(
    folder: Path,
    recipe: Recipe,
    results: dict[str, StageResult],
    store: Store,
    report: dict[str, Any],
    trust: bool,
    listeners: tuple[Listener, ...],
    checks: list[Check],
) -> dict[str, float] | None:
    from edgecompress.recipe.steps import final_stage
    from edgecompress.stages.base import Workbench
    from edgecompress.stages.quantizing.twins import load_twin
    from edgecompress.stages.verifying.gate import check_twin, score
    from edgecompress.tflite.facts.inspection import RUN_TIMEOUT_S
    from edgecompress.tflite.runtime.child import call

    try:  # native code, and a file whose hashes may be forged: first in a process of its own
        call("invoke", {"path": str((folder / MODEL).absolute()), "runtime": "litert"}, timeout_s=RUN_TIMEOUT_S)
    except ModelError as error:
        checks.append(Check(f"{MODEL} in LiteRT", False, str(error)))
        return None
    ctx = Context(recipe.seed, trust=trust, listeners=list(listeners), stage="verify")
    bench = Workbench(recipe, ctx, store, results)
    outputs = score(bench, folder / MODEL)
    metrics, figure = bench.task.metrics(outputs, bench.dataset.test), bench.task.figure
    value, expected = metrics[figure.key], main_value(report["models"][-1], figure)
    same, tested = (
        abs(value - expected) <= SAME_SHARE * (100 if figure.unit == "%" else abs(expected)),
        counted(len(outputs), "sample"),
    )
    told = f"{figure_text(figure, value)} on {tested}, the report says {figure_text(figure, expected)}"
    checks.append(Check(f"test {figure.label}", same, told))
    if recipe.quantize is not None:
        if "quantize" in bench.results and final_stage(recipe) in bench.results:
            reasons: list[str] = []
            twin = load_twin(bench.results["quantize"], bench.float_flatbuffer(final_stage(recipe)))
            found = check_twin(bench, twin, folder / MODEL, outputs, reasons)
            same, samples = found["twin"]["same"], found["twin"]["samples"]
            detail = (
                reasons[0]
                if reasons
                else f"the same answer on {same:.2f} % of {counted(samples, answer_noun(recipe.task))}"
            )
            checks.append(Check("agreement with the twin", not reasons, detail))
        else:
            checks.append(Check("agreement with the twin", None, "the twin is not in the store any more"))
    return metrics


def _found(checks: list[Check], metrics: dict[str, float] | None, verdict: dict[str, Any]) -> dict[str, Any]:
    return {
        "passed": all(check.passed is not False for check in checks),
        "accuracy": (metrics or {}).get(ACCURACY.key),
        "metrics": metrics,
        "checks": [asdict(check) for check in checks],
        "verdict": verdict,
    }
