"""Arrays of pictures by name (of an npz file, of a Python function), checked and brought into one form."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecompress.data.base import Split
from edgecompress.data.labels import class_names_of, describe_classes, read_labels
from edgecompress.data.offsets import Offsets
from edgecompress.data.raw import RawData, empty_split, listing
from edgecompress.errors import DataError
from edgecompress.wording import counted, verb

INPUTS = ("x_train", "x_test", "x_calibration")
KEYS = ("x_train", "y_train", "x_test", "y_test", "x_calibration", "class_names")
EXPECTED = (
    "x_train, y_train and, if wanted, x_test, y_test, x_calibration, class_names; "
    "pictures (N, H, W) or (N, H, W, C), labels 0 to K-1"
)
#: Channels pictures have; an axis of this length where C should not be gives NCHW away.
USUAL_CHANNELS = (1, 3)
GREY_NDIM, COLOUR_NDIM = 3, 4
BYTE = 255


def picture_data(arrays: Mapping[str, Any], origin: str) -> RawData:
    """Returns checked arrays: pictures (N, H, W, C) uint8 or float32, labels int64.

    Args:
        arrays: By the names in KEYS; others are left alone, with a note.
        origin: Where they are from, for messages.

    Raises:
        DataError: One is missing or cannot be used; the message says which, what it has and what was expected.
    """
    given = {key: as_array(arrays[key], f"{origin}: {key}") for key in KEYS if arrays.get(key) is not None}
    _check_presence(given, arrays, origin)
    notes: list[str] = []
    if unknown := [key for key in arrays if key not in KEYS]:
        notes.append(f"{origin}: not used: {listing(unknown)}.")
    inputs, subtracted = picture_inputs({key: given[key] for key in INPUTS if key in given}, origin, notes)
    labels = {
        part: read_labels(given[f"y_{part}"], len(inputs[f"x_{part}"]), f"{origin}: y_{part}")
        for part in ("train", "test")
        if f"x_{part}" in inputs
    }
    names = class_names_of(given.get("class_names"), labels, origin)
    notes += describe_classes({part: classes.numbers for part, classes in labels.items()}, names, origin)
    splits = {part: Split(inputs[f"x_{part}"], classes.numbers) for part, classes in labels.items()}
    if "train" not in splits:
        test = splits["test"].inputs
        splits["train"] = empty_split(test.shape[1:], test.dtype)
    return RawData(
        splits["train"],
        splits.get("test"),
        names,
        inputs.get("x_calibration"),
        notes=tuple(notes),
        subtracted=subtracted,
    )


def as_array(value: Any, where: str, expected: str = EXPECTED) -> NDArray[Any]:
    """Returns an array; `expected` is for the message.

    Raises:
        DataError: The value is none.
    """
    try:
        return np.asarray(value)
    except (ValueError, TypeError, RuntimeError) as error:  # lists of unequal length, tensors on a GPU
        kind = type(value).__name__
        raise DataError(f"{where} is a {kind} that is no array ({error}). Expected {expected}.") from error


def _check_presence(given: Mapping[str, Any], arrays: Mapping[str, Any], origin: str) -> None:
    has = f"it has {', '.join(str(key) for key in arrays) or 'nothing'}"
    if "x_train" not in given and "x_test" not in given:
        raise DataError(f"{origin}: no x_train and no x_test: {has}. Expected {EXPECTED}.")
    for part in ("train", "test"):
        pair = (f"x_{part}", f"y_{part}")
        if (pair[0] in given) != (pair[1] in given):
            missing, present = pair if pair[0] not in given else pair[::-1]
            raise DataError(f"{origin}: {present} without {missing}: {has}. Expected {EXPECTED}.")


def picture_inputs(
    given: dict[str, NDArray[Any]], origin: str, notes: list[str]
) -> tuple[dict[str, NDArray[Any]], tuple[int, ...]]:
    """Returns all pictures in one shape and type, and what was subtracted from their values.

    Raises:
        DataError: One is no array of pictures, or not of the form of the first.
    """
    shaped = {key: _shaped(array, f"{origin}: {key}") for key, array in given.items()}
    kinds = {key: "integers" if array.dtype.kind in "iub" else "floats" for key, array in shaped.items()}
    first, *others = shaped
    for key in others:
        if shaped[key].shape[1:] != shaped[first].shape[1:]:
            raise DataError(
                f"{origin}: pictures of {key} are {shaped[key].shape[1:]}, those of {first} {shaped[first].shape[1:]}"
                " (height, width, channels): they must be the same"
            )
        if kinds[key] != kinds[first]:
            raise DataError(
                f"{origin}: {key} holds {kinds[key]} ({shaped[key].dtype}), {first} {kinds[first]} "
                f"({shaped[first].dtype}): they must be the same kind, on the same scale"
            )
    offsets = Offsets(f"{origin}: {first}", common=True)
    if kinds[first] == "floats":
        found = {key: as_float(offsets.shifted(array), f"{origin}: {key}") for key, array in shaped.items()}
        notes += offsets.notes
        return found, offsets.subtracted
    if all(array.min() >= 0 and array.max() <= BYTE for array in shaped.values()):
        return {key: array.astype(np.uint8) for key, array in shaped.items()}, ()
    low, high = min(int(array.min()) for array in shaped.values()), max(int(array.max()) for array in shaped.values())
    notes.append(f"{origin}: pictures hold integers from {low} to {high}, more than 8 bits: they became float32.")
    found = {key: offsets.shifted(array).astype(np.float32) for key, array in shaped.items()}
    notes += offsets.notes
    return found, offsets.subtracted


def _shaped(array: NDArray[Any], where: str) -> NDArray[Any]:
    """Returns pictures as (N, H, W, C), whatever their type."""
    expected = "expected pictures (N, H, W) or (N, H, W, C), uint8 or float32"
    if array.dtype.kind not in "iubf":
        raise DataError(f"{where} has type {array.dtype}: {expected}")
    if array.ndim not in (GREY_NDIM, COLOUR_NDIM):
        raise DataError(f"{where} has shape {array.shape}: {expected}")
    if not array.size:
        raise DataError(f"{where} is empty, shape {array.shape}: {expected}")
    if array.ndim == GREY_NDIM:
        return array[..., np.newaxis]
    if array.shape[1] in USUAL_CHANNELS and array.shape[3] not in USUAL_CHANNELS:
        name = where.rpartition(": ")[2]
        raise DataError(
            f"{where} has shape {array.shape}, which looks like (N, C, H, W): expected (N, H, W, C). "
            f"Turn it: {name} = {name}.transpose(0, 2, 3, 1)"
        )
    return array


def as_float(array: NDArray[Any], where: str) -> NDArray[np.float32]:
    """Returns float32 values.

    Raises:
        DataError: Some are not finite, or too large.
    """
    with np.errstate(over="ignore"):
        values = array.astype(np.float32)
    wrong = ~np.isfinite(values)
    if wrong.any():
        index, count = np.argwhere(wrong)[0].tolist(), int(wrong.sum())
        raise DataError(
            f"{where} has {counted(count, 'value')} that {verb(count, 'is', 'are')} not finite (NaN, infinite, or too "
            f"large for float32), the first at {index}"
        )
    return values
