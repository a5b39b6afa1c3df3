"""Functions that users write themselves: `python:module:function`, found beside the recipe or on the path.

Finding the file runs nothing and imports nothing heavy; loading it runs the user's code and needs their leave.
"""

from __future__ import annotations

import contextlib
import difflib
import hashlib
import importlib
import importlib.util
import inspect
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from edgecompress.errors import EdgecompressError, ModelError, ResourceError, UsageError
from edgecompress.sources.opened import noting_files
from edgecompress.sources.python_imports import sources_sha256
from edgecompress.store.files import sha256_json
from edgecompress.store.reading import DOCUMENT_BYTES, read_bounded

PREFIX = "python:"
#: Modules that users' code imported from beside a recipe: name -> folder of that recipe.
_siblings: dict[str, Path] = {}


def python_source_file(name: str, base_dir: Path, *, error: type[ResourceError] = ModelError) -> Path:
    """Returns the source file behind `python:module:function`; nothing in it is run.

    Args:
        name: As in the recipe.
        base_dir: The recipe's folder; it is looked in before the Python path.
        error: What is raised.

    Raises:
        ResourceError: There is no such module, or it is no Python source.
    """
    return _find(_module_and_function(name, error)[0], name, base_dir, error)[0]


def code_key(name: str, base_dir: Path, args: Mapping[str, Any]) -> str:
    """Returns a hash of a user's code and of the arguments it is called with."""
    folder = Path(base_dir)
    return sha256_json([name, sources_sha256(python_source_file(name, folder), folder), repr(dict(args))])


def load_function(
    name: str, base_dir: Path, *, trust: bool, what: str, error: type[ResourceError] = ModelError
) -> Callable[..., Any]:
    """Returns the function or class that `python:module:function` names.

    A module beside the recipe is loaded under a name of its own, so that two recipes may each have a `net.py`; what
    it imports may lie beside the recipe too. A module on the Python path is imported as usual.

    Args:
        name: As in the recipe.
        base_dir: The recipe's folder.
        trust: Whether the user allowed such code to be run.
        what: What it is for, in words for the messages: `model` or `data source`.
        error: What is raised where it cannot be used.

    Raises:
        UsageError: It is not trusted.
        ResourceError: It cannot be found or loaded.
    """
    module_name, function_name = _module_and_function(name, error)
    file, beside_recipe = _find(module_name, name, base_dir, error)
    if not trust:
        raise UsageError(f"{what} `{name}` runs code from {file}; allow it with --trust or EDGECOMPRESS_TRUST=1")
    with importable(base_dir), _blaming(file, f"{what} `{name}` cannot be loaded", error):
        module = _load_beside(module_name, file) if beside_recipe else importlib.import_module(module_name)
    function = getattr(module, function_name, None)
    if not callable(function):
        known = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        near = difflib.get_close_matches(function_name, known, n=1)
        hint = f"did you mean `{near[0]}`?" if near else f"It has: {', '.join(sorted(known)) or 'none'}."
        raise error(f"{what} `{name}`: {file} has no function `{function_name}`; {hint}")
    return function  # type: ignore[no-any-return]


def call_function(
    name: str,
    base_dir: Path,
    args: Mapping[str, Any],
    *,
    trust: bool,
    what: str,
    offered: Mapping[str, Any] | None = None,
    error: type[ResourceError] = ModelError,
) -> Any:
    """Returns what the function behind `python:module:function` returns.

    Args:
        name: As in the recipe.
        base_dir: The recipe's folder.
        args: The recipe's `args`, passed as keywords.
        trust: Whether the user allowed such code to be run.
        what: What it is for, in words for the messages.
        offered: Passed as keywords too, each only where the function takes it.
        error: What is raised where it cannot be used.

    Raises:
        UsageError: It is not trusted.
        ResourceError: It cannot be found or loaded, does not take these arguments, or raises something itself.
    """
    file = python_source_file(name, base_dir, error=error)
    key = code_key(name, base_dir, args)
    with noting_files(key):
        function = load_function(name, base_dir, trust=trust, what=what, error=error)
    offered = offered or {}
    if clash := sorted(args.keys() & offered.keys()):
        raise error(f"{what} `{name}`: argument `{clash[0]}` comes from the data; remove it from `args`")
    try:
        parameters = dict(inspect.signature(function).parameters)
    except (TypeError, ValueError):  # something written in C: it is offered nothing
        parameters = {}
    takes_any = any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values())
    keywords = {key: value for key, value in offered.items() if takes_any or key in parameters} | dict(args)
    try:
        inspect.signature(function).bind(**keywords)
    except TypeError as problem:
        shown = ", ".join(str(p) for key, p in parameters.items() if key not in offered) or "none"
        raise error(f"{what} `{name}`: {problem}. Arguments it takes in `args`: {shown} ({file}).") from problem
    except ValueError:  # no signature to check against
        pass
    with noting_files(key), importable(base_dir), _blaming(file, f"{what} `{name}` failed", error):
        return function(**keywords)


@contextlib.contextmanager
def importable(folder: Path) -> Iterator[None]:
    """Lets code import what lies in a recipe's folder.

    A module of the same name that another recipe's code imported from its own folder gives way.
    """
    folder = folder.resolve()
    for name, owner in list(_siblings.items()):
        if owner != folder and _file_in(folder, name.split(".")[:1]) is not None:
            sys.modules.pop(name, None)
            del _siblings[name]
    before = set(sys.modules)
    sys.path.insert(0, str(folder))
    importlib.invalidate_caches()
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):
            sys.path.remove(str(folder))
        for name in set(sys.modules) - before:
            origin = getattr(sys.modules[name], "__file__", None)
            if origin is not None and Path(origin).is_relative_to(folder):
                _siblings[name] = folder


def _module_and_function(name: str, error: type[ResourceError]) -> tuple[str, str]:
    module, _, function = name.removeprefix(PREFIX).partition(":")
    if not name.startswith(PREFIX) or not module or not function:
        raise error(f"`{name}` must read python:module:function")
    return module, function


def _find(module: str, name: str, base_dir: Path, error: type[ResourceError]) -> tuple[Path, bool]:
    """Returns a module's source file and whether it lies beside the recipe."""
    parts = module.split(".")
    folder = base_dir.resolve()
    file = _file_in(folder, parts)
    if file is not None:
        return file, True
    spec = None
    search: list[str] | None = None
    # Level by level, because importlib.util.find_spec would import the packages around the module.
    for depth in range(1, len(parts) + 1):
        spec = _spec(".".join(parts[:depth]), search)
        if spec is None:
            break
        search = list(spec.submodule_search_locations or [])
    else:
        if spec is not None and spec.origin is not None and spec.origin.endswith(".py"):
            return Path(spec.origin), False
        origin = spec.origin if spec is not None else None
        raise error(f"`{name}`: {module} is not a Python source file ({origin}); name a module that is one")
    places = [str(folder / f"{'/'.join(parts)}.py"), *(path or "." for path in sys.path)]
    raise error(f"`{name}`: there is no module {module}. Looked for {', '.join(places)}.")


def _file_in(folder: Path, parts: list[str]) -> Path | None:
    for file in (folder.joinpath(*parts[:-1], f"{parts[-1]}.py"), folder.joinpath(*parts, "__init__.py")):
        if file.is_file():
            return file
    return None


def _spec(name: str, search: list[str] | None) -> Any:
    for finder in sys.meta_path:
        spec = finder.find_spec(name, search)
        if spec is not None:
            return spec
    return None


def _load_beside(module: str, file: Path) -> ModuleType:
    """Returns a module beside a recipe, loaded once for this path and content."""
    parts = module.split(".")
    above = len(parts) - 1 + (file.name == "__init__.py" and parts[-1] == file.parent.name)
    root = file.parents[above]
    digest = hashlib.sha256(f"{file}\n".encode() + read_bounded(file, DOCUMENT_BYTES, "a Python file")).hexdigest()[:12]
    top = f"{parts[0]}_{digest}"
    if top not in sys.modules:
        _load_as(top, root, parts[0])
    # Packages beside the recipe keep their relative imports: they are imported below the new name.
    return importlib.import_module(".".join([top, *parts[1:]]))


def _load_as(name: str, root: Path, part: str) -> None:
    package = root / part
    file = _file_in(root, [part])
    if file is None:  # a folder without __init__.py
        module = ModuleType(name)
        module.__path__ = [str(package)]
        sys.modules[name] = module
        return
    inside = [str(package)] if file.name == "__init__.py" else None
    spec = importlib.util.spec_from_file_location(name, file, submodule_search_locations=inside)
    if spec is None or spec.loader is None:  # not for a .py file
        raise ImportError(f"{file} cannot be loaded")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # before it runs, as dataclasses and pickle need it there
    try:
        spec.loader.exec_module(module)
    except BaseException:
        sys.modules.pop(name, None)
        raise


@contextlib.contextmanager
def _blaming(file: Path, problem: str, error: type[ResourceError]) -> Iterator[None]:
    """Turns whatever the user's code raises into an error that names the line it came from."""
    try:
        yield
    except EdgecompressError:
        raise
    except (Exception, SystemExit) as cause:
        if isinstance(cause, SyntaxError) and cause.filename:
            where = f"{cause.filename}:{cause.lineno}"
        else:
            frames = traceback.extract_tb(cause.__traceback__)
            frame = ([frame for frame in frames if _is_own(frame.filename, file)] or list(frames))[-1]
            where = f"{frame.filename}:{frame.lineno}"
        raise error(f"{problem}: {type(cause).__name__}: {cause} ({where})") from cause


def _is_own(frame_file: str, file: Path) -> bool:
    """Says whether a frame is in the user's code: in its folder, but not in packages installed below that folder."""
    path = Path(frame_file)
    return path == file or (path.is_relative_to(file.parent) and "site-packages" not in path.parts)
