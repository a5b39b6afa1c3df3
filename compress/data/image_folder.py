"""Source `image-folder`: one folder per class, in `train` and `test`, or to be split; see EXPECTED."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from compress.artifact import sha256_json
from compress.data.base import Split
from compress.data.labels import describe_classes
from compress.data.picture_files import SUFFIXES, common_form, read_pictures
from compress.data.pictures import sides
from compress.data.raw import RawData, empty_split, hash_files, listing, required_path
from compress.errors import DataError
from compress.recipe import Recipe
from compress.wording import counted, verb

EXPECTED = (
    "a folder with train/CLASS/*.png and test/CLASS/*.png, or with CLASS/*.png to be split; "
    "if wanted, calibration/*.png and classes.txt (one class name per line)"
)
PARTS = ("train", "test")
CALIBRATION = "calibration"
CLASSES_FILE = "classes.txt"
TWO = 2


@dataclass
class Found:
    """What lies in the folder.

    Attributes:
        names: Class names in order.
        files: Pictures by part (train, test, calibration), in order.
        labels: Class numbers of train and test.
        skipped: How many files are no pictures.
        notes: Plain sentences for the report.
    """

    names: tuple[str, ...]
    files: dict[str, list[Path]] = field(default_factory=dict)
    labels: dict[str, list[int]] = field(default_factory=dict)
    skipped: int = 0
    notes: list[str] = field(default_factory=list)


def load(recipe: Recipe, _trust: bool) -> RawData:
    """Returns the pictures as (N, H, W, C) uint8; classes are in the order of their sorted names or of classes.txt."""
    root = required_path(recipe, EXPECTED)
    found = _scan(root)
    every = [path for files in found.files.values() for path in files]
    size, channels = common_form(every, sides(recipe.data.image_size), recipe.data.channels)
    seen: Counter[str] = Counter()
    pictures = {part: read_pictures(files, size, channels, seen) for part, files in found.files.items()}
    splits = {part: Split(pictures[part], np.array(labels, np.int64)) for part, labels in found.labels.items()}
    notes = found.notes
    if found.skipped:
        other = counted(found.skipped, "hidden or other file")
        notes.append(
            f"{root}: {other} that {verb(found.skipped, 'is no picture was', 'are no pictures were')} skipped."
        )
    notes += [
        f"{root}: {counted(count, 'picture')} {what.format(verb(count, 'was', 'were'))}."
        for what, count in sorted(seen.items())
    ]
    notes += describe_classes({part: split.labels for part, split in splits.items()}, found.names, str(root))
    train = splits.get("train") or empty_split((*size, channels), np.dtype(np.uint8))
    return RawData(train, splits.get("test"), found.names, pictures.get(CALIBRATION), notes=tuple(notes))


def fingerprint(recipe: Recipe, _trust: bool) -> str:
    """Returns the hash of the pictures, their places in the folder and the classes."""
    root = required_path(recipe, EXPECTED)
    found = _scan(root)
    every = [path for files in found.files.values() for path in files]
    return sha256_json([list(found.names), hash_files((path.relative_to(root).as_posix(), path) for path in every)])


def _scan(root: Path) -> Found:
    if not root.is_dir():
        raise DataError(f"data.path {root} is a file. Expected {EXPECTED}.")
    try:
        return _classified(root)
    except OSError as error:
        raise DataError(f"{error.filename or root}: {error.strerror or error}") from error


def _classified(root: Path) -> Found:
    parts = _parts(root)
    given = sorted({folder.name for folders in parts.values() for folder in folders})
    if not given:
        raise DataError(f"{root}: no class folders. Expected {EXPECTED}.")
    listed = _listed_classes(root)
    found = Found(tuple(listed or given))
    if len(found.names) < TWO:
        raise DataError(f"{root}: one class only ({found.names[0]}); a classifier needs two or more.")
    for place, folders in parts.items():
        part = place.name if place != root else "train"  # what is to be split starts as train
        found.files[part], found.labels[part] = [], []
        for folder in folders:
            pictures = _pictures(folder, found)
            found.files[part] += pictures
            found.labels[part] += [_class_number(folder, found.names, listed=bool(listed))] * len(pictures)
        if not found.files[part]:
            raise DataError(f"{place}: class folders without a picture. Expected {EXPECTED}.")
    if (root / CALIBRATION).is_dir():
        found.files[CALIBRATION] = _pictures(root / CALIBRATION, found)
        if not found.files[CALIBRATION]:
            raise DataError(f"{root / CALIBRATION}: no pictures. Expected {EXPECTED}.")
    loose = {entry for place in {root, *parts} for entry in place.iterdir() if entry.is_file()}
    found.skipped += len(loose - {root / CLASSES_FILE})
    unread = sorted({folder.name for folder in _folders(root)} - {*PARTS, CALIBRATION}) if root not in parts else []
    if unread:
        found.notes.append(f"{root}: only train, test and calibration are read, not {listing(unread)}.")
    return found


def _parts(root: Path) -> dict[Path, list[Path]]:
    """Returns the class folders in train and in test, or those in the root itself where it is to be split."""
    parts = {root / part: _folders(root / part) for part in PARTS if (root / part).is_dir()}
    if not any(parts.values()):  # a class may be called train
        return {root: [folder for folder in _folders(root) if folder.name != CALIBRATION]}
    for place, folders in parts.items():
        if not folders:
            raise DataError(f"{place}: no class folders. Expected {EXPECTED}.")
    return parts


def _folders(place: Path) -> list[Path]:
    """Returns the visible folders in a place, sorted by name."""
    return sorted(entry for entry in place.iterdir() if entry.is_dir() and not entry.name.startswith("."))


def _pictures(folder: Path, found: Found) -> list[Path]:
    """Returns the pictures in a folder and below, sorted; other files are counted."""
    pictures = []
    for place, _, names in os.walk(folder, onerror=_raise):
        for name in names:
            if name.startswith(".") or Path(name).suffix.lower() not in SUFFIXES:
                found.skipped += 1
            else:
                pictures.append(Path(place, name))
    return sorted(pictures)


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
