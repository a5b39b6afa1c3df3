"""What `import edgecompress` gives a program, and what it does not import yet."""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import edgecompress
from edgecompress.pipeline.run import run_pipeline
from edgecompress_cli.commands.run import run as command

ROOT = Path(__file__).parents[2]
NAMES = ["__version__", "load_pruned", "load_recipe", "run"]


def printed(program: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
    ).stdout


def test_the_names_are_these() -> None:
    assert edgecompress.__all__ == NAMES
    assert set(NAMES) <= set(dir(edgecompress))
    given: dict[str, object] = {}
    exec("from edgecompress import *", given)  # noqa: S102 - a star import stands at a module's top only
    assert sorted(set(given) - {"__builtins__"}) == NAMES
    assert all(inspect.getdoc(given[name]) for name in NAMES if name != "__version__")
    assert given["run"] is edgecompress.run
    assert [given[name].__name__ for name in NAMES[1:]] == NAMES[1:]  # type: ignore[attr-defined]


def test_other_names_are_refused() -> None:
    with pytest.raises(AttributeError, match="module 'edgecompress' has no attribute 'runn'"):
        _ = edgecompress.runn  # type: ignore[attr-defined]
    with pytest.raises(ImportError, match="cannot import name 'runn'"):
        exec("from edgecompress import runn")  # noqa: S102 - as a program would write it


def test_importing_it_imports_no_library() -> None:
    shown = "print([m for m in ('torch', 'numpy', 'pydantic', 'yaml') if m in sys.modules])"
    assert printed(f"import edgecompress, sys; edgecompress.__version__; dir(edgecompress); {shown}") == "[]\n"
    assert printed(f"from edgecompress import run, load_recipe; import sys; {shown}") == "['pydantic', 'yaml']\n"


def test_run_has_what_the_command_and_the_pipeline_have() -> None:
    ours = inspect.signature(edgecompress.run).parameters
    assert list(ours) == [
        "recipe", "output", "overrides", "store", "trust", "until", "fresh", "keep_cache", "strict", "force",
        "listeners",
    ]  # fmt: skip
    # Which file a recipe was read from is worked out from `recipe`.
    assert set(inspect.signature(run_pipeline).parameters) - {"recipe_file"} <= set(ours)
    assert set(inspect.signature(command).parameters) - {"quiet", "as_json"} <= set(ours)
    documented = inspect.getdoc(edgecompress.run) or ""
    assert all(f"\n    {name}: " in documented for name in ours)
