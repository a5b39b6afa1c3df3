"""Which of the program's own definitions a piece of it can reach, and their hash: what a result depends on of the code.

From a function one gets to what its syntax names, and from there on. Methods are told by their names: those of a class
that was reached count where their name is mentioned, all of them where the class is one of a framework, which calls
methods itself. So more may be counted than can run, never less: objects made elsewhere are named by whoever asks.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from time import time_ns
from typing import Any

from edgecompress.errors import ResourceError
from edgecompress.store import syntax
from edgecompress.store.files import sha256_json, write_bytes
from edgecompress.store.reading import DOCUMENT_BYTES, read_bounded
from edgecompress.store.syntax import DIGITS, EFFECTS, definitions

PACKAGE = "edgecompress"
#: Modules that make sentences for people: no result depends on them.
WORDS = frozenset({"edgecompress.wording"})
ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Reach:
    """Where a way through the program begins, and where it does not go.

    Attributes:
        roots: Dotted names to start from: `edgecompress.stages.teacher.run`.
        cuts: Definitions or whole modules that are not followed.
        entries: Table -> the only keys whose entries are followed; others are followed whole.
    """

    roots: frozenset[str]
    cuts: frozenset[str] = frozenset()
    entries: Mapping[str, frozenset[str]] = field(default_factory=dict)


def code_hashes(reach: Reach) -> dict[str, str]:
    """Returns room -> hash of the definitions in it that are reached, in the program as its sources are now.

    Raises:
        ResourceError: The program's own sources cannot be read.
        KeyError: The program has nothing of a name in `reach`.
    """
    return read_program().hashes(reach)


def reached(reach: Reach) -> set[str]:
    """Returns the definitions that `code_hashes` hashes, by their dotted names."""
    return read_program().reached(reach)


class Program:
    """All definitions of the program, by module."""

    def __init__(self, modules: Mapping[str, Mapping[str, Any]]) -> None:
        """Takes module -> what `syntax.definitions` found in it."""
        self._modules = modules
        self._known: dict[tuple[Any, ...], dict[str, str]] = {}
        # What every way through the program asks again.
        self._places: dict[str, tuple[str, str]] = {}
        self._methods: dict[str, dict[str, list[str]]] = {}
        self._open: dict[str, bool] = {}

    def hashes(self, reach: Reach) -> dict[str, str]:
        """Returns room -> hash of the definitions in it that are reached.

        Raises:
            KeyError: The program has nothing of a name in `reach`.
        """
        key = (reach.roots, reach.cuts, frozenset(reach.entries.items()))
        if key not in self._known:
            rooms: dict[str, list[str]] = {}
            for name in sorted(self.reached(reach)):
                if digest := self.hash_of(name):
                    parts = self.split(name)[0].split(".")[1:]
                    rooms.setdefault("/".join(parts[:-1] or parts), []).append(f"{name} {digest}")
            self._known[key] = {
                room: hashlib.sha256("\n".join(lines).encode()).hexdigest()[:DIGITS]
                for room, lines in sorted(rooms.items())
            }
        return self._known[key]

    def split(self, name: str) -> tuple[str, str]:
        """Returns module and definition of a dotted name; "" for the module itself, and for what there is not."""
        place = self._places.get(name)
        if place is None:
            module, inside = name, ""
            while module and module not in self._modules:
                module, _, last = module.rpartition(".")
                inside = f"{last}.{inside}" if inside else last
            place = self._places[name] = (module, inside)
        return place

    def hash_of(self, name: str) -> str:
        """Returns the hash of a definition's syntax."""
        module, inside = self.split(name)
        return str(self._modules[module][inside]["hash"])

    def reached(self, reach: Reach) -> set[str]:
        """Returns the definitions that are reached.

        Raises:
            KeyError: The program has nothing of a name in `reach`.
        """
        for name in sorted({*reach.roots, *reach.cuts, *reach.entries}):
            if next(self._definitions(name), None) is None:
                raise KeyError(f"the program has no {name}")
        return _Walk(self, reach).reach()

    def _definitions(self, name: str) -> Iterator[tuple[str, str]]:
        """Gives module and name of what a dotted name stands for: all of a module, where it is one."""
        module, inside = self.split(name)
        if not module:
            return
        known = self._modules[module]
        if not inside:
            yield from ((module, one) for one in known if "." not in one and "[" not in one)
            return
        first = inside if inside in known else inside.split(".")[0]
        if first in known:
            yield module, first

    def definitions_of(self, name: str) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
        """Gives module, name and content of what a dotted name stands for."""
        for module, inside in self._definitions(name):
            yield module, inside, self._modules[module][inside]

    def methods_of(self, module: str, owner: str) -> list[str]:
        """Returns the names of a class's methods."""
        if module not in self._methods:
            owners = self._methods[module] = {}
            for name in self._modules[module]:
                parts = name.split(".")
                for length in range(1, len(parts)):
                    owners.setdefault(".".join(parts[:length]), []).append(".".join(parts[length:]))
        return self._methods[module].get(owner, [])

    def has_effects(self, module: str) -> bool:
        """Returns whether a module does something beside defining names."""
        return EFFECTS in self._modules[module]

    def is_called_by_others(self, name: str) -> bool:
        """Returns whether a class has a base of another package, which may call its methods."""
        if name not in self._open:
            self._open[name] = self._has_foreign_base(name, frozenset())
        return self._open[name]

    def _has_foreign_base(self, name: str, seen: frozenset[str]) -> bool:
        found = [content for _, _, content in self.definitions_of(name)]
        if not found:  # of another package, though a module of ours may hand it on
            return True
        return any(
            self._has_foreign_base(base, seen | {name})
            for content in found
            for base in [*content["bases"], *(content["uses"] if not content["hash"] else ())]
            if base not in seen
        )


class _Walk:
    """One way through a program, from its roots to all that they reach."""

    def __init__(self, program: Program, reach: Reach) -> None:
        self._program, self._reach = program, reach
        self._cuts = reach.cuts | WORDS
        self._found: set[str] = set()
        self._mentioned: set[str] = set()
        #: Name of a method -> methods of reached classes that nobody has mentioned yet.
        self._silent: dict[str, list[str]] = {}

    def reach(self) -> set[str]:
        waiting = list(self._reach.roots)
        while waiting:
            for module, inside, content in self._program.definitions_of(waiting.pop()):
                name = f"{module}.{inside}"
                if name in self._found or self._is_cut(module, inside):
                    continue
                self._found.add(name)
                waiting += content["uses"]
                if self._program.has_effects(module):
                    waiting.append(f"{module}.{EFFECTS}")
                waiting += self._methods(module, inside)
                for attribute in set(content["attributes"]) - self._mentioned:
                    self._mentioned.add(attribute)
                    waiting += self._silent.pop(attribute, [])
        return self._found

    def _is_cut(self, module: str, inside: str) -> bool:
        table, bracket, key = inside.partition("[")
        only = self._reach.entries.get(f"{module}.{table}") if bracket else None
        if only is not None and key.removesuffix("]") not in only:
            return True
        return not {module, f"{module}.{inside}", f"{module}.{inside.split('.', maxsplit=1)[0]}"}.isdisjoint(self._cuts)

    def _methods(self, module: str, owner: str) -> Iterator[str]:
        """Gives the methods of a class that count from now on; the others wait to be mentioned."""
        name = f"{module}.{owner}"
        all_of_them = self._program.is_called_by_others(name)
        for method in self._program.methods_of(module, owner):
            special = method.startswith("__") and method.endswith("__")
            if all_of_them or special or method in self._mentioned:
                yield f"{name}.{method}"
            else:
                self._silent.setdefault(method, []).append(f"{name}.{method}")


def cache_folder() -> Path:
    """Returns the user's folder for what can be found out again."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "edgecompress")


def _sources() -> dict[str, str]:
    """Returns module -> source file of the whole program."""
    found, waiting = {}, [(str(ROOT), PACKAGE)]
    while waiting:
        folder, name = waiting.pop()
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.endswith(".py"):
                    own = entry.name.removesuffix(".py")
                    found[name if own == "__init__" else f"{name}.{own}"] = entry.path
                elif entry.is_dir(follow_symlinks=False):
                    waiting.append((entry.path, f"{name}.{entry.name}"))
    return dict(sorted(found.items()))


#: The program as it was last read, by the hash of its sources, and by what the system said of the files.
_programs: dict[object, Program] = {}
#: A file that was changed less than so long ago may change again without a later time: clocks of file systems tick.
SETTLED_NS = 2 * 10**9


def read_program() -> Program:
    """Returns the program as its sources are now; what was parsed once is remembered, for later processes too."""
    try:
        sources = _sources()
        state = tuple(_state(path) for path in sources.values())
        if state in _programs:
            return _programs[state]
        contents = {module: Path(path).read_bytes() for module, path in sources.items()}
    except OSError as error:
        raise ResourceError(f"cannot read the program's own source {error.filename}: {error.strerror}") from error
    digests = {
        module: hashlib.sha256(f"{module}\n".encode() + content).hexdigest() for module, content in contents.items()
    }
    key = sha256_json(digests)
    if key not in _programs:
        known = _remembered()
        modules = {
            module: known[digest] if digest in known else _parsed(contents[module], module)
            for module, digest in digests.items()
        }
        if not known.keys() >= set(digests.values()):
            _remember({digests[module]: found for module, found in modules.items()})
        _programs.clear()
        _programs[key] = Program(modules)
    newest = max((time for _, *times, _, _ in state for time in times), default=0)
    if time_ns() - newest > SETTLED_NS:
        _programs[state] = _programs[key]
    return _programs[key]


def _state(path: str) -> tuple[str, int, int, int, int]:
    """Returns what changes when a file does: the times of its content and of its entry, which cannot be set back."""
    found = os.stat(path)  # noqa: PTH116 - a Path for each file takes longer than all else here
    return path, found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino


def _parsed(content: bytes, module: str) -> dict[str, dict[str, Any]]:
    try:
        return definitions(content, module, PACKAGE)
    except SyntaxError as error:
        raise ResourceError(
            f"the program's own module {module} is no Python (line {error.lineno}: {error.msg}). Install edgecompress "
            "again, or finish the edit."
        ) from error


def _memory() -> Path:
    """Returns the file that remembers what was parsed, one for each place the program lies at and each Python."""
    place = sha256_json([str(ROOT), *sys.version_info[:2]])[:DIGITS]
    return cache_folder() / f"code-{place}.json"


def _seal(text: bytes) -> bytes:
    """Returns a hash of what is remembered and of what read it: another reader may find other things."""
    return hashlib.sha256(Path(syntax.__file__).read_bytes() + text).hexdigest().encode()


def _remembered() -> dict[str, dict[str, Any]]:
    """Returns hash of a module's source -> what it defines, as far as that is known."""
    try:
        seal, _, text = read_bounded(_memory(), DOCUMENT_BYTES, "what is remembered").partition(b"\n")
        return dict(json.loads(text)) if seal == _seal(text) else {}
    except (OSError, ValueError, RecursionError):
        return {}


def _remember(found: dict[str, dict[str, Any]]) -> None:
    text = json.dumps(found, separators=(",", ":")).encode()
    with contextlib.suppress(ResourceError):  # where nothing can be written it is found out again each time
        write_bytes(_memory(), _seal(text) + b"\n" + text)
