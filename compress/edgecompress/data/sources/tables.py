"""Sources `csv` and `jsonl`: one file, or one for train and one for test."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from edgecompress.data.raw import RawData, hash_files, required_path
from edgecompress.data.reading.columns import raw_data_of, usual_names
from edgecompress.data.reading.delimited import read_delimited
from edgecompress.data.reading.json_lines import read_json_lines
from edgecompress.data.reading.table import Table
from edgecompress.errors import DataError
from edgecompress.recipe.schema import Recipe

EXPECTED = {
    "csv": "a .csv, .tsv or .tab file (gzipped or not) with one row per sample",
    "jsonl": "a .jsonl file (gzipped or not) with one JSON object per line",
}


def load_csv(recipe: Recipe, _trust: bool) -> RawData:
    """Returns the samples of delimited files."""
    wanted = usual_names(recipe)
    return _load(recipe, lambda path: read_delimited(path, wanted))


def load_jsonl(recipe: Recipe, _trust: bool) -> RawData:
    """Returns the samples of files of JSON lines."""
    return _load(recipe, read_json_lines)


def fingerprint(recipe: Recipe, _trust: bool) -> str:
    """Returns the hash of the files; their names do not count."""
    return hash_files(_files(recipe).items())


def _load(recipe: Recipe, read: Callable[[Path], Table]) -> RawData:
    return raw_data_of(recipe, {part: read(path) for part, path in _files(recipe).items()})


def _files(recipe: Recipe) -> dict[str, Path]:
    """Returns the files by part."""
    expected = EXPECTED[recipe.data.source]
    files = {"train": required_path(recipe, expected)}
    if recipe.data.test_path is not None:
        files["test"] = required_path(recipe, expected, "test_path")
    for path in files.values():
        if path.is_dir():
            raise DataError(f"{path} is a folder. Expected {expected}.")
    return files
