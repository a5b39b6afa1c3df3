"""What lies beside a finished step's files and says what they are: anybody may have written it, so it is looked at.

A manifest names the step, its files with their SHA-256, and those of everything that it was made from: the files of
the stages it read, and of the steps beside them (conversions, soft targets).
"""

from __future__ import annotations

import math
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgecompress.store.files import are_hashes, is_plain_name, is_sha256, sha256_file
from edgecompress.store.reading import read_document
from edgecompress.store.seals import Seal

MANIFEST = "manifest.json"
#: Digits of a fingerprint in a step's name.
DIGITS = 20
#: File -> SHA-256, and name of a step -> its files.
Files = Mapping[str, str]
Made = Mapping[str, Files]


class DamagedError(Exception):
    """What a step left cannot be believed; the message says why."""


@dataclass(frozen=True)
class Manifest:
    """What a step's maker wrote of it.

    Attributes:
        stage: Its stage.
        fingerprint: Of the step.
        files: Its files.
        made_from: The stages that it read, by their steps' names.
        used: The steps beside the stages that it read.
        metrics: Figures and notes.
        seconds: How long it took.
        warnings: Plain sentences.
        parts: What the fingerprint is made of, None where nobody asks.
    """

    stage: str
    fingerprint: str
    files: dict[str, str]
    made_from: dict[str, dict[str, str]]
    used: dict[str, dict[str, str]]
    metrics: dict[str, Any]
    seconds: float
    warnings: tuple[str, ...]
    parts: dict[str, Any] | None = None

    def document(self) -> dict[str, Any]:
        """Returns it as plain JSON values, without its seal."""
        parts = {} if self.parts is None else {"parts": self.parts}
        return {
            "stage": self.stage,
            "fingerprint": self.fingerprint,
            "files": self.files,
            "made_from": self.made_from,
            "used": self.used,
            "metrics": self.metrics,
            "seconds": self.seconds,
            "warnings": list(self.warnings),
            **parts,
        }


def step_name(stage: str, fingerprint: str) -> str:
    """Returns what a step is called: the name of its folder."""
    return f"{stage}-{fingerprint[:DIGITS]}"


def place_of(stage: str, fingerprint: str) -> str:
    """Returns what a manifest's seal is for."""
    return f"manifest {stage} {fingerprint}"


def read_manifest(folder: Path, seal: Seal) -> Manifest:
    """Returns the manifest in a step's folder, of which all but the files' content has been checked.

    Raises:
        FileNotFoundError: There is none.
        DamagedError: It is not to be believed.
    """
    try:
        if folder.is_symlink():
            raise DamagedError("its folder is a link, which no run makes")
        if (folder / MANIFEST).is_symlink():
            raise DamagedError(f"{MANIFEST} is damaged (it is a link)")
        document = read_document(folder / MANIFEST, "a manifest")
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as error:
        raise DamagedError(f"its manifest cannot be read ({error})") from error
    if not isinstance(document, dict):
        raise DamagedError("its manifest cannot be read (it is no manifest)")
    stage, fingerprint = document.get("stage"), document.get("fingerprint")
    if not (isinstance(stage, str) and isinstance(fingerprint, str) and folder.name == step_name(stage, fingerprint)):
        raise DamagedError("made from other inputs")
    if doubt := seal.doubt(place_of(stage, fingerprint), document):
        raise DamagedError(f"{MANIFEST} {doubt}")
    if "made_from" not in document:
        raise DamagedError("made by an earlier version, which did not keep from which files")
    if strange := _strange(document):
        raise DamagedError(f"{MANIFEST} is damaged ({strange})")
    return Manifest(
        stage,
        fingerprint,
        document["files"],
        document["made_from"],
        document["used"],
        document["metrics"],
        document["seconds"],
        tuple(document["warnings"]),
        document.get("parts"),
    )


def check_files(folder: Path, files: Files) -> None:
    """Makes sure that a step's files are there, and as its manifest says.

    Raises:
        DamagedError: One is not; links are none of its files, wherever they lead.
    """
    for name, digest in files.items():
        path = folder / name
        try:
            if not stat.S_ISREG(path.lstat().st_mode):
                raise DamagedError(f"{name} is damaged (it is no regular file)")
            if sha256_file(path) != digest:
                raise DamagedError(f"{name} is damaged (its hash differs)")
        except FileNotFoundError:
            raise DamagedError(f"{name} is missing") from None
        except OSError as error:
            raise DamagedError(f"{name} cannot be read ({error.strerror or error})") from error


def _strange(document: dict[str, Any]) -> str:
    """Returns what in a sealed document no step would write, "" where there is nothing: anybody can make a hash."""
    files, seconds, warnings = document.get("files"), document.get("seconds"), document.get("warnings")
    if not isinstance(files, dict):
        return "it names no files"
    for name, digest in files.items():
        if not is_plain_name(name):
            return f"{name!r} is no name of a file in its folder"
        if not is_sha256(digest):
            return f"{name} has no SHA-256"
    if not all(is_made(document.get(key)) for key in ("made_from", "used")):
        return "it does not say what it was made from"
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not math.isfinite(seconds) or seconds < 0:
        return "seconds is no time"
    if not isinstance(warnings, list) or not all(isinstance(one, str) for one in warnings):
        return "warnings are no sentences"
    if not isinstance(document.get("metrics"), dict) or not isinstance(document.get("parts", {}), dict):
        return "metrics or parts are missing"
    return ""


def is_made(value: Any) -> bool:
    """Returns whether a value names steps, and of each its files with their SHA-256."""
    return isinstance(value, dict) and all(is_plain_name(name) and are_hashes(value[name]) for name in value)


def contradiction(manifest: Manifest, inputs: Made, there: Callable[[str], Files | None]) -> str:
    """Returns why a step is not what would be made now: something that it was made from has other bytes; "" if nothing.

    This is the one place that compares; what it compares is written by `Store.finish`.

    Args:
        manifest: The step's.
        inputs: The steps of the stages that it reads, as they are now.
        there: Returns the files that a step beside the stages has now, None where it is not there.
    """
    for name, files in inputs.items():
        if name not in manifest.made_from:
            return f"it does not say which {name.rpartition('-')[0]} it was made from"
        if other := _unlike(manifest.made_from[name], files):
            return f"made from another {other} of {name.rpartition('-')[0]}"
    for name, files in {**manifest.made_from, **manifest.used}.items():
        now = None if name in inputs else there(name)
        if now is not None and (other := _unlike(files, now)):
            return f"made from another {other} of {name.rpartition('-')[0]}"
    return ""


def _unlike(before: Files, now: Files) -> str:
    """Returns the first file that is not as it was."""
    return next((name for name in sorted({*before, *now}) if before.get(name) != now.get(name)), "")
