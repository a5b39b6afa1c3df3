"""Source `fashion-mnist`: 60,000 + 10,000 grey 28x28 pictures of clothes (Xiao, Rasul, Vollgraf 2017), in IDX files."""

from __future__ import annotations

import gzip
import math
import os
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecompress.data.base import Split
from edgecompress.data.raw import RawData, data_path, hash_files
from edgecompress.data.sources.download import download
from edgecompress.errors import DataError
from edgecompress.recipe.schema import Recipe
from edgecompress.sources.archives import is_gzip, most_unpacked
from edgecompress.store.reading import open_regular
from edgecompress.wording import counted

#: Where it is looked for without a `path`: Debian's package, torchvision's layout in ./data, a plain folder.
FOLDERS = (Path("/usr/share/datasets/fashion-mnist"), Path("data"), Path("data/fashion-mnist"))
LAYOUTS = ("", "FashionMNIST/raw", "raw")
FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
CLASSES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip
DOWNLOAD_FOLDER = "data"
#: IDX type code of unsigned bytes.
UBYTE = 8


def load(recipe: Recipe, _trust: bool) -> RawData:
    """Returns the official splits as (N, 28, 28, 1) uint8."""
    files = _find(recipe)
    train, test = (_split(files[images], files[labels]) for images, labels in (FILES[:2], FILES[2:]))
    return RawData(train, test, CLASSES)


def fingerprint(recipe: Recipe, _trust: bool) -> str:
    """Returns the hash of the four files."""
    return hash_files(_find(recipe).items())


def read_idx(path: Path, dimensions: int) -> NDArray[np.uint8]:
    """Returns the array in an IDX file of unsigned bytes, gzipped or not, whatever its name.

    The format: two zero bytes, the type, the number of dimensions, each dimension as a big-endian 32-bit number, the
    values (http://yann.lecun.com/exdb/mnist/).

    Raises:
        DataError: It cannot be read, is of another kind, or is not as long as its header says.
    """
    header = 4 * (1 + dimensions)
    try:
        packed = is_gzip(path)
        with open_regular(path) as handle, gzip.open(handle) if packed else handle as stream:
            start = stream.read(header)
            if start[:4] != bytes((0, 0, UBYTE, dimensions)) or len(start) < header:
                raise DataError(f"{path}: not an IDX file of unsigned bytes with {counted(dimensions, 'dimension')}")
            shape = [int(side) for side in np.frombuffer(start, ">u4", dimensions, 4)]
            size = math.prod(shape)
            there = os.fstat(handle.fileno()).st_size
            most = most_unpacked(there) if packed else there
            if packed and size > most:
                raise DataError(f"{path}: a gzip bomb: its header says {size:,} bytes. Fetch it again, or unpack it.")
            # No more than the header says, whatever an archive would unpack to.
            content = stream.read(min(size, most) + 1)
    except (OSError, EOFError, zlib.error) as error:
        why = getattr(error, "strerror", None) or error
        raise DataError(f"{path}: cannot be read ({why}). Is the file whole? Fetch it again.") from error
    if len(content) != size:
        problem = "truncated" if len(content) < size else "too long"
        found = counted(header + len(content), "byte")
        raise DataError(f"{path}: {problem}: {found}, but its header says {header + size:,}. Fetch it again.")
    if not size:
        raise DataError(f"{path} is empty: its header says {' x '.join(map(str, shape))}")
    return np.frombuffer(content, np.uint8).reshape(shape).copy()  # writable, as torch wants it


def _split(images: Path, labels: Path) -> Split:
    pictures, classes = read_idx(images, 3), read_idx(labels, 1)
    if len(pictures) != len(classes):
        found = counted(len(pictures), "picture"), counted(len(classes), "label")
        raise DataError(f"{images} has {found[0]}, but {labels} has {found[1]}")
    if not pictures.size:
        raise DataError(f"{images} is empty: no pictures")
    if classes.max() >= len(CLASSES):
        raise DataError(f"{labels}: label {classes.max()}, expected 0 to {len(CLASSES) - 1}")
    return Split(pictures[..., np.newaxis], classes.astype(np.int64))


def _find(recipe: Recipe) -> dict[str, Path]:
    """Returns the four files by name, downloaded first if the recipe asks for it and they are not there."""
    given = data_path(recipe)
    folders = FOLDERS if given is None else (given,)
    found, best = _search(folders)
    if not found and recipe.data.download:
        root = given or Path(DOWNLOAD_FOLDER)
        download("FashionMNIST", root)
        found, best = _search((root,))
    if found:
        return found
    where = " or ".join(str(folder) for folder in folders)
    partly = f"; {best[0]} lacks {', '.join(best[1])}" if best else ""
    raise DataError(
        f"Fashion-MNIST is not in {where}{partly}. Expected {FILES[0]}[.gz] and its three companions there or in "
        f"FashionMNIST/raw. Get it with `make data` (Debian package dataset-fashion-mnist), "
        f"name its folder in data.path, or set `download: true`."
    )


def _search(folders: tuple[Path, ...]) -> tuple[dict[str, Path], tuple[Path, list[str]] | None]:
    """Returns the files of the first folder that has all, and else a folder that has some with what it lacks."""
    partly: Any = None
    for folder in (Path(base, layout) for base in folders for layout in LAYOUTS):
        files = {name: file for name in FILES if (file := _file(folder, name)) is not None}
        if len(files) == len(FILES):
            return files, None
        if files:
            partly = partly or (folder, [name for name in FILES if name not in files])
    return {}, partly


def _file(folder: Path, name: str) -> Path | None:
    # The archive first: a download leaves both, and Debian's archives then give the same fingerprint.
    candidates = (folder / f"{name}.gz", folder / name)
    return next((file for file in candidates if file.is_file()), None)
