"""Arrays that are not what was asked for are named, with what was expected."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgecompress.data.loading import load_dataset
from edgecompress.errors import DataError


@pytest.fixture
def load(recipe_of, tmp_path: Path):
    def from_arrays(arrays: dict[str, Any], **data: Any):
        np.savez(tmp_path / "data.npz", **arrays)
        return load_dataset(recipe_of("npz", path="data.npz", **data), trust=False)

    return from_arrays


def changed(arrays: dict[str, Any], key: str, change) -> dict[str, Any]:
    return {**arrays, key: change(arrays[key])}


def nan_at(array: np.ndarray, *places: tuple[int, ...]) -> np.ndarray:
    array = array.astype(np.float64)
    for place in places:
        array[place] = np.nan
    return array


BAD = {
    "no inputs at all": (lambda a: {"images": a["x_train"]}, "no x_train and no x_test: it has images"),
    "labels missing": (lambda a: {"x_train": a["x_train"]}, "x_train without y_train: it has x_train"),
    "test labels missing": (
        lambda a: {k: v for k, v in a.items() if k != "y_test"},
        "x_test without y_test",
    ),
    "flat rows": (
        lambda a: changed(a, "x_train", lambda x: x.reshape(30, -1)),
        r"x_train has shape \(30, 90\): .*\(N, H",
    ),
    "channels first": (
        lambda a: changed(a, "x_train", lambda x: x.transpose(0, 3, 1, 2)),
        r"x_train has shape \(30, 3, 6, 5\), which looks like.*x_train = x_train.transpose\(0, 2, 3, 1\)",
    ),
    "empty array": (lambda a: changed(a, "x_train", lambda x: x[:0]), r"x_train is empty, shape \(0, 6, 5, 3\)"),
    "complex": (lambda a: changed(a, "x_train", lambda x: x.astype(complex)), "x_train has type complex128"),
    "strings as labels": (lambda a: changed(a, "y_train", lambda y: y.astype(str)), "y_train has type <U.*np.unique"),
    "too few labels": (lambda a: changed(a, "y_test", lambda y: y[:-1]), "y_test has 11 labels for 12 pictures"),
    "fractions as labels": (lambda a: changed(a, "y_train", lambda y: y + 0.5), r"y_train holds 0.5 at \[0\]"),
    "negative label": (
        lambda a: changed(a, "y_train", lambda y: y - 1),
        r"y_train holds -1 at \[0\]: expected one int",
    ),
    "absurd label": (lambda a: changed(a, "y_train", lambda y: y * 10**9), "y_train goes up to 2000000000"),
    "labels of three axes": (
        lambda a: changed(a, "y_train", lambda y: y[:, None, None]),
        r"y_train has shape \(30, 1, 1\)",
    ),
    "two columns": (lambda a: changed(a, "y_train", lambda y: np.stack([y, y], 1)), "is not one-hot"),
    "one class": (
        lambda a: {**a, "y_train": a["y_train"] * 0, "y_test": a["y_test"] * 0},
        "one class only",
    ),
    "too few names": (lambda a: {**a, "class_names": np.array(["a", "b"])}, "2 names in class_names, but labels for 3"),
    "names in a table": (lambda a: {**a, "class_names": np.array([["a"], ["b"]])}, r"class_names has shape \(2, 1\)"),
    "other size in test": (
        lambda a: changed(a, "x_test", lambda x: x[:, :5]),
        r"x_test are \(5, 5, 3\), those of x_train",
    ),
    "other type in test": (lambda a: changed(a, "x_test", lambda x: x / 255), "x_test holds floats .*x_train integers"),
    "not finite": (
        lambda a: {
            **a,
            "x_train": nan_at(a["x_train"], (4, 0, 2, 1), (5, 1, 1, 0)),
            "x_test": a["x_test"].astype(float),
        },
        r"x_train has 2 values that are not finite .* the first at \[4, 0, 2, 1\]",
    ),
    "beyond float32": (
        lambda a: {"x_train": a["x_train"] * 1e300, "y_train": a["y_train"]},
        "not finite",
    ),
}


@pytest.mark.parametrize(("spoil", "message"), BAD.values(), ids=BAD)
def test_what_cannot_be_used_is_named(load, arrays, spoil, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        load(spoil(arrays))
    assert "data.npz" in str(caught.value)


def test_grey_pictures_get_a_channel_axis(load, arrays) -> None:
    grey = {key: array[..., 0] if key[0] == "x" else array for key, array in arrays.items()}
    data = load(grey)
    assert data.input_shape == (1, 6, 5)
    assert (data.test.inputs[..., 0] == arrays["x_test"][..., 0]).all()


@pytest.mark.parametrize(
    ("dtype", "became", "scale"),
    [("uint8", "uint8", 1 / 255), ("int64", "uint8", 1 / 255), ("bool", "uint8", 1 / 255),
     ("float16", "float32", 1), ("float32", "float32", 1), ("float64", "float32", 1)],
)  # fmt: skip
def test_types_become_two(load, arrays, dtype: str, became: str, scale: float) -> None:
    data = load({key: array.astype(dtype) if key[0] == "x" else array for key, array in arrays.items()})
    assert data.train.inputs.dtype == data.test.inputs.dtype == became
    assert data.normalization.value_scale == scale
    assert (data.test.inputs == arrays["x_test"].astype(dtype)).all()
    assert data.notes == ()


def test_wide_integers_become_floats_with_a_note(load, arrays) -> None:
    wide = {key: array.astype(np.int32) * 2 - 1 if key[0] == "x" else array for key, array in arrays.items()}
    data = load(wide)
    assert data.test.inputs.dtype == np.float32
    assert (data.test.inputs == wide["x_test"]).all()
    assert "became float32" in data.notes[0]


@pytest.mark.parametrize(
    "form", [lambda y: y.astype(float), lambda y: y[:, None], lambda y: np.eye(3)[y], lambda y: y.astype(np.uint8)]
)
def test_labels_may_be_written_in_several_ways(load, arrays, form) -> None:
    data = load({key: form(array) if key[0] == "y" else array for key, array in arrays.items()})
    assert data.test.labels.tolist() == arrays["y_test"].tolist()
    assert data.test.labels.dtype == np.int64
    assert data.class_names == ("0", "1", "2")


def test_classes_without_samples_are_noted(load, arrays) -> None:
    from_one = {key: array + 1 if key[0] == "y" else array for key, array in arrays.items()}
    assert "no samples of class `0`. If the labels start at 1, subtract 1." in load(from_one).notes[0]
    names = np.array([f"c{number}" for number in range(20)])
    notes = load({**arrays, "class_names": names}).notes
    assert "no samples of 17 classes (`c3`, `c4`, `c5`, `c6`, `c7` and 12 more)." in notes[0]
    arrays["y_train"] %= 2
    assert "test split has samples of class `2`, the train split none" in load(arrays).notes[0]


def test_class_names_are_kept(load, arrays) -> None:
    for names in (np.array(["cat", "dog", "löwe"]), np.array([b"cat", b"dog", "löwe".encode()])):
        assert load({**arrays, "class_names": names}).class_names == ("cat", "dog", "löwe")


def test_arrays_of_other_names_are_noted(load, arrays) -> None:
    assert "not used: X_valid, notes" in load({**arrays, "X_valid": 1, "notes": "x"}).notes[0]


def test_without_a_test_split_one_is_held_out(load, arrays) -> None:
    data = load({key: arrays[key] for key in ("x_train", "y_train")}, test=0.2, validation=0.25)
    assert (len(data.train), len(data.validation), len(data.test)) == (18, 6, 6)
    assert np.bincount(data.test.labels).tolist() == [2, 2, 2]
    assert "6 of 30 samples were held out" in data.notes[0]


def test_objects_are_not_unpickled(recipe_of, arrays, tmp_path: Path) -> None:
    ran = tmp_path / "ran"

    class Trap:
        def __reduce__(self):
            return (Path.touch, (ran,))

    np.savez(tmp_path / "data.npz", **{**arrays, "class_names": np.array([Trap()], dtype=object)})
    with pytest.raises(DataError, match=r"data.npz: class_names cannot be read .*Python objects are not loaded"):
        load_dataset(recipe_of("npz", path="data.npz"), trust=False)
    assert not ran.exists()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: None, "No such file or directory. Expected an .npz file with x_train"),
        (lambda path: path.mkdir(), "is a folder.*image-folder"),
        (lambda path: path.write_bytes(b"hello"), "cannot be read"),
        (lambda path: path.write_bytes(b""), "cannot be read"),
        (lambda path: path.write_bytes(b"PK\x03\x04 broken"), "cannot be read"),
        (lambda path: np.save(path.open("wb"), np.zeros(3)), "holds a single array"),
    ],
)
def test_files_of_other_kinds_are_refused(recipe_of, tmp_path: Path, make, message: str) -> None:
    make(tmp_path / "data.npz")
    with pytest.raises(DataError, match=message) as caught:
        load_dataset(recipe_of("npz", path="data.npz"), trust=False)
    assert str(tmp_path / "data.npz") in str(caught.value)


def test_a_damaged_archive_names_the_array(recipe_of, arrays, tmp_path: Path) -> None:
    path = tmp_path / "data.npz"
    np.savez(path, **arrays)
    content = bytearray(path.read_bytes())
    content[1000] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(DataError, match="x_train cannot be read"):
        load_dataset(recipe_of("npz", path="data.npz"), trust=False)


def test_classes_that_only_the_test_split_has_are_noted(recipe_of, tmp_path: Path) -> None:
    pictures = np.zeros((40, 8, 8), np.uint8)
    labels = np.arange(40) % 2
    np.savez(tmp_path / "x.npz", x_train=pictures, y_train=labels, x_test=pictures, y_test=labels + 1)
    notes = load_dataset(recipe_of("npz", path="x.npz"), trust=False).notes
    (note,) = [note for note in notes if "the test split has samples of class `2`, the train split none" in note]
    assert not any("The test split has samples of" in other for other in notes), note
    assert any("the train split has samples of class `0`, the test split none" in note for note in notes)


def test_only_series_and_tables_end_at_so_many_deviations(load) -> None:
    values = np.random.default_rng(0).normal(size=(40, 6, 2)).astype(np.float32)
    series = {"x_train": values, "y_train": np.arange(40) % 2}
    found = load(series, task="timeseries-classification", clip=2.5)
    assert found.normalization.clip == 2.5
    assert load(series, task="timeseries-classification").normalization.clip is None
    pictures = {"x_train": values[:, :, :, None].repeat(3, 3), "y_train": np.linspace(0, 1, 40)}
    with pytest.raises(DataError, match=r"data\.clip is for series and tables of numbers, but the data holds pictures"):
        load(pictures, task="regression", clip=2.5)
