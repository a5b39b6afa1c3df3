"""Which parts of the program a stage of a recipe can reach: code that it cannot reach may change without its result.

Names of definitions stand here as text: this module imports none of them, and a test looks that each one is there.
"""

from __future__ import annotations

from edgecompress.recipe.schema import Recipe
from edgecompress.store.code import Reach

#: What the pipeline hands to every stage.
WORKBENCH = "edgecompress.stages.base.Workbench"
#: Prefix of a model's name -> key of the tables of families; names without one are those of built-in models.
FAMILIES = ("python:", "keras/", "hf/", "torchvision/", "timm/")
_MODELS, _SOURCES = "edgecompress.models.building", "edgecompress.data.loading"
_PRUNE, _QUANTIZE = "edgecompress.stages.prune", "edgecompress.stages.quantize"
_REPAIRS = "edgecompress.quantization.repairs"


def reach_of(recipe: Recipe, stage: str) -> Reach:
    """Returns where the code of a recipe's stage begins, and which branches of it this recipe does not take."""
    names = {spec.model for spec in (recipe.teacher, recipe.student) if spec is not None}
    families = {prefix for prefix in FAMILIES for name in names if name.startswith(prefix)}
    own_data = recipe.data.source.startswith("python:")
    published = families & {"torchvision/", "timm/"}
    entries: dict[str, set[str]] = {
        f"{_SOURCES}.SOURCES": set() if own_data else {recipe.data.source},
        f"{_MODELS}.BUILT_IN": {name for name in names if not name.startswith(FAMILIES)},
        f"{_MODELS}.FAMILIES": families,
        f"{_MODELS}.NORMALIZATIONS": published,
        "edgecompress.tasks.making.TASKS": {recipe.task},
    }
    cuts = _branches(recipe, stage) | (set() if own_data else {f"{_SOURCES}.PYTHON"})
    if "keras/" not in families:  # though every stage asks whether the teacher is one
        cuts.add("edgecompress.models.libraries.keras_models")
    return Reach(
        roots=frozenset({f"edgecompress.stages.{stage}.run", WORKBENCH}),
        cuts=frozenset(cuts),
        entries={table: frozenset(keys) for table, keys in entries.items()},
    )


def _branches(recipe: Recipe, stage: str) -> set[str]:
    """Returns what a stage's own code does not do for this recipe."""
    match stage:
        case "teacher":
            keras = recipe.teacher is not None and recipe.teacher.model.startswith("keras/")
            return set() if keras else {"edgecompress.stages.teacher.take_keras"}
        case "prune":
            return _branches_of_prune(recipe)
        case "quantize":
            return _branches_of_quantize(recipe)
        case _:
            return set()


def _branches_of_prune(recipe: Recipe) -> set[str]:
    spec = recipe.prune
    if spec is None or spec.method == "unstructured":
        return {
            f"{_PRUNE}.prune_channels", f"{_PRUNE}.check_reached", f"{_PRUNE}.Ranking",
            "edgecompress.stages.pruning.backoff", "edgecompress.stages.pruning.yardstick",
        }  # fmt: skip
    left = {f"{_PRUNE}.prune_weights"}
    kind = spec.goal[0]
    if kind in ("params", "macs"):
        # That the pruned model is not slower is measured, on this machine and now: who measures does not decide on it.
        left.add("edgecompress.stages.pruning.yardstick")
    elif kind != "size":
        left |= {"edgecompress.stages.exporting.notes", "edgecompress.tflite.format.metadata"}
    return left


def _branches_of_quantize(recipe: Recipe) -> set[str]:
    spec = recipe.quantize
    if spec is None:
        return set()
    left = set()
    if "qat" not in (spec.mode, spec.escalate):
        left.add(f"{_QUANTIZE}.train")
    if spec.max_drop_points is None:
        left |= {f"{_REPAIRS}.ladder", f"{_QUANTIZE}.repair", f"{_QUANTIZE}.close_ladder", f"{_QUANTIZE}.judge_for"}
    if spec.clusters is None:
        left.add(f"{_REPAIRS}.clustering")
    if not spec.portable:
        left.add(f"{_REPAIRS}.settling")
    return left
