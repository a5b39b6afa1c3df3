"""Tables that benchmark scripts append to: one row per (case, seed), finished rows are skipped."""

from __future__ import annotations

import csv
import os
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

#: The repository, and where the tables lie.
ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
#: So that a command runs this checkout's program, wherever it is started and whatever is installed.
SOURCES = {"PYTHONPATH": os.pathsep.join(str(ROOT / part) for part in ("compress", "cli", "."))}


#: Names the code that a row was measured with; rows from before it have none.
COMMIT = "commit"


class Table:
    """A committed CSV file."""

    def __init__(self, path: Path, columns: tuple[str, ...], root: Path = ROOT) -> None:
        """Opens or begins the table; `case` and `seed` come first, the commit of the code in `root` last."""
        self.path = path
        self.columns = ("case", "seed", *columns, COMMIT)
        self.commit = commit_of(root)  # now: later it may no longer be that of what was imported

    def rows(self) -> list[dict[str, str]]:
        """Returns all finished rows."""
        if not self.path.is_file():
            return []
        with self.path.open(newline="", encoding="utf-8") as stream:
            return [{COMMIT: "", **row} for row in csv.DictReader(stream)]

    def done(self, case: str, seed: int) -> bool:
        """Returns whether a row is there already."""
        return any(row["case"] == case and row["seed"] == str(seed) for row in self.rows())

    def append(self, case: str, seed: int, **values: Any) -> None:
        """Adds a row at once, so that a stopped script loses nothing."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        columns = self._prepared()
        with self.path.open("a", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, columns, lineterminator="\n")
            writer.writerow({"case": case, "seed": seed, **values, COMMIT: self.commit})

    def _prepared(self) -> list[str]:
        """Returns the columns of the file, after those it lacks were added to it: none in its older rows."""
        there: list[str] = []
        if self.path.is_file():
            with self.path.open(newline="", encoding="utf-8") as stream:
                there = next(csv.reader(stream), [])
        columns = [*there, *(name for name in self.columns if name not in there)]
        if columns != there:
            rows, written = self.rows(), self.path.with_suffix(".new")
            with written.open("w", newline="", encoding="utf-8") as stream:
                writer = csv.DictWriter(stream, columns, lineterminator="\n")
                writer.writeheader()
                writer.writerows(rows)
            written.replace(self.path)
        return columns

    def show(self, what: str, names: Sequence[str]) -> None:
        """Prints the finished rows as a Markdown table: the case, headed `what`, and some columns."""
        print(f"| {what} | " + " | ".join(names) + " |\n|" + " --- |" * (len(names) + 1))
        for row in self.rows():
            print(f"| {row['case']} | " + " | ".join(row[name] for name in names) + " |")

    def column(self, case: str, column: str) -> list[float]:
        """Returns the numbers of one case."""
        return [float(row[column]) for row in self.rows() if row["case"] == case and row[column] != ""]


def commit_of(root: Path) -> str:
    """Returns the short hash of a checkout, with `+` where files differ from it; "" where there is no repository.

    The tables do not count: a script changes them while it runs.
    """

    def git(*arguments: str) -> str:
        # A hook of git's hands its own repository down, which need not be this one.
        outside = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
        done = subprocess.run(  # noqa: S603 - our own arguments
            ["git", *arguments],  # noqa: S607 - the user's git
            cwd=root, env=outside, capture_output=True, text=True, check=False,
        )  # fmt: skip
        return done.stdout.strip() if done.returncode == 0 else ""

    head = git("rev-parse", "--short", "HEAD")
    return f"{head}+" if head and git("status", "--porcelain", "--", ".", ":!benchmarks/results") else head


def mean_and_spread(values: Iterable[float]) -> str:
    """Returns `mean ± standard deviation` over the seeds."""
    numbers = list(values)
    if not numbers:
        return "-"
    return f"{mean(numbers):.2f} ± {stdev(numbers):.2f}" if len(numbers) > 1 else f"{numbers[0]:.2f}"
