"""Files that cannot be used: all of them named, and left out where a recipe says so."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from edgecompress.errors import DataError
from edgecompress.recipe.schema import Recipe
from edgecompress.wording import counted, verb

#: Files named one by one before a message says how many more there are.
NAMED = 100


@dataclass
class Broken:
    """What could not be read.

    Attributes:
        noun: What a file is.
        skip: Whether such files are left out (`data.on_error: skip`).
        files: File -> what is wrong with it, the file's name included.
    """

    noun: str
    skip: bool
    files: dict[Path, str] = field(default_factory=dict)

    @classmethod
    def of(cls, recipe: Recipe, noun: str) -> Broken:
        """Returns an empty collection for a recipe's files."""
        return cls(noun, recipe.data.on_error == "skip")

    def add(self, path: Path, what: str) -> None:
        """Notes what is wrong with a file; the first finding counts."""
        self.files.setdefault(path, what)

    def add_nowhere(self, links: list[Path]) -> None:
        """Notes links that lead nowhere."""
        for link in links:
            self.add(link, f"{link}: a link to nothing. Replace or remove it.")

    def settle(self, total: int) -> list[str]:
        """Returns notes on what was left out, of `total` files.

        Raises:
            DataError: There are such files, and they are not to be left out.
        """
        if not self.files:
            return []
        count = len(self.files)
        if self.skip:
            named = ", ".join(str(path) for path in list(self.files)[:NAMED])
            more = f" and {count - NAMED:,} more" if count > NAMED else ""
            of = f"{counted(count, self.noun)} of {total:,}"
            return [f"{of} cannot be read and {verb(count, 'was', 'were')} left out (on_error: skip): {named}{more}."]
        way_out = f"`data.on_error: skip` leaves {verb(count, 'it', 'them')} out."
        if count == 1:
            raise DataError(f"{next(iter(self.files.values()))} {way_out}")
        lines = [f"  {what}" for what in list(self.files.values())[:NAMED]]
        lines += [f"  and {count - NAMED:,} more"] if count > NAMED else []
        raise DataError(f"{counted(count, self.noun)} cannot be used:", [*lines, way_out])
