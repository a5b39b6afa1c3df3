"""Arrays by name for every task: pictures, series, tables or text, what is to be answered, and groups."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecompress.data.base import Split
from edgecompress.data.labels import check_spellings, class_names_of, describe_classes, read_labels
from edgecompress.data.offsets import Offsets, targets_of
from edgecompress.data.raw import RawData, RawKind, listing
from edgecompress.data.reading import arrays as pictures
from edgecompress.data.reading.arrays import as_array, as_float
from edgecompress.data.reading.folders import normal
from edgecompress.data.reading.series_arrays import read_series
from edgecompress.data.reading.text_reading import is_writable_text
from edgecompress.errors import DataError
from edgecompress.recipe.schema import Recipe
from edgecompress.wording import counted

PARTS = ("train", "test")
INPUTS = ("x_train", "x_test", "x_calibration")
LENGTHS = ("lengths_train", "lengths_test", "lengths_calibration")
KEYS = (*INPUTS, "y_train", "y_test", *LENGTHS, "class_names", "target_names")
TEXT_TASKS = ("text-classification", "language-modeling")
#: Tasks for which a table's rows are features; for others they are the steps of a series.
ROWS = ("regression", "anomaly-detection")
#: Axes of an array of pictures, and of tables.
PICTURES, TABLE = 4, 2
WHAT_INPUTS = {
    "text-classification": "texts (N,) as str",
    "language-modeling": "texts (N,) as str",
    "timeseries-classification": "series (N, steps, features), with lengths_train (N,) where they differ",
    "audio-classification": "frames (N, frames, features)",
    "regression": "features (N, features), series (N, steps, features), pictures (N, H, W, C) or texts (N,)",
    "anomaly-detection": "features (N, features) or series (N, steps, features)",
}
WHAT_LABELS = {
    "language-modeling": "no labels",
    "regression": "numbers to predict (N,) or (N, targets)",
    "anomaly-detection": "y_test (N,), 0 for normal",
}


def expected(task: str) -> str:
    """Returns which arrays a task needs, in words."""
    if task == "image-classification":
        return pictures.EXPECTED
    labels = WHAT_LABELS.get(task, "labels 0 to K-1")
    names = "x_train" if task == "language-modeling" else "x_train, y_train"
    tests = "x_test" if task == "language-modeling" else "x_test, y_test"
    return f"{names} and, if wanted, {tests}; {WHAT_INPUTS[task]}; {labels}"


def keys_of(recipe: Recipe) -> tuple[str, ...]:
    """Returns the names of arrays that may be used."""
    own = pictures.KEYS if recipe.task == "image-classification" else KEYS
    return (*own, *_group_keys(recipe))


def raw_data(arrays: Mapping[str, Any], origin: str, recipe: Recipe) -> RawData:
    """Returns checked arrays, in the form that the recipe's task is about.

    Args:
        arrays: By name, see `keys_of`; others are left alone, with a note.
        origin: Where they are from, for messages.
        recipe: Its task says what they are, `data.split_by` which groups are used.

    Raises:
        DataError: One is missing or cannot be used; the message says which, what it has and what was expected.
    """
    others = {key: value for key, value in arrays.items() if key not in _group_keys(recipe)}
    if recipe.task == "image-classification":
        raw = pictures.picture_data(others, origin)
    else:
        raw = _samples(others, origin, recipe.task)
    if recipe.data.split_by is None:
        return raw
    train, test = (
        _grouped(split, part, arrays, recipe, origin) for part, split in zip(PARTS, (raw.train, raw.test), strict=True)
    )
    return replace(raw, train=train or raw.train, test=test)


def _group_keys(recipe: Recipe) -> tuple[str, ...]:
    name = recipe.data.split_by
    return () if name is None else (*(f"{name}_{part}" for part in PARTS), *(f"groups_{part}" for part in PARTS), name)


def _grouped(split: Split | None, part: str, arrays: Mapping[str, Any], recipe: Recipe, origin: str) -> Split | None:
    """Returns a split with its groups, as it is where there are none."""
    name = recipe.data.split_by
    keys = (f"{name}_{part}", *([name] if part == "train" else []), f"groups_{part}")
    key = next((key for key in keys if key is not None and arrays.get(key) is not None), None)
    if split is None or key is None or not len(split):
        return split
    groups = as_array(arrays[key], f"{origin}: {key}")
    if groups.shape != (len(split),) or groups.dtype.kind not in "iuUb":
        raise DataError(
            f"{origin}: {key} has shape {groups.shape}, type {groups.dtype}: expected one group per sample, "
            f"({len(split)},), as whole numbers or text"
        )
    return replace(split, groups=groups)


def _samples(arrays: Mapping[str, Any], origin: str, task: str) -> RawData:
    given = {key: arrays[key] for key in KEYS if arrays.get(key) is not None}
    has = f"it has {', '.join(str(key) for key in arrays) or 'nothing'}"
    if "x_train" not in given and "x_test" not in given:
        raise DataError(f"{origin}: no x_train and no x_test: {has}. Expected {expected(task)}.")
    notes: list[str] = []
    if unknown := [key for key in arrays if key not in KEYS]:
        notes.append(f"{origin}: not used: {listing(unknown)}.")
    kind, inputs, subtracted = _inputs(given, origin, task, notes)
    parts = [part for part in PARTS if f"x_{part}" in inputs]
    sizes = {part: len(inputs[f"x_{part}"]) for part in parts}
    for part in PARTS:
        needed = task != "language-modeling" and not (task == "anomaly-detection" and part == "train")
        if part in parts and needed and f"y_{part}" not in given:
            raise DataError(f"{origin}: x_{part} without y_{part}: {has}. Expected {expected(task)}.")
        if part not in parts and f"y_{part}" in given:
            raise DataError(f"{origin}: y_{part} without x_{part}: {has}. Expected {expected(task)}.")
    labels, names = _labels(given, sizes, origin, task)
    if task not in WHAT_LABELS:
        notes += describe_classes(labels, names, origin)
    targets: tuple[str, ...] = ()
    if task == "regression":
        targets = _target_names(given, labels, origin)
        labels, more = targets_of(labels, targets, origin)
        notes += more
    splits = {part: Split(inputs[f"x_{part}"], labels[part]) for part in parts}
    if "train" not in splits:
        test = splits["test"]
        splits["train"] = Split(test.inputs[:0], test.labels[:0])
    return RawData(
        splits["train"],
        splits.get("test"),
        names,
        inputs.get("x_calibration"),
        notes=tuple(notes),
        kind=kind,
        target_names=targets,
        subtracted=subtracted,
    )


def _inputs(
    given: dict[str, Any], origin: str, task: str, notes: list[str]
) -> tuple[RawKind, dict[str, NDArray[Any]], tuple[int, ...]]:
    """Returns what the samples are, all of them in one form, and what was subtracted from their values."""
    found: dict[str, NDArray[Any]] = {}
    kinds: dict[str, RawKind] = {}
    offsets: Offsets | None = None
    for key in (key for key in INPUTS if key in given):
        where = f"{origin}: {key}"
        lengths = given.get(key.replace("x_", "lengths_"))
        steps = task not in ROWS and getattr(given[key], "ndim", 0) == TABLE
        offsets = offsets or Offsets(where, common=steps)
        kinds[key], found[key] = _one_input(given[key], where, task, lengths, offsets)
    notes += offsets.notes if offsets is not None else ()
    subtracted = offsets.subtracted if offsets is not None else ()
    first = next(iter(found))
    for key, kind in kinds.items():
        if kind != kinds[first]:
            raise DataError(f"{origin}: {key} holds {kind}, {first} {kinds[first]}: they must be the same")
        if kind in ("series", "features") and (one := _features(found[key])) != (other := _features(found[first])):
            raise DataError(f"{origin}: {key} has {counted(one, 'feature')}, {first} {other}: they must be the same")
    if kinds[first] == "pictures":
        found, subtracted = pictures.picture_inputs(found, origin, notes)
    elif kinds[first] == "series" and len({one.shape[1] if one.ndim > 1 else 0 for one in found.values()}) > 1:
        found = {key: _ragged(one) for key, one in found.items()}  # lengths differ between splits
    return kinds[first], found, subtracted


def _one_input(value: Any, where: str, task: str, lengths: Any, offsets: Offsets) -> tuple[RawKind, NDArray[Any]]:
    texts = _texts(value)
    if task in TEXT_TASKS or (task == "regression" and texts is not None):
        if texts is None:
            array = as_array(value, where, WHAT_INPUTS[task])
            raise DataError(f"{where} has shape {array.shape}, type {array.dtype}: expected {WHAT_INPUTS[task]}")
        wrong = next((row for row, text in enumerate(texts) if not is_writable_text(text)), None)
        if wrong is not None:
            raise DataError(f"{where}[{wrong}] holds half a surrogate pair, which is no character")
        return "text", texts
    if task == "regression" and getattr(value, "ndim", 0) == PICTURES:
        return "pictures", as_array(value, where)
    array = read_series(value, where, WHAT_INPUTS[task], lengths, offsets)
    if array.ndim != TABLE:
        return "series", array
    if task in ROWS:
        return "features", array
    return "series", array[..., np.newaxis]


def _texts(value: Any) -> NDArray[Any] | None:
    """Returns (N,) objects of str, None where the value is no list of texts."""
    items = value.tolist() if isinstance(value, np.ndarray) else list(value) if isinstance(value, Iterable) else []
    if not items or not all(isinstance(item, str) for item in items):
        return None
    texts = np.empty(len(items), object)
    texts[:] = items
    return texts


def _features(series: NDArray[Any]) -> int:
    return int(series[0].shape[-1]) if series.dtype == object else int(series.shape[-1])


def _ragged(series: NDArray[Any]) -> NDArray[Any]:
    result = np.empty(len(series), object)
    result[:] = list(series)
    return result


def _labels(
    given: dict[str, Any], sizes: dict[str, int], origin: str, task: str
) -> tuple[dict[str, NDArray[Any]], tuple[str, ...]]:
    """Returns the labels by part, and the names of the classes."""
    if task == "language-modeling":
        return {part: np.zeros(size, np.int64) for part, size in sizes.items()}, ()
    found = {
        part: as_array(given[f"y_{part}"], f"{origin}: y_{part}", expected(task))
        for part in sizes
        if f"y_{part}" in given
    }
    if task == "regression":
        return {part: _numbers(array, sizes[part], f"{origin}: y_{part}") for part, array in found.items()}, ()
    names = given.get("class_names")
    if (
        names is None and found and all(array.dtype.kind == "U" and array.ndim == 1 for array in found.values())
    ):  # by name
        found = {part: np.array([normal(str(name).strip()) for name in array]) for part, array in found.items()}
        check_spellings({part: array.tolist() for part, array in found.items()}, origin)
        names, numbers = np.unique(np.concatenate(list(found.values())), return_inverse=True)
        ends = np.cumsum([len(array) for array in found.values()])[:-1]
        found = dict(zip(found, np.split(numbers, ends), strict=True))
    read = {part: read_labels(array, sizes[part], f"{origin}: y_{part}", "sample") for part, array in found.items()}
    if task == "anomaly-detection":
        labels = {part: np.zeros(size, np.int64) for part, size in sizes.items()}
        labels.update({part: (classes.numbers != 0).astype(np.int64) for part, classes in read.items()})
        return labels, ("normal", "anomaly")
    listed = class_names_of(None if names is None else as_array(names, f"{origin}: class_names"), read, origin)
    return {part: classes.numbers for part, classes in read.items()}, listed


def _numbers(array: NDArray[Any], samples: int, where: str) -> NDArray[Any]:
    """Returns (N, targets) of the type they have."""
    what = WHAT_LABELS["regression"]
    if array.dtype.kind not in "iubf" or array.ndim not in (1, TABLE) or not array.size:
        raise DataError(f"{where} has shape {array.shape}, type {array.dtype}: expected {what}")
    if len(array) != samples:
        raise DataError(f"{where} has {len(array)} rows for {counted(samples, 'sample')}: expected {what}")
    rows = array.reshape(len(array), -1)
    as_float(rows, where)  # all of them are finite
    return rows


def _target_names(given: dict[str, Any], labels: dict[str, NDArray[Any]], origin: str) -> tuple[str, ...]:
    widths = {part: array.shape[1] for part, array in labels.items()}
    if len(set(widths.values())) > 1:
        raise DataError(f"{origin}: y_train and y_test have different numbers of targets: {widths}")
    width = next(iter(widths.values()))
    if "target_names" not in given:
        return tuple("y" if width == 1 else f"y[{number}]" for number in range(width))
    names = tuple(str(name) for name in as_array(given["target_names"], f"{origin}: target_names").ravel().tolist())
    if len(names) != width:
        raise DataError(f"{origin}: target_names has {counted(len(names), 'name')} for {counted(width, 'target')}")
    return names
