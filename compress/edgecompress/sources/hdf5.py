"""Keras models in HDF5, read once in a process of its own before anything else opens them.

The library follows what a file says of itself, in native code: a damaged or forged one makes it crash, or go round for
ever. And a file may send it to other files (external links and storage), whose content would be in no hash.
"""

from __future__ import annotations

import functools
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

from edgecompress.store.seals import without_key

#: A model of a gigabyte is read in a few seconds.
LIMIT_S = 60
#: Opens everything in a file, as a reader of the model will, and prints the description of its layers as JSON.
_PROGRAM = """
import io, json, signal, sys, zipfile

from edgecompress.processes.lifeline import end_with

end_with(int(sys.argv[4]))
signal.alarm(int(sys.argv[2]))  # ends also what never comes back from native code
import h5py

def look(name, node):
    if isinstance(node, h5py.Dataset):
        if node.external or node.is_virtual:
            raise ValueError(f"{name} lies in another file")
        node[()]
    else:
        for key in node:
            link = node.get(key, getlink=True)
            if isinstance(link, h5py.ExternalLink):
                raise ValueError(f"{name}/{key} leads to another file")
    dict(node.attrs)

try:
    path, member = sys.argv[1], sys.argv[3]
    source = io.BytesIO(zipfile.ZipFile(path).read(member)) if member else path
    with h5py.File(source, "r") as file:
        look("", file)
        file.visititems(look)
        found = file.attrs.get("model_config")
        found = found.decode() if isinstance(found, bytes) else found
        if found is not None and not isinstance(found, str):
            raise ValueError("its description of layers is no text")
        answer = {"config": found}
except BaseException as error:
    answer = {"error": f"{type(error).__name__}: {error}"}
print(json.dumps(answer))
"""


def config_of_hdf5(path: Path, member: str = "") -> str | None:
    """Returns the description of a model's layers, None where there is none; the whole file can be read then.

    Args:
        path: The file, or an archive that it is a member of.
        member: Its name there.

    Raises:
        OSError: The file cannot be looked at.
        ValueError: It is damaged, or sends its reader to other files.
    """
    stamp = path.stat()
    return _config(path.absolute(), member, stamp.st_mtime_ns, stamp.st_size, stamp.st_ino)


@functools.lru_cache(maxsize=16)
def _config(path: Path, member: str, *_stamp: int) -> str | None:
    search = os.pathsep.join(entry or str(Path.cwd()) for entry in sys.path)
    done = subprocess.run(  # noqa: S603 - our own program
        [sys.executable, "-P", "-c", _PROGRAM, str(path), str(LIMIT_S), member, str(os.getpid())],
        stdin=subprocess.DEVNULL, capture_output=True, timeout=2 * LIMIT_S, check=False,
        env={**without_key(os.environ), "PYTHONPATH": search},
    )  # fmt: skip
    if done.returncode == -signal.SIGALRM:
        raise ValueError(f"reading it did not end within {LIMIT_S} s")
    if done.returncode:
        raise ValueError(f"reading it ended with {done.returncode}")
    # What is printed by others goes before it.
    answer = json.loads(done.stdout.splitlines()[-1])
    if "error" in answer:
        raise ValueError(answer["error"])
    found: str | None = answer["config"]
    return found
