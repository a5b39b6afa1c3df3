"""A recipe's content that a program hands over: Python's values, as the plain data that a file would have given."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from edgecompress.errors import Problem, RecipeError
from edgecompress.recipe.fields import KeyPath
from edgecompress.recipe.reading.source import (
    LIMITS,
    MAX_DEPTH,
    MAX_KEY,
    MAX_NODES,
    UNPRINTABLE,
    Document,
    is_usual,
)

#: What stands in messages where a file's name would.
LABEL = "recipe"


def document_of(content: Mapping[Any, Any]) -> Document:
    """Returns a recipe's content as a document without lines; what is wrong with single values is in its `problems`.

    Tuples become lists and paths text; a scalar of NumPy or PyTorch becomes the number it holds.

    Raises:
        RecipeError: It is larger than a recipe can be, or holds itself.
    """
    document = Document(LABEL, first_line=0)
    document.data = _Reader(document).read(content, ())
    return document


class _Reader:
    """Turns values into plain data, under the limits that files have."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self.count = 0

    def read(self, value: Any, path: KeyPath) -> Any:
        self.count += 1
        if self.count > MAX_NODES or len(path) >= MAX_DEPTH:
            raise RecipeError([Problem(f"too large for a recipe: {LIMITS}", "", LABEL, 0)])
        if getattr(value, "shape", None) == () and hasattr(value, "item"):  # a scalar of NumPy or PyTorch
            value = value.item()
        if isinstance(value, os.PathLike):
            value = os.fspath(value)
        if isinstance(value, Mapping):
            return self._block(value, path)
        if isinstance(value, list | tuple):
            return [self.read(item, (*path, index)) for index, item in enumerate(value)]
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, str):
            return self._refuse(path, "the text holds control characters") if UNPRINTABLE.search(value) else str(value)
        if isinstance(value, int | float):
            number = float(value) if isinstance(value, float) else int(value)  # an enumeration's member is a number too
            if is_usual(number):
                return number
            shown = f"`{number}`" if isinstance(number, float) else f"a whole number of {number.bit_length():,} bits"
            return self._refuse(path, f"{shown} is not a finite number of usual size")
        return self._refuse(
            path, f"a recipe holds plain data only, found a value of type `{_type_of(value)}`", _hint(value)
        )

    def _block(self, block: Mapping[Any, Any], path: KeyPath) -> dict[str, Any]:
        result = {}
        for key, value in block.items():
            if not isinstance(key, str):
                self.document.complain(path, f"a key must be text, found `{str(key)[:MAX_KEY]}`", "put it in quotes")
            elif UNPRINTABLE.search(key):
                self.document.complain(path, f"the key {key[:MAX_KEY]!a} holds control characters")
            else:
                result[str(key)] = self.read(value, (*path, str(key)))
        return result

    def _refuse(self, path: KeyPath, message: str, hint: str = "") -> None:
        self.document.complain(path, message, hint)
        self.document.broken.add(path)


def _type_of(value: Any) -> str:
    kind = type(value)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _hint(value: Any) -> str:
    """Returns how to write what a recipe cannot hold, "" where nothing useful can be said."""
    if callable(value):
        return 'name it as text: "python:module:name", which is imported when the recipe runs'
    if isinstance(value, bytes | bytearray):
        return "write text"
    if hasattr(value, "tolist"):
        return "write a list: .tolist()"
    if hasattr(value, "__iter__"):
        return "write a list: list(...)"
    return "write a number: float(...)" if hasattr(value, "__float__") else ""
