"""Folders with a folder per class: which files are of which class and split."""

from __future__ import annotations

import itertools
import os
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgecompress.data.labels import check_count, check_spellings
from edgecompress.data.limits import LONGEST_NAME, MAX_CLASSES
from edgecompress.data.raw import listing
from edgecompress.data.reading.folders import Walk, count_files, ending, is_hidden, normal, walk
from edgecompress.data.reading.text_reading import read_text
from edgecompress.errors import DataError
from edgecompress.wording import counted, verb

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
        lists: Files beside the classes that say something of them.
    """

    noun: str
    suffixes: frozenset[str]
    expected: str
    left_out: tuple[str, ...] = ()
    lists: tuple[str, ...] = ()


@dataclass
class Found:
    """What lies in the folder.

    Attributes:
        names: Class names in order.
        files: Files by part (train, test, calibration), in order; what is still to be split is `train`.
        labels: Class numbers of train and test.
        walk: What else lies there.
        notes: Plain sentences for the report.
    """

    names: tuple[str, ...]
    files: dict[str, list[Path]] = field(default_factory=dict)
    labels: dict[str, list[int]] = field(default_factory=dict)
    walk: Walk = field(default_factory=Walk)
    notes: list[str] = field(default_factory=list)

    @cached_property
    def numbers(self) -> dict[str, list[int]]:
        """Class name in NFC -> where it stands among the names."""
        found: dict[str, list[int]] = {}
        for number, name in enumerate(self.names):
            found.setdefault(normal(name), []).append(number)
        return found

    def without(self, broken: Collection[Path], root: Path) -> dict[str, NDArray[np.int64]]:
        """Returns which files are left in each part without broken ones, ascending.

        Raises:
            DataError: A class, or what is to calibrate on, has none left.
        """
        kept = {
            part: np.array([place for place, file in enumerate(files) if file not in broken], np.int64)
            for part, files in self.files.items()
        }
        left = {self.labels[part][place] for part in self.labels for place in kept[part].tolist()}
        had = {number for numbers in self.labels.values() for number in numbers}
        if lost := sorted(had - left):
            names = listing(f"`{self.names[number]}`" for number in lost)
            raise DataError(f"{root}: all files of {names} are broken: no sample of {names} is left.")
        if empty := [part for part, places in kept.items() if not len(places)]:
            raise DataError(f"{root}: all files of {listing(empty)} are broken.")
        return kept


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
    given = sorted({normal(folder.name) for folders in parts.values() for folder in folders})
    if not given:
        raise DataError(f"{root}: no class folders. Expected {layout.expected}.")
    listed = _listed_classes(root)
    if not listed:
        check_spellings(
            {place.name: [normal(folder.name) for folder in folders] for place, folders in parts.items()}, str(root)
        )
    found = Found(tuple(listed or given))
    if len(found.names) < TWO:
        raise DataError(f"{root}: one class only ({found.names[0]}); a classifier needs two or more.")
    empty: dict[Path, Walk] = {}
    for place, folders in parts.items():
        part = place.name if place != root else "train"  # what is to be split starts as train
        found.files[part], found.labels[part] = [], []
        for folder in folders:
            files = _files(folder, layout, found, empty)
            found.files[part] += files
            found.labels[part] += [_class_number(folder, found, listed=bool(listed))] * len(files)
        if not found.files[part]:
            raise DataError(
                f"{place}: class folders without a {layout.noun}.{_unread(empty, layout)} Expected {layout.expected}."
            )
        _tell_of_twins(place, folders, found)
    _refuse_empty(root, layout, found, empty, listed=bool(listed))
    _calibration(root, layout, found)
    for place in {root, *parts}:
        found.walk.add(_beside(place, {root / CLASSES_FILE, *(root / name for name in layout.lists)}))
    unread = {folder.name for folder in _folders(root, layout)} - {*PARTS, CALIBRATION}
    if unread and root not in parts:
        found.notes.append(f"{root}: only train, test and calibration are read, not {listing(sorted(unread))}.")
    return found


def _calibration(root: Path, layout: Layout, found: Found) -> None:
    if (root / CALIBRATION).is_dir():
        found.files[CALIBRATION] = _files(root / CALIBRATION, layout, found, {})
        if not found.files[CALIBRATION]:
            raise DataError(f"{root / CALIBRATION}: no {layout.noun}s. Expected {layout.expected}.")


def _refuse_empty(root: Path, layout: Layout, found: Found, empty: dict[Path, Walk], *, listed: bool) -> None:
    """Raises DataError where class folders hold nothing of the right kind, in no split."""
    held = {number for numbers in found.labels.values() for number in numbers}
    lacking = {folder: one for folder, one in empty.items() if _class_number(folder, found, listed=listed) not in held}
    if lacking:
        names = list(dict.fromkeys(f"`{normal(folder.name)}`" for folder in lacking))
        folders, them = verb(len(names), "folder", "folders"), verb(len(names), "it", "them")
        raise DataError(
            f"{root}: no {layout.noun} in the class {folders} {listing(names)}.{_unread(lacking, layout)} "
            f"Fill {them}, or remove {them}."
        )


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
    with os.scandir(place) as entries:
        names = (entry.name for entry in entries if not is_hidden(entry.name) and _is_folder(entry))
        found = sorted(itertools.islice((name for name in names if name not in layout.left_out), MAX_CLASSES + 1))
    if len(found) > MAX_CLASSES:
        raise DataError(
            f"{place}: more than {MAX_CLASSES:,} folders, which would be classes. Expected {layout.expected}."
        )
    return [place / name for name in found]


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _beside(place: Path, known: set[Path]) -> Walk:
    """Returns what lies beside class folders: single files and hidden folders."""
    beside = Walk()
    for entry in place.iterdir():
        if entry.is_dir():
            if is_hidden(entry.name):
                beside.folders[entry.name] += count_files(entry)
        elif entry.is_symlink() and not entry.exists():  # a class may have been there
            beside.nowhere.append(entry)
        elif entry not in known and is_hidden(entry.name):
            beside.hidden += 1
        elif entry not in known:
            beside.others[ending(entry.name)] += 1
    return beside


def _files(folder: Path, layout: Layout, found: Found, empty: dict[Path, Walk]) -> list[Path]:
    """Returns the files of the right kind in a folder and below, sorted; what else is there is counted."""
    one = walk(folder, layout.suffixes)
    found.walk.add(one)
    if not one.files and not one.nowhere:
        empty[folder] = one
    return one.files


def _unread(empty: dict[Path, Walk], layout: Layout) -> str:
    """Returns which files lie in class folders instead, in a sentence; "" where there are none."""
    there = Walk()
    for one in empty.values():
        there.add(one)
    if not there.others:
        return ""
    read = ", ".join(sorted(layout.suffixes))
    return f" Other files lie there ({listing(there.endings())}), but {read} are read: convert them."


def _tell_of_twins(place: Path, folders: Sequence[Path], found: Found) -> None:
    """Notes folders that are of one class, and refuses ones that are of two classes and one folder.

    Raises:
        DataError: Two classes are links to the same files.
    """
    names = Counter(normal(folder.name) for folder in folders)
    twins = sorted(name for name, count in names.items() if count > 1)
    if twins:
        found.notes.append(
            f"{place}: {counted(len(twins), 'class', 'classes')} with two folders whose names differ in the form of "
            f"accented letters only, read as one: {listing(twins)}."
        )
    places: dict[Path, Path] = {}
    for folder in folders:
        other = places.setdefault(folder.resolve(), folder)
        if other is not folder:
            raise DataError(f"{folder} and {other} are one folder, but two classes. Remove one of the links.")


def _listed_classes(root: Path) -> list[str]:
    """Returns the names in classes.txt, empty where there is none."""
    file = root / CLASSES_FILE
    if not os.path.lexists(file):
        return []
    names = [normal(line.strip()) for line in read_text(file).rstrip().splitlines()]
    check_count(len(names), str(file))
    for number, name in enumerate(names, 1):
        if not name:
            raise DataError(f"{file}:{number}: an empty line. Expected one class name per line.")
        if len(name) > LONGEST_NAME:
            raise DataError(f"{file}:{number}: a name of {len(name):,} characters; at most {LONGEST_NAME:,} are one.")
    if not names:
        raise DataError(f"{file}: empty. Expected one class name per line.")
    return names


def _class_number(folder: Path, found: Found, *, listed: bool) -> int:
    """Returns the class of a folder: by its name, or by its index where classes.txt gives the order.

    Raises:
        DataError: classes.txt has no such class, or has it twice.
    """
    names, matches = found.names, found.numbers.get(normal(folder.name), [])
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
