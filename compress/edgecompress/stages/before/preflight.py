"""What only data and models can tell is told before anything is trained."""

from __future__ import annotations

from collections.abc import Set as AbstractSet

from torch import nn

from edgecompress.data.base import Dataset
from edgecompress.errors import DataError, ModelError
from edgecompress.models.count import count
from edgecompress.pruning.unstructured.masks import MagnitudeMasks
from edgecompress.pruning.unstructured.patterns import Pattern
from edgecompress.recipe.schema import PruneSpec
from edgecompress.stages.base import Workbench
from edgecompress.stages.before.rehearsal import networks, rehearse
from edgecompress.stages.pruning.targets import find_aim, pruner_for
from edgecompress.tflite.format.convert import check_converter
from edgecompress.tflite.runtime.runtimes import RUNTIMES
from edgecompress.training.defaults import require_batches
from edgecompress.wording import counted

KIB = 1024
#: The least that a weight takes in the flatbuffer.
BITS = {"float32": 32, "int8": 8, "int4": 4}


def preflight(bench: Workbench, todo: AbstractSet[str]) -> None:
    """Loads the data and builds the models of the steps to be made; raises what would otherwise stop the run later.

    Args:
        bench: The run.
        todo: Stages that have to be made.

    Raises:
        ResourceError: Data or weights cannot be used, nothing can be converted here, or the model cannot be pruned as
            far as asked.
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
    _check_tools(bench, todo)
    if "verify" in todo and not len(dataset.test):
        raise DataError(f"{dataset.name} has no test samples: the flatbuffer could not be verified.")
    if "verify" in todo and recipe.task == "anomaly-detection":
        _check_anomalies(dataset)
    if "quantize" in todo and not len(dataset.train) and dataset.calibration is None:
        raise DataError(f"{dataset.name} has nothing to calibrate on: give a train split or a calibration folder.")
    if todo & {"teacher", "distill", "prune"}:
        _check_models(bench, todo, learners)
    if todo & {"quantize", "export"}:
        for network in networks(bench):
            bench.rehearsed[network.stage] = rehearse(bench, network)


def _check_models(bench: Workbench, todo: AbstractSet[str], learners: list[str]) -> None:
    """Builds the models and looks at what the stages to be made will do with them.

    Raises:
        ResourceError: One cannot be built, trained in such batches, as small as asked, or pruned as far.
    """
    recipe = bench.recipe
    if recipe.teacher is not None and "teacher" in todo:
        _check_batches(bench, bench.build(recipe.teacher, "teacher"), "teacher")
    compressed = bench.build(recipe.compressed)
    for stage in sorted({"distill", "prune"} & set(learners)):
        _check_batches(bench, compressed, stage)
    _check_size(bench, compressed)
    if recipe.prune is not None and "prune" in todo:
        _check_pruning(bench, compressed, recipe.prune)


def _check_batches(bench: Workbench, model: nn.Module, stage: str) -> None:
    """Refuses batches of one sample for a model with batch norms.

    Raises:
        ModelError: It has some.
    """
    block = bench.recipe.distill if stage == "distill" and bench.recipe.distill else bench.spec_of(stage)
    spec = bench.recipe.prune.train if stage == "prune" and bench.recipe.prune else block.train
    if spec is not None:
        require_batches(model, spec, len(bench.task_of(stage).dataset.train))


def _check_tools(bench: Workbench, todo: AbstractSet[str]) -> None:
    """Looks for the converter and for the runtimes that a recipe names.

    Raises:
        ResourceError: One that is needed is not installed.
    """
    if todo & {"quantize", "export"}:
        check_converter()
    if "benchmark" in todo:
        for runtime in bench.recipe.benchmark.runtimes:
            RUNTIMES[runtime].require()


def _check_pruning(bench: Workbench, model: nn.Module, spec: PruneSpec) -> None:
    """Refuses a model that cannot be pruned as far as asked; its weights are changed.

    Raises:
        ModelError: Too little of it can go.
    """
    if spec.method == "structured":
        pruner_for(bench, model, spec, find_aim(bench, model, spec, search=False), spec.steps)
    else:  # how many weights can go does not depend on their values
        MagnitudeMasks(model, pattern=Pattern.named(spec.pattern), scope=spec.scope).update(spec.ratio)


def _check_anomalies(dataset: Dataset) -> None:
    """Refuses a test split from which no AUC follows.

    Raises:
        DataError: It has normal samples only, or none.
    """
    normal = int((dataset.test.labels == 0).sum())
    if normal in (0, len(dataset.test)):
        what = "an anomaly" if normal else "a normal sample (label 0)"
        raise DataError(f"the test split of {dataset.name} has no sample that is {what}: an AUC takes both kinds.")


def _check_size(bench: Workbench, model: nn.Module) -> None:
    """Refuses a budget that the weights alone exceed, where nothing in the recipe removes any.

    Raises:
        ModelError: The flatbuffer cannot be as small as asked.
    """
    recipe, limit = bench.recipe, bench.recipe.budget.size_kib
    if limit is None or recipe.prune is not None:
        return
    kind = "float32" if recipe.quantize is None else recipe.quantize.weights
    layers = count(model, bench.dataset.input_shape, bench.dataset.input_dtype).layers
    weights = sum(layer.params for layer in layers)
    needed = weights * BITS[kind] / 8 / KIB
    if needed > limit:
        raise ModelError(
            f"budget.size_kib {limit:g} cannot be met: the {counted(weights, 'weight')} of {recipe.compressed.model} "
            f"take {needed:.1f} KiB as {kind}. Choose a smaller model, add a `prune` block, or raise the budget."
        )
