"""What holds where nobody says otherwise, on the command line and in a program alike."""

from __future__ import annotations

import os
from pathlib import Path

from edgecompress.errors import ResourceError, UsageError
from edgecompress.recipe.schema import Recipe
from edgecompress.store.seals import KEY
from edgecompress.store.store import Store

STORE, READONLY = "EDGECOMPRESS_STORE", "EDGECOMPRESS_STORE_READONLY"
#: What somebody writes who means yes or no, but not `1`.
SWITCHES = frozenset({"0", "true", "false", "yes", "no", "on", "off"})


def default_store() -> Path:
    """Returns where finished stages lie: EDGECOMPRESS_STORE, or `.store` beside the runs."""
    return Path(os.environ.get(STORE) or "runs/.store")


def open_store(root: Path | None = None) -> Store:
    """Returns the store as the environment describes it: where it lies, what else is looked in, and its key.

    Args:
        root: Where finished stages lie, where that is not left to the environment.

    Raises:
        UsageError: EDGECOMPRESS_STORE_READONLY or EDGECOMPRESS_STORE_KEY cannot be what was meant.
        ResourceError: EDGECOMPRESS_STORE_READONLY names no folder that can be read.
    """
    root = default_store() if root is None else root
    wanted = os.environ.get(READONLY, "")
    if wanted == "1":
        return Store(root, read_only=True, key=_key())
    return Store(root, also=_second(wanted, root) if wanted else None, key=_key())


def _second(wanted: str, root: Path) -> Path:
    if wanted.strip().lower() in SWITCHES:
        raise UsageError(
            f"{READONLY}={wanted}: write 1 (nothing is made in the store itself), the path of a second store that is "
            f"only read (./{wanted.strip()} for a folder of this name), or leave it unset"
        )
    second = Path(wanted)
    if not os.path.isdir(second):  # noqa: PTH112 - Path.is_dir raises where a folder above may not be read
        raise ResourceError(f"{READONLY}={wanted}: there is no such folder. Name a store that is there, or unset it.")
    if not os.access(second, os.R_OK | os.X_OK):
        raise ResourceError(f"{READONLY}={wanted}: this user may not read that folder. Change its permissions.")
    if os.path.realpath(second) == os.path.realpath(root):
        raise UsageError(f"{READONLY}={wanted} is the store itself: write {READONLY}=1 to make nothing in it")
    return second


def _key() -> bytes | None:
    """Returns the key by which the store's manifests are sealed, None where there is none; it is shown nowhere."""
    key = os.environ.get(KEY)
    if key is None:
        return None
    if not key.strip():
        raise UsageError(f"{KEY} is empty: give it a key, or unset it so that the store is believed by its hashes")
    return os.fsencode(key)


def default_output(recipe: Recipe) -> Path:
    """Returns the folder of a recipe's run."""
    return Path("runs") / recipe.name


def trusted(trust: bool) -> bool:
    """Returns whether `python:` sources may run: asked for here or by EDGECOMPRESS_TRUST=1."""
    return trust or os.environ.get("EDGECOMPRESS_TRUST") == "1"
