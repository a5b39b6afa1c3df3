"""A YAML text as plain data in which every key and value knows its line.

Data only: YAML 1.2 core types, no tags, no code. Sizes, depth and aliases are bounded, so that no file, however it was
made, can take the program's memory or time.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import Any

import yaml
from yaml.reader import ReaderError

from edgecompress.errors import Problem, RecipeError
from edgecompress.recipe.fields import KeyPath, dotted
from edgecompress.recipe.reading.syntax import syntax_problem

MAX_BYTES = 400_000
MAX_NODES = 10_000
MAX_DEPTH = 20
LIMITS = f"at most {MAX_NODES:,} values, nested at most {MAX_DEPTH} deep"
MAX_DIGITS = 40
#: Letters of a key that a message repeats.
MAX_KEY = 60
#: Control characters and lone surrogates, which only escapes (`"\0"`) can bring into a text.
UNPRINTABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]")

_TAG = "tag:yaml.org,2002:"


@dataclass
class Document:
    """Plain data with positions.

    Attributes:
        file: The file's name as the user gave it.
        data: Dicts, lists, text, numbers, booleans and None.
        keys: Path -> (file, line) of the key.
        values: Path -> (file, line) of the value.
        empty: Paths whose value was left out (`prune:` with nothing behind it), which reads as null.
        broken: Paths whose value has been complained about already.
        problems: What is wrong with the text itself.
        first_line: Where a text begins; 0 for data that never were one.
    """

    file: str
    data: Any = None
    keys: dict[KeyPath, tuple[str, int]] = field(default_factory=dict)
    values: dict[KeyPath, tuple[str, int]] = field(default_factory=dict)
    empty: set[KeyPath] = field(default_factory=set)
    broken: set[KeyPath] = field(default_factory=set)
    problems: list[Problem] = field(default_factory=list)
    first_line: int = 1

    def where(self, path: KeyPath, *, of_key: bool = False) -> tuple[str, int]:
        """Returns file and line of a value (or its key), or of the nearest block around it."""
        first, second = (self.keys, self.values) if of_key else (self.values, self.keys)
        for length in range(len(path), 0, -1):
            mark = first.get(path[:length]) or second.get(path[:length])
            if mark is not None:
                return mark
            first = second = self.keys  # for a key that is missing: the key of the block it should stand in
        return self.file, self.first_line

    def is_broken(self, path: KeyPath) -> bool:
        """Returns whether a path, or a block around it, has been complained about already."""
        return any(path[:length] in self.broken for length in range(len(path) + 1))

    def complain(self, path: KeyPath, message: str, hint: str = "", *, of_key: bool = False) -> None:
        """Adds a problem at a path."""
        file, line = self.where(path, of_key=of_key)
        self.problems.append(Problem(message, spelled(path), file, line, hint))


def spelled(path: KeyPath) -> str:
    """Returns a path as users write it, cut where a key is no word."""
    return dotted(
        tuple(f"{part[:MAX_KEY]}..." if isinstance(part, str) and len(part) > MAX_KEY else part for part in path)
    )


def is_usual(number: float) -> bool:
    """Returns whether a number is finite, and if whole fits into 64 bits."""
    return abs(number) < 2**63 if isinstance(number, int) else math.isfinite(number)


class _TooLargeError(Exception):
    """The text nests too deep or holds too many values; its argument is the line reached."""


class RecipeLoader(yaml.SafeLoader):
    """PyYAML's safe loader with YAML 1.2's core types, so that `1e-3` is a number and `no` is text."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012 (PyYAML's interface)

    def __init__(self, text: str) -> None:
        """Takes the whole text."""
        super().__init__(text)
        self._nodes = 0
        self._depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """Returns the next node, as long as there are not too many or too deep ones."""
        self._nodes += 1
        self._depth += 1
        if self._nodes > MAX_NODES or self._depth > MAX_DEPTH:
            raise _TooLargeError(self.line + 1)
        node: yaml.Node | None = super().compose_node(parent, index)
        self._depth -= 1
        return node


def _resolve(name: str, pattern: str, first: list[str]) -> None:
    RecipeLoader.add_implicit_resolver(_TAG + name, re.compile(f"^(?:{pattern})$"), first)


_resolve("null", r"~|null|Null|NULL|", ["~", "n", "N", ""])
_resolve("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF"))
_resolve("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", list("-+0123456789"))
_resolve(
    "float",
    r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
    list("-+.0123456789"),
)
_resolve("merge", "<<", ["<"])


def parse(text: str, file: str) -> Document:
    """Returns the data and positions of a YAML text; what is wrong with single keys is in its `problems`.

    Raises:
        RecipeError: The text is not YAML, or larger than a recipe can be.
    """
    loader: RecipeLoader | None = None
    try:
        loader = RecipeLoader(text)
        node = loader.get_single_node()
    except _TooLargeError as error:
        raise RecipeError([Problem(f"too large for a recipe: {LIMITS}", "", file, error.args[0])]) from None
    except (yaml.MarkedYAMLError, ReaderError) as error:
        raise RecipeError([syntax_problem(error, text, file)]) from None
    except (ValueError, OverflowError) as error:  # PyYAML converts `"\U99999999"` and `%YAML 1.999...` unchecked
        line = 1 if loader is None else loader.line + 1
        raise RecipeError([Problem(f"not valid YAML: {error}", "", file, line)]) from None
    document = Document(file)
    if node is not None:
        document.data = _Reader(document).read(node, ())
    return document


class _Reader:
    """Turns composed nodes into plain data, with aliases expanded under the same limits."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self.count = 0
        self.merging = 0

    def _spend(self, node: yaml.Node, depth: int) -> None:
        """Counts a value, whoever refers to it, as long as there are not too many or too deep ones."""
        self.count += 1
        if self.count > MAX_NODES or depth > MAX_DEPTH:
            raise RecipeError([
                Problem("its aliases (`*name`) expand to more than a recipe can hold", "", self.document.file,
                        node.start_mark.line + 1, "write the values out instead"),
            ])  # fmt: skip

    def read(self, node: yaml.Node, path: KeyPath) -> Any:
        self._spend(node, len(path))
        self.document.values.setdefault(path, (self.document.file, node.start_mark.line + 1))
        if isinstance(node, yaml.MappingNode) and node.tag == _TAG + "map":
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode) and node.tag == _TAG + "seq":
            return [self.read(item, (*path, index)) for index, item in enumerate(node.value)]
        if isinstance(node, yaml.ScalarNode) and node.tag.removeprefix(_TAG) in ("str", "null", "bool", "int", "float"):
            return self._scalar(node, path)
        shown = node.tag.replace(_TAG, "!!")
        self._refuse(path, f"the tag `{shown}` is not allowed", "a recipe is data only: plain keys and values")
        return None

    def _mapping(self, node: yaml.MappingNode, path: KeyPath) -> dict[str, Any]:
        result: dict[str, Any] = {}
        merged: dict[str, Any] = {}
        own: dict[str, int] = {}
        merges = [(key_node, value_node) for key_node, value_node in node.value if key_node.tag == _TAG + "merge"]
        for _, value_node in merges:
            self._merge(value_node, path, merged)
        for key_node, _ in merges[1:]:
            line, first = key_node.start_mark.line + 1, merges[0][0].start_mark.line + 1
            message, hint = f"`<<` stands here twice, first on line {first}", "merge a list: `<<: [*a, *b]`"
            self.document.problems.append(Problem(message, spelled(path), self.document.file, line, hint))
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if key_node.tag == _TAG + "merge":
                continue
            if not isinstance(key_node, yaml.ScalarNode) or key_node.tag != _TAG + "str":
                shown = getattr(key_node, "value", "") if isinstance(key_node, yaml.ScalarNode) else "a list or block"
                message = f"a key must be text, found `{shown}`"
                self.document.problems.append(
                    Problem(message, dotted(path), self.document.file, line, "put it in quotes")
                )
                continue
            key = key_node.value
            if UNPRINTABLE.search(key):
                message = f"the key {key!a} holds control characters"
                self.document.problems.append(Problem(message, dotted(path), self.document.file, line))
                continue
            if key in own:
                message = f"this key stands here twice, first on line {own[key]}"
                full = spelled((*path, key))
                self.document.problems.append(Problem(message, full, self.document.file, line, "keep one of the two"))
                continue
            own[key] = line
            self.document.keys[*path, key] = (self.document.file, line)
            self.document.values[*path, key] = (self.document.file, value_node.start_mark.line + 1)
            result[key] = self.read(value_node, (*path, key))
        return {**merged, **result}

    def _merge(self, node: yaml.Node, path: KeyPath, merged: dict[str, Any]) -> None:
        """Reads `<<: *name` or a list of them; the first one named wins, and a block's own keys win over all."""
        for source in node.value if isinstance(node, yaml.SequenceNode) else [node]:
            if not isinstance(source, yaml.MappingNode):
                self.document.complain(path, "`<<` merges blocks only", "write `<<: *name`, where &name marks a block")
                continue
            self.merging += 1  # a block may merge itself, at no greater depth
            self._spend(source, self.merging)
            merged.update({key: value for key, value in self._mapping(source, path).items() if key not in merged})
            self.merging -= 1

    def _scalar(self, node: yaml.ScalarNode, path: KeyPath) -> Any:
        text, kind = node.value, node.tag.removeprefix(_TAG)
        if kind == "str":
            if UNPRINTABLE.search(text):
                self._refuse(path, "the text holds control characters")
                return None
            return text
        if kind == "null":
            if text == "" and node.style is None:
                self.document.empty.add(path)
            return None
        if kind == "bool":
            return text.lower() == "true"
        return self._number(text, kind, path)

    def _number(self, text: str, kind: str, path: KeyPath) -> float | int | None:
        shown = text if len(text) <= MAX_DIGITS else f"{text[:MAX_DIGITS]}..."
        number: float | int
        try:
            if kind == "float":
                number = float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))
            else:
                # Python takes a time that grows with the square of the digits; zeros in front are no digits.
                digits = re.sub(r"^([-+]?(?:0[xo])?)0+(?=[0-9a-fA-F])", r"\1", text)
                number = int(digits[: MAX_DIGITS + 1], 0 if digits[:2] in ("0x", "0o") else 10)
        except ValueError:  # only behind an explicit tag: `!!int abc`
            self._refuse(path, f"`{shown}` is not a number")
            return None
        if not is_usual(number):
            self._refuse(path, f"`{shown}` is not a finite number of usual size")
            return None
        return number

    def _refuse(self, path: KeyPath, message: str, hint: str = "") -> None:
        self.document.complain(path, message, hint)
        self.document.broken.add(path)
