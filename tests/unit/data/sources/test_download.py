"""Downloads go through torchvision, quietly, and a failed one is explained."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import pytest

import edgecompress.sources.torchvision_import
from edgecompress.data.sources.download import download
from edgecompress.errors import DataError


@pytest.fixture
def datasets(monkeypatch) -> ModuleType:
    """Stands for torchvision.datasets."""
    module, parent = ModuleType("torchvision.datasets"), ModuleType("torchvision")
    parent.datasets = module  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torchvision", parent)
    monkeypatch.setitem(sys.modules, "torchvision.datasets", module)
    monkeypatch.setattr(edgecompress.sources.torchvision_import, "import_torchvision", lambda: parent)
    return module


def test_torchvision_is_asked_and_its_chatter_kept_off_the_screen(datasets, tmp_path: Path, capsys) -> None:
    def fetch(root: str, *, download: bool) -> None:
        print("Downloading", download)  # noqa: T201
        print("10 %", file=sys.stderr)  # noqa: T201
        Path(root, "file").touch()

    datasets.CIFAR10 = fetch
    download("CIFAR10", tmp_path)
    assert (tmp_path / "file").exists()
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("error", [OSError("no route to host"), RuntimeError("File not found\nor corrupted")])
def test_a_failed_download_is_explained(datasets, tmp_path: Path, error: Exception) -> None:
    def fetch(**_: object) -> None:
        raise error

    datasets.FashionMNIST = fetch
    why = " ".join(str(error).split())
    with pytest.raises(DataError, match=f"FashionMNIST could not be downloaded to {tmp_path}: {why}. .*data.path"):
        download("FashionMNIST", tmp_path)
