"""Damaged files end in an error of the program's own; benchmarks/robustness/weights_fuzz.py has a thousand of each."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

from edgecompress.errors import EdgecompressError
from tests.shared.weights_mutations import KINDS, written

SEEDS = range(12)
#: They hold the time, or places in memory: the damage is the same, what is damaged differs by these.
TIMED = ("keras archive", "keras hdf5", "torch before 1.6")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.filterwarnings("ignore")
def test_damaged_files_are_taken_or_refused(tmp_path: Path, kind: str) -> None:
    read = KINDS[kind][2]
    for seed in SEEDS[: 3 if kind.startswith("keras") else None]:  # which takes a process each
        path = written(kind, seed, tmp_path)
        with contextlib.suppress(EdgecompressError):
            read(path)
    assert [one.name for one in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("kind", KINDS)
def test_a_seed_always_names_the_same_file(tmp_path: Path, kind: str) -> None:
    first, again = (written(kind, 5, tmp_path).read_bytes() for _ in range(2))
    assert first == again or kind in TIMED
