"""The lock file of a run: what it resolved, written beside its report, and compared when it is run as a recipe.

Also whether a folder holds the very run that is asked for.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from edgecompress.errors import DataError
from edgecompress.machine import cores, cpu_name
from edgecompress.pipeline.changes import CODE
from edgecompress.pipeline.plan import Plan
from edgecompress.recipe.schema import Recipe
from edgecompress.report.schema import REPORT
from edgecompress.store.files import is_whole, sha256_file, sha256_json
from edgecompress.store.store import StageResult
from edgecompress.version import __version__

HEADER = """\
# What a run resolved. `edgecompress run` takes this file as a recipe and repeats the run with these widths, to the same
# bytes where versions, machine and data are the same; `edgecompress verify` reads it too.
"""


def lock_file(recipe: Recipe, plan: Plan, results: dict[str, StageResult], model_sha256: str) -> str:
    """Returns the YAML of all that a run resolved: recipe with defaults, widths, versions, data hash, fingerprints."""
    document = {
        "edgecompress": __version__,
        "recipe": recipe.model_dump(mode="json"),
        "base_dir": str(Path(recipe.base_dir).absolute()),
        "widths": results["prune"].metrics.get("step_widths") if "prune" in results else None,
        "libraries": _libraries(plan),
        "machine": _machine(),
        "data_sha256": plan.data_sha256,
        "steps": {step.stage: step.fingerprint for step in plan.steps},
        "code": {step.stage: sha256_json(step.parts[CODE]) for step in plan.steps},
        "kept_code": {step.stage: list(step.kept) for step in plan.steps if step.kept},
        "model_sha256": model_sha256,
    }
    return HEADER + yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=120, default_flow_style=None)


def differences(locked: dict[str, Any], plan: Plan) -> list[str]:
    """Returns what is not as it was when a lock file was written, one phrase each; the bytes may differ with it.

    Args:
        locked: What the file says beside its recipe.
        plan: Of the run that is to repeat it.

    Raises:
        DataError: The data is another, so that nothing can be repeated.
    """
    data = locked.get("data_sha256")
    if data is not None and data != plan.data_sha256:
        raise DataError(
            f"the data is not that of the lock file (SHA-256 {plan.data_sha256[:12]} here, {data[:12]} there), so its "
            "run cannot be repeated. Run the recipe itself; to keep the widths, copy `widths` into its `prune` block."
        )
    pairs: list[tuple[str, Any, Any]] = [("edgecompress", __version__, locked.get("edgecompress"))]
    theirs = locked.get("libraries") or {}
    # An older lock file, or one that stopped earlier, need not name them all.
    pairs += [(name, ours, theirs[name]) for name, ours in _libraries(plan).items() if name in theirs]
    machine = locked.get("machine") or {}
    pairs += [(name, ours, machine.get(name, ours)) for name, ours in _machine().items()]
    found = [f"{name} {mine or 'missing'} here, {its or 'missing'} there" for name, mine, its in pairs if mine != its]
    code = locked.get("code") or {}
    unlike = [step.stage for step in plan.steps if code.get(step.stage) not in (None, sha256_json(step.parts[CODE]))]
    return [*found, f"the program's own code of {', '.join(unlike)}"] if unlike else found


def _libraries(plan: Plan) -> dict[str, str | None]:
    found: dict[str, str | None] = {}
    for step in plan.steps:
        found |= step.parts["libraries"]
    return dict(sorted(found.items()))


def _machine() -> dict[str, Any]:
    return {"cpu": cpu_name(), "cores": cores()}


def run_key(recipe: Recipe, plan: Plan) -> str:
    """Returns what the report depends on: the steps, and what only names or judges."""
    return sha256_json(
        {
            "steps": [step.fingerprint for step in plan.steps],
            "name": recipe.name,
            "budget": recipe.budget.model_dump(mode="json"),
            "version": __version__,
            "kept": {step.stage: list(step.kept) for step in plan.steps if step.kept},
        }
    )


def finished_report(output: Path, recipe: Recipe, plan: Plan) -> dict[str, Any] | None:
    """Returns the report in the folder if it is this run's, and it and all files beside it are there unharmed."""
    try:
        report: dict[str, Any] = json.loads((output / REPORT).read_bytes())
        if report["run_key"] != run_key(recipe, plan) or not is_whole(report) or "verdict" not in report:
            return None
        hashes = {**report["files"], **report["pages"]}
        return report if all(sha256_file(output / name) == digest for name, digest in hashes.items()) else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
