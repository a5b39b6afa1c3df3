"""What the last run of a recipe was made of, so that the next one can say what has changed since."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgecompress.recipe.schema import Recipe
from edgecompress.store.files import sha256_json, write_json
from edgecompress.store.store import Store

#: Characters of the file's name.
DIGITS = 20


def last_parts(recipe: Recipe, store: Store) -> dict[str, Mapping[str, Any]]:
    """Returns stage -> what its fingerprint was made of in the last run of this recipe; nothing where there was none.

    A recipe is the same while its file is: overrides on the command line do not make it another.
    """
    try:
        found = json.loads(_file(recipe, store).read_bytes())
        return {str(stage): dict(parts) for stage, parts in found.items()}
    except (OSError, ValueError, TypeError, AttributeError, RecursionError):
        return {}


def remember(recipe: Recipe, store: Store, parts: Mapping[str, Mapping[str, Any]]) -> None:
    """Keeps what the stages of a run are made of; stages that this run leaves out stay as they were.

    Raises:
        ResourceError: The file system refused.
    """
    write_json(_file(recipe, store), {**last_parts(recipe, store), **parts})


def _file(recipe: Recipe, store: Store) -> Path:
    name = sha256_json([recipe.base_dir, recipe.name])[:DIGITS]
    return store.root / "last" / f"{name}.json"
