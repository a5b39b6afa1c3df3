"""Folders with a folder per class: which files are of which class and split."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from edgecompress.data.raw import listing
from edgecompress.errors import DataError

PARTS = ("train", "test")
CALIBRATION = "calibration"
CLASSES_FILE = "classes.txt"
TWO = 2


@dataclass(frozen=True)
class Layout:
    """What is looked for.

    Attributes:
        noun: What a file of the right kind is.
        suffixes: Ends of the names of such files, small letters.
        expected: The whole layout, in words.
        left_out: Folders that are no class.
    """

    noun: str
    suffixes: frozenset[str]
    expected: str
    left_out: tuple[str, ...] = ()


@dataclass
class Found:
    """What lies in the folder.

    Attributes:
        names: Class names in order.
        files: Files by part (train, test, calibration), in order; what is still to be split is `train`.
        labels: Class numbers of train and test.
        skipped: How many files are of another kind.
        notes: Plain sentences for the report.
    """

    names: tuple[str, ...]
    files: dict[str, list[Path]] = field(default_factory=dict)
    labels: dict[str, list[int]] = field(default_factory=dict)
    skipped: int = 0
    notes: list[str] = field(default_factory=list)


def scan(root: Path, layout: Layout) -> Found:
    """Returns the files of every class.

    Raises:
        DataError: The folder has another layout, or cannot be read.
    """
    if not root.is_dir():
        raise DataError(f"data.path {root} is a file. Expected {layout.expected}.")
    try:
        return _classified(root, layout)
    except OSError as error:
        raise DataError(f"{error.filename or root}: {error.strerror or error}") from error


def _classified(root: Path, layout: Layout) -> Found:
    parts = _parts(root, layout)
    given = sorted({folder.name for folders in parts.values() for folder in folders})
    if not given:
        raise DataError(f"{root}: no class folders. Expected {layout.expected}.")
    listed = _listed_classes(root)
    found = Found(tuple(listed or given))
    if len(found.names) < TWO:
        raise DataError(f"{root}: one class only ({found.names[0]}); a classifier needs two or more.")
    for place, folders in parts.items():
        part = place.name if place != root else "train"  # what is to be split starts as train
        found.files[part], found.labels[part] = [], []
        for folder in folders:
            files = _files(folder, layout, found)
            found.files[part] += files
            found.labels[part] += [_class_number(folder, found.names, listed=bool(listed))] * len(files)
        if not found.files[part]:
            raise DataError(f"{place}: class folders without a {layout.noun}. Expected {layout.expected}.")
    if (root / CALIBRATION).is_dir():
        found.files[CALIBRATION] = _files(root / CALIBRATION, layout, found)
        if not found.files[CALIBRATION]:
            raise DataError(f"{root / CALIBRATION}: no {layout.noun}s. Expected {layout.expected}.")
    loose = {entry for place in {root, *parts} for entry in place.iterdir() if entry.is_file()}
    found.skipped += len(loose - {root / CLASSES_FILE})
    unread = (
        sorted({folder.name for folder in _folders(root, layout)} - {*PARTS, CALIBRATION}) if root not in parts else []
    )
    if unread:
        found.notes.append(f"{root}: only train, test and calibration are read, not {listing(unread)}.")
    return found


def _parts(root: Path, layout: Layout) -> dict[Path, list[Path]]:
    """Returns the class folders in train and in test, or those in the root itself where it is to be split."""
    parts = {root / part: _folders(root / part, layout) for part in PARTS if (root / part).is_dir()}
    if not any(parts.values()):  # a class may be called train
        return {root: [folder for folder in _folders(root, layout) if folder.name != CALIBRATION]}
    for place, folders in parts.items():
        if not folders:
            raise DataError(f"{place}: no class folders. Expected {layout.expected}.")
    return parts


def _folders(place: Path, layout: Layout) -> list[Path]:
    """Returns the visible folders in a place that may be classes, sorted by name."""
    folders = (entry for entry in place.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    return sorted(folder for folder in folders if folder.name not in layout.left_out)


def _files(folder: Path, layout: Layout, found: Found) -> list[Path]:
    """Returns the files of the right kind in a folder and below, sorted; other ones are counted."""
    files = []
    for place, _, names in os.walk(folder, onerror=_raise):
        for name in names:
            if name.startswith(".") or Path(name).suffix.lower() not in layout.suffixes:
                found.skipped += 1
            else:
                files.append(Path(place, name))
    return sorted(files)


def _raise(error: OSError) -> None:
    raise error


def _listed_classes(root: Path) -> list[str]:
    """Returns the names in classes.txt, empty where there is none."""
    file = root / CLASSES_FILE
    if not file.is_file():
        return []
    try:
        names = [line.strip() for line in file.read_text(encoding="utf-8-sig").rstrip().splitlines()]
    except UnicodeDecodeError as error:
        raise DataError(f"{file}: not UTF-8 text ({error})") from error
    for number, name in enumerate(names, 1):
        if not name:
            raise DataError(f"{file}:{number}: an empty line. Expected one class name per line.")
    if not names:
        raise DataError(f"{file}: empty. Expected one class name per line.")
    return names


def _class_number(folder: Path, names: Sequence[str], *, listed: bool) -> int:
    """Returns the class of a folder: by its name, or by its index where classes.txt gives the order.

    Raises:
        DataError: classes.txt has no such class, or has it twice.
    """
    matches = [number for number, name in enumerate(names) if name == folder.name]
    if len(matches) == 1:
        return matches[0]
    if matches:
        numbers = " and ".join(str(number) for number in matches)
        raise DataError(f"{folder}: {CLASSES_FILE} has this name at {numbers}. Name the folder by its index instead.")
    if listed and folder.name.isdecimal() and int(folder.name) < len(names):
        return int(folder.name)
    raise DataError(
        f"{folder}: no class of {CLASSES_FILE}. Expected one of its {len(names)} names ({listing(names)}), "
        f"or an index from 0 to {len(names) - 1}."
    )
