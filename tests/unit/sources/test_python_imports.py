"""A model's code is its file and what that imports from beside the recipe; nothing of it is run."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgecompress.sources.python_imports import sources_sha256
from edgecompress.store.files import sha256_file

FILES = {
    "net.py": "import torch, json\nfrom blocks import Block\nimport parts.heads as heads\nraise SystemExit('it ran')\n",
    "blocks.py": "def build():\n    from parts import norm\n",
    "parts/__init__.py": "",
    "parts/heads.py": "from . import wide\nfrom .deep.more import thing\nfrom ..outside import x\n",
    "parts/norm.py": "import net\n",
    "parts/wide.py": "",
    "parts/deep/more.py": "thing = 1\n",
    "parts/unused.py": "",
    "unused.py": "import net\n",
    "data.csv": "1",
}
USED = {"net.py", "blocks.py", "parts/__init__.py", "parts/heads.py", "parts/norm.py", "parts/wide.py"} | {
    "parts/deep/more.py"
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


@pytest.mark.parametrize("name", sorted(FILES))
def test_a_change_of_what_is_imported_counts(folder: Path, name: str) -> None:
    before = sources_sha256(folder / "net.py", folder)
    with (folder / name).open("a") as file:
        file.write("\n# other\n")
    assert (sources_sha256(folder / "net.py", folder) != before) == (name in USED)


def test_a_module_in_a_package_counts_with_its_package(folder: Path) -> None:
    before = sources_sha256(folder / "parts" / "wide.py", folder)
    (folder / "parts" / "__init__.py").write_text("x = 1\n")
    assert sources_sha256(folder / "parts" / "wide.py", folder) != before


def test_a_place_does_not_count(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    before = sources_sha256(folder / "net.py", folder)
    moved = tmp_path_factory.mktemp("other") / "moved"
    folder.rename(moved)
    assert sources_sha256(moved / "net.py", moved) == before


@pytest.mark.parametrize("text", ["import torch\n", "def (\n", "\0", "from .......far import x\n"])
def test_a_file_alone_is_its_hash(tmp_path: Path, text: str) -> None:
    (tmp_path / "net.py").write_text(text)
    assert sources_sha256(tmp_path / "net.py", tmp_path) == sha256_file(tmp_path / "net.py")


def test_an_installed_module_is_its_file(tmp_path: Path) -> None:
    package = tmp_path / ".venv" / "site-packages" / "p"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("from . import net\n")
    (package / "net.py").write_text("from . import other\n")
    assert sources_sha256(package / "net.py", tmp_path) == sha256_file(package / "net.py")
    assert sources_sha256(package / "net.py", tmp_path / "elsewhere") == sha256_file(package / "net.py")
