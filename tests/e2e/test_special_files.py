"""Links, pipes, folders and endless files in the place of what a run reads and writes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from edgecompress.pipeline.run import Outcome
from edgecompress.store.store import Store
from tests.shared.special_files import KINDS, try_cases


@pytest.mark.parametrize("command", ["run", "run --fresh", "report"])
def test_nothing_special_is_followed_waited_for_or_taken_for_a_file(
    cook: Callable[..., Outcome], kitchen: Path, own_store: Store, command: str
) -> None:
    """Some kinds in each place; benchmarks/robustness/special_files.py tries all, with every command."""
    cook(store=own_store)
    tried = 0
    for outcome in try_cases(kitchen / "small.yaml", own_store.root, [(command, kind) for kind in KINDS]):
        tried += 1
        assert outcome.holds, outcome
    assert tried > (10 if command == "report" else 100)
