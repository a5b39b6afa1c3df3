"""Hugging Face models as folders: `hf/DIR` in a recipe. Nothing here runs the model or imports torch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from edgecompress.errors import ModelError
from edgecompress.store.files import sha256_file, sha256_json

PREFIX = "hf/"
CONFIG, TOKENIZER = "config.json", "tokenizer.json"
EXPECTED = (
    "Expected the folder of a Hugging Face model: config.json, tokenizer.json and weights as *.safetensors or "
    "pytorch_model.bin."
)


def hf_folder(name: str, base_dir: Path) -> Path:
    """Returns the folder that `hf/DIR` names, from the recipe's folder.

    Raises:
        ModelError: There is no such folder, or a file is missing in it.
    """
    folder = Path(base_dir, Path(name.removeprefix(PREFIX)).expanduser())
    for needed in (CONFIG, TOKENIZER):
        if not (folder / needed).is_file():
            raise ModelError(f"model {name}: {folder / needed} is missing. {EXPECTED}")
    if not weight_files(folder):
        raise ModelError(f"model {name}: {folder} holds no weights. {EXPECTED}")
    return folder


def weight_files(folder: Path) -> list[Path]:
    """Returns the files with a model's weights: safetensors where there are any."""
    return sorted(folder.glob("model*.safetensors")) or sorted(folder.glob("pytorch_model*.bin"))


def hf_document(name: str, folder: Path, file: str) -> dict[str, Any]:
    """Returns a JSON document of a model's folder.

    Raises:
        ModelError: It cannot be read.
    """
    try:
        document = json.loads((folder / file).read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"model {name}: {folder / file} cannot be read: {error}. {EXPECTED}") from error
    if not isinstance(document, dict):
        raise ModelError(f"model {name}: {folder / file} is no JSON object. {EXPECTED}")
    return document


def hf_sha256(name: str, base_dir: Path) -> str:
    """Returns the hash of what a model is: its configuration, tokenizer and weights.

    Raises:
        ModelError: They cannot be read.
    """
    folder = hf_folder(name, base_dir)
    files = [folder / CONFIG, folder / TOKENIZER, *weight_files(folder)]
    try:
        return sha256_json({file.name: sha256_file(file) for file in files})
    except OSError as error:
        raise ModelError(f"model {name}: {error.filename}: {error.strerror or error}") from error
