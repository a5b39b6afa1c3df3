"""Files with hashes: atomic writes, stage results and the content-addressed store they live in."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgecompress.errors import ResourceError, ResultError
from edgecompress.store.file_lock import exclusive
from edgecompress.store.files import is_whole, sealed, sha256_file, write_json

#: Why a step has to be made that never was.
MISSING = "not made yet"
MANIFEST = "manifest.json"


def _is_alive(process: str) -> bool:
    try:
        os.kill(int(process), 0)
    except (ProcessLookupError, ValueError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


@dataclass(frozen=True)
class Artifact:
    """A file a stage made.

    Attributes:
        path: Where it lies.
        sha256: Hash of its content.
        parent: Fingerprint of the step that made it.
    """

    path: Path
    sha256: str
    parent: str

    @property
    def size_bytes(self) -> int:
        """Size of the file."""
        return self.path.stat().st_size


@dataclass(frozen=True)
class StageResult:
    """What a finished stage left: its files and its figures.

    Attributes:
        stage: The stage's name.
        fingerprint: Of the step: its part of the recipe, its inputs, the code and the libraries.
        folder: Where the files lie.
        artifacts: File name -> artifact.
        metrics: Figures and notes, plain JSON values.
        seconds: How long the stage ran.
        warnings: Plain sentences for the report.
    """

    stage: str
    fingerprint: str
    folder: Path
    artifacts: dict[str, Artifact] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    warnings: tuple[str, ...] = ()

    def path(self, name: str) -> Path:
        """Returns where one of the stage's files lies.

        Raises:
            ResultError: It has no such file.
        """
        if name not in self.artifacts:
            raise ResultError(f"{self.folder} has no {name}", (self.stage, self.fingerprint))
        return self.artifacts[name].path


class Store:
    """Finished steps, one folder each, named by stage and fingerprint.

    A step's manifest is written last: its existence, with matching hashes, means the step is complete.
    """

    def __init__(self, root: Path) -> None:
        """Takes the folder that holds, or will hold, all steps."""
        self.root = root

    def folder(self, stage: str, fingerprint: str) -> Path:
        """Returns where a step's files lie, or will lie."""
        return self.root / f"{stage}-{fingerprint[:20]}"

    def checkpoints(self, stage: str, fingerprint: str) -> Path:
        """Returns where a step's trainings save how far they are, until it is finished."""
        return self.root / "checkpoints" / self.folder(stage, fingerprint).name

    def lock(self, stage: str, fingerprint: str) -> Path:
        """Returns the file that whoever makes a step holds locked."""
        return self.root / "locks" / self.folder(stage, fingerprint).name

    def once(
        self, stage: str, fingerprint: str, make: Callable[[Path], dict[str, Any]], note: Callable[[str], None]
    ) -> StageResult:
        """Returns a step that several runs may need; the first one makes it while the others wait.

        Args:
            stage: Its name.
            fingerprint: Of what it depends on.
            make: Fills a folder and returns the figures.
            note: Told who is waited for, and which damage is mended.
        """

        def waiting(holder: str) -> None:
            note(f"{holder} is making the {stage} already: waiting for it")

        result, _ = self.load(stage, fingerprint)
        if result is not None:
            return result
        with exclusive(self.lock(stage, fingerprint), waiting):
            result, why = self.load(stage, fingerprint)
            if result is not None:
                return result
            if why != MISSING:
                note(f"{self.folder(stage, fingerprint)}: {why}. It is made again")
            started = time.monotonic()
            with self.workspace(stage, fingerprint) as work:
                figures = make(work)
                return self.finish(work, stage, fingerprint, figures, time.monotonic() - started, ())

    def load(self, stage: str, fingerprint: str) -> tuple[StageResult | None, str]:
        """Returns a finished step, or None and why it has to be made (again)."""
        folder = self.folder(stage, fingerprint)
        try:
            manifest = json.loads((folder / MANIFEST).read_bytes())
            if manifest["fingerprint"] != fingerprint:
                return None, "made from other inputs"
            if not is_whole(manifest):
                return None, f"{MANIFEST} is damaged (its hash differs)"
            artifacts = {}
            for name, digest in manifest["files"].items():
                path = folder / name
                if not path.is_file():
                    return None, f"{name} is missing"
                if sha256_file(path) != digest:
                    return None, f"{name} is damaged (its hash differs)"
                artifacts[name] = Artifact(path, digest, fingerprint)
            return (
                StageResult(
                    stage,
                    fingerprint,
                    folder,
                    artifacts,
                    manifest["metrics"],
                    manifest["seconds"],
                    tuple(manifest["warnings"]),
                ),
                "finished before",
            )
        except FileNotFoundError:
            return None, MISSING
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            return None, f"its manifest cannot be read ({error})"

    def finished(self, stage: str) -> list[tuple[str, dict[str, Any]]]:
        """Returns the fingerprints of a stage's finished steps and what they are made of, the newest first."""
        found: list[tuple[float, str, dict[str, Any]]] = []
        for path in self.root.glob(f"{stage}-*/{MANIFEST}"):
            with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
                manifest = json.loads(path.read_bytes())
                found.append((path.stat().st_mtime, str(manifest["fingerprint"]), dict(manifest["parts"])))
        return [(fingerprint, parts) for _, fingerprint, parts in sorted(found, key=lambda entry: -entry[0])]

    @contextlib.contextmanager
    def workspace(self, stage: str, fingerprint: str) -> Iterator[Path]:
        """Gives a fresh folder to work in; it is removed unless `finish` moved it to its place."""
        folder = self.folder(stage, fingerprint)
        work = folder.with_name(f".{folder.name}.{os.getpid()}.partial")
        for left in folder.parent.glob(f".{folder.name}.*.partial"):
            if not _is_alive(left.name.split(".")[-2]):  # of a process that was killed
                shutil.rmtree(left, ignore_errors=True)
        try:
            shutil.rmtree(work, ignore_errors=True)
            work.mkdir(parents=True)
        except OSError as error:
            raise ResourceError(
                f"cannot create {work}: {error.strerror or error}. Choose a writable folder with EDGECOMPRESS_STORE."
            ) from error
        try:
            yield work
        finally:
            shutil.rmtree(work, ignore_errors=True)

    def finish(
        self,
        work: Path,
        stage: str,
        fingerprint: str,
        metrics: dict[str, Any],
        seconds: float,
        warnings: tuple[str, ...],
        parts: dict[str, Any] | None = None,
    ) -> StageResult:
        """Hashes the files in `work`, writes the manifest last and moves the folder to its place.

        `parts` is what the fingerprint is made of; see `finished`.
        """
        files = {path.name: sha256_file(path) for path in sorted(work.iterdir()) if path.is_file()}
        manifest = {
            "stage": stage,
            "fingerprint": fingerprint,
            "files": files,
            "metrics": metrics,
            "seconds": round(seconds, 3),
            "warnings": list(warnings),
            **({} if parts is None else {"parts": parts}),
        }
        # The figures are shown and judged as those of the run: they are as much worth a hash as the files.
        write_json(work / MANIFEST, sealed(manifest))
        folder = self.folder(stage, fingerprint)
        try:
            shutil.rmtree(folder, ignore_errors=True)
            work.rename(folder)
        except OSError as error:
            raise ResourceError(f"cannot move a finished stage to {folder}: {error.strerror or error}") from error
        result, why = self.load(stage, fingerprint)
        if result is None:
            raise ResourceError(f"{folder} was written but cannot be read back: {why}")
        return result

    def set_aside(self, stage: str, fingerprint: str, note: Callable[[str], None]) -> None:
        """Throws away a finished step that is none, so that it is made again.

        Raises:
            ResourceError: The file system refused.
        """
        folder = self.folder(stage, fingerprint)
        with exclusive(self.lock(stage, fingerprint), lambda holder: note(f"waiting for {holder}")):
            try:
                (folder / MANIFEST).unlink(missing_ok=True)  # what is left of it is no finished step
            except OSError as error:
                raise ResourceError(f"cannot remove {folder}: {error.strerror or error}") from error
            shutil.rmtree(folder, ignore_errors=True)
