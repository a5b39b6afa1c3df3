"""Tables of measurements: a row at a time, each with the commit of the code that was measured."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from benchmarks.table import Table, commit_of


def git(folder: Path, *arguments: str) -> str:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    who = ("-c", "user.name=tests", "-c", "user.email=tests@localhost", "-c", "commit.gpgsign=false")
    done = subprocess.run(
        ["git", *who, *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A repository with a file of code and a table."""
    folder = tmp_path / "checkout"
    (folder / "benchmarks" / "results").mkdir(parents=True)
    git(folder, "init", "-q")
    (folder / "code.py").write_text("one = 1\n")
    (folder / "benchmarks" / "results" / "times.csv").write_text("case,seed,ms\nold,0,7\n")
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "Begun")
    return folder


def times(checkout: Path) -> Table:
    return Table(checkout / "benchmarks" / "results" / "times.csv", ("ms",), checkout)


def test_rows_name_their_commit_and_older_ones_stay(checkout: Path) -> None:
    head = git(checkout, "rev-parse", "--short", "HEAD")
    table = times(checkout)
    assert table.rows() == [{"case": "old", "seed": "0", "ms": "7", "commit": ""}]
    table.append("new", 1, ms=8)
    assert table.path.read_text() == f"case,seed,ms,commit\nold,0,7,\nnew,1,8,{head}\n"
    assert times(checkout).commit == head  # that the table has grown is no change of the code
    times(checkout).append("next", 1, ms="a,b")
    assert table.path.read_text() == f'case,seed,ms,commit\nold,0,7,\nnew,1,8,{head}\nnext,1,"a,b",{head}\n'
    assert [row["commit"] for row in table.rows()] == ["", head, head]
    assert table.done("old", 0)
    assert table.column("new", "ms") == [8.0]
    assert [path.name for path in table.path.parent.iterdir()] == ["times.csv"]


def test_changed_code_is_marked_and_the_commit_is_that_of_the_start(checkout: Path) -> None:
    table = times(checkout)
    (checkout / "code.py").write_text("one = 2\n")
    assert commit_of(checkout) == f"{table.commit}+"
    git(checkout, "commit", "-qam", "Two")
    (checkout / "untracked.py").write_text("")
    assert commit_of(checkout) == git(checkout, "rev-parse", "--short", "HEAD") + "+"
    table.append("slow", 0, ms=9)
    assert table.rows()[-1]["commit"] == table.commit != commit_of(checkout)


def test_a_new_table_begins_with_its_header(tmp_path: Path) -> None:
    table = Table(tmp_path / "new" / "times.csv", ("ms",), tmp_path)
    assert table.commit == ""  # no repository
    table.append("one", 0, ms=1)
    assert table.path.read_text() == "case,seed,ms,commit\none,0,1,\n"


def test_columns_a_script_has_come_to_write_are_added(checkout: Path) -> None:
    table = Table(checkout / "benchmarks" / "results" / "times.csv", ("bytes", "ms"), checkout)
    table.append("new", 0, ms=1, bytes=5)
    assert table.rows()[0] == {"case": "old", "seed": "0", "ms": "7", "bytes": "", "commit": ""}
    assert table.rows()[1] == {"case": "new", "seed": "0", "ms": "1", "bytes": "5", "commit": table.commit}
