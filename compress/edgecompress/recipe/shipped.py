"""The files that come with the program: recipes to begin with, the rule for Makefiles, the schema for editors.

A wheel carries them in the package, in its folder `share`; in a checkout, from which editable installs run, they lie
where the repository has them.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from pathlib import Path

from edgecompress.errors import ResourceError, UsageError

PACKAGE = Path(__file__).parents[1]
SCHEMA = PACKAGE / "recipe" / "recipe.schema.json"
MAKEFILE = "edgecompress.mk"
RECIPE = ".yaml"
#: How the line of a recipe begins that says what data it needs.
DATA = "# Data: "


@dataclass(frozen=True)
class SharedFile:
    """A file that comes with the program.

    Attributes:
        path: Where it lies.
        about: What it is, in a line.
        data: What data a recipe needs and how to get it, "" for other files.
    """

    path: Path
    about: str
    data: str = ""

    @property
    def name(self) -> str:
        """What it is called in commands: a recipe's name without `.yaml`, another file's name."""
        return self.path.stem if self.is_recipe else self.path.name

    @property
    def is_recipe(self) -> bool:
        """Whether it can be run."""
        return self.path.suffix == RECIPE


def shared_files() -> tuple[SharedFile, ...]:
    """Returns all of them, the recipes first.

    Raises:
        ResourceError: The installation lacks some.
    """
    carried = PACKAGE / "share"
    root = carried if carried.is_dir() else PACKAGE.parents[1]
    recipes = sorted((root / "recipes").glob(f"*{RECIPE}"), key=lambda path: path.stem)
    missing = [path for path in (root / MAKEFILE, SCHEMA) if not path.is_file()] + [root / "recipes"] * (not recipes)
    if missing:
        raise ResourceError(f"this installation of edgecompress lacks {missing[0]}. Install it again.")
    return (
        *(_recipe(path) for path in recipes),
        SharedFile(root / MAKEFILE, "rule for Makefiles: a target that is there only while a recipe passes its budget"),
        SharedFile(SCHEMA, "JSON Schema of recipes, by which editors complete and check them"),
    )


def shared_file(name: str) -> SharedFile:
    """Returns the one of that name; recipes may be named with `.yaml` and without.

    Raises:
        UsageError: There is none.
        ResourceError: The installation lacks some.
    """
    files = {key: file for file in shared_files() for key in (file.name, file.path.name)}
    if name in files:
        return files[name]
    near = difflib.get_close_matches(name.lower(), files, n=1)
    known = ", ".join(dict.fromkeys(file.name for file in files.values()))
    raise UsageError(f"no recipe is called `{name}`; " + (f"did you mean `{near[0]}`?" if near else f"known: {known}"))


def _recipe(path: Path) -> SharedFile:
    """Returns a recipe with what its first lines of comment say."""
    lines = path.read_text(encoding="utf-8").splitlines()
    data = next((line.removeprefix(DATA) for line in lines if line.startswith(DATA)), "")
    return SharedFile(path, lines[0].removeprefix("# "), data)
