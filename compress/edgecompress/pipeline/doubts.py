"""What is said against models before there is a report: as soon as a stage is finished, and where a run stops early."""

from __future__ import annotations

from collections.abc import Mapping

from edgecompress.context import Context
from edgecompress.recipe.schema import Recipe
from edgecompress.report.verdict import doubts_of, stage_doubts
from edgecompress.store.store import StageResult

#: What is worth a warning hours before the report; the rest can wait for it.
AT_ONCE = ("chance", "permuted")
#: Part of the training loop's own warning that a model has learnt nothing.
SAID_BEFORE = "no better than always answering the most frequent class"


def warn_at_once(stage: str, result: StageResult, ctx: Context) -> None:
    """Warns of a model that later stages should not learn from, also where it was finished in an earlier run."""
    known = any(SAID_BEFORE in warning for warning in result.warnings)
    for reason in stage_doubts(stage, result.metrics):
        if reason["code"] in AT_ONCE and not (reason["code"] == "chance" and known):
            ctx.warn(reason["text"])


def early_doubts(recipe: Recipe, results: Mapping[str, StageResult]) -> tuple[str, ...]:
    """Returns what makes the result of a run that stops early doubtful: by the test split, where that was looked at."""
    if "verify" in results:
        from edgecompress.pipeline.report_inputs import evidence

        limits = recipe.budget.model_dump(exclude_none=True)
        return tuple(reason["text"] for reason in doubts_of(evidence(results), limits=limits))
    return tuple(reason["text"] for stage, result in results.items() for reason in stage_doubts(stage, result.metrics))
