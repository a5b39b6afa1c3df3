"""Tables that benchmark scripts append to: one row per (case, seed), finished rows are skipped."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

#: The repository, and where the tables lie.
ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"


class Table:
    """A committed CSV file."""

    def __init__(self, path: Path, columns: tuple[str, ...]) -> None:
        """Opens or begins the table; `case` and `seed` come first."""
        self.path = path
        self.columns = ("case", "seed", *columns)

    def rows(self) -> list[dict[str, str]]:
        """Returns all finished rows."""
        if not self.path.is_file():
            return []
        with self.path.open(newline="", encoding="utf-8") as stream:
            return list(csv.DictReader(stream))

    def done(self, case: str, seed: int) -> bool:
        """Returns whether a row is there already."""
        return any(row["case"] == case and row["seed"] == str(seed) for row in self.rows())

    def append(self, case: str, seed: int, **values: Any) -> None:
        """Adds a row at once, so that a stopped script loses nothing."""
        new = not self.path.is_file()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, self.columns, lineterminator="\n")
            if new:
                writer.writeheader()
            writer.writerow({"case": case, "seed": seed, **values})

    def show(self, what: str, names: Sequence[str]) -> None:
        """Prints the finished rows as a Markdown table: the case, headed `what`, and some columns."""
        print(f"| {what} | " + " | ".join(names) + " |\n|" + " --- |" * (len(names) + 1))
        for row in self.rows():
            print(f"| {row['case']} | " + " | ".join(row[name] for name in names) + " |")

    def column(self, case: str, column: str) -> list[float]:
        """Returns the numbers of one case."""
        return [float(row[column]) for row in self.rows() if row["case"] == case and row[column] != ""]


def mean_and_spread(values: Iterable[float]) -> str:
    """Returns `mean ± standard deviation` over the seeds."""
    numbers = list(values)
    if not numbers:
        return "-"
    return f"{mean(numbers):.2f} ± {stdev(numbers):.2f}" if len(numbers) > 1 else f"{numbers[0]:.2f}"
