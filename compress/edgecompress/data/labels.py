"""Labels and class names: what counts as one, and what is worth saying about them."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecompress.data.limits import LONGEST_NAME, MAX_CLASSES
from edgecompress.data.raw import listing
from edgecompress.errors import DataError
from edgecompress.wording import counted

EXPECTED = "expected one integer per sample, 0 to K-1"
TWO = 2
#: What a class of samples without anomaly may be called.
NORMAL = ("normal", "0", "0.0", "ok", "good", "false")
#: Names that are numbers.
NUMBER = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)(e[+-]?[0-9]{1,3})?", re.IGNORECASE)


@dataclass(frozen=True)
class Labels:
    """Class numbers, and how many classes their array speaks of.

    Attributes:
        numbers: (N,) int64.
        classes: The largest number + 1, or the width of a one-hot array.
    """

    numbers: NDArray[np.int64]
    classes: int


def read_labels(array: NDArray[Any], samples: int, where: str, noun: str = "picture") -> Labels:
    """Returns an array's class numbers; (N, 1), whole floats and one-hot rows are understood too.

    Raises:
        DataError: They are no class numbers, or not as many as there are samples.
    """
    if array.dtype.kind not in "iubf":
        convert = ". Convert names: class_names, labels = np.unique(labels, return_inverse=True)"
        raise DataError(f"{where} has type {array.dtype}: {EXPECTED}{convert if array.dtype.kind in 'USO' else ''}")
    if array.ndim == TWO and array.shape[1] == 1:
        array = array[:, 0]
    one_hot = array.ndim == TWO and array.size > 0
    if one_hot and not (np.isin(array, (0, 1)).all() and (array.sum(axis=1) == 1).all()):
        raise DataError(f"{where} has shape {array.shape} and is not one-hot: {EXPECTED}")
    if array.ndim != 1 and not one_hot:
        raise DataError(f"{where} has shape {array.shape}: {EXPECTED}")
    if len(array) != samples:
        found = f"{counted(len(array), 'label')} for {counted(samples, noun)}"
        raise DataError(f"{where} has {found}: {EXPECTED}")
    if one_hot:
        check_count(array.shape[1], where)
        return Labels(array.argmax(axis=1).astype(np.int64), array.shape[1])
    if array.dtype.kind == "f" and (wrong := np.flatnonzero(~(np.isfinite(array) & (array == np.round(array))))).size:
        raise DataError(f"{where} holds {array[wrong[0]]} at [{wrong[0]}]: {EXPECTED}")
    low, high = array.min(), array.max()
    if low < 0:
        index = int(np.argmin(array))
        raise DataError(f"{where} holds {low} at [{index}]: {EXPECTED}")
    if high >= MAX_CLASSES:
        raise DataError(f"{where} goes up to {high}, which would be {int(high) + 1} classes: {EXPECTED}")
    return Labels(array.astype(np.int64), int(high) + 1)


def check_count(classes: int, origin: str) -> None:
    """Lets a number of classes pass that a classifier may have.

    Raises:
        DataError: There are too many.
    """
    if classes > MAX_CLASSES:
        raise DataError(
            f"{origin}: {classes:,} different labels; at most {MAX_CLASSES:,} are classes. Is the label an identifier, "
            "or a number to predict (task: regression)?"
        )


def class_names_of(given: NDArray[Any] | None, labels: Mapping[str, Labels], origin: str) -> tuple[str, ...]:
    """Returns the class names, which are numbers where none are given.

    Raises:
        DataError: They are no names, fewer than the labels need, or there is but one class.
    """
    needed = max(part.classes for part in labels.values())
    if given is None:
        names = tuple(str(number) for number in range(needed))
    else:
        if given.ndim != 1 or given.dtype.kind not in "USOiu":
            shape = f"shape {given.shape}, type {given.dtype}"
            raise DataError(f"{origin}: class_names has {shape}: expected one name per class")
        check_count(len(given), f"{origin}: class_names")
        names = tuple(
            name.decode(errors="replace") if isinstance(name, bytes) else str(name) for name in given.tolist()
        )
        if long := [place for place, name in enumerate(names) if len(name) > LONGEST_NAME]:
            raise DataError(
                f"{origin}: class_names[{long[0]}] has {len(names[long[0]]):,} characters; a name "
                f"has at most {LONGEST_NAME:,}"
            )
        if len(names) < needed:
            raise DataError(
                f"{origin}: {counted(len(names), 'name')} in class_names, but labels for {needed} classes (the largest "
                f"is {max(int(part.numbers.max()) for part in labels.values())}): expected one name per class"
            )
    if len(names) < TWO:
        raise DataError(f"{origin}: there is one class only; a classifier needs two or more")
    return names


def check_spellings(names: Mapping[str, Iterable[str]], origin: str) -> None:
    """Lets class names pass of which no two are one name spelt differently.

    `1` and `1.0`, `Cat` and `cat` would be two classes, and of those that train does not have the test says nothing.
    Names that differ in capitals, or are equal numbers with a fraction, may be meant as two where one split has both.

    Args:
        names: By part.
        origin: Where they are from, for messages.

    Raises:
        DataError: Two are spelt differently.
    """
    by_part = {part: set(found) for part, found in names.items()}
    spelt: dict[object, list[str]] = {}
    for name in sorted(set().union(*by_part.values())):
        spelt.setdefault(_meaning(name), []).append(name)
    wrong = [
        (first, other)
        for meaning, (first, *others) in spelt.items()
        for other in others
        if (isinstance(meaning, Decimal) and meaning == meaning.to_integral_value())
        or not any({first, other} <= found for found in by_part.values())
    ]
    if wrong:
        where = {name: " and ".join(part for part, found in by_part.items() if name in found) for name in wrong[0]}
        first, other = wrong[0]
        placed = [f"`{name}`{f' in {where[name]}' if len(by_part) > 1 else ''}" for name in (first, other)]
        more = f", and {counted(len(wrong) - 1, 'other pair')}" if len(wrong) > 1 else ""
        raise DataError(
            f"{origin}: labels are spelt differently: {placed[0]}, {placed[1]}{more}. They would be two classes; "
            "spell them the same way everywhere."
        )


def _meaning(name: str) -> Decimal | str:
    """Returns the number that a name is, or the name in small letters."""
    if NUMBER.fullmatch(name):
        with contextlib.suppress(ArithmeticError):
            return Decimal(name)
    return " ".join(name.casefold().split())


def anomaly_numbers(
    answers: Mapping[str, Sequence[str] | None], sizes: Mapping[str, int], origin: str
) -> tuple[dict[str, NDArray[np.int64]], tuple[str, ...]]:
    """Returns 0 for what is normal and 1 for every other class, by part, and the two names.

    Args:
        answers: Class names by part; None where all samples are normal.
        sizes: How many samples each part has.
        origin: Where they are from, for messages.

    Raises:
        DataError: No class is called as what is normal is.
    """
    found = sorted({name for given in answers.values() for name in given or ()})
    normal = [name for name in found if name.lower() in NORMAL]
    if found and len(normal) != 1:
        raise DataError(
            f"{origin}: which of the labels {listing(found)} is the normal one? Call it `normal` (or one of "
            f"{', '.join(NORMAL[1:])}); every other one is an anomaly."
        )
    numbers = {
        part: np.zeros(sizes[part], np.int64)
        if given is None
        else np.array([one not in normal for one in given], np.int64)
        for part, given in answers.items()
    }
    return numbers, ("normal", "anomaly")


def check_some_known(train: NDArray[Any], test: NDArray[Any], names: tuple[str, ...], origin: str, hint: str) -> None:
    """Lets splits pass whose test has a sample of a class that train has; `hint` says what to look at if not.

    Raises:
        DataError: It has none: whatever is learnt, all of the test would be wrong.
    """
    if len(train) and len(test) and not np.isin(test, train).any():
        theirs, ours = (_classes(np.unique(numbers), names) for numbers in (test, train))
        raise DataError(
            f"{origin}: no test sample is of a class that train has: test has {theirs}, train {ours}. {hint}"
        )


def unseen_classes(train: NDArray[Any], test: NDArray[Any], names: tuple[str, ...]) -> str:
    """Returns which classes are in a test split but not in train, in words; "" if there are none."""
    unseen = np.setdiff1d(test, train)
    return _classes(unseen, names) if len(unseen) else ""


def describe_classes(labels: Mapping[str, NDArray[np.int64]], names: tuple[str, ...], origin: str) -> list[str]:
    """Returns notes on classes without samples."""
    counts = {part: np.bincount(numbers, minlength=len(names)) for part, numbers in labels.items()}
    notes = []
    nowhere = np.flatnonzero(sum(counts.values()) == 0)
    if len(nowhere):
        first = " If the labels start at 1, subtract 1." if nowhere.tolist() == [0] else ""
        notes.append(f"{origin}: no samples of {_classes(nowhere, names)}.{first}")
    both = "train" in counts and "test" in counts
    if both and len(labels["train"]):
        if unseen := unseen_classes(labels["train"], labels["test"], names):
            notes.append(f"{origin}: the test split has samples of {unseen}, the train split none.")
        if untested := unseen_classes(labels["test"], labels["train"], names):
            notes.append(f"{origin}: the train split has samples of {untested}, the test split none.")
    return notes


def _classes(numbers: NDArray[Any], names: tuple[str, ...]) -> str:
    quoted = listing(f"`{names[number]}`" for number in numbers)
    return f"class {quoted}" if len(numbers) == 1 else f"{len(numbers)} classes ({quoted})"
