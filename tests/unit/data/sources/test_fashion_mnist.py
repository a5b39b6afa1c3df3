"""IDX files in every layout they come in, and what is said where they are missing or damaged."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest

from edgecompress.data.loading import fingerprint, load_dataset
from edgecompress.data.sources import fashion_mnist
from edgecompress.errors import DataError

DEBIAN = Path("/usr/share/datasets/fashion-mnist")
SIZES = {"train": 40, "t10k": 20}


def idx(array: np.ndarray) -> bytes:
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


def contents() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    files = {}
    for part, count in SIZES.items():
        files[f"{part}-images-idx3-ubyte"] = rng.integers(0, 256, (count, 28, 28)).astype(np.uint8)
        files[f"{part}-labels-idx1-ubyte"] = (np.arange(count) % 10).astype(np.uint8)
    return files


def write(folder: Path, *, gz: bool) -> dict[str, np.ndarray]:
    folder.mkdir(parents=True, exist_ok=True)
    files = contents()
    for name, array in files.items():
        data = gzip.compress(idx(array), mtime=0) if gz else idx(array)
        (folder / (f"{name}.gz" if gz else name)).write_bytes(data)
    return files


@pytest.mark.parametrize("layout", ["", "FashionMNIST/raw", "raw"])
@pytest.mark.parametrize("gz", [True, False])
def test_all_layouts_are_read(recipe_of, tmp_path: Path, layout: str, gz: bool) -> None:
    files = write(tmp_path / "fashion" / layout, gz=gz)
    data = load_dataset(recipe_of("fashion-mnist", path="fashion"), trust=False)
    assert (len(data.train), len(data.validation), len(data.test)) == (30, 10, 20)
    assert data.input_shape == (1, 28, 28)
    assert (data.test.inputs[..., 0] == files["t10k-images-idx3-ubyte"]).all()
    assert (data.test.labels == files["t10k-labels-idx1-ubyte"]).all()
    assert data.test.inputs.flags.writeable
    assert data.class_names[0] == "T-shirt/top"
    assert data.class_names[9] == "Ankle boot"
    assert data.normalization.value_scale == 1 / 255


def test_without_a_path_the_working_folder_is_searched_too(recipe_of, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(fashion_mnist, "FOLDERS", fashion_mnist.FOLDERS[1:])
    write(tmp_path / "data/FashionMNIST/raw", gz=False)
    assert len(load_dataset(recipe_of("fashion-mnist"), trust=False).test) == 20


def test_the_fingerprint_follows_the_content(recipe_of, tmp_path: Path) -> None:
    write(tmp_path / "a", gz=True)
    write(tmp_path / "b/raw", gz=True)
    first, second = (recipe_of("fashion-mnist", path=path) for path in "ab")
    assert fingerprint(first, trust=False) == fingerprint(second, trust=False)
    labels = (np.arange(20) % 9).astype(np.uint8)
    (tmp_path / "b/raw/t10k-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(labels), mtime=0))
    assert fingerprint(first, trust=False) != fingerprint(second, trust=False)


@pytest.mark.parametrize("reader", [load_dataset, fingerprint])
def test_missing_data_is_said_with_the_ways_to_get_it(recipe_of, tmp_path: Path, reader) -> None:
    with pytest.raises(DataError) as caught:
        reader(recipe_of("fashion-mnist", path="nowhere"), trust=False)
    for part in (str(tmp_path / "nowhere"), "make data", "dataset-fashion-mnist", "data.path", "download: true"):
        assert part in str(caught.value)


def test_an_incomplete_folder_is_named_with_what_it_lacks(recipe_of, tmp_path: Path) -> None:
    write(tmp_path / "some", gz=True)
    (tmp_path / "some/train-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(DataError, match="some lacks train-labels-idx1-ubyte"):
        load_dataset(recipe_of("fashion-mnist", path="some"), trust=False)


IMAGES, LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"
DAMAGE = {
    "truncated": (IMAGES, lambda data: data[:-5], "truncated: 31,371 bytes, but its header says 31,376"),
    "too long": (LABELS, lambda data: data + b"x", "too long: 49 bytes"),
    "no header": (IMAGES, lambda data: data[:10], "not an IDX file"),
    "labels as images": (IMAGES, lambda _: idx(np.zeros(40, np.uint8)), "not an IDX file .* 3 dimension"),
    "text": (LABELS, lambda _: b"<html>not found</html>", "not an IDX file"),
    "huge header": (IMAGES, lambda data: data[:4] + b"\xff" * 12 + data[16:], "truncated"),
    "other count": (LABELS, lambda _: idx(np.zeros(39, np.uint8)), "has 40 pictures, but .* has 39 labels"),
    "label 10": (LABELS, lambda _: idx(np.full(40, 10, np.uint8)), "label 10, expected 0 to 9"),
}


@pytest.mark.parametrize(("name", "spoil", "message"), DAMAGE.values(), ids=DAMAGE)
def test_damaged_files_are_named(recipe_of, tmp_path: Path, name: str, spoil, message: str) -> None:
    write(tmp_path / "raw", gz=False)
    file = tmp_path / "raw" / name
    file.write_bytes(spoil(file.read_bytes()))
    with pytest.raises(DataError, match=message) as caught:
        load_dataset(recipe_of("fashion-mnist", path="."), trust=False)
    assert str(file) in str(caught.value)


@pytest.mark.parametrize("spoil", [lambda data: data[:-20], lambda _: b"not gzip", lambda data: data[:60] + b"\0" * 99])
def test_damaged_archives_are_named(recipe_of, tmp_path: Path, spoil) -> None:
    write(tmp_path, gz=True)
    file = tmp_path / f"{IMAGES}.gz"
    file.write_bytes(spoil(file.read_bytes()))
    with pytest.raises(DataError, match=r"cannot be read .*Is the file whole|not an IDX file") as caught:
        load_dataset(recipe_of("fashion-mnist", path="."), trust=False)
    assert str(file) in str(caught.value)


@pytest.mark.parametrize("source", ["fashion-mnist", "cifar10"])
def test_a_download_is_made_only_when_asked_for(recipe_of, tmp_path: Path, monkeypatch, source: str) -> None:
    asked: list[tuple[str, Path]] = []

    def pretend(name: str, root: Path) -> None:
        asked.append((name, root))
        write(root / "FashionMNIST/raw", gz=False)

    module = fashion_mnist
    if source == "cifar10":
        from edgecompress.data.sources import cifar10 as module
    monkeypatch.setattr(module, "download", pretend)
    with pytest.raises(DataError):
        load_dataset(recipe_of(source, path="new"), trust=False)
    assert not asked
    recipe = recipe_of(source, path="new", download=True)
    if source == "fashion-mnist":
        assert len(load_dataset(recipe, trust=False).test) == 20
        load_dataset(recipe, trust=False)  # it is there now
        assert asked == [("FashionMNIST", tmp_path / "new")]
    else:
        with pytest.raises(DataError, match="CIFAR-10 is not in"):  # a download that brought something else
            load_dataset(recipe, trust=False)
        assert asked == [("CIFAR10", tmp_path / "new")]


@pytest.mark.slow
@pytest.mark.skipif(not DEBIAN.is_dir(), reason="Debian's dataset-fashion-mnist is not installed")
def test_the_real_files_are_read(recipe_of) -> None:
    recipe = recipe_of("fashion-mnist", path=str(DEBIAN))
    data = load_dataset(recipe, trust=False)
    assert (len(data.train), len(data.validation), len(data.test)) == (54_000, 6_000, 10_000)
    assert np.bincount(data.train.labels).tolist() == [5400] * 10
    assert np.bincount(data.test.labels).tolist() == [1000] * 10
    # The known figures of all 60,000 are 0.2860 and 0.3530.
    assert data.normalization.mean[0] == pytest.approx(0.2860, abs=2e-3)
    assert data.normalization.std[0] == pytest.approx(0.3530, abs=2e-3)
    assert fingerprint(recipe, trust=False) == fingerprint(recipe, trust=True)
