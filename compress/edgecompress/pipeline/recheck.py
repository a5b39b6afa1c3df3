"""A finished run, checked again: every hash, the flatbuffer's score on the test split, its agreement with the twin."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgecompress.context import Context, Listener
from edgecompress.errors import ModelError, RecipeError, ResourceError, StaleInputError
from edgecompress.figures import ACCURACY, answer_noun, figure_text, main_figure, main_value
from edgecompress.pipeline.run import LOCK, MODEL, REJECTED, REPORT
from edgecompress.recipe.reading.source import MAX_BYTES, parse
from edgecompress.recipe.schema import Recipe
from edgecompress.recipe.steps import STAGE_ORDER, reads
from edgecompress.report.budget import unfounded
from edgecompress.report.numbers import KIB
from edgecompress.report.verdict import assess, is_verdict
from edgecompress.store.files import is_plain_name, is_sha256, is_whole, sha256_file, sha256_json
from edgecompress.store.reading import is_regular, read_bounded, read_document
from edgecompress.store.store import MISSING, StageResult, Store, contents
from edgecompress.wording import counted

if TYPE_CHECKING:  # they import what is heavy
    import numpy as np
    from numpy.typing import NDArray

    from edgecompress.stages.base import Workbench

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
    """Returns what was found in a run's folder: {passed, accuracy, metrics, checks, verdict, not_recomputed}.

    `verdict` is the run's own, from its report: whether what is as the run left it is any good. `accuracy` is that of a
    classifier, None of other tasks; `metrics` are all figures on the test split; `not_recomputed` says what the report
    tells and nothing here has looked at again.

    Raises:
        ResourceError: The folder holds no finished run, or its data cannot be read.
    """
    report, lock = read_run(folder)
    recipe = recipe_of(folder, lock)
    checks = [_hash_check(folder, name, digest) for name, digest in sorted(report["files"].items())]
    checks += [_hash_check(folder, LOCK, digest) for name, digest in report.get("pages", {}).items() if name == LOCK]
    if not is_whole(report):
        checks.append(Check(REPORT, False, "its content is not what the run wrote"))
    model = folder / MODEL
    if not is_regular(model):
        detail = (
            "the run's flatbuffer had failed its verification" if (folder / REJECTED).is_file() else "it is missing"
        )
        checks.append(Check(MODEL, False, detail))
        return _found(checks, None, report)
    if all(check.passed for check in checks) and sha256_file(model) != lock["model_sha256"]:
        checks.append(Check(f"{MODEL} against {LOCK}", False, "the lock file names another flatbuffer"))
    if not all(check.passed for check in checks):
        return _found(checks, None, report)  # a file that is not the run's must not be opened as if it were
    from edgecompress.data.loading import fingerprint

    checks.append(_data_check(fingerprint(recipe, trust=trust), lock))
    results = _results(recipe, lock, store, checks)
    metrics = _score(folder, recipe, results, store, report, trust, listeners, checks)
    checks += _judged_again(report, model.stat().st_size, metrics or {})
    return _found(checks, metrics, report)


def _results(recipe: Recipe, lock: dict[str, Any], store: Store, checks: list[Check]) -> dict[str, StageResult]:
    """Returns what the run's own stages left, as far as it is in the store, and says of each what became of it.

    What a run of today would make is another question, with other code and libraries; and what another run has made
    again since, with other bytes, is not this run's.
    """
    results: dict[str, StageResult] = {}
    content = lock.get("content") or {}
    for stage, made in (lock.get("steps") or {}).items():
        inputs = contents(results[name] for name in reads(recipe, stage) if name in results)
        result, reason = store.load(stage, made, inputs)
        if result is not None and content.get(stage) != sha256_json(result.content):
            result, reason = None, "the store holds another result than the run's: it was made again since"
        checks.append(_stage_check(stage, result is not None, reason))
        if result is not None:
            results[stage] = result
    return results


def read_run(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns report and lock file of a finished run.

    Raises:
        ResourceError: The folder holds none, or they are damaged.
    """
    try:
        report = read_document(folder / REPORT, "a report")
        lock = parse(read_bounded(folder / LOCK, MAX_BYTES, "a lock file").decode(), LOCK).data
    except FileNotFoundError as error:
        raise ResourceError(
            f"{folder} holds no finished run: {Path(str(error.filename)).name} is missing. "
            "Give the folder of `edgecompress run`."
        ) from error
    except (OSError, ValueError, RecursionError, RecipeError) as error:
        raise ResourceError(
            f"{folder}: report.json or {LOCK} cannot be read ({str(error).splitlines()[0]}). Run the recipe again."
        ) from error
    if not _is_report(report) or not _is_lock(lock):
        raise ResourceError(f"{folder}: report.json or {LOCK} is not what a run writes. Run the recipe again.")
    return report, lock


def _is_report(report: Any) -> bool:
    """Returns whether a document has of a report what is read here."""
    try:
        files, task = report["files"], report["task"]
        value = main_value(report["models"][-1], main_figure(task))
        size = report["models"][-1]["flatbuffer"]["size_bytes"]
        assess(report)
        unfounded(report["budget"], {})
        [str(row["key"]) for row in report["models"]]
    except (ValueError, KeyError, TypeError, IndexError, AttributeError):
        return False
    named = all(
        isinstance(names, dict) and all(isinstance(digest, str) for digest in names.values())
        for names in (files, report.get("pages", {}))
    )
    return named and isinstance(value, int | float) and isinstance(size, int) and is_verdict(report.get("verdict"))


def _is_lock(lock: Any) -> bool:
    """Returns whether a document has of a lock file what is read here: stages and hashes, and no other names."""
    if not isinstance(lock, dict) or not all(is_sha256(lock.get(key)) for key in ("model_sha256", "data_sha256")):
        return False
    blocks = (lock.get("steps") or {}, lock.get("content") or {})
    return all(
        isinstance(block, dict) and all(stage in STAGE_ORDER and is_sha256(block[stage]) for stage in block)
        for block in blocks
    )


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
    if not is_plain_name(name):
        return Check(name, False, "it is no name of a file in the run's folder")
    path = folder / name
    if not is_regular(path):
        return Check(name, False, "it is no file" if os.path.lexists(path) else "it is missing")
    try:
        same = sha256_file(path) == digest
    except OSError as error:
        return Check(name, False, f"it cannot be read: {error.strerror or error}")
    return Check(name, same, "unchanged since the run" if same else "its SHA-256 is not the one in report.json")


def _data_check(data_sha256: str, lock: dict[str, Any]) -> Check:
    same = data_sha256 == lock["data_sha256"]
    return Check("data", same, "the same as in the run" if same else "its content has changed since the run")


def _stage_check(stage: str, there: bool, reason: str) -> Check:
    if there:
        return Check(f"stage {stage}", True, "its files match their hashes")
    damaged = "damaged" in reason or "missing" in reason or "cannot be read" in reason
    return Check(
        f"stage {stage}", False if damaged else None, "not in the store any more" if reason == MISSING else reason
    )


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
    from edgecompress.stages.verifying.gate import score
    from edgecompress.tflite.format.flatbuffer import read_model

    ctx = Context(recipe.seed, trust=trust, listeners=list(listeners), stage="verify")
    # Native code, and a file whose hashes may be forged: it runs in processes of its own.
    bench = Workbench(recipe, ctx, store, results, apart=True)
    try:
        read_model(folder / MODEL)
    except ResourceError as error:
        checks.append(Check(MODEL, False, str(error)))
        return None
    try:
        outputs = score(bench, folder / MODEL)
    except ModelError as error:
        detail = str(error).removeprefix(f"{(folder / MODEL).absolute()}: ")
        checks.append(Check(f"{MODEL} in LiteRT", False, detail))
        return None
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
            checks.append(_twin_check(bench, folder / MODEL, outputs))
        else:
            checks.append(Check("agreement with the twin", None, "the twin is not in the store any more"))
    return metrics


def _twin_check(bench: Workbench, model: Path, outputs: NDArray[np.float32]) -> Check:
    """Returns whether the flatbuffer computes what the quantized network of its run does, which lies in the store."""
    from edgecompress.recipe.steps import final_stage
    from edgecompress.stages.quantizing.twins import load_twin
    from edgecompress.stages.verifying.gate import check_twin

    name, recipe, reasons = "agreement with the twin", bench.recipe, list[str]()
    for result in bench.results.values():
        bench.ctx.known |= result.used
    try:
        twin = load_twin(bench.results["quantize"], bench.float_flatbuffer(final_stage(recipe)))
    except StaleInputError:
        return Check(name, None, "the float flatbuffer that it started from is lost, and comes out otherwise here")
    except ResourceError as error:
        if not bench.store.read_only:
            raise
        return Check(name, None, str(error))
    try:
        found = check_twin(bench, twin, model, outputs, reasons)
    except ModelError as error:  # it runs no more, on other samples or by other kernels
        return Check(name, False, str(error))
    same, samples = found["twin"]["same"], found["twin"]["samples"]
    told = f"the same answer on {same:.2f} % of {counted(samples, answer_noun(recipe.task))}"
    return Check(name, not reasons, reasons[0] if reasons else told)


def _judged_again(report: dict[str, Any], size_bytes: int, metrics: dict[str, float]) -> list[Check]:
    """Returns whether size, limits and verdict of the report follow from the file and from the figures found again."""
    told = report["models"][-1]["flatbuffer"]["size_bytes"]
    checks = [Check("size", told == size_bytes, f"{size_bytes:,} bytes, the report says {told:,}")]
    wrong = unfounded(report["budget"], {"size_kib": size_bytes / KIB, **metrics})
    held = "its limits and its reasons give the same again"
    if report["verdict"]["status"] != assess(report)["status"]:
        wrong.append(f"by the report's own figures it is {assess(report)['status']}")
    return [*checks, Check("verdict", not wrong, "; ".join(wrong) or held)]


def not_recomputed(report: dict[str, Any], checks: list[Check], *, scored: bool) -> list[str]:
    """Returns what is taken from the report on trust."""
    rows = [str(row["key"]) for row in report["models"]]
    found = [] if scored else ["the figures of the result"]
    found += [f"figures and size of the {row} model" for row in rows[:-1]]
    found += ["latency", "training"]
    found += [f"answers on {proof['runtime']}" for proof in report.get("runtimes") or () if "runtime" in proof]
    return found + [check.name for check in checks if check.passed is None]


def _found(checks: list[Check], metrics: dict[str, float] | None, report: dict[str, Any]) -> dict[str, Any]:
    return {
        "passed": all(check.passed is not False for check in checks),
        "accuracy": (metrics or {}).get(ACCURACY.key),
        "metrics": metrics,
        "checks": [asdict(check) for check in checks],
        "verdict": report["verdict"],
        "not_recomputed": not_recomputed(report, checks, scored=metrics is not None),
    }
