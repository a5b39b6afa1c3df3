"""Files from strangers: nothing in them runs, nothing unpacks to more than it may, nothing lands outside its place."""

from __future__ import annotations

import gzip
import io
import json
import pickle
import struct
import urllib.request
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgecompress.data.loading import load_dataset
from edgecompress.data.sources.download import download
from edgecompress.data.sources.fashion_mnist import read_idx
from edgecompress.errors import DataError, ModelError, ResourceError, UsageError
from edgecompress.machine import memory_bytes
from edgecompress.models.weight_files import read_content
from edgecompress.pipeline.recheck import read_run
from edgecompress.pipeline.run import LOCK, REPORT
from edgecompress.recipe.schema import Recipe
from edgecompress.sources import archives
from edgecompress.sources.archives import check_unpacked
from tests.shared.recipe_mutations import hostile


def npy(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=False)
    return stream.getvalue()


def archive(path: Path, **members: bytes) -> Path:
    """Writes a zip archive, compressed; `__` in a member's name stands for `/`."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as zipped:
        for name, content in members.items():
            zipped.writestr(name.replace("__", "/"), content)
    return path


def npz_recipe(folder: Path) -> Recipe:
    return Recipe(
        version=1, student={"model": "resnet8"}, data={"source": "npz", "path": "x.npz"}, base_dir=str(folder)
    )


@pytest.fixture
def small_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """From a megabyte on an archive is looked at."""
    monkeypatch.setattr(archives, "HARMLESS_BYTES", 2**20)


@pytest.mark.usefixtures("small_limits")
def test_a_zip_bomb_is_no_data(tmp_path: Path) -> None:
    archive(tmp_path / "x.npz", **{"x_train.npy": npy(np.zeros((3000, 32, 32), np.uint8)), "y_train.npy": b"x"})
    with pytest.raises(DataError, match=r"x\.npz: a zip bomb: 0\.0 MiB that unpack to 3 MiB"):
        load_dataset(npz_recipe(tmp_path), trust=False)


@pytest.mark.usefixtures("small_limits")
def test_arrays_that_are_not_read_may_be_of_any_size(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    pictures, labels = rng.integers(0, 256, (40, 8, 8)).astype(np.uint8), np.arange(40) % 2
    archive(
        tmp_path / "x.npz",
        **{"x_train.npy": npy(pictures), "y_train.npy": npy(labels), "spare.npy": npy(np.zeros(2**22, np.uint8))},
    )
    assert load_dataset(npz_recipe(tmp_path), trust=False).num_classes == 2


@pytest.mark.usefixtures("small_limits")
def test_what_memory_cannot_hold_is_said_before_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "memory_bytes", lambda: 2**21)
    path = archive(tmp_path / "x.zip", a=np.random.default_rng(0).bytes(2**22))
    with zipfile.ZipFile(path) as zipped, pytest.raises(ResourceError, match="unpacks to 4 MiB, more than the 2 MiB"):
        check_unpacked(path, zipped.infolist(), "weights")
    monkeypatch.setattr(archives, "memory_bytes", memory_bytes)
    with zipfile.ZipFile(path) as zipped:
        check_unpacked(path, zipped.infolist(), "weights")
    assert memory_bytes() > 2**28


@pytest.mark.usefixtures("small_limits")
def test_a_zip_bomb_is_no_weights(tmp_path: Path) -> None:
    path = archive(tmp_path / "weights.pt", weights__data=bytes(2**22))
    with pytest.raises(ModelError, match=r"weights\.pt: a zip bomb"):
        read_content(path)


def test_a_gzip_bomb_is_read_no_further_than_its_header_says(tmp_path: Path) -> None:
    path = tmp_path / "images.gz"
    header = struct.pack(">HBB3I", 0, 8, 3, 2, 4, 4)
    path.write_bytes(gzip.compress(header + bytes(50_000_000), 1))
    with pytest.raises(DataError, match="too long: 49 bytes, but its header says 48"):
        read_idx(path, 3)


def test_nothing_is_unpacked_outside_of_memory(tmp_path: Path) -> None:
    place = tmp_path / "deep" / "down"
    place.mkdir(parents=True)
    data = {"x_train.npy": npy(np.zeros((4, 8, 8), np.uint8)), "y_train.npy": npy(np.arange(4) % 2)}
    archive(place / "x.npz", **data, **{"..__..__evil.npy": npy(np.zeros(3)), "__tmp__evil.npy": npy(np.zeros(3))})
    assert load_dataset(npz_recipe(place), trust=False).num_classes == 2
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["x.npz"]


@pytest.mark.parametrize(
    "shape", ["(1208925819614629174706176,)", "(1099511627776, 8, 8)", "(-5, 8, 8)", "(4, 1e3)", "(" * 60, "4"]
)
def test_a_shape_that_no_array_has_is_said(tmp_path: Path, shape: str) -> None:
    header = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}".encode().ljust(117) + b"\n"
    array = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + bytes(256)
    archive(tmp_path / "x.npz", **{"x_train.npy": array, "y_train.npy": npy(np.arange(4) % 2)})
    with pytest.raises(DataError, match=r"x\.npz: x_train cannot be read"):
        load_dataset(npz_recipe(tmp_path), trust=False)


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_pickle_among_weights_does_not_run(tmp_path: Path, wrapped: bool) -> None:
    ran = tmp_path / "ran"

    class Trap:
        def __reduce__(self) -> Any:
            return (Path.touch, (ran,))

    path = tmp_path / "weights.pt"
    content = pickle.dumps({"state_dict": Trap()})
    if wrapped:
        archive(path, **{"archive__data.pkl": content, "archive__version": b"3\n"})
    else:
        path.write_bytes(content)
    with pytest.raises(ModelError, match=r"weights\.pt"):
        read_content(path)
    assert not ran.exists()


def test_code_of_a_recipe_needs_trust_and_is_named(tmp_path: Path) -> None:
    (tmp_path / "loader.py").write_text("raise SystemExit('it ran')\n")
    recipe = Recipe(
        version=1, student={"model": "resnet8"}, data={"source": "python:loader:load"}, base_dir=str(tmp_path)
    )
    with pytest.raises(UsageError, match=r"loader\.py.*--trust or EDGECOMPRESS_TRUST=1"):
        load_dataset(recipe, trust=False)


def test_a_download_with_another_hash_than_the_published_one_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    class Answer(io.BytesIO):
        length, url = 4, "http://mirror.example/file"

    def urlopen(request: urllib.request.Request, *_: object, **__: object) -> Answer:
        asked.append(request.full_url)
        return Answer(b"evil")

    monkeypatch.setattr(urllib.request, "urlopen", urlopen)
    for name in ("FashionMNIST", "CIFAR10"):
        with pytest.raises(DataError, match=f"{name} could not be downloaded"):
            download(name, tmp_path)
    assert len(asked) >= 2
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and path.suffix not in (".gz", ".tar")]


@pytest.mark.parametrize(
    "name", ["billion laughs", "a Python object", "binary", "brackets", "a block that holds itself"]
)
def test_a_lock_file_from_elsewhere_is_data_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / REPORT).write_text("{}")
    (tmp_path / LOCK).write_bytes(hostile()[name])
    with pytest.raises(ResourceError, match=f"{LOCK} (cannot be read|is not what a run writes)"):
        read_run(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([REPORT, LOCK])


def test_a_report_that_nests_deep_is_refused(tmp_path: Path) -> None:
    (tmp_path / REPORT).write_text("[" * 100_000)
    (tmp_path / LOCK).write_text("{}")
    with pytest.raises(ResourceError, match="cannot be read"):
        read_run(tmp_path)
    (tmp_path / REPORT).write_text(json.dumps({"files": ["x"], "models": [{"accuracy": 1}]}))
    with pytest.raises(ResourceError, match="is not what a run writes"):
        read_run(tmp_path)
