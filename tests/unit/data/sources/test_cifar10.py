"""Both versions of CIFAR-10, and pickles that would run code."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

from edgecompress.data.loading import fingerprint, load_dataset
from edgecompress.errors import DataError

NAMES = (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch")


def batch(seed: int) -> tuple[np.ndarray, list[int]]:
    rows = np.random.default_rng(seed).integers(0, 256, (20, 3072)).astype(np.uint8)
    return rows, [number % 10 for number in range(20)]


def as_python_2_wrote_it(value: dict) -> bytes:
    # The official files are protocol 2 and hold byte strings, which latin-1 carries one to one.
    return pickle.dumps(value, protocol=2)


def write_python(folder: Path) -> Path:
    folder.mkdir(parents=True)
    for seed, name in enumerate(NAMES):
        rows, labels = batch(seed)
        content = {"data": rows, "labels": labels, "batch_label": name, "filenames": ["a.png"] * 20}
        (folder / name).write_bytes(as_python_2_wrote_it(content))
    return folder


def write_binary(folder: Path) -> Path:
    folder.mkdir(parents=True)
    for seed, name in enumerate(NAMES):
        rows, labels = batch(seed)
        (folder / f"{name}.bin").write_bytes(np.column_stack([np.array(labels, np.uint8), rows]).tobytes())
    return folder


@pytest.mark.parametrize(
    ("write", "folder"),
    [(write_python, "cifar/cifar-10-batches-py"), (write_binary, "cifar/cifar-10-batches-bin"),
     (write_python, "cifar"), (write_binary, "cifar")],
)  # fmt: skip
def test_both_versions_give_the_same_pictures(recipe_of, tmp_path: Path, write, folder: str) -> None:
    write(tmp_path / folder)
    data = load_dataset(recipe_of("cifar10", path="cifar"), trust=False)
    assert (len(data.train), len(data.validation), len(data.test)) == (90, 10, 20)
    assert data.input_shape == (3, 32, 32)
    rows, labels = batch(5)
    assert data.test.labels.tolist() == labels
    for row, column, channel in ((0, 0, 0), (3, 7, 1), (31, 30, 2)):
        assert data.test.inputs[4, row, column, channel] == rows[4, channel * 1024 + row * 32 + column]
    assert data.class_names[0] == "airplane"
    assert data.class_names[9] == "truck"


def test_a_pickle_of_the_official_form_is_read(recipe_of, tmp_path: Path) -> None:
    folder = write_python(tmp_path / "cifar-10-batches-py")
    content = (folder / "test_batch").read_bytes()
    # NumPy 2 moved the module whose name the official files hold.
    old = content.replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
    assert old != content
    (folder / "test_batch").write_bytes(old)
    assert len(load_dataset(recipe_of("cifar10", path="."), trust=False).test) == 20


class Trap:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


class OsTrap(Trap):
    def __reduce__(self):
        import os

        return (os.system, (f"touch {self.path}",))


class EvalTrap(Trap):
    def __reduce__(self):
        return (eval, (f"open({str(self.path)!r}, 'w')",))


@pytest.mark.parametrize("trap", [Trap, OsTrap, EvalTrap])
@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_a_pickle_that_would_run_code_is_refused(recipe_of, tmp_path: Path, trap, protocol: int) -> None:
    folder, ran = write_python(tmp_path / "cifar-10-batches-py"), tmp_path / "ran"
    rows, labels = batch(0)
    file = folder / "data_batch_3"
    file.write_bytes(pickle.dumps({"data": rows, "labels": labels, "x": trap(ran)}, protocol=protocol))
    with pytest.raises(DataError, match=r"data_batch_3: not a CIFAR-10 batch .*it asks for"):
        load_dataset(recipe_of("cifar10", path="."), trust=True)
    assert not ran.exists()
    pickle.loads(file.read_bytes())  # noqa: S301 - the trap is a real one
    assert ran.exists()


BAD = {
    "text": (lambda: b"hello", "not a CIFAR-10 batch"),
    "empty": (lambda: b"", "not a CIFAR-10 batch"),
    "truncated": (lambda: as_python_2_wrote_it({"data": batch(0)[0], "labels": batch(0)[1]})[:-500], "not a CIFAR-10"),
    "a list": (lambda: pickle.dumps([1, 2]), "not a CIFAR-10 batch"),
    "no labels": (lambda: as_python_2_wrote_it({"data": batch(0)[0]}), "KeyError"),
    "CIFAR-100": (lambda: as_python_2_wrote_it({"data": batch(0)[0], "fine_labels": [1]}), "KeyError"),
    "a list as data": (lambda: pickle.dumps({"data": [1], "labels": [1]}), "`data` is not"),
    "other width": (
        lambda: as_python_2_wrote_it({"data": np.zeros((2, 9), np.uint8), "labels": [0, 1]}),
        "`data` is not",
    ),
    "floats": (lambda: as_python_2_wrote_it({"data": np.zeros((2, 3072)), "labels": [0, 1]}), "`data` is not"),
    "few labels": (
        lambda: as_python_2_wrote_it({"data": batch(0)[0], "labels": [0, 1]}),
        "`labels` is not one integer",
    ),
    "label 10": (lambda: as_python_2_wrote_it({"data": batch(0)[0], "labels": [10] * 20}), "labels from 10 to 10"),
}


@pytest.mark.parametrize(("content", "message"), BAD.values(), ids=BAD)
def test_damaged_batches_are_named(recipe_of, tmp_path: Path, content, message: str) -> None:
    folder = write_python(tmp_path / "cifar-10-batches-py")
    (folder / "test_batch").write_bytes(content())
    with pytest.raises(DataError, match=message) as caught:
        load_dataset(recipe_of("cifar10", path="."), trust=False)
    assert str(folder / "test_batch") in str(caught.value)


@pytest.mark.parametrize(("spoil", "message"), [(lambda c: c[:-1], "whole records"), (lambda _: b"", "no pictures")])
def test_damaged_binaries_are_named(recipe_of, tmp_path: Path, spoil, message: str) -> None:
    folder = write_binary(tmp_path / "cifar-10-batches-bin")
    (folder / "test_batch.bin").write_bytes(spoil((folder / "test_batch.bin").read_bytes()))
    with pytest.raises(DataError, match=message):
        load_dataset(recipe_of("cifar10", path="."), trust=False)


def test_missing_data_is_said_with_the_ways_to_get_it(recipe_of, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"cifar-10-batches-py or cifar-10-batches-bin.*download: true"):
        load_dataset(recipe_of("cifar10", path="nowhere"), trust=False)
    folder = write_python(tmp_path / "cifar-10-batches-py")
    (folder / "data_batch_2").unlink()
    with pytest.raises(DataError, match=r"cifar-10-batches-py lacks data_batch_2"):
        fingerprint(recipe_of("cifar10", path="."), trust=False)


def test_the_fingerprint_follows_the_content(recipe_of, tmp_path: Path) -> None:
    folder = write_python(tmp_path / "cifar-10-batches-py")
    before = fingerprint(recipe_of("cifar10", path="."), trust=False)
    folder.rename(tmp_path / "moved")
    assert fingerprint(recipe_of("cifar10", path="moved"), trust=False) == before
    rows, labels = batch(99)
    (tmp_path / "moved/test_batch").write_bytes(as_python_2_wrote_it({"data": rows, "labels": labels}))
    assert fingerprint(recipe_of("cifar10", path="moved"), trust=False) != before
