"""What a model of a recipe depends on outside of it: weights, code, files and libraries."""

from __future__ import annotations

import functools
import importlib.metadata
from pathlib import Path
from typing import Any

from edgecompress.errors import ModelError
from edgecompress.recipe.schema import ModelSpec, Recipe
from edgecompress.store.files import sha256_file


def model_parts(recipe: Recipe, spec: ModelSpec | None) -> dict[str, Any] | None:
    """Returns what a model of a recipe depends on: its block, and the content of what that names.

    Raises:
        ResourceError: Weights, code or folder cannot be found.
    """
    if spec is None:
        return None
    parts = spec.model_dump(mode="json")
    if recipe.distill is not None and spec is recipe.student:
        parts.pop("train")  # distill.train counts
    if spec.weights is not None:
        path = Path(recipe.base_dir, Path(spec.weights).expanduser())
        try:
            parts["weights"] = sha256_file(path)
        except OSError as error:
            raise ModelError(
                f"weights {path}: {error.strerror or error}. Give the path of a .safetensors or state_dict file."
            ) from error
    if spec.model.startswith("python:"):
        from edgecompress.sources.opened import files_sha256
        from edgecompress.sources.python_code import code_key, python_source_file
        from edgecompress.sources.python_imports import sources_sha256

        folder = Path(recipe.base_dir)
        parts["source"] = sources_sha256(python_source_file(spec.model, folder), folder)
        opened = files_sha256(code_key(spec.model, folder, spec.args), folder)
        if opened:
            parts["files"] = opened
    if spec.model.startswith("keras/"):
        from edgecompress.sources.keras import keras_source

        parts["source"] = keras_source(spec.model, Path(recipe.base_dir)).sha256
        parts["library"] = {name: library_version(name) for name in ("tensorflow-cpu", "tensorflow", "keras")}
    if spec.model.startswith("hf/"):
        from edgecompress.sources.hugging_face import hf_sha256

        parts["source"] = hf_sha256(spec.model, Path(recipe.base_dir))
        parts["library"] = {name: library_version(name) for name in ("transformers", "tokenizers")}
    if spec.model.startswith(("torchvision/", "timm/")):
        parts["library"] = library_version(spec.model.split("/")[0])
    return parts


@functools.cache
def library_version(name: str) -> str | None:
    """Returns the installed version of a library, None where it is not there."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
