"""Reading files of weights: safetensors, and torch state dicts without running what a pickle may hold."""

from __future__ import annotations

import argparse
import pickle
import struct
import warnings
import zipfile
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np
import safetensors
import torch
from numpy._core.multiarray import scalar
from safetensors.torch import load

from edgecompress.errors import ModelError
from edgecompress.sources.archives import check_unpacked

State = dict[str, torch.Tensor]

#: First bytes of a pickle, and of what `torch.save` writes.
PICKLE, ZIP = b"\x80", b"P"
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
_MENDING = (
    "In the program that made it, write `safetensors.torch.save_file(model.state_dict(), 'weights.safetensors')` "
    "or `torch.save(model.state_dict(), 'weights.pt')`."
)


def read_safetensors(path: Path) -> State:
    """Returns the tensors of a safetensors file.

    Raises:
        ModelError: It cannot be read.
    """
    try:
        return dict(load(_bytes(path)))
    except (safetensors.SafetensorError, ValueError, KeyError) as error:
        raise ModelError(f"weights {path}: damaged, or not a safetensors file ({error})") from error


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
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with torch.serialization.safe_globals(list(PLAIN)):
                return torch.load(path, map_location="cpu", weights_only=True)
    except MemoryError:
        raise
    except Exception as error:  # the reader raises whatever its layers raise
        raise _unreadable(path, error) from error


def no_state(path: Path, content: Any) -> ModelError:
    """Returns the error for a file that has no tensors by name."""
    entries = ", ".join(map(str, list(content)[:8])) if isinstance(content, dict) else type(content).__name__
    return ModelError(f"weights {path}: no state dict in it (it holds: {entries or 'nothing'}). {_MENDING}")


def _bytes(path: Path, count: int = -1) -> bytes:
    try:
        with path.open("rb") as handle:
            return handle.read(count)
    except FileNotFoundError as error:
        raise ModelError(f"weights {path}: there is no such file. Paths start from the recipe's folder.") from error
    except OSError as error:
        raise ModelError(f"weights {path}: {error.strerror or error}") from error


def _looks_like_safetensors(start: bytes, path: Path) -> bool:
    if len(start) < _HEADER or start[8:] != b"{":
        return False
    return bool(struct.unpack("<Q", start[:8])[0] <= path.stat().st_size)


def _check_archive(path: Path) -> None:
    """Refuses zip bombs; `torch.save` packs nothing."""
    try:
        with zipfile.ZipFile(path) as archive:
            check_unpacked(path, archive.infolist(), "weights", ModelError)
    except (zipfile.BadZipFile, ValueError, OSError):  # damaged: torch says how
        return


def _unreadable(path: Path, error: Exception) -> ModelError:
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
