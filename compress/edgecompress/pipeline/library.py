"""`edgecompress.run`: a recipe carried out from a program, as the command of that name does it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edgecompress.context import Listener
from edgecompress.errors import UsageError
from edgecompress.pipeline.run import Outcome, run_pipeline
from edgecompress.pipeline.settings import default_output, open_store, trusted
from edgecompress.recipe.reading.load import load_recipe
from edgecompress.recipe.schema import Recipe


def run(
    recipe: Path | str | Mapping[str, Any] | Recipe,
    *,
    output: Path | str | None = None,
    overrides: Sequence[str] = (),
    store: Path | str | None = None,
    trust: bool = False,
    until: str | None = None,
    fresh: bool = False,
    keep_cache: bool = False,
    strict: bool = False,
    force: bool = False,
    listeners: Sequence[Listener] = (),
) -> Outcome:
    """Carries out a recipe and returns how it ended; model.tflite and the report lie in the folder `output`.

    A missed budget and a failed verification are no exceptions: `exit_code` of what is returned is 3 or 5 then, as the
    command's would be, and `messages` say why; `doubts` say what makes the result doubtful, if anything does. Finished
    stages are reused. The threads that the recipe asks for, or all cores, stay set in PyTorch afterwards.

    Args:
        recipe: The path of a recipe file; a recipe's content as a dict, whose relative paths start from the current
            folder and whose name is `recipe` unless it has one; or what `load_recipe` returned.
        output: The run's folder; `runs/NAME` by default.
        overrides: Laid over the recipe, as the command's `--set` does: `["prune.ratio=0.7"]`.
        store: Where finished stages lie; by default the folder in EDGECOMPRESS_STORE, or `runs/.store`.
            EDGECOMPRESS_STORE_READONLY and EDGECOMPRESS_STORE_KEY hold for either.
        trust: Allow what runs code: `python:` models and data, Lambda layers, SavedModels; EDGECOMPRESS_TRUST=1 does.
        until: The last stage to do: `teacher`, `distill`, `prune`, `quantize`, `export` or `verify`. All by default;
            the outcome has no report where it stops before the last one.
        fresh: Make every stage again.
        keep_cache: Reuse finished stages that an edgecompress with other code made.
        strict: Let a doubtful result end with exit code 3, as a missed budget does.
        force: Overwrite files in the run's folder that no run has written.
        listeners: Called with every `edgecompress.context.Event`: stages, epochs, progress, warnings.

    Raises:
        RecipeError: The recipe is wrong; `problems` has everything that is.
        UsageError: `until` is no stage of this recipe, or code is to be run without `trust`.
        ResourceError: Data (DataError), a model (ModelError) or the file system could not be used. Stages finished
            before stay in the store: the same call goes on from there.
    """
    file = Path(recipe) if isinstance(recipe, str | Path) else None
    if not isinstance(recipe, Recipe):
        recipe = load_recipe(recipe, overrides)
    elif overrides:
        raise UsageError("overrides belong to a file or a dict: hand them to load_recipe, which made this recipe")
    return run_pipeline(
        recipe,
        output=default_output(recipe) if output is None else Path(output),
        store=open_store(None if store is None else Path(store)),
        trust=trusted(trust),
        until=until,
        fresh=fresh,
        keep_cache=keep_cache,
        strict=strict,
        force=force,
        recipe_file=file,
        listeners=listeners,
    )
