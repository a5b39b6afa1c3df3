"""Source `python:module:function`: a function of the user's own returns the arrays."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecompress.data.base import Split
from edgecompress.data.raw import RawData
from edgecompress.data.reading.named_arrays import expected, raw_data
from edgecompress.errors import DataError
from edgecompress.recipe.schema import Recipe
from edgecompress.sources.python_code import call_function, load_function, python_source_file
from edgecompress.store.files import sha256_file, sha256_json

WHAT = "data source"
ORDER = ("x_train", "y_train", "x_test", "y_test")
#: What was returned in this process, so that a function that takes minutes runs once, not for each reader.
_RETURNED: dict[str, RawData] = {}


def load(recipe: Recipe, trust: bool) -> RawData:
    """Returns the function's arrays, checked.

    Raises:
        DataError: It failed, or returned something else than arrays of samples and labels.
        UsageError: No trust was given.
    """
    source, folder = recipe.data.source, Path(recipe.base_dir)
    load_function(source, folder, trust=trust, what=WHAT, error=DataError)  # asks for trust, also where it ran before
    key = sha256_json([str(folder.absolute()), _written(recipe), recipe.task, recipe.data.split_by])
    if key not in _RETURNED:
        returned = call_function(source, folder, recipe.data.args, trust=trust, what=WHAT, error=DataError)
        _RETURNED[key] = raw_data(_by_name(returned, recipe), source, recipe)
    return _RETURNED[key]


def fingerprint(recipe: Recipe, trust: bool) -> str:
    """Returns the hash of the function's file, its arguments and the arrays it returns.

    It has to be called for that: what it reads may change while its code does not.
    """
    raw = load(recipe, trust)
    splits = [[_hash(array) for array in _arrays(split)] for split in (raw.train, raw.test)]
    told = [list(raw.notes), list(raw.subtracted)]  # values that were shifted look the same wherever they lay
    return sha256_json([_written(recipe), list(raw.class_names), splits, _hash(raw.calibration), told])


def _arrays(split: Split | None) -> list[NDArray[Any] | None]:
    return [] if split is None else [split.inputs, split.labels, split.groups]


def _written(recipe: Recipe) -> list[str]:
    file = python_source_file(recipe.data.source, Path(recipe.base_dir), error=DataError)
    try:
        return [recipe.data.source, sha256_file(file), repr(recipe.data.args)]
    except OSError as error:
        raise DataError(f"{file}: {error.strerror or error}. Expected Python source.") from error


def _hash(array: NDArray[Any] | None) -> list[Any] | None:
    if array is None:
        return None
    if array.dtype == object:  # texts, or series of several lengths: the array holds addresses only
        return [one if isinstance(one, str) else _hash(one) for one in array]
    content = hashlib.sha256(np.ascontiguousarray(array).data).hexdigest() if array.size else ""
    return [str(array.dtype), str(array.shape), content]


def _by_name(returned: Any, recipe: Recipe) -> dict[str, Any]:
    if isinstance(returned, Mapping):
        return dict(returned)
    if isinstance(returned, (tuple, list)) and len(returned) == len(ORDER):
        return dict(zip(ORDER, returned, strict=True))
    length = f" of {len(returned)}" if isinstance(returned, (tuple, list)) else ""
    raise DataError(
        f"{recipe.data.source} returned a {type(returned).__name__}{length}. Expected a dict with "
        f"{expected(recipe.task)}; "
        f"or a tuple ({', '.join(ORDER)})"
    )
