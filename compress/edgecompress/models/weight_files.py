"""Reading files of weights: safetensors, and torch state dicts without running what a pickle may hold."""

from __future__ import annotations

import argparse
import errno
import pickle
import struct
import warnings
import zipfile
from functools import partial
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np
import torch
from numpy._core.multiarray import scalar
from safetensors import safe_open
from safetensors.torch import load

from edgecompress.errors import ModelError
from edgecompress.machine import memory_bytes
from edgecompress.sources.archives import check_unpacked
from edgecompress.sources.border import at_border, described
from edgecompress.store.reading import open_bounded

State = dict[str, torch.Tensor]

#: First bytes of a pickle, and of what `torch.save` writes.
PICKLE, ZIP = b"\x80", b"P"
_LONGEST_KEY = 60
_MERGING = (
    "Give the .safetensors or state_dict file itself; of several, write one: "
    "`safetensors.torch.save_file(model.state_dict(), 'weights.safetensors')`."
)
_HEADER = 9  # safetensors: eight bytes of length, then JSON
#: What training programs put beside weights and is data alone: their settings, paths, and figures as NumPy has them.
PLAIN: tuple[Any, ...] = (
    argparse.Namespace,
    *((PurePosixPath, f"{module}.PosixPath") for module in ("pathlib", "pathlib._local")),
    *((PureWindowsPath, f"{module}.WindowsPath") for module in ("pathlib", "pathlib._local")),
    (scalar, "numpy.core.multiarray.scalar"),
    (scalar, "numpy._core.multiarray.scalar"),
    np.dtype,
    *{type(np.dtype(kind)) for kind in ("f8", "f4", "f2", "i8", "i4", "u1", "?")},
)
#: How files of other kinds begin that are taken for weights -> what they are, and what to give instead.
OTHERS = {
    b"\x89HDF\r\n\x1a\n": ("an HDF5 file, as Keras writes it", "A Keras model is a teacher: `model: keras/FILE`."),
    b"GGUF": ("a GGUF file of quantized weights", "Give the .safetensors file of the float model."),
    b"{": ("JSON, such as the index of weights in several files", _MERGING),
    b"\x1f\x8b": ("packed with gzip", "Unpack it: gunzip FILE."),
}
#: Types in safetensors whose values are numbers as they stand there.
PLAIN_KINDS = frozenset({"F64", "F32", "F16", "BF16", "I64", "I32", "I16", "I8", "U64", "U32", "U16", "U8", "BOOL"})
#: What lies in archives of other programs -> what they are.
ARCHIVES = {
    ".npy": "arrays of NumPy (npz)",
    "model.weights.h5": "a Keras model",
    "archive_format": "a program of torch.export",
    "model.json": "a program of torch.export",
}
_MENDING = (
    "In the program that made it, write `safetensors.torch.save_file(model.state_dict(), 'weights.safetensors')` "
    "or `torch.save(model.state_dict(), 'weights.pt')`."
)


def read_safetensors(path: Path) -> State:
    """Returns the tensors of a safetensors file.

    Raises:
        ModelError: It cannot be read.
    """
    content = _bytes(path)
    with at_border(partial(_no_safetensors, path)):
        return dict(load(content))


def _no_safetensors(path: Path, error: BaseException) -> ModelError:
    if isinstance(error, KeyError):  # of the library's table of types
        return ModelError(
            f"weights {path}: it holds tensors of the type {error}, which torch cannot read. Save them as float32."
        )
    return ModelError(f"weights {path}: damaged, or not a safetensors file ({described(error)}). Fetch it again.")


def safetensors_types(path: Path) -> dict[str, str]:
    """Returns the names of a safetensors file's tensors, each with what is wrong with its type; "" where nothing is.

    Raises:
        ModelError: It cannot be read.
    """
    _bytes(path, _HEADER)
    explain = partial(_no_safetensors, path)
    with at_border(explain), safe_open(path, "pt") as file:
        types = {name: str(file.get_slice(name).get_dtype()) for name in file.keys()}  # noqa: SIM118 - no mapping
    return {
        name: ""
        if kind in PLAIN_KINDS
        else f"of the type {kind}. Save it as float32, times the scale that belongs to it"
        for name, kind in types.items()
    }


def read_content(path: Path) -> Any:
    """Returns what a file holds: the tensors of a safetensors file by name, or whatever `torch.save` wrote.

    Files are told apart by their content. A pickle is read as data only: what would run code is refused.

    Raises:
        ModelError: There is no such file, it is damaged, or holds more than data.
    """
    start = _bytes(path, _HEADER)
    if path.suffix == ".safetensors" or _looks_like_safetensors(start, path):
        return read_safetensors(path)
    if start[:1] == ZIP:
        _check_archive(path)
    for mark, (what, advice) in OTHERS.items():
        if start.startswith(mark):
            raise ModelError(f"weights {path}: {what}, no file of torch weights. {advice}")
    with at_border(lambda error: _unreadable(path, error)), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with torch.serialization.safe_globals(list(PLAIN)):
            return torch.load(path, map_location="cpu", weights_only=True)


def no_state(path: Path, content: Any) -> ModelError:
    """Returns the error for a file that has no tensors by name."""
    if isinstance(content, dict) and any(isinstance(one, torch.Tensor) for one in content.values()):
        kind = type(next(iter(content))).__name__
        return ModelError(f"weights {path}: its tensors have no names: their keys are of type {kind}. {_MENDING}")
    keys = [str(key)[:_LONGEST_KEY] for key in list(content)[:8]] if isinstance(content, dict) else []
    entries = ", ".join(keys) if isinstance(content, dict) else type(content).__name__
    return ModelError(f"weights {path}: no state dict in it (it holds: {entries or 'nothing'}). {_MENDING}")


def _bytes(path: Path, count: int = -1) -> bytes:
    try:
        with open_bounded(path, memory_bytes(), "what is read into the memory here") as handle:
            return handle.read(count)
    except FileNotFoundError as error:
        raise ModelError(f"weights {path}: there is no such file. Paths start from the recipe's folder.") from error
    except OSError as error:
        more = ". Give the file of weights in it" if error.errno == errno.EISDIR else ""
        raise ModelError(f"weights {path}: {error.strerror or error}{more}") from error


def _looks_like_safetensors(start: bytes, path: Path) -> bool:
    if len(start) < _HEADER or start[8:] != b"{":
        return False
    return bool(struct.unpack("<Q", start[:8])[0] <= path.stat().st_size)


def _check_archive(path: Path) -> None:
    """Refuses zip bombs (`torch.save` packs nothing), and archives of other programs by what is in them.

    A damaged one passes: torch says how it is.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
    except Exception:  # noqa: BLE001 - see above
        return
    check_unpacked(path, members, "weights", ModelError)
    names = {member.filename for member in members}
    if not any(PurePosixPath(name).name == "data.pkl" for name in names):
        found = (what for mark, what in ARCHIVES.items() if any(name.endswith(mark) for name in names))
        what = next(found, f"a ZIP archive of other files ({', '.join(sorted(names)[:3])[:100]})")
        raise ModelError(f"weights {path}: {what}, no file of torch weights. {_MENDING}")


def _unreadable(path: Path, error: BaseException) -> ModelError:
    # Torch explains its refusal at length, with advice to read the file unsafely: only the cause is taken from it.
    cause = str(error).rpartition("WeightsUnpickler error:")[2].strip() or "no message"
    pickled = isinstance(error, pickle.UnpicklingError) and _bytes(path, 1) in {PICKLE, ZIP}
    if pickled and "nsupported" in cause:
        what = cause.partition("GLOBAL ")[2].split(" ")[0].strip("`'\",.") or "instructions that only code needs"
        return ModelError(
            f"weights {path}: refused, because it is a pickle with more than tensors in it ({what}), and reading that "
            f"could run code. {_MENDING}"
        )
    if "TorchScript" in cause:
        return ModelError(f"weights {path}: a TorchScript program, not weights. {_MENDING}")
    return ModelError(
        f"weights {path}: damaged, or neither a safetensors file nor a torch state dict "
        f"({type(error).__name__}: {cause.splitlines()[0][:200]})"
    )
