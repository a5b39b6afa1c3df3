"""What lies in a folder and below, without what programs and systems leave there."""

from __future__ import annotations

import contextlib
import os
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from edgecompress.data.raw import listing
from edgecompress.errors import DataError
from edgecompress.wording import counted, verb

#: What systems and network storage put into folders, in small letters; names that begin with a dot are hidden anyway.
SYSTEM = frozenset({
    "__macosx", "@eadir", "@tmp", "#recycle", "#snapshot", "$recycle.bin", "system volume information", "lost+found",
    "__pycache__", "thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r",
})  # fmt: skip
GZ = ".gz"
#: Folders within each other, below a class; and all folders below one.
DEEPEST, MOST_FOLDERS = 50, 200_000
#: Characters of a path in a message.
LONGEST_SHOWN = 300


@dataclass
class Walk:
    """The files of a folder.

    Attributes:
        files: Those of the right kind, sorted.
        others: Ending -> how many visible files have it and are of another kind.
        hidden: How many single files are hidden, or a system's.
        folders: Name of a hidden folder -> how many files lie in it.
        again: Links to folders that are read already.
        nowhere: Links that lead nowhere.
    """

    files: list[Path] = field(default_factory=list)
    others: Counter[str] = field(default_factory=Counter)
    hidden: int = 0
    folders: Counter[str] = field(default_factory=Counter)
    again: list[Path] = field(default_factory=list)
    nowhere: list[Path] = field(default_factory=list)

    def add(self, other: Walk) -> None:
        """Adds what was found elsewhere, but for its files."""
        self.others += other.others
        self.hidden += other.hidden
        self.folders.update(other.folders)
        self.again += other.again
        self.nowhere += other.nowhere

    def endings(self) -> list[str]:
        """Returns how many visible files of another kind there are by ending, in words, the commonest first."""
        by_number = sorted(self.others.items(), key=lambda one: (-one[1], one[0]))
        return [f"{number:,} {end or 'without an ending'}" for end, number in by_number]

    def notes(self, root: Path, noun: str) -> list[str]:
        """Returns what was left out, in sentences; `noun` is what a file of the right kind is."""
        found = []
        if count := self.folders.total():
            named = listing(f"{name} ({number:,})" for name, number in sorted(self.folders.items()) if number)
            found.append(
                f"{root}: {counted(count, 'file')} in hidden folders {verb(count, 'was', 'were')} left out: {named}."
            )
        if count := self.hidden + self.others.total():
            parts = [f"{self.hidden:,} hidden"] if self.hidden else []
            kind = verb(count, f"is no {noun} was", f"are no {noun}s were")
            parts += self.endings()
            found.append(f"{root}: {counted(count, 'hidden or other file')} that {kind} skipped: {listing(parts)}.")
        if self.again:
            found.append(
                f"{root}: {counted(len(self.again), 'link')} to folders that are read anyway "
                f"{verb(len(self.again), 'was', 'were')} not followed: {listing(self.again)}."
            )
        return found


def is_hidden(name: str) -> bool:
    """Returns whether a file or folder of this name is none that a user put there."""
    return name.startswith(".") or name.lower() in SYSTEM


def normal(name: str) -> str:
    """Returns a name in NFC: macOS takes letters with accents apart, other systems do not, and both look the same."""
    return unicodedata.normalize("NFC", name)


def ending(name: str) -> str:
    """Returns the end of a file's name in small letters, that in front of `.gz` too: `.csv`, `.csv.gz`, ``."""
    stem, end = os.path.splitext(name.lower())  # noqa: PTH122 - a folder may hold a million files
    return os.path.splitext(stem)[1] + GZ if end == GZ else end  # noqa: PTH122


def walk(root: Path, suffixes: Collection[str]) -> Walk:
    """Returns the visible files in a folder and below whose names end in one of `suffixes`.

    Links to folders are followed, but not back to a folder that is read already: they may go round in circles.

    Raises:
        OSError: A folder cannot be read.
        DataError: There are too many folders, or too many within each other.
    """
    found = Walk()
    _enter(root, suffixes, found, {_identity(root)}, 0)
    found.files.sort()
    return found


def total_size(files: Iterable[Path]) -> int:
    """Returns how many bytes files have together; one that cannot be looked at has none."""
    found = 0
    for path in files:
        with contextlib.suppress(OSError):
            found += path.stat().st_size
    return found


def count_files(folder: Path) -> int:
    """Returns how many files lie in a folder and below."""
    return sum(len(names) for _, _, names in os.walk(folder))


def _enter(place: Path, suffixes: Collection[str], found: Walk, seen: set[tuple[int, int]], depth: int) -> None:
    _check_bounds(place, depth, len(seen))
    folders = []
    for entry in _sorted(place):
        path = place / entry.name
        if _is_folder(entry):
            folders.append((entry.is_symlink(), path))
        elif is_hidden(entry.name):
            found.hidden += 1
        elif entry.is_symlink() and not path.exists():
            found.nowhere.append(path)
        elif ending(entry.name) in suffixes:
            found.files.append(path)
        else:
            found.others[ending(entry.name)] += 1
    for _, path in sorted(folders):  # links last: what they lead to is rather read at its own place
        if is_hidden(path.name):
            found.folders[path.name] += count_files(path)
        elif (identity := _identity(path)) in seen:
            found.again.append(path)
        else:
            seen.add(identity)
            _enter(path, suffixes, found, seen, depth + 1)


def _check_bounds(place: Path, depth: int, seen: int) -> None:
    if depth > DEEPEST:
        raise DataError(f"{short_path(place)}: folders lie within each other {DEEPEST} deep. Expected a few levels.")
    if seen > MOST_FOLDERS:
        raise DataError(
            f"{short_path(place)}: up to here there are more than {MOST_FOLDERS:,} folders. Expected fewer."
        )


def short_path(path: Path) -> str:
    """Returns a path for a message, its middle left out where it is long."""
    text = str(path)
    return text if len(text) <= LONGEST_SHOWN else f"{text[: LONGEST_SHOWN // 2]}...{text[-LONGEST_SHOWN // 2 :]}"


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _sorted(place: Path) -> Iterable[os.DirEntry[str]]:
    with os.scandir(place) as entries:
        return sorted(entries, key=lambda entry: entry.name)


def _identity(folder: Path) -> tuple[int, int]:
    status = folder.stat()
    return status.st_dev, status.st_ino
