"""Which stages a recipe has, which finished ones each reads, and which libraries can change its result."""

from __future__ import annotations

from edgecompress.recipe.schema import Recipe

STAGE_ORDER = ("teacher", "distill", "prune", "quantize", "export", "verify", "benchmark")
_TRAINING = ("torch", "numpy")
_CONVERSION = ("litert-torch", "ai-edge-quantizer", "ai-edge-litert")
#: Libraries whose version can change a stage's result.
LIBRARIES: dict[str, tuple[str, ...]] = {
    "teacher": _TRAINING,
    "distill": _TRAINING,
    "prune": (*_TRAINING, "torch-pruning"),
    "quantize": (*_TRAINING, *_CONVERSION),
    "export": (*_CONVERSION, "zstandard"),
    "verify": ("ai-edge-litert",),
    "benchmark": ("ai-edge-litert", "tensorflow-cpu", "tensorflow"),
}


def has_stage(recipe: Recipe, stage: str) -> bool:
    """Returns whether a recipe asks for a stage."""
    match stage:
        case "teacher":
            return recipe.teacher is not None
        case "distill":
            return recipe.student is not None
        case "prune":
            return recipe.prune is not None
        case "quantize":
            return recipe.quantize is not None
        case _:
            return True


def step_inputs(recipe: Recipe, stage: str, prints: dict[str, str]) -> dict[str, str]:
    """Returns the fingerprints of the steps that a stage reads."""
    match stage:
        case "teacher":
            wanted: tuple[str, ...] = ()
        case "distill":
            wanted = ("teacher",) if recipe.distill is not None else ()
        case "verify" | "benchmark":
            wanted = ("export",)
        case _:
            wanted = ("teacher", "distill", "prune", "quantize")
    return {name: prints[name] for name in wanted if name in prints}


def reads(recipe: Recipe, stage: str) -> tuple[str, ...]:
    """Returns the stages of a recipe whose files a stage reads: its result is about these very files."""
    before = STAGE_ORDER[: STAGE_ORDER.index(stage)]
    match stage:
        case "distill":
            wanted: tuple[str, ...] = ("teacher",) if recipe.distill is not None else ()
        case "benchmark":
            wanted = ("export",)
        case _:
            wanted = before
    return tuple(name for name in wanted if has_stage(recipe, name))


def model_stages(recipe: Recipe) -> list[tuple[str, str]]:
    """Returns the float models of a run in order: (row of the report, stage that made it)."""
    rows = []
    if recipe.teacher is not None:
        rows.append(("teacher", "teacher"))
    if recipe.student is not None:
        rows.append(("student", "distill"))
    if recipe.prune is not None:
        rows.append(("pruned", "prune"))
    return rows


def final_stage(recipe: Recipe) -> str:
    """Returns the stage whose float model becomes the flatbuffer."""
    return model_stages(recipe)[-1][1]
