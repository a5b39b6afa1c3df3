"""Hugging Face models as folders: `hf/DIR` in a recipe. Nothing here runs the model or imports torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgecompress.errors import ModelError
from edgecompress.sources.hf_sizes import check_sizes
from edgecompress.store.files import sha256_file, sha256_json
from edgecompress.store.reading import MIB, open_regular, read_document

PREFIX = "hf/"
CONFIG, TOKENIZER = "config.json", "tokenizer.json"
#: Tokenizers of 256,000 pieces have 30 MiB.
LARGEST_DOCUMENT = 256 * MIB
#: What lies in one file, or in several that an index names; the first that is there is read.
WHOLE = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
INDEX = ".index.json"
#: Changes to the weights of another folder, which its own file names.
ADAPTER = "adapter_config.json"
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
    for file in folder.iterdir():  # the library opens what it finds
        try:
            if not file.is_dir():
                open_regular(file).close()
        except (FileNotFoundError, PermissionError):  # where it is needed, the library says so
            continue
        except OSError as error:
            raise ModelError(f"model {name}: {file}: {error.strerror or error}. {EXPECTED}") from error
    if not weight_files(folder):
        raise ModelError(f"model {name}: {folder} holds no weights. {EXPECTED}")
    if (folder / ADAPTER).is_file():
        raise ModelError(
            f"model {name}: {folder} holds an adapter ({ADAPTER}), which changes another model. Merge the two "
            "(merge_and_unload() of peft) and save the result."
        )
    return folder


def weight_files(folder: Path) -> list[Path]:
    """Returns the files with a model's weights: safetensors where there are any."""
    return sorted(folder.glob("model*.safetensors")) or sorted(folder.glob("pytorch_model*.bin"))


def shards(name: str, folder: Path) -> list[Path]:
    """Returns the files that a model's weights are read from: those that an index names, where there is one.

    Raises:
        ModelError: The index names files that are not there, or not of the folder; or there is none to begin with.
    """
    files = weight_files(folder)
    asked = hf_document(name, folder, CONFIG).get("transformers_weights")
    if asked is not None and asked not in [file.name for file in files]:
        raise ModelError(f"model {name}: {CONFIG} names weights that {folder} does not hold ({asked}). {EXPECTED}")
    first = next((one for one in WHOLE if (folder / one).is_file()), None) if asked is None else str(asked)
    if first is None:
        raise ModelError(
            f"model {name}: {folder} holds {files[0].name}, but neither {WHOLE[0]} nor an index ({WHOLE[1]}) that says "
            f"what lies where. {EXPECTED}"
        )
    if not first.endswith(INDEX):
        return [folder / first]
    named = hf_document(name, folder, first).get("weight_map")
    if not isinstance(named, dict) or not named or not all(isinstance(file, str) for file in named.values()):
        raise ModelError(f"model {name}: {folder / first} has no `weight_map` from tensors to files. {EXPECTED}")
    known = {file.name: file for file in files}
    for tensor, file in named.items():
        if file not in known:  # of this folder: what lies elsewhere is not in its hash
            missing = "is not there" if "/" not in file and "\\" not in file else "is not a file of this folder"
            raise ModelError(
                f"model {name}: {folder / first}: {file}, which should hold {tensor}, {missing}. {EXPECTED}"
            )
    return [known[file] for file in sorted(set(named.values()))]


def hf_document(name: str, folder: Path, file: str) -> dict[str, Any]:
    """Returns a JSON document of a model's folder.

    Raises:
        ModelError: It cannot be read.
    """
    try:
        document = read_document(folder / file, "a document of a model", LARGEST_DOCUMENT)
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise ModelError(f"model {name}: {folder / file} cannot be read: {why}. {EXPECTED}") from error
    if not isinstance(document, dict):
        raise ModelError(f"model {name}: {folder / file} is no JSON object. {EXPECTED}")
    return document


def hf_config(name: str, folder: Path) -> dict[str, Any]:
    """Returns a model's configuration, whose sizes are those of a model.

    Raises:
        ModelError: It cannot be read, or no model has such sizes.
    """
    config = hf_document(name, folder, CONFIG)
    if wrong := check_sizes(config):
        raise ModelError(f"model {name}: {folder / CONFIG}: {wrong}")
    return config


def hf_sha256(name: str, base_dir: Path) -> str:
    """Returns the hash of what a model is: its configuration, tokenizer and weights.

    Raises:
        ModelError: They cannot be read.
    """
    folder = hf_folder(name, base_dir)
    shards(name, folder)
    indexes = [folder / index for index in WHOLE if index.endswith(INDEX) and (folder / index).is_file()]
    files = [folder / CONFIG, folder / TOKENIZER, *indexes, *weight_files(folder)]
    try:
        return sha256_json({file.name: sha256_file(file) for file in files})
    except OSError as error:
        raise ModelError(f"model {name}: {error.filename}: {error.strerror or error}") from error
