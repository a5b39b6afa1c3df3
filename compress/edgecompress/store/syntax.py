"""What a source file defines, what each definition uses, and a hash of its syntax: comments and messages do not count.

Left out are docstrings and annotations, and what only speaks: the arguments of errors, what is given to `note`, `warn`,
`progress`, `doing` and `emit`, sentences that are collected, the text of assertions, and texts that only go into one of
these.
"""

from __future__ import annotations

import ast
import copy
import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

#: Methods that tell whoever listens; a statement that only calls one of them does nothing else.
TELLING = frozenset({"note", "warn", "progress", "doing", "emit"})
#: Lists of sentences: what is added to them is shown, and decides nothing.
SENTENCES = frozenset({"notes", "warnings"})
#: Lists of sentences of which it counts whether there are any: only their words do not.
REASONS = frozenset({"reasons"})
#: Functions whose second argument names an attribute.
BY_NAME = frozenset({"getattr", "setattr", "hasattr", "delattr"})
#: What a module does beside defining names.
EFFECTS = "<module>"
#: Hexadecimal digits that are kept of a hash.
DIGITS = 20


@dataclass
class Definition:
    """A function, a method, a class without its methods, a constant, or one entry of a table.

    Attributes:
        texts: Its syntax, once for each place that defines the name.
        uses: Dotted names of the package that it refers to.
        attributes: Names of attributes and methods that it mentions.
        bases: Of a class: dotted names of its bases, "" for those of other packages.
    """

    texts: list[str] = field(default_factory=list)
    uses: set[str] = field(default_factory=set)
    attributes: set[str] = field(default_factory=set)
    bases: list[str] = field(default_factory=list)

    def document(self) -> dict[str, Any]:
        """Returns it as plain JSON values, its syntax as a hash; what only stands for something else has none."""
        digest = hashlib.sha256("\n".join(self.texts).encode()).hexdigest()[:DIGITS]
        return {
            "hash": digest if self.texts else "",
            "uses": sorted(self.uses),
            "attributes": sorted(self.attributes),
            "bases": self.bases,
        }


#: Bases of other packages whose methods no framework calls behind our back.
_INERT = frozenset(
    {"object", "Exception", "RuntimeError", "ValueError", "Protocol", "Generic", "NamedTuple", "TypedDict", "ABC",
     "Enum", "IntEnum", "StrEnum", "BaseModel"}
)  # fmt: skip


def definitions(source: bytes, module: str, package: str) -> dict[str, dict[str, Any]]:
    """Returns what a module defines: name -> `Definition.document()`.

    Methods are called `Class.method`, entries of a table whose keys are texts `TABLE[key]`; names that the module
    imports have no hash and use what they stand for, and what it does beside defining names is called EFFECTS.

    Args:
        source: The file's content.
        module: Its dotted name.
        package: The name that those of all modules of the program begin with.

    Raises:
        SyntaxError: It is no Python.
    """
    reader = _Reader(module, package)
    reader.read(_Silent().visit(ast.parse(source)))
    return {name: found.document() for name, found in reader.found.items()}


class _Silent(ast.NodeTransformer):
    """Takes out of a tree what cannot change a result."""

    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        """Drops docstrings, and statements that only tell something."""
        value = node.value
        if isinstance(value, ast.Constant):
            return None
        if isinstance(value, ast.Call) and isinstance(value.func, ast.Attribute):
            if value.func.attr in TELLING:
                return None
            if _last_name(value.func.value) in SENTENCES:
                value.args, value.keywords = [], []
            elif _last_name(value.func.value) in REASONS:
                value.args = [_Wordless().visit(one) for one in value.args]
        return self.generic_visit(node)

    def visit_AugAssign(self, node: ast.AugAssign) -> ast.AST | None:
        """Drops sentences that are added to others."""
        return None if _last_name(node.target) in SENTENCES else self.generic_visit(node)

    def visit_Raise(self, node: ast.Raise) -> ast.AST:
        """Keeps which error is raised."""
        error = node.exc.func if isinstance(node.exc, ast.Call) else node.exc
        name = error.id if isinstance(error, ast.Name) else ""
        # As text: an error, or what makes one, is nothing that a result depends on.
        return ast.Expr(ast.Constant(f"raise {name}"))

    def visit_Call(self, node: ast.Call) -> ast.AST:
        """Drops the message of an error that is made to be raised elsewhere."""
        if isinstance(node.func, ast.Name) and node.func.id.endswith("Error"):
            return ast.Call(node.func, [], [])
        return self.generic_visit(node)

    def visit_Assert(self, node: ast.Assert) -> ast.AST:
        """Drops the text."""
        node.msg = None
        return self.generic_visit(node)

    def visit_If(self, node: ast.If) -> Any:
        """Drops what is imported for types only."""
        if isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            return None
        return self.generic_visit(node)

    def visit_arg(self, node: ast.arg) -> ast.AST:
        """Drops an argument's annotation."""
        node.annotation = None
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        """Drops the annotation of what is returned."""
        node.returns = None
        self.generic_visit(node)
        _silence_unread(node)
        return node

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        """Keeps a body where nothing but a docstring was in it."""
        return self._with_body(self.generic_visit(node))

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        """Drops a variable's annotation."""
        node.annotation = ast.Constant(value=...)
        return self.generic_visit(node)

    def generic_visit(self, node: ast.AST) -> ast.AST:
        """Visits what is inside; a block that lost all its statements does nothing."""
        super().generic_visit(node)
        return self._with_body(node)

    @staticmethod
    def _with_body(node: ast.AST) -> ast.AST:
        if not isinstance(node, ast.Module) and getattr(node, "body", None) == []:
            node.body = [ast.Pass()]  # type: ignore[attr-defined]
        return node


class _Wordless(ast.NodeTransformer):
    """Empties the texts in an expression; what it calls stays."""

    def visit_Constant(self, node: ast.Constant) -> ast.AST:
        """Empties a text."""
        return ast.Constant("") if isinstance(node.value, str) else node


def _silence_unread(function: ast.FunctionDef) -> None:
    """Empties texts that are kept in variables which nothing reads any more: they went into a message."""
    read = {one.id for one in ast.walk(function) if isinstance(one, ast.Name) and isinstance(one.ctx, ast.Load)}
    for node in ast.walk(function):
        if isinstance(node, ast.Assign):
            names = [one.id if isinstance(one, ast.Name) else "" for one in node.targets]
            if names[0] and names[0] not in read:
                node.value = _Wordless().visit(node.value)


def _last_name(node: ast.AST) -> str:
    """Returns `c` of `a.b.c`."""
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""


class _Reader:
    """Collects the definitions of one module."""

    def __init__(self, module: str, package: str) -> None:
        self.found: dict[str, Definition] = {}
        self._module, self._package = module, package
        #: What the field of a recipe is and means stands in every fingerprint by its value.
        self._with_fields = not module.startswith(f"{package}.recipe.")
        self._imported: dict[str, set[str]] = {}
        self._own: dict[str, str] = {}

    def read(self, tree: ast.Module) -> None:
        """Reads a whole module."""
        for node in ast.walk(tree):
            self._read_import(node)
        for node in tree.body:
            for name in _names_of(node):
                self._own[name] = name
            if isinstance(node, ast.If | ast.Try | ast.For | ast.With | ast.While):
                self._own |= {name: EFFECTS for inner in ast.walk(node) for name in _names_of(inner)}
        for name, targets in self._imported.items():
            self.found[name] = Definition(uses=set(targets))
        for node in tree.body:
            self._read_statement(node)

    def _read_import(self, node: ast.AST) -> None:
        if isinstance(node, ast.Import):
            for alias in node.names:
                name = alias.asname or alias.name.split(".")[0]
                self._import(name, alias.name if alias.asname else name)
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                self._import(alias.asname or alias.name, f"{node.module}.{alias.name}")

    def _import(self, name: str, target: str) -> None:
        if target.split(".", maxsplit=1)[0] == self._package:
            self._imported.setdefault(name, set()).add(target)

    def _read_statement(self, node: ast.stmt) -> None:
        if isinstance(node, ast.Import | ast.ImportFrom | ast.Pass):
            return
        names = _names_of(node)
        if isinstance(node, ast.ClassDef):
            self._read_class(node)
        elif names:
            value = getattr(node, "value", None)
            table = _table_of(value) if len(names) == 1 else None
            if table is not None:
                self._read_table(names[0], table)
            else:
                for name in names:
                    self._add(name, [node])
        else:
            self._add(EFFECTS, [node])

    def _read_class(self, node: ast.ClassDef) -> None:
        body = []
        for inner in node.body:
            if isinstance(inner, ast.FunctionDef):
                self._add(f"{node.name}.{inner.name}", [inner])
            elif self._with_fields or not isinstance(inner, ast.AnnAssign):
                body.append(inner)
        head = copy.copy(node)
        head.body = body or [ast.Pass()]
        found = self._add(node.name, [head])
        for base in node.bases:
            dotted = _dotted(base.value if isinstance(base, ast.Subscript) else base)
            first, _, rest = dotted.partition(".")
            if first in self._own:
                found.bases.append(f"{self._module}.{dotted}")
            elif first in self._imported:
                found.bases += [f"{target}{'.' + rest if rest else ''}" for target in self._imported[first]]
            elif dotted.rpartition(".")[2] not in _INERT:
                found.bases.append("")

    def _read_table(self, name: str, table: dict[str, ast.expr]) -> None:
        found = self.found.setdefault(name, Definition())
        found.texts.append(f"{name} = {{{', '.join(sorted(table))}}}")
        for key, value in table.items():
            found.uses.add(f"{self._module}.{name}[{key}]")
            self._add(f"{name}[{key}]", [value])

    def _add(self, name: str, nodes: Iterable[ast.AST]) -> Definition:
        found = self.found.setdefault(name, Definition())
        for node in nodes:
            found.texts.append(ast.unparse(ast.fix_missing_locations(node)))
            self._read_references(node, found)
        return found

    def _read_references(self, node: ast.AST, found: Definition) -> None:
        """Adds what a tree refers to."""
        waiting = [node]
        while waiting:
            one = waiting.pop()
            if isinstance(one, ast.Attribute):
                found.attributes.add(one.attr)
                dotted = _dotted(one)
                if dotted:
                    found.uses.update(self._resolved(dotted))
                    # Each part of it is a mention too: `a.b.c` of an object reads b and c.
                    found.attributes.update(dotted.split(".")[1:])
                    continue
            elif isinstance(one, ast.Name):
                found.uses.update(self._resolved(one.id))
            elif isinstance(one, ast.Constant) and isinstance(one.value, str):
                if one.value.startswith(f"{self._package}.") and one.value.replace(".", "").isidentifier():
                    found.uses.add(one.value)  # a module that is started by its name
            elif isinstance(one, ast.Call) and isinstance(one.func, ast.Name) and one.func.id in BY_NAME:
                found.attributes.update(
                    a.value for a in one.args[1:2] if isinstance(a, ast.Constant) and isinstance(a.value, str)
                )
            waiting.extend(ast.iter_child_nodes(one))

    def _resolved(self, dotted: str) -> Iterator[str]:
        first, _, rest = dotted.partition(".")
        if first in self._imported:
            yield from (f"{target}{'.' + rest if rest else ''}" for target in self._imported[first])
        if first in self._own:
            yield f"{self._module}.{self._own[first]}"


def _names_of(node: ast.AST) -> list[str]:
    """Returns the names that a statement defines."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return [node.name]
    if isinstance(node, ast.Assign):
        return [one.id for target in node.targets for one in ast.walk(target) if isinstance(one, ast.Name)]
    if isinstance(node, ast.AnnAssign | ast.AugAssign) and isinstance(node.target, ast.Name):
        return [node.target.id]
    return []


def _table_of(value: ast.AST | None) -> dict[str, ast.expr] | None:
    """Returns the entries of a table whose keys are all texts, None of anything else."""
    if not isinstance(value, ast.Dict) or not value.keys:
        return None
    keys = [key.value for key in value.keys if isinstance(key, ast.Constant) and isinstance(key.value, str)]
    return dict(zip(keys, value.values, strict=True)) if len(keys) == len(value.keys) else None


def _dotted(node: ast.AST) -> str:
    """Returns `a.b.c` where a tree is no more than that, else ""."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    return ".".join([node.id, *reversed(parts)]) if isinstance(node, ast.Name) else ""
