"""What only data and models can tell is told before anything is trained."""

from __future__ import annotations

from collections.abc import Set as AbstractSet

from compress.errors import DataError
from compress.stages.base import Workbench
from compress.stages.targets import find_aim, pruner_for
from compress.tflite.runtimes import RUNTIMES


def preflight(bench: Workbench, todo: AbstractSet[str]) -> None:
    """Loads the data and builds the models of the steps to be made; raises what would otherwise stop the run later.

    Args:
        bench: The run.
        todo: Stages that have to be made.

    Raises:
        ResourceError: Data or weights cannot be used, or the model cannot be pruned as far as asked.
    """
    recipe, dataset = bench.recipe, bench.dataset
    trains = {
        "teacher": recipe.teacher is not None and recipe.teacher.train is not None,
        "distill": recipe.student is not None and (recipe.distill is not None or recipe.student.train is not None),
        "prune": recipe.prune is not None,
        "quantize": recipe.quantize is not None and "qat" in (recipe.quantize.mode, recipe.quantize.escalate),
    }
    learners = sorted(stage for stage, does in trains.items() if does and stage in todo)
    if learners and not len(dataset.train):
        raise DataError(
            f"{dataset.name} has no training samples, but {', '.join(learners)} would have to train. "
            "Give a train split, or weights and mode: ptq."
        )
    if "benchmark" in todo:
        for runtime in recipe.benchmark.runtimes:
            RUNTIMES[runtime].require()
    if "verify" in todo and not len(dataset.test):
        raise DataError(f"{dataset.name} has no test samples: the flatbuffer could not be verified.")
    if "quantize" in todo and not len(dataset.train) and dataset.calibration is None:
        raise DataError(f"{dataset.name} has nothing to calibrate on: give a train split or a calibration folder.")
    if todo & {"teacher", "distill", "prune"}:
        if recipe.teacher is not None and "teacher" in todo:
            bench.build(recipe.teacher)
        compressed = bench.build(recipe.compressed)
        if recipe.prune is not None and "prune" in todo and recipe.prune.method == "structured":
            aim = find_aim(bench, compressed, recipe.prune, search=False)
            pruner_for(bench, compressed, recipe.prune, aim, recipe.prune.steps)
