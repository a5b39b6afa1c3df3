"""Whose the files in a run's folder are: a run writes over what runs have written, and over nothing else.

A small record in the folder lists the names that runs have written or are about to write. It is brought up to date
before anything is written, so that a run that was killed in the middle of it knows its own files again.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from edgecompress.errors import ResourceError
from edgecompress.store.files import OWN_HASH, PARTIAL, is_whole, sealed, write_json
from edgecompress.store.reading import open_regular, read_document

RECORD = ".edgecompress.json"
REPORT = "report.json"
EVENTS, LOG, LOCK = "events.jsonl", "run.log", ".lock"
LOGS = (EVENTS, LOG)
#: Of a log's beginning: its first line tells whose it is.
FIRST_LINE_BYTES = 4096
#: How run.log and events.jsonl begin.
BEGINNINGS = (
    re.compile(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\S* \S+ [a-z-]+ "),
    re.compile(rb'\{"at_s": [\d.]+, "kind": "[a-z-]+", "stage": "'),
)
ABOUT = "the files in this folder that edgecompress has written, or is about to: a run overwrites no others"


class Claim:
    """The names in a folder that a run may write, and the recipe that the folder is for."""

    def __init__(self, folder: Path, names: Iterable[str], recipe: Path | None, *, force: bool) -> None:
        """Takes the folder for a run, which must hold its lock.

        Args:
            folder: The run's.
            names: All files that a run may write there, its logs aside.
            recipe: The recipe's file, None where there is none.
            force: Whether files of others may be overwritten.

        Raises:
            ResourceError: The folder holds files of these names that no run has written.
        """
        self._folder, self._names, self._force = folder, (*names, *LOGS), force
        self._recipe = "" if recipe is None else os.path.realpath(recipe)
        #: What is odd about the folder, in sentences for the run's warnings.
        self.doubts: tuple[str, ...] = ()
        record = _record(folder)
        if record is not None:
            former: str = record["recipe"]
            if self._recipe and former and former != self._recipe and os.path.lexists(former):
                doubt = (
                    f"{folder} holds what the recipe {former} has left, and this run replaces it. To keep both, give "
                    "one of the two recipes another `name`, or choose another folder with --output."
                )
                self.doubts = (doubt,)
            self._recipe = self._recipe or former
        self._take(logs_only=True)
        self._remove_partial()

    def before_writing(self) -> None:
        """Takes the names of everything that the run leaves.

        Raises:
            ResourceError: Somebody has put files of these names there since the run began.
        """
        self._take(logs_only=False)

    def written(self, names: Iterable[str]) -> None:
        """Keeps the names that a finished run has written; whatever else comes to lie there is not ours.

        Raises:
            ResourceError: The file system refused.
        """
        self._record({*names, *LOGS})

    def _take(self, *, logs_only: bool) -> None:
        """Checks that the names are free or ours, and records those that are ours now."""
        ours = _ours(self._folder)
        there = [name for name in (*self._names, RECORD) if os.path.lexists(self._folder / name)]
        for name in there:
            if stat.S_ISDIR((self._folder / name).lstat().st_mode):
                raise ResourceError(
                    f"{self._folder / name} is a folder, where a run writes a file. Rename it, or choose another "
                    "folder with --output."
                )
        foreign = [name for name in there if name not in ours]
        if not self._force:
            self._refuse(foreign, ours)
        kept = {name for name in there if name in ours or self._force}
        self._record(({*kept, *LOGS} if logs_only else set(self._names)) - {RECORD})

    def _refuse(self, foreign: list[str], ours: set[str]) -> None:
        if foreign:
            raise ResourceError(
                f"{self._folder} holds what no run of edgecompress has written there, and a run would overwrite: "
                f"{', '.join(foreign)}. Move it away, choose another folder with --output, or go on with --force."
            )
        if self._folder.is_symlink() and not ours and {path.name for path in self._folder.iterdir()} - {LOCK}:
            raise ResourceError(
                f"{self._folder} is a link to {self._folder.resolve()}, which holds files, but no run. Name that "
                "folder itself with --output if it is meant, or go on with --force."
            )

    def _record(self, names: set[str]) -> None:
        document = sealed({"about": ABOUT, "recipe": self._recipe, "files": sorted(names)})
        if _record(self._folder) != document:
            write_json(self._folder / RECORD, document)

    def _remove_partial(self) -> None:
        """Removes what killed runs had begun to write here: regular files of names that only they make."""
        begun = "|".join(re.escape(name) for name in (*self._names, RECORD))
        pattern = re.compile(rf"\.({begun})\.[a-z0-9_]{{8}}{re.escape(PARTIAL)}")
        for path in self._folder.iterdir():
            if pattern.fullmatch(path.name):
                with contextlib.suppress(OSError):
                    if stat.S_ISREG(path.lstat().st_mode):
                        path.unlink()


def _record(folder: Path) -> dict[str, Any] | None:
    """Returns the record in a folder, None where there is none that is whole."""
    with contextlib.suppress(OSError, ValueError):
        document = read_document(folder / RECORD, "a record")
        if isinstance(document, dict) and OWN_HASH in document and is_whole(document):
            files, recipe = document.get("files"), document.get("recipe")
            if isinstance(files, list) and isinstance(recipe, str) and all(isinstance(name, str) for name in files):
                return document
    return None


def _ours(folder: Path) -> set[str]:
    """Returns the names in a folder that are known to be runs'."""
    record = _record(folder)
    if record is not None:
        return {RECORD, *record["files"]}
    # Of versions that kept no record: the report lists what lies beside it, and logs are known by how they begin.
    found = {name for name in LOGS if is_log(folder / name)}
    with contextlib.suppress(OSError, ValueError, TypeError, KeyError, AttributeError):
        report = read_document(folder / REPORT, "a report")
        if OWN_HASH in report and "edgecompress" in report and is_whole(report):
            found |= {REPORT, *LOGS, *report["files"], *report["pages"]}
    return {RECORD, *found} if found else found  # a record that is damaged


def is_log(path: Path) -> bool:
    """Returns whether a file is empty or begins as our logs do."""
    try:
        with open_regular(path) as stream:
            start = stream.readline(FIRST_LINE_BYTES)
    except OSError:
        return False
    return not start or any(begun.match(start) for begun in BEGINNINGS)
