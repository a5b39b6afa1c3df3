"""The private environment of tflite-runtime: its last release was built for NumPy 1 and cannot share a process with 2.

It is a folder of packages that goes to the front of the search path of the child process that runs it. Nothing is
installed into the environment that edgecompress itself runs in.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from edgecompress.errors import ResourceError

RELEASE = "2.14.0"
PACKAGES = (f"tflite-runtime=={RELEASE}", "numpy==1.26.4")
#: The last Python that release was built for.
NEWEST_PYTHON = (3, 11)
#: pip fetches 20 MB.
INSTALL_S = 1800
INSTALL = "edgecompress doctor --install tflite-runtime"


def folder() -> Path:
    """Returns where the packages lie, whether or not they are there: EDGECOMPRESS_RUNTIMES, or the user's cache."""
    own = os.environ.get("EDGECOMPRESS_RUNTIMES")
    base = Path(own) if own else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "edgecompress")
    return base / f"tflite-runtime-{RELEASE}"


def installed() -> bool:
    """Returns whether it has been set up."""
    return (folder() / "tflite_runtime").is_dir()


def interpreter() -> str:
    """Returns a Python that can import tflite-runtime.

    Raises:
        ResourceError: There is none.
    """
    if sys.version_info[:2] <= NEWEST_PYTHON:
        return sys.executable
    name = "python" + ".".join(str(part) for part in NEWEST_PYTHON)
    found = shutil.which(name)
    if found is None:
        raise ResourceError(
            f"tflite-runtime {RELEASE} exists for Python {name.removeprefix('python')} at most, and there is no {name} "
            "on the path. Install that Python, or leave tflite-runtime out of benchmark.runtimes."
        )
    return found


def child_environment() -> tuple[str, list[str]]:
    """Returns the Python of a child that runs tflite-runtime, and its search path.

    Raises:
        ResourceError: The environment has not been set up, or there is no Python for it.
    """
    if not installed():
        raise ResourceError(f"the runtime tflite-runtime is not set up. Set it up with: {INSTALL}")
    own = [entry or str(Path.cwd()) for entry in sys.path]
    python = interpreter()
    # Another Python cannot use this one's packages; the modules the child needs beside NumPy are all ours.
    return python, [str(folder()), *(own if python == sys.executable else [str(own_packages())])]


def own_packages() -> Path:
    """Returns the folder that `edgecompress` is imported from: site-packages, or a checkout's source root."""
    return Path(__file__).parents[3]


def install() -> Path:
    """Sets the environment up and returns its folder; one that is there already is left as it is.

    Raises:
        ResourceError: The packages could not be fetched, or there is no Python for them.
    """
    if installed():
        return folder()
    interpreter()
    target = folder()
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent) as place:
            version = ".".join(str(part) for part in NEWEST_PYTHON)
            options = ["--quiet", "--disable-pip-version-check", "--only-binary", ":all:", "--python-version", version]
            pip = ["pip", "install", *options, "--target", f"{place}/packages", *PACKAGES]
            command = [sys.executable, "-m", "edgecompress.processes.lifeline", str(os.getpid()), *pip]
            done = subprocess.run(  # noqa: S603 - our own command
                command, capture_output=True, text=True, check=False, timeout=INSTALL_S, stdin=subprocess.DEVNULL,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(entry or str(Path.cwd()) for entry in sys.path)},
            )  # fmt: skip
            if done.returncode:
                cause = (done.stderr.strip().splitlines() or ["pip said nothing"])[-1]
                raise ResourceError(f"tflite-runtime could not be set up: {cause}")
            Path(place, "packages").replace(target)
    except subprocess.TimeoutExpired as error:
        raise ResourceError(f"tflite-runtime could not be set up: pip took longer than {INSTALL_S} s") from error
    except OSError as error:
        raise ResourceError(f"tflite-runtime could not be set up in {target}: {error.strerror or error}") from error
    return target
