"""Data sources: what a recipe's `data` block names, loaded, split and hashed."""

from __future__ import annotations

from edgecompress.data.base import Dataset, Normalization
from edgecompress.data.prepare import prepare
from edgecompress.data.raw import Source
from edgecompress.data.sources import (
    cifar10,
    digits,
    fashion_mnist,
    image_folder,
    npz,
    python_function,
    tables,
    text_files,
    wav_folder,
)
from edgecompress.recipe.schema import Recipe

__all__ = ["SOURCES", "fingerprint", "load_dataset"]

#: Every source by its name in recipes.
SOURCES: dict[str, Source] = {
    "digits": Source(digits.load, digits.fingerprint),
    "fashion-mnist": Source(fashion_mnist.load, fashion_mnist.fingerprint),
    "cifar10": Source(cifar10.load, cifar10.fingerprint),
    "image-folder": Source(image_folder.load, image_folder.fingerprint),
    "npz": Source(npz.load, npz.fingerprint),
    "csv": Source(tables.load_csv, tables.fingerprint),
    "jsonl": Source(tables.load_jsonl, tables.fingerprint),
    "wav-folder": Source(wav_folder.load, wav_folder.fingerprint),
    "text-files": Source(text_files.load, text_files.fingerprint),
}
#: What a name that starts so means: code of the user's own.
PYTHON_PREFIX = "python:"
PYTHON = Source(python_function.load, python_function.fingerprint)


def load_dataset(recipe: Recipe, *, trust: bool, normalization: Normalization | None = None) -> Dataset:
    """Returns the recipe's data, split and ready for the stages.

    Args:
        recipe: Its `data` block says what is loaded, its seed how it is split.
        trust: Whether `python:` sources may run.
        normalization: A model's published one; it is used where the data has as many channels.

    Raises:
        DataError: The data cannot be found, read or used.
        UsageError: A `python:` source without trust.
    """
    return prepare(recipe, _source(recipe).load(recipe, trust), normalization)


def fingerprint(recipe: Recipe, *, trust: bool) -> str:
    """Returns a hash of the data's content (not of its place), before it is split.

    Raises:
        DataError: The data cannot be found or read.
        UsageError: A `python:` source without trust.
    """
    return _source(recipe).fingerprint(recipe, trust)


def _source(recipe: Recipe) -> Source:
    name = recipe.data.source
    return PYTHON if name.startswith(PYTHON_PREFIX) else SOURCES[name]
