"""A lock file as a recipe: what a run resolved, read so that it can be repeated.

`recipe.lock.yaml` holds the recipe with all defaults filled in, the widths that its run came to, and what else the
result depends on: versions, machine, data. Those widths go into `prune.widths`; the rest is compared when it runs.
"""

from __future__ import annotations

import contextlib
import copy
import json
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from edgecompress.recipe.fields import KeyPath
from edgecompress.recipe.reading.messages import found, nearest
from edgecompress.recipe.reading.source import Document
from edgecompress.recipe.schema import Recipe

#: What a lock file holds beside `recipe`: key -> its type, and that type in words.
FACTS: dict[str, tuple[type | tuple[type, ...], str]] = {
    "edgecompress": (str, "the version that wrote it"),
    "base_dir": (str, "the folder that the recipe's relative paths start from"),
    "libraries": (dict, "a block of library versions"),
    "machine": (dict, "a block with `cpu` and `cores`"),
    "data_sha256": ((str, type(None)), "the hash of the data"),
    "widths": ((dict, type(None)), "a block of layers with their widths, or `null`"),
    "steps": (dict, "a block of stages with their fingerprints"),
    "content": (dict, "a block of stages with the hash of their files"),
    "code": (dict, "a block of stages with hashes of the program's code"),
    "kept_code": (dict, "a block of stages with rooms of the program"),
    "model_sha256": (str, "the hash of model.tflite"),
}
#: Keys that the widths of a lock file decide about.
DECIDED = ("method", "ratio", "of", "target", "importance", "round_to", "steps")
_PREFIXED = ("python:", "keras/", "hf/")


def is_lock(data: Any) -> bool:
    """Returns whether a document is a lock file; a recipe has no key `recipe`."""
    return isinstance(data, dict) and "recipe" in data and "version" not in data


def unwrap(document: Document) -> dict[str, Any]:
    """Makes a lock file's document that of its recipe, with the run's widths in it, and returns the other facts.

    What is wrong with them joins the document's problems.
    """
    lock: dict[str, Any] = document.data
    facts = {key: value for key, value in lock.items() if key != "recipe"}
    for key, value in list(facts.items()):
        if key not in FACTS:
            hint = nearest(key, list(FACTS)) or "remove it: recipes are changed with `--set`"
            document.complain((key,), "no such key in a lock file", hint, of_key=True)
        elif not isinstance(value, FACTS[key][0]):
            document.complain((key,), f"expected {FACTS[key][1]}, found {found(value)}")
        else:
            continue
        del facts[key]
    recipe = lock["recipe"]
    if not isinstance(recipe, dict):
        document.complain(("recipe",), f"expected the recipe of a run, found {found(recipe)}", "run the recipe again")
        recipe = {"version": 1, "teacher": {"model": "resnet8"}}  # stands in, so that only this is complained about
    document.data = recipe
    keep_widths = bool(facts.get("widths")) and isinstance(recipe.get("prune"), dict)
    if keep_widths:
        recipe["prune"]["widths"] = facts["widths"]
    for table in (document.keys, document.values):
        _move(table, keep_widths)
    for paths in (document.empty, document.broken):
        moved = {path[1:] for path in paths if path[:1] == ("recipe",) and len(path) > 1}
        paths.clear()
        paths.update(moved)
    return facts


def _move(table: dict[KeyPath, tuple[str, int]], keep_widths: bool) -> None:
    """Lets positions be found by paths in the recipe, in place."""
    moved = {path[1:]: mark for path, mark in table.items() if path[:1] == ("recipe",)}
    if keep_widths:
        moved |= {("prune", *path): mark for path, mark in table.items() if path[:1] == ("widths",)}
    table.clear()
    table.update(moved)


def refuse_what_is_decided(document: Document, overrides: list[str]) -> None:
    """Complains of overrides that would change nothing, since the lock file's widths decide."""
    prune = document.data.get("prune")
    if not isinstance(prune, dict) or prune.get("widths") is None:
        return
    for override in overrides:
        parts = [part.strip() for part in override.partition("=")[0].split(".")]
        if parts[:1] == ["prune"] and len(parts) > 1 and parts[1] in DECIDED:
            document.complain(
                tuple(parts), "is decided by the widths in the lock file",
                "add `--set prune.widths=null` to search for others, or run the recipe itself",
            )  # fmt: skip


def folder_of(document: Document, facts: dict[str, Any], path: Path) -> str:
    """Returns the folder that the recipe's relative paths start from: the original recipe's."""
    beside = path.absolute().parent
    if "base_dir" not in facts:
        return str(beside)
    folder = Path(beside, Path(facts["base_dir"]))
    with contextlib.suppress(RuntimeError):  # `~name` of a user whom this machine does not have
        folder = Path(beside, Path(facts["base_dir"]).expanduser())
    if not folder.is_dir() and _relative_paths(document.data):
        document.complain(
            (), f"its base_dir {folder} is not there, from which {_relative_paths(document.data)[0]} is read",
            "write the folder of the original recipe there, absolute or relative to the lock file",
        )  # fmt: skip
    return str(folder)


def _relative_paths(data: dict[str, Any]) -> list[str]:
    """Returns what in a recipe is looked for in its folder."""
    paths = []
    for block in ("data", "teacher", "student"):
        inner = data.get(block)
        inner = inner if isinstance(inner, dict) else {}
        for key in ("path", "test_path", "source", "weights", "model"):
            value = inner.get(key)
            if not isinstance(value, str):
                continue
            if key in ("source", "model") and not value.startswith(_PREFIXED):
                continue
            value = value.removeprefix("keras/").removeprefix("hf/")
            if not (value.startswith("~") or Path(value).is_absolute()):
                paths.append(f"{block}.{key}")
    return paths


def written(data: dict[str, Any]) -> dict[str, Any] | None:
    """Returns a resolved recipe without the keys that say only what would hold anyway, as a user might have written it.

    None where it is not valid: what decides something cannot be told then.
    """
    whole = _resolved(data)
    if whole is None:
        return None
    thin = copy.deepcopy(data)

    def reduce(block: dict[str, Any]) -> None:
        for key, value in list(block.items()):
            del block[key]
            if _resolved(thin) == whole:
                continue
            block[key] = value
            if isinstance(value, dict):
                reduce(value)

    reduce(thin)
    return thin


def _resolved(data: dict[str, Any]) -> Recipe | None:
    try:
        return Recipe.model_validate_json(json.dumps(data))
    except ValidationError:
        return None
