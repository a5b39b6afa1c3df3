"""Which source files a user's module is made of: itself, and what it imports from beside it. Nothing is run."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from edgecompress.errors import ResourceError
from edgecompress.store.files import sha256_file, sha256_json
from edgecompress.store.reading import DOCUMENT_BYTES, read_bounded


def sources_sha256(file: Path, folder: Path) -> str:
    """Returns the hash of a module's source file and of what it imports from a recipe's folder, directly or not.

    Where it imports nothing from there, and for an installed module, it is the hash of the file. What is imported by a
    name made at run time is not found.

    Args:
        file: The module.
        folder: The recipe's, which absolute imports start from.

    Raises:
        ResourceError: A file cannot be read.
    """
    try:
        return _sources_sha256(file, folder)
    except OSError as error:
        raise ResourceError(f"{error.filename or file}: {error.strerror or error}. Expected Python source.") from error


def _sources_sha256(file: Path, folder: Path) -> str:
    root, start = folder.resolve(), file.resolve()
    if not start.is_relative_to(root) or "site-packages" in start.relative_to(root).parts:
        return sha256_file(file)
    found = set[Path]()
    waiting = [start, *_of_packages(root, start.relative_to(root).parts[:-1])]
    while waiting:
        path = waiting.pop()
        if path not in found:
            found.add(path)
            waiting += _imported(path, root)
    if len(found) == 1:
        return sha256_file(file)
    return sha256_json({path.relative_to(root).as_posix(): sha256_file(path) for path in found})


def _imported(file: Path, root: Path) -> Iterator[Path]:
    """Gives the files below `root` that a file imports."""
    try:
        tree = ast.parse(read_bounded(file, DOCUMENT_BYTES, "a Python file"))
    except (SyntaxError, ValueError, RecursionError, MemoryError):  # told when it is loaded
        return
    package = file.relative_to(root).parts[:-1]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield from _files_of(root, alias.name.split("."))
        elif isinstance(node, ast.ImportFrom) and node.level <= len(package) + 1:
            above = package[: len(package) - node.level + 1] if node.level else ()
            module = node.module.split(".") if node.module else []
            for alias in node.names:  # `from a import b`: b may be a module, or a name in a
                yield from _files_of(root, [*above, *module, alias.name])


def _files_of(root: Path, parts: list[str]) -> Iterator[Path]:
    """Gives the files that importing `parts` runs: of each package on the way, and of the module."""
    yield from _of_packages(root, parts)
    for length in range(1, len(parts) + 1):
        file = root.joinpath(*parts[: length - 1], f"{parts[length - 1]}.py")
        if file.is_file() and file.resolve().is_relative_to(root):
            yield file.resolve()


def _of_packages(root: Path, parts: tuple[str, ...] | list[str]) -> list[Path]:
    """Returns the `__init__.py` of each package that a name leads through."""
    files = [root.joinpath(*parts[:length], "__init__.py") for length in range(1, len(parts) + 1)]
    return [file.resolve() for file in files if file.is_file() and file.resolve().is_relative_to(root)]
