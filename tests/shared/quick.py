"""What a quick session leaves out: whatever imports a package that alone takes seconds.

A test file that imports one, itself or through what it tests, is skipped as a whole. A test that does so while it runs
fails, so that it gets its mark and the session stays quick.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import sys
from collections.abc import Sequence
from types import ModuleType

import pytest

#: Torch and what brings it, or is as large.
SLOW_TO_IMPORT = {"torch", "torchvision", "litert_torch", "tensorflow", "keras", "transformers", "timm", "sklearn"}


class NotQuick(importlib.abc.MetaPathFinder):
    """Finds the large packages as usual, and does not load them."""

    collecting = True

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Returns what the path finder finds of them."""
        spec = importlib.machinery.PathFinder.find_spec(name, path, target) if name in SLOW_TO_IMPORT else None
        if spec is not None and spec.loader is not None:
            spec.loader.exec_module = self.refuse  # type: ignore[method-assign]
        return spec

    def refuse(self, module: ModuleType) -> None:
        """Skips the file that is collected, or fails the test that runs."""
        if self.collecting:
            pytest.skip(f"imports {module.__name__}", allow_module_level=True)
        pytest.fail(f"imports {module.__name__} while it runs: mark it as `converter` or `slow`")


_guard = NotQuick()


def install() -> None:
    """Lets no large package in from now on."""
    sys.meta_path.insert(0, _guard)


def collected() -> None:
    """Tells that tests run from now on."""
    _guard.collecting = False
