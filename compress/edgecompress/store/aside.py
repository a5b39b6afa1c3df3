"""Finished steps that turn out of the wrong form where they are first used: each is made again, once in a run."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterator, Sequence

from edgecompress.errors import ResourceError, ResultError
from edgecompress.store.file_lock import exclusive
from edgecompress.store.manifests import MANIFEST
from edgecompress.store.store import OTHER_FORM, StageResult, Store

#: What is raised where a document has not the form that its reader relies on.
MISSHAPEN = (LookupError, TypeError, ValueError, AttributeError, ArithmeticError)


class Aside:
    """What one run has set aside."""

    def __init__(self, store: Store, note: Callable[[str], None]) -> None:
        """Takes the store, and whom to tell."""
        self._store, self._note = store, note
        self._seen: set[tuple[str, str]] = set()
        self._made: set[tuple[str, str]] = set()

    def made(self, result: StageResult) -> None:
        """Notes a step that this run has made: what is wrong with it would be so again."""
        self._seen.add((result.stage, result.fingerprint))
        self._made.add((result.stage, result.fingerprint))

    def has_made(self, stage: str, fingerprint: str) -> bool:
        """Returns whether this run has made a step."""
        return (stage, fingerprint) in self._made

    def take(self, error: ResultError) -> None:
        """Throws the steps away that an error names.

        Raises:
            ResultError: This run has made them, so that they are not to blame.
            ResourceError: The store is read-only, or the file system refused.
        """
        if self._seen & set(error.steps) or not error.steps:
            raise error
        self._store.require_writable({stage: OTHER_FORM for stage, _ in error.steps})
        self._seen |= set(error.steps)
        stages = ", ".join(stage for stage, _ in error.steps)
        self._note(f"the result of {stages} in the store is not what this step leaves ({error}): it is made again")
        for stage, fingerprint in error.steps:
            self._throw_away(stage, fingerprint)

    def _throw_away(self, stage: str, fingerprint: str) -> None:
        """Removes a step from the run's own store, and passes it over in another one."""
        folder = self._store.folder(stage, fingerprint)
        with exclusive(self._store.lock(stage, fingerprint), lambda holder: self._note(f"waiting for {holder}")):
            try:
                (folder / MANIFEST).unlink(missing_ok=True)  # what is left of it is no finished step
            except OSError as error:
                raise ResourceError(f"cannot remove {folder}: {error.strerror or error}") from error
            shutil.rmtree(folder, ignore_errors=True)
        self._store.pass_over(stage, fingerprint)

    @contextlib.contextmanager
    def blaming(self, reused: Sequence[StageResult]) -> Iterator[None]:
        """Lays what goes wrong inside at the door of results that were not made by this run; else it is a bug."""
        steps = [(one.stage, one.fingerprint) for one in reused]
        steps = [step for step in steps if step not in self._seen]
        try:
            yield
        except MISSHAPEN as error:
            if not steps:
                raise
            raise ResultError(f"{type(error).__name__}: {error}"[:200], *steps) from error
