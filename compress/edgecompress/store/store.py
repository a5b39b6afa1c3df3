"""Files with hashes: stage results and the content-addressed store they live in."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgecompress.errors import ResourceError, ResultError
from edgecompress.store.file_lock import exclusive, is_alive
from edgecompress.store.files import finite, no_figure, sha256_file, sha256_json, write_json
from edgecompress.store.manifests import (
    DIGITS,
    MANIFEST,
    DamagedError,
    Files,
    Made,
    Manifest,
    check_files,
    contradiction,
    place_of,
    read_manifest,
    step_name,
)
from edgecompress.store.seals import Seal
from edgecompress.store.sharing import folder_in, make_folder, may_replace, share

#: Why a step has to be made that never was.
MISSING = "not made yet"
#: Why a step has to be made again whose seal and hashes are right.
OTHER_FORM = "it does not hold what such a step leaves"


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
        used: Steps beside the stages that it was made from (conversions, soft targets), with the hashes of their files.
    """

    stage: str
    fingerprint: str
    folder: Path
    artifacts: dict[str, Artifact] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    warnings: tuple[str, ...] = ()
    used: Made = field(default_factory=dict)

    @property
    def name(self) -> str:
        """What its step is called."""
        return step_name(self.stage, self.fingerprint)

    @property
    def content(self) -> dict[str, str]:
        """The hashes of its files."""
        return {name: artifact.sha256 for name, artifact in self.artifacts.items()}

    def path(self, name: str) -> Path:
        """Returns where one of the stage's files lies.

        Raises:
            ResultError: It has no such file.
        """
        if name not in self.artifacts:
            raise ResultError(f"{self.folder} has no {name}", (self.stage, self.fingerprint))
        return self.artifacts[name].path

    def altered(self) -> str:
        """Returns the first of its files that is not as it was when it was loaded, "" where all are."""
        for name, artifact in self.artifacts.items():
            try:
                if sha256_file(artifact.path) != artifact.sha256:
                    return name
            except OSError:
                return name
        return ""


def contents(results: Iterable[StageResult]) -> dict[str, dict[str, str]]:
    """Returns the names of steps with the hashes of their files: what a step that reads them is made from."""
    return {result.name: result.content for result in results}


class Store:
    """Finished steps, one folder each, named by stage and fingerprint.

    A step's manifest is written last: its existence, with matching hashes, means the step is complete.
    """

    def __init__(
        self, root: Path, *, also: Path | None = None, read_only: bool = False, key: bytes | None = None
    ) -> None:
        """Takes the folder that holds, or will hold, all steps.

        Args:
            root: The folder.
            also: Another store, in which is looked too, and nothing ever written, locked or removed.
            read_only: Whether nothing is made in `root` either: what is missing there is an error.
            key: Seals what is made, and nothing that it has not sealed is believed; None: hashes are believed.
        """
        self.root, self.read_only, self.seal = root, read_only, Seal(key)
        self._roots = (root,) if also is None else (root, also)
        self._passed_over: set[str] = set()

    def folder(self, stage: str, fingerprint: str) -> Path:
        """Returns where a step's files lie, or will lie."""
        return self.root / step_name(stage, fingerprint)

    def checkpoints(self, stage: str, fingerprint: str, inputs: Made | None = None) -> Path:
        """Returns where a step's trainings save how far they are, until it is finished.

        A training that began from other bytes of its inputs is another one, and has another folder.
        """
        name = self.folder(stage, fingerprint).name + ("" if not inputs else f"-{sha256_json(inputs)[:DIGITS]}")
        return folder_in(self.root, "checkpoints", name)

    def drop_checkpoints(self, stage: str, fingerprint: str) -> None:
        """Removes what a step's trainings have saved, whatever they began from."""
        for folder in folder_in(self.root, "checkpoints").glob(f"{self.folder(stage, fingerprint).name}*"):
            shutil.rmtree(folder, ignore_errors=True)

    def pass_over(self, stage: str, fingerprint: str) -> None:
        """From now on takes no step of that name from the other store, which is not ours to mend."""
        self._passed_over.add(step_name(stage, fingerprint))

    def lock(self, stage: str, fingerprint: str) -> Path:
        """Returns the file that whoever makes a step holds locked."""
        return folder_in(self.root, "locks") / self.folder(stage, fingerprint).name

    def notes(self) -> Path:
        """Returns the folder of what is remembered about runs."""
        return folder_in(self.root, "last")

    def once(
        self, stage: str, fingerprint: str, make: Callable[[Path], dict[str, Any]], note: Callable[[str], None]
    ) -> StageResult:
        """Returns a step that several runs may need; the first one makes it while the others wait.

        Args:
            stage: Its name.
            fingerprint: Of what it depends on, by content.
            make: Fills a folder and returns the figures.
            note: Told who is waited for, and which damage is mended.
        """

        def waiting(holder: str) -> None:
            note(f"{holder} is making the {stage} already: waiting for it")

        result, why = self.load(stage, fingerprint)
        if result is not None:
            return result
        self.require_writable({stage: why})
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

    def require_writable(self, missing: Mapping[str, str]) -> None:
        """Makes sure that what is missing may be made.

        Args:
            missing: Stage -> why it has to be made.

        Raises:
            ResourceError: This store is read-only.
        """
        if self.read_only and missing:
            told = "; ".join(f"{stage} ({why})" for stage, why in missing.items())
            raise ResourceError(
                f"the store {self.root} is read-only (EDGECOMPRESS_STORE_READONLY=1), but something has to be made: "
                f"{told}. Run once where it may be written, or name this one as a second store: "
                "EDGECOMPRESS_STORE_READONLY=PATH."
            )

    def load(self, stage: str, fingerprint: str, inputs: Made | None = None) -> tuple[StageResult | None, str]:
        """Returns a finished step, or None and why it has to be made (again).

        Args:
            stage: Its name.
            fingerprint: What it depends on.
            inputs: What `contents` gives for the steps that it must have been made from; None: that is not asked.
        """
        why = MISSING
        for root in self._roots:
            try:
                return self._load(root / step_name(stage, fingerprint), fingerprint, inputs), "finished before"
            except FileNotFoundError:
                continue
            except DamagedError as error:
                why = str(error) if why == MISSING else why
        return None, why

    def _load(self, folder: Path, fingerprint: str, inputs: Made | None) -> StageResult:
        manifest = read_manifest(folder, self.seal)
        if folder.name in self._passed_over and folder.parent != self.root:
            raise DamagedError(OTHER_FORM)
        if manifest.fingerprint != fingerprint:
            raise DamagedError("made from other inputs")
        if inputs is not None and (why := contradiction(manifest, inputs, self._files)):
            raise DamagedError(why)
        check_files(folder, manifest.files)
        return StageResult(
            manifest.stage,
            fingerprint,
            folder,
            {name: Artifact(folder / name, digest, fingerprint) for name, digest in manifest.files.items()},
            manifest.metrics,
            manifest.seconds,
            manifest.warnings,
            manifest.used,
        )

    def _files(self, name: str) -> Files | None:
        """Returns the files that a step has by its manifest, None where it is not there or not believed."""
        for root in self._roots:
            with contextlib.suppress(OSError, DamagedError):
                return read_manifest(root / name, self.seal).files
        return None

    def finished(self, stage: str) -> list[tuple[str, dict[str, Any]]]:
        """Returns the fingerprints of a stage's finished steps and what they are made of, the newest first."""
        found: list[tuple[float, str, dict[str, Any]]] = []
        for root in self._roots:
            for path in root.glob(f"{stage}-*/{MANIFEST}"):
                with contextlib.suppress(OSError, DamagedError):
                    manifest = read_manifest(path.parent, self.seal)
                    if manifest.stage == stage and manifest.parts is not None:
                        found.append((path.stat().st_mtime, manifest.fingerprint, manifest.parts))
        return [(fingerprint, parts) for _, fingerprint, parts in sorted(found, key=lambda entry: -entry[0])]

    @contextlib.contextmanager
    def workspace(self, stage: str, fingerprint: str) -> Iterator[Path]:
        """Gives a fresh folder to work in; it is removed unless `finish` moved it to its place.

        Raises:
            ResourceError: It cannot be made, or what is in its place cannot be replaced.
        """
        self.require_writable({stage: MISSING})
        folder = folder_in(self.root, self.folder(stage, fingerprint).name)
        work = folder.with_name(f".{folder.name}.{os.getpid()}.partial")
        for left in folder.parent.glob(f".{folder.name}.*.partial"):
            if not is_alive(left.name.split(".")[-2]):  # of a process that was killed
                shutil.rmtree(left, ignore_errors=True)
        if not may_replace(folder):
            raise ResourceError(
                f"{folder} cannot be used and belongs to another user, so it cannot be made again. Share the store "
                f"(`chmod -R g+w` and `chmod g+s` on its folders), or choose another with EDGECOMPRESS_STORE."
            )
        try:
            shutil.rmtree(work, ignore_errors=True)
            make_folder(work)
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
        made_from: Made | None = None,
        used: Made | None = None,
    ) -> StageResult:
        """Hashes the files in `work`, writes the manifest last and moves the folder to its place.

        Args:
            work: What `workspace` gave.
            stage: The step's stage.
            fingerprint: The step's.
            metrics: Figures and notes; what is infinite or undefined is left out, and a warning says so.
            seconds: How long it took.
            warnings: Plain sentences.
            parts: What the fingerprint is made of; see `finished`.
            made_from: What `contents` gives for the stages that it read.
            used: The same for the steps beside the stages.
        """
        metrics, missing = finite(metrics)
        if missing:
            warnings = (*warnings, no_figure(missing))
        files = {path.name: sha256_file(path) for path in sorted(work.iterdir()) if path.is_file()}
        for name in files:
            share(work / name)
        made = {name: dict(content) for name, content in (made_from or {}).items()}
        beside = {name: dict(content) for name, content in (used or {}).items()}
        manifest = Manifest(stage, fingerprint, files, made, beside, metrics, round(seconds, 3), warnings, parts)
        # The figures are shown and judged as those of the run: they are as much worth a hash as the files.
        write_json(work / MANIFEST, self.seal.sealed(place_of(stage, fingerprint), manifest.document()))
        folder = self.folder(stage, fingerprint)
        try:
            shutil.rmtree(folder, ignore_errors=True)
            work.rename(folder)
        except OSError as error:
            raise ResourceError(f"cannot move a finished stage to {folder}: {error.strerror or error}") from error
        try:
            return self._load(folder, fingerprint, None)
        except (FileNotFoundError, DamagedError) as error:
            raise ResourceError(f"{folder} was written but cannot be read back: {error}") from error
