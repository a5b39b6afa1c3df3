"""Finished steps of the wrong form: thrown away once in a run, never where the run itself has made them."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgecompress.errors import ExitCode, ModelError, ResourceError, ResultError
from edgecompress.sources.border import of_result
from edgecompress.store.aside import Aside
from edgecompress.store.store import MISSING, OTHER_FORM, StageResult, Store

PRINTS = ("a" * 64, "b" * 64)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    found = Store(tmp_path)
    for fingerprint in PRINTS:
        with found.workspace("teacher", fingerprint) as work:
            (work / "weights").write_bytes(b"x")
            found.finish(work, "teacher", fingerprint, {}, 1.0, ())
    return found


def result(store: Store, fingerprint: str = PRINTS[0]) -> StageResult:
    found, _ = store.load("teacher", fingerprint)
    assert found is not None
    return found


def test_a_step_is_set_aside_once_and_others_stay(store: Store) -> None:
    notes: list[str] = []
    aside = Aside(store, notes.append)
    error = ResultError("it has no weights", ("teacher", PRINTS[0]))
    aside.take(error)
    assert store.load("teacher", PRINTS[0]) == (None, MISSING)
    assert store.load("teacher", PRINTS[1])[0] is not None
    expected = "the result of teacher in the store is not what this step leaves (it has no weights): it is made again"
    assert notes == [expected]
    with pytest.raises(ResultError) as caught:
        aside.take(error)
    assert caught.value is error
    assert error.exit_code == ExitCode.RESOURCE


def test_what_the_run_has_made_itself_stays(store: Store) -> None:
    aside = Aside(store, lambda _: None)
    aside.made(result(store))
    with pytest.raises(ResultError):
        aside.take(ResultError("no", ("teacher", PRINTS[0])))
    assert store.load("teacher", PRINTS[0])[0] is not None


def test_a_file_that_a_step_has_not_is_laid_at_its_door(store: Store) -> None:
    with pytest.raises(ResultError, match="has no ranges") as caught:
        result(store).path("ranges.json")
    assert caught.value.steps == (("teacher", PRINTS[0]),)


@pytest.mark.parametrize("error", [KeyError("sha256"), ModelError("do not fit"), ResourceError("no"), RecursionError()])
def test_what_reading_a_step_raises_names_it(store: Store, error: Exception) -> None:
    with pytest.raises(ResultError) as caught, of_result(result(store)):
        raise error
    assert caught.value.steps == (("teacher", PRINTS[0]),)


def test_a_report_that_cannot_be_made_blames_what_was_reused_and_else_is_a_bug(store: Store) -> None:
    aside = Aside(store, lambda _: None)
    with pytest.raises(ResultError, match="KeyError: 'layers'") as caught, aside.blaming([result(store)]):
        raise KeyError("layers")
    aside.take(caught.value)
    with pytest.raises(KeyError), aside.blaming([StageResult("teacher", PRINTS[0], Path())]):
        raise KeyError("layers")
    with pytest.raises(ResourceError), aside.blaming([StageResult("verify", PRINTS[1], Path())]):
        raise ResourceError("the disk is full")


def test_of_a_read_only_store_nothing_is_thrown_away(store: Store, tmp_path: Path) -> None:
    notes: list[str] = []
    aside = Aside(Store(tmp_path, read_only=True), notes.append)
    with pytest.raises(ResourceError, match=r"is read-only .*: teacher \(it does not hold what such a step leaves\)"):
        aside.take(ResultError("no weights", ("teacher", PRINTS[0])))
    assert store.load("teacher", PRINTS[0])[0] is not None
    assert notes == []


def test_in_the_other_store_a_step_stays_and_is_passed_over(store: Store, tmp_path: Path) -> None:
    both = Store(tmp_path / "mine", also=tmp_path)
    assert both.load("teacher", PRINTS[0])[0] is not None
    Aside(both, lambda _: None).take(ResultError("no weights", ("teacher", PRINTS[0])))
    assert both.load("teacher", PRINTS[0]) == (None, OTHER_FORM)
    assert both.load("teacher", PRINTS[1])[0] is not None
    assert store.load("teacher", PRINTS[0])[0] is not None
    with both.workspace("teacher", PRINTS[0]) as work:
        both.finish(work, "teacher", PRINTS[0], {}, 1.0, ())
    again, _ = both.load("teacher", PRINTS[0])
    assert again is not None
    assert again.folder.parent == tmp_path / "mine"
