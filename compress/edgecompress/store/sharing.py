"""Folders that a group shares: what is made in one belongs to the group as well, whatever its maker's umask says.

A folder is shared where it has the set-group-ID bit and its group may write in it: `chmod g+ws FOLDER`.
"""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path

from edgecompress.errors import ResourceError

#: What marks a shared folder.
SHARED = stat.S_ISGID | stat.S_IWGRP
#: What the group gets in one.
OF_FOLDERS, OF_FILES = stat.S_ISGID | stat.S_IRWXG, stat.S_IRGRP | stat.S_IWGRP


def make_folder(path: Path) -> None:
    """Makes a folder and those above it, where they are missing.

    Raises:
        OSError: The file system refused, or something else lies there.
    """
    try:
        path.mkdir()
    except FileNotFoundError:
        make_folder(path.parent)
        path.mkdir(exist_ok=True)
    except FileExistsError:
        if not path.is_dir():
            raise
        return
    share(path)


def folder_in(root: Path, *parts: str) -> Path:
    """Returns a folder of a store that is, or will be, one: a link there would lead what is written elsewhere.

    Raises:
        ResourceError: Something else lies there, or it cannot be looked at.
    """
    path = root
    for part in parts:
        path /= part
        if kind := _kind(path):
            raise ResourceError(f"{path} is a {kind}, not a folder of the store: remove it")
    return path


def _kind(path: Path) -> str:
    try:
        mode = path.lstat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return ""
    except OSError as error:
        raise ResourceError(
            f"cannot look at {path}: {error.strerror or error}. Let this user into the store, or choose another with "
            "EDGECOMPRESS_STORE."
        ) from error
    return "" if stat.S_ISDIR(mode) else "link" if stat.S_ISLNK(mode) else "file"


def share(path: Path) -> None:
    """Gives the group its part of what this process has made, where the folder it lies in is shared."""
    with contextlib.suppress(OSError):  # file systems without owners have nothing to give
        above, own = path.parent.stat(), path.lstat()
        if above.st_mode & SHARED != SHARED or own.st_gid != above.st_gid or stat.S_ISLNK(own.st_mode):
            return
        path.chmod(stat.S_IMODE(own.st_mode) | (OF_FOLDERS if stat.S_ISDIR(own.st_mode) else OF_FILES))


def may_replace(folder: Path) -> bool:
    """Returns whether this process may remove a folder and put another in its place; True where there is none."""
    try:
        own, above = folder.lstat(), folder.parent.stat()
    except OSError:
        return True
    if above.st_mode & stat.S_ISVTX and os.geteuid() not in (0, own.st_uid, above.st_uid):
        return False
    effective = os.access in os.supports_effective_ids
    return stat.S_ISLNK(own.st_mode) or os.access(folder, os.W_OK | os.X_OK, effective_ids=effective)
