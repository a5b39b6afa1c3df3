"""Source `digits`: 1,797 handwritten digits, 8x8 grey, values 0 to 16, that come with scikit-learn."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np

from edgecompress.data.base import Split
from edgecompress.data.raw import RawData, hash_files
from edgecompress.errors import DataError
from edgecompress.recipe.schema import Recipe

FILE = "datasets/data/digits.csv.gz"
#: Values go from 0 to this.
WHITE = 16


def load(_recipe: Recipe, _trust: bool) -> RawData:
    """Returns the digits as (N, 8, 8, 1) uint8; there is no test split."""
    _file()
    from sklearn.datasets import load_digits

    digits = load_digits()
    pictures = digits.images.astype(np.uint8)[..., np.newaxis]
    names = tuple(str(digit) for digit in range(10))
    return RawData(Split(pictures, digits.target.astype(np.int64)), None, names, value_scale=1 / WHITE)


def fingerprint(_recipe: Recipe, _trust: bool) -> str:
    """Returns the hash of scikit-learn's data file; scikit-learn is not imported, which would take seconds."""
    return hash_files([("digits.csv.gz", _file())])


def _file() -> Path:
    spec = importlib.util.find_spec("sklearn")
    folders = spec.submodule_search_locations if spec is not None else None
    for folder in folders or ():
        if (file := Path(folder, FILE)).is_file():
            return file
    raise DataError("source `digits` comes with scikit-learn, which is not installed whole: pip install scikit-learn")
