"""Source `cifar10`: 50,000 + 10,000 pictures, 32x32 RGB (Krizhevsky 2009), in their Python or binary version."""

from __future__ import annotations

import io
import pickle
import pickletools
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecompress.data.base import Split
from edgecompress.data.raw import RawData, data_path, hash_files, listing
from edgecompress.data.sources.download import download
from edgecompress.errors import DataError
from edgecompress.recipe.schema import Recipe
from edgecompress.sources.border import at_border, described
from edgecompress.store.reading import MIB, read_bounded

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
FOLDER = "data"
TRAIN = tuple(f"data_batch_{number}" for number in range(1, 6))
TEST = "test_batch"
#: Folder inside an archive -> what its files' names end with.
VERSIONS = {"cifar-10-batches-py": "", "cifar-10-batches-bin": ".bin"}
SIDE, CHANNELS = 32, 3
PIXELS = CHANNELS * SIDE * SIDE
ADVICE = "Fetch it again."
#: Steps of a pickle: of a batch, with 10,000 labels and names, there are some 60,000.
MOST_STEPS = 1_000_000
#: A batch has 30 MB.
LARGEST_BYTES = 256 * MIB


def load(recipe: Recipe, _trust: bool) -> RawData:
    """Returns the official splits as (N, 32, 32, 3) uint8."""
    files = _find(recipe)
    batches = [_batch(files[name]) for name in TRAIN]
    train = Split(np.concatenate([batch.inputs for batch in batches]), np.concatenate([b.labels for b in batches]))
    return RawData(train, _batch(files[TEST]), CLASSES)


def fingerprint(recipe: Recipe, _trust: bool) -> str:
    """Returns the hash of the six batches."""
    return hash_files((path.name, path) for path in _find(recipe).values())


class ArrayUnpickler(pickle.Unpickler):
    """Unpickles NumPy arrays, strings, numbers, lists and dicts; everything else is refused.

    A pickle may name any function to be called while it is read, so one from elsewhere must not choose freely.
    """

    def find_class(self, module: str, name: str) -> Any:
        """Returns one of the few things a pickled array is built from."""
        match module, name:
            case (("numpy.core.multiarray" | "numpy._core.multiarray"), "_reconstruct"):
                return _empty_array
            case "numpy", "ndarray":
                return object  # only handed to _reconstruct, so it need not do anything
            case "numpy", "dtype":
                return _dtype
            case "_codecs", "encode":
                return _encode
            case _:
                raise pickle.UnpicklingError(f"it asks for {module}.{name}, and a batch needs arrays only")


def _empty_array(_kind: object, _shape: object, _code: object) -> NDArray[Any]:
    """Returns what NumPy's _reconstruct would: an array whose content the pickle fills in."""
    return np.ndarray((0,), np.uint8)


def _dtype(text: str, *_: object) -> np.dtype[Any]:
    """Returns a type of numbers by its short name."""
    if not isinstance(text, str) or len(text) > len("float64"):
        raise pickle.UnpicklingError("its arrays are of no plain type")
    return np.dtype(text)


def _encode(text: str, encoding: str = "latin1") -> bytes:
    if encoding not in ("latin1", "latin-1", "iso-8859-1"):
        raise pickle.UnpicklingError(f"it encodes as {encoding}")
    return text.encode("latin1")


def _batch(path: Path) -> Split:
    """Returns one batch file's samples."""
    try:
        content = read_bounded(path, LARGEST_BYTES, "a batch")
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}") from error
    rows, labels = _from_binary(content, path) if path.suffix == ".bin" else _from_pickle(content, path)
    if not len(rows):
        raise DataError(f"{path}: no pictures. {ADVICE}")
    if labels.min() < 0 or labels.max() >= len(CLASSES):
        raise DataError(f"{path}: labels from {labels.min()} to {labels.max()}, expected 0 to {len(CLASSES) - 1}")
    pictures = rows.reshape(-1, CHANNELS, SIDE, SIDE).transpose(0, 2, 3, 1)
    return Split(np.ascontiguousarray(pictures), labels.astype(np.int64))


def _from_binary(content: bytes, path: Path) -> tuple[NDArray[np.uint8], NDArray[Any]]:
    if len(content) % (1 + PIXELS):
        raise DataError(f"{path}: {len(content)} bytes are no whole records of {1 + PIXELS} bytes. {ADVICE}")
    records = np.frombuffer(content, np.uint8).reshape(-1, 1 + PIXELS)
    return records[:, 1:], records[:, 0]


def _from_pickle(content: bytes, path: Path) -> tuple[NDArray[np.uint8], NDArray[Any]]:
    with at_border(lambda error: DataError(f"{path}: not a CIFAR-10 batch ({described(error)}). {ADVICE}")):
        _check_steps(content)
        batch = ArrayUnpickler(io.BytesIO(content), encoding="latin1").load()
        rows, labels = batch["data"], batch["labels"]
        # As an array only where it is flat: lists of one list over and over would become an array without end.
        if not isinstance(labels, np.ndarray):
            labels = np.array(labels) if all(isinstance(one, int) for one in labels) else np.array(None)
    if not isinstance(rows, np.ndarray) or rows.dtype != np.uint8 or rows.shape[1:] != (PIXELS,):
        raise DataError(f"{path}: `data` is not an (N, {PIXELS}) uint8 array. {ADVICE}")
    if labels.dtype.kind not in "iu" or labels.shape != rows.shape[:1]:
        raise DataError(f"{path}: `labels` is not one integer for each of {len(rows)} pictures. {ADVICE}")
    return rows, labels


def _check_steps(content: bytes) -> None:
    """Lets a pickle pass that does no more than one of a batch does.

    Raises:
        pickle.UnpicklingError: It takes too many steps, or numbers what it remembers so high that memory would run out.
    """
    for step, (code, argument, _) in enumerate(pickletools.genops(content)):
        if step >= MOST_STEPS or ("PUT" in code.name and int(argument or 0) >= MOST_STEPS):
            raise pickle.UnpicklingError("it takes more steps than a batch")


def _find(recipe: Recipe) -> dict[str, Path]:
    """Returns the batch files by name, downloaded first if the recipe asks for it and they are not there."""
    root = data_path(recipe) or Path(FOLDER)
    found, lacking = _search(root)
    if not found and recipe.data.download:
        download("CIFAR10", root)
        found, lacking = _search(root)
    if found:
        return found
    partly = f"; {lacking}" if lacking else ""
    raise DataError(
        f"CIFAR-10 is not in {root}{partly}. Expected {' or '.join(VERSIONS)} there, unpacked from "
        f"https://www.cs.toronto.edu/~kriz/cifar.html. Name their folder in data.path, or set `download: true`."
    )


def _search(root: Path) -> tuple[dict[str, Path], str]:
    """Returns the files of the first place that has all, and else what a place that has some lacks."""
    lacking = ""
    for version, suffix in VERSIONS.items():
        for folder in (root / version, root):
            files = {name: folder / f"{name}{suffix}" for name in (*TRAIN, TEST)}
            missing = [path.name for path in files.values() if not path.is_file()]
            if not missing:
                return files, ""
            if len(missing) < len(files):
                lacking = lacking or f"{folder} lacks {listing(missing)}"
    return {}, lacking
