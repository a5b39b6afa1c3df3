"""Recipes from YAML files or dicts, with every problem found at once and each one at its line."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from edgecompress.errors import Problem, RecipeError
from edgecompress.recipe.checks.combinations import check
from edgecompress.recipe.fields import KeyPath, accepts_null, block_of, dotted, field_at
from edgecompress.recipe.reading.lock import folder_of, is_lock, refuse_what_is_decided, unwrap, written
from edgecompress.recipe.reading.mapping import LABEL, document_of
from edgecompress.recipe.reading.messages import MAX_PROBLEMS, complain_about, empty_block, real_path
from edgecompress.recipe.reading.source import MAX_BYTES, MAX_DEPTH, UNPRINTABLE, Document, parse, spelled
from edgecompress.recipe.schema import Recipe
from edgecompress.store.reading import open_regular
from edgecompress.wording import counted

OVERRIDE = "--set"


def load_recipe(recipe: Path | str | Mapping[str, Any], overrides: Sequence[str] = ()) -> Recipe:
    """Returns a recipe, with `key=value` overrides laid over it.

    Args:
        recipe: The path of a YAML file, from whose folder relative paths in the recipe start. The lock file of a run is
            a recipe too: the run's, with the widths it came to. Or a recipe's content as a dict (`{"version": 1}` and
            so on), whose relative paths start from the current folder and whose name is `recipe` unless it has one.
        overrides: `prune.ratio=0.7`; the value is YAML, blocks that are missing are created, `null` removes a block.

    Raises:
        RecipeError: With every problem found: in the file's text, its keys and values, and their combinations.
    """
    document, path = _read(recipe)
    facts = unwrap(document) if is_lock(document.data) else None
    overrides = [overrides] if isinstance(overrides, str) else overrides  # a text is a sequence of letters
    for override in overrides:
        _lay_over(document, override)
    if facts is not None:
        refuse_what_is_decided(document, list(overrides))
    found = _validated(document, path, facts)
    if found is None:
        raise RecipeError(_first_of(_in_order(document.problems)))
    return found


def _read(recipe: object) -> tuple[Document, Path]:
    """Returns a recipe as a document that is a block of keys, and the file that gives it name and folder."""
    if isinstance(recipe, Mapping):
        return document_of(recipe), Path(LABEL)
    if not isinstance(recipe, str | os.PathLike):
        what = f"expected the path of a recipe file or its content as a dict, found {type(recipe).__name__}"
        raise RecipeError([Problem(what, "", LABEL)])
    if isinstance(recipe, str) and "\n" in recipe:
        hint = "hand the content over as a dict: yaml.safe_load(text)"
        raise RecipeError([Problem("a text is the path of a recipe file, and this one has lines", "", LABEL, 0, hint)])
    path = Path(recipe)
    document = parse(read_text(path), str(path))
    if document.data is None:
        raise RecipeError([Problem("the file is empty", "", str(path), 1, "a recipe begins with `version: 1`")])
    if not isinstance(document.data, dict):
        message = (
            f"a recipe is a block of keys, found {'a list' if isinstance(document.data, list) else 'a single value'}"
        )
        raise RecipeError([Problem(message, "", str(path), 1, "begin with `version: 1`")])
    return document, path


def read_text(path: Path) -> str:
    """Returns the text of a recipe file.

    Raises:
        RecipeError: It cannot be read, is far too large, or is not UTF-8 text.
    """
    file = str(path)
    try:
        with open_regular(path) as handle:
            raw = handle.read(MAX_BYTES + 1)
    except FileNotFoundError:
        near = sorted(other.name for other in path.parent.glob("*.y*ml"))[:5] if path.parent.is_dir() else []
        hint = f"in that folder: {', '.join(near)}" if near else "check the path"
        raise RecipeError([Problem("no such file", "", file, 0, hint)]) from None
    except IsADirectoryError:
        raise RecipeError([Problem("this is a folder", "", file, 0, "name the recipe file in it")]) from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        hint = "check its permissions" if isinstance(error, PermissionError) else "name a YAML file"
        raise RecipeError([Problem(f"cannot be read: {reason}", "", file, 0, hint)]) from None
    if len(raw) > MAX_BYTES:
        raise RecipeError([Problem(f"larger than {MAX_BYTES:,} bytes: not a recipe", "", file, 0, "name a YAML file")])
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        hint = "save the recipe as plain UTF-8 text"
        raise RecipeError([Problem("not UTF-8 text", "", file, line, hint)]) from None


def _lay_over(document: Document, override: str) -> None:
    """Sets one key from `key=value`; what is wrong with it joins the document's problems."""

    def refuse(message: str, hint: str = "") -> None:
        document.problems.append(Problem(message, key.strip(), OVERRIDE, 0, hint))

    key, _, text = override.partition("=")
    path: KeyPath = tuple(part.strip() for part in key.split("."))
    wrong = _wrong_with(key, path, override)
    if wrong is not None:
        key = key if key.isprintable() and len(path) <= MAX_DEPTH else ascii(spelled(path[:2]))[1:-1]
        refuse(*wrong)
        return
    try:
        value = parse(text, OVERRIDE)
    except RecipeError as error:
        refuse(f"its value `{text}` is not YAML: {error.problems[0].message}", error.problems[0].hint)
        return
    document.problems.extend(Problem(p.message, key, OVERRIDE, 0, p.hint) for p in value.problems)
    block = document.data
    for index, part in enumerate(path[:-1]):
        inner = block.get(part)
        if inner is None:
            inner = block[part] = {}
            document.empty.discard(path[: index + 1])
            document.keys[path[: index + 1]] = document.values[path[: index + 1]] = (OVERRIDE, 0)
        elif not isinstance(inner, dict):
            whole = dotted(path[: index + 1])
            refuse(
                f"`{whole}` is not a block, so no key in it can be set", f"set the whole: `{OVERRIDE} '{whole}=...'`"
            )
            return
        block = inner
    _forget(document, path)
    field = field_at(path)
    if value.data is None and field is not None and block_of(field) is not None and not accepts_null(field):
        block.pop(path[-1], None)
        return
    block[path[-1]] = value.data
    document.keys[path] = document.values[path] = (OVERRIDE, 0)
    for inner_path in value.keys:
        document.keys[*path, *inner_path] = document.values[*path, *inner_path] = (OVERRIDE, 0)
    document.broken.update((*path, *broken) for broken in value.broken)


def _wrong_with(key: str, path: KeyPath, override: str) -> tuple[str, str] | None:
    """Returns what is wrong with the key of an override, and a hint."""
    if "=" not in override or not all(path):
        return "expected key=value", f"found `{override}`; write for example `{OVERRIDE} prune.ratio=0.7`"
    if UNPRINTABLE.search(key):
        return "the key holds control characters", ""
    if len(path) > MAX_DEPTH:
        return f"too deep for a recipe: its keys nest at most {MAX_DEPTH} deep", ""
    return None


def _forget(document: Document, path: KeyPath) -> None:
    """Drops what was known of a path and all below it, which an override replaces."""
    for table in (document.keys, document.values):
        for known in [known for known in table if known[: len(path)] == path]:
            del table[known]
    for known_paths in (document.empty, document.broken):
        known_paths.difference_update([known for known in known_paths if known[: len(path)] == path])


def _validated(document: Document, path: Path, facts: dict[str, Any] | None) -> Recipe | None:
    """Returns the recipe, or None and the document's problems; `facts` are what a lock file says beside."""
    data: dict[str, Any] = document.data
    for empty in sorted(document.empty, key=dotted):
        field = field_at(empty)
        if field is not None and block_of(field) is not None:
            document.complain(empty, *empty_block(empty))
            document.broken.add(empty)
    for key, hint in (("base_dir", "paths start from the recipe's folder"), ("locked", "only a lock file has it")):
        if key in data:
            document.complain((key,), "no such key at the top level", hint, of_key=True)
            del data[key]
    base_dir = str(path.absolute().parent) if facts is None else folder_of(document, facts, path)
    recipe = None
    try:
        recipe = _typed({"name": _name_from(path), **data, "base_dir": base_dir}).model_copy(update={"locked": facts})
    except ValidationError as error:
        complain_about(error, document)
    # A lock file holds every default: only what decides something can contradict something else.
    given = data if facts is None else written(data)
    for problem_path, message, hint in check(given) if given is not None else ():
        if not document.is_broken(problem_path):
            document.complain(problem_path, message, hint)
    return None if document.problems else recipe


def _typed(data: dict[str, Any]) -> Recipe:
    """Returns the recipe, with types taken strictly: `true` and `"5"` are no numbers; `5.0` is a whole one."""
    try:
        return Recipe.model_validate_json(json.dumps(data), strict=True)
    except ValidationError as error:
        whole = {
            real_path(detail["loc"], data): int(detail["input"])
            for detail in error.errors()
            if detail["type"] == "int_type" and isinstance(detail["input"], float) and detail["input"].is_integer()
        }
        if not whole:
            raise
        copy = json.loads(json.dumps(data))
        for path, value in whole.items():
            block = copy
            for part in path[:-1]:
                block = block[part]
            block[path[-1]] = value
        return Recipe.model_validate_json(json.dumps(copy), strict=True)


def _name_from(path: Path) -> str:
    """Returns the file's stem as a name that a run's folder can have."""
    return re.sub(r"[^\w.\- ]+", "-", path.stem).lstrip(".- ")[:100] or "recipe"


def _in_order(problems: list[Problem]) -> list[Problem]:
    """Returns each problem once, the file's by line, then the overrides'."""
    return sorted(dict.fromkeys(problems), key=lambda problem: (problem.file == OVERRIDE, problem.line))


def _first_of(problems: list[Problem]) -> list[Problem]:
    """Returns the first problems, and how many more there are."""
    more = len(problems) - MAX_PROBLEMS
    if more <= 0:
        return problems
    return [*problems[:MAX_PROBLEMS], Problem(f"{counted(more, 'more problem')} after these", "", problems[0].file)]
