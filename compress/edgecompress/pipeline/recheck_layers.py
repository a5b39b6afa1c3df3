"""A finished run's layers, looked at again: which one loses what in quantization."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from edgecompress.context import Context, Listener
from edgecompress.errors import ResourceError
from edgecompress.pipeline.recheck import read_run, recipe_of
from edgecompress.report.words.analysis import conclusion
from edgecompress.store.files import sha256_json
from edgecompress.store.store import StageResult, Store

AGAIN = "Run the recipe again with `edgecompress run`: what is finished is reused"


def analyse_layers(
    folder: Path,
    store: Store,
    *,
    samples: int | None = None,
    trust: bool = False,
    listeners: tuple[Listener, ...] = (),
) -> dict[str, Any]:
    """Returns the analysis of a run's quantized model as report.json has it, layers ranked.

    Args:
        folder: Of the run.
        store: Where its stages lie.
        samples: How many to use; None: 512, fewer for large networks.
        trust: Whether `python:` models and data may be used.
        listeners: Told of progress.

    Raises:
        ResourceError: The folder holds no finished run, nothing was quantized, its stages are gone, or its data has
            changed.
    """
    _, lock = read_run(folder)
    recipe = recipe_of(folder, lock)
    if recipe.quantize is None:
        raise ResourceError(
            f"{folder}: nothing was quantized, so no layer loses anything. Add `quantize: {{mode: ptq}}` to the recipe "
            "and run it."
        )

    from edgecompress.data.loading import fingerprint
    from edgecompress.recipe.steps import final_stage
    from edgecompress.stages.base import Workbench
    from edgecompress.stages.quantizing.twins import load_twin
    from edgecompress.stages.verifying.analysis import COMMAND_EFFORT, COMMAND_SAMPLES, analyse_run

    results = _results(folder, store, lock, ("quantize", final_stage(recipe)))
    if fingerprint(recipe, trust=trust) != lock.get("data_sha256"):
        raise ResourceError(f"{folder}: the data has changed since the run. {AGAIN}.")
    ctx = Context(recipe.seed, trust=trust, listeners=list(listeners), stage="analyze")
    bench = Workbench(recipe, ctx, store, results)
    for result in results.values():
        ctx.known |= result.used
    twin = load_twin(results["quantize"], bench.float_flatbuffer(final_stage(recipe)))
    found = analyse_run(bench, twin, samples or COMMAND_SAMPLES, effort=COMMAND_EFFORT if samples is None else math.inf)
    return {**found, "conclusion": conclusion(found, recipe.quantize.model_dump(mode="json"))}


def _results(folder: Path, store: Store, lock: dict[str, Any], needed: Iterable[str]) -> dict[str, StageResult]:
    """Returns what the stages left that made the quantized model: the run's own, and none that was made again since."""
    results = {}
    steps, content = lock.get("steps") or {}, lock.get("content") or {}
    for stage in needed:
        result, why = store.load(stage, steps[stage]) if stage in steps else (None, "the lock file does not name it")
        if result is not None and content.get(stage) != sha256_json(result.content):
            result, why = None, "it was made again since, with other bytes"
        if result is None:
            raise ResourceError(
                f"{folder}: what stage {stage} made is not in the store {store.root} ({why}). {AGAIN}; or name the "
                "run's store in EDGECOMPRESS_STORE."
            )
        results[stage] = result
    return results
