"""What holds where nobody says otherwise, on the command line and in a program alike."""

from __future__ import annotations

import os
from pathlib import Path

from edgecompress.recipe.schema import Recipe


def default_store() -> Path:
    """Returns where finished stages lie: EDGECOMPRESS_STORE, or `.store` beside the runs."""
    return Path(os.environ.get("EDGECOMPRESS_STORE") or "runs/.store")


def default_output(recipe: Recipe) -> Path:
    """Returns the folder of a recipe's run."""
    return Path("runs") / recipe.name


def trusted(trust: bool) -> bool:
    """Returns whether `python:` sources may run: asked for here or by EDGECOMPRESS_TRUST=1."""
    return trust or os.environ.get("EDGECOMPRESS_TRUST") == "1"
