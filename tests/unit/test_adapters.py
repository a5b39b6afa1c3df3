"""Libraries that change their names, or whose private ones are used, are known by one module each."""

from __future__ import annotations

import ast
import functools
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = sorted(path for folder in ("compress", "cli") for path in (ROOT / folder).rglob("*.py"))
LIBRARY = ROOT / "compress" / "edgecompress"
#: Import name -> the only module that may import it, and must.
ADAPTERS = {
    "ai_edge_quantizer": LIBRARY / "quantization" / "structure" / "quantizer.py",
    "torch_pruning": LIBRARY / "pruning" / "coupling" / "library.py",
    "litert_torch": LIBRARY / "tflite" / "format" / "convert.py",
}


@functools.cache
def imported(path: Path) -> set[str]:
    """Returns the top names of all that a file imports, also within functions."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add((node.module or "").split(".")[0])
    return found


@pytest.mark.parametrize("name", ADAPTERS)
def test_one_module_imports_it(name: str) -> None:
    assert [path for path in SOURCES if name in imported(path)] == [ADAPTERS[name]]


def test_the_quantizers_new_name_is_used_nowhere() -> None:
    """It is the same code a second time (docs/design-decisions.md); whoever switches changes the one module."""
    assert not [path for path in SOURCES if "litert_quantizer" in imported(path)]
