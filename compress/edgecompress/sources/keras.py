"""Keras models as files: `keras/FILE` in a recipe. Nothing here runs the model or imports TensorFlow.

A `.keras` or `.h5` file describes its layers in JSON: what in it is code shows before anything is built from it. A
SavedModel is a program of TensorFlow's, whose operators may read and write files; there is no list of harmless ones to
hold it against, so it counts as code as a whole.
"""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from edgecompress.errors import ModelError, UsageError
from edgecompress.sources.archives import check_unpacked
from edgecompress.sources.border import at_border, described
from edgecompress.sources.hdf5 import config_of_hdf5
from edgecompress.store.files import sha256_file, sha256_json
from edgecompress.store.reading import open_regular

PREFIX = "keras/"
#: Layers that hold code or a program of their own, by the last part of their class: it may be spelled with its modules.
CODE = frozenset({"Lambda", "__lambda__", "TFSMLayer", "TorchModuleWrapper", "JaxLayer", "FlaxLayer"})
#: Modules of Keras's whose functions compute; those of others read files, fetch them or change what is allowed.
COMPUTING = frozenset(
    {
        "activations",
        "backend",
        "constraints",
        "initializers",
        "losses",
        "metrics",
        "nn",
        "ops",
        "random",
        "regularizers",
    }
)
#: Layers whose vocabulary may be the path of another file.
LOOKUPS = frozenset({"StringLookup", "IntegerLookup", "IndexLookup", "TextVectorization"})
#: Where a .keras file has its weights.
WEIGHTS = "model.weights.h5"
_PARTS = re.compile(r"[>.:/]")
EXPECTED = "Give a .keras file, an .h5 file with a whole model in it, or the folder of a SavedModel."
_HDF5 = b"\x89HDF\r\n\x1a\n"
_PROGRAM = ("saved_model.pb", "saved_model.pbtxt")
#: A description of layers is text; beyond this it is none that a person's model has.
_LARGEST_CONFIG = 256 * 1024**2


@dataclass(frozen=True)
class KerasSource:
    """A Keras model on disk.

    Attributes:
        name: As the recipe has it, `keras/FILE`.
        path: The file, or the folder of a SavedModel.
        kind: Its format.
    """

    name: str
    path: Path
    kind: Literal["keras", "h5", "saved-model"]

    @property
    def sha256(self) -> str:
        """Hash of the file's content; for a SavedModel of the names and contents of all its files."""
        try:
            if self.kind != "saved-model":
                return sha256_file(self.path)
            # TensorFlow opens what it finds by its name: a pipe there is no file to be passed over.
            files = sorted(file for file in self.path.rglob("*") if file.exists() and not file.is_dir())
            return sha256_json({file.relative_to(self.path).as_posix(): sha256_file(file) for file in files})
        except OSError as error:
            raise ModelError(f"model {self.name}: {error.filename or self.path}: {error.strerror or error}") from error

    def require_trust(self, trust: bool) -> bool:
        """Returns whether loading runs code; every layer of a file is Keras's own then.

        Raises:
            UsageError: It does, and it is not trusted.
            ModelError: The file is damaged, or needs classes that are not in it.
        """
        found = self._code()
        if found and not trust:
            raise UsageError(
                f"model `{self.name}` runs code from {self.path}: {found}; "
                "allow it with --trust or EDGECOMPRESS_TRUST=1"
            )
        return bool(found)

    def _code(self) -> str:
        """Returns what in it is code, in words; empty where nothing is."""
        if self.kind == "saved-model":
            return "a SavedModel is a TensorFlow program, which may read and write files"
        config = self._config()
        # The optimizer and the loss it was trained with are not loaded.
        entries = list(_entries({key: value for key, value in config.items() if key != "compile_config"}))
        foreign = sorted({str(entry["class_name"]) for entry in entries if _is_foreign(entry)})
        if foreign:
            raise ModelError(
                f"model {self.name}: {', '.join(foreign)} {'is' if len(foreign) == 1 else 'are'} not Keras's own, and "
                "the code is not in the file. Save the model as a SavedModel, which holds what its layers compute: "
                'model.export("FOLDER").'
            )
        for entry in entries:
            if LOOKUPS & _names(entry) and isinstance(_config_of(entry).get("vocabulary"), str):
                raise ModelError(
                    f"model {self.name}: {entry['class_name']} layer {_name_of(entry)} takes its vocabulary from "
                    f"another file ({_config_of(entry)['vocabulary']}). Save it with the vocabulary in it."
                )
        names = [
            f"{entry['class_name']} layer {_name_of(entry)}".strip()
            for entry in entries
            if CODE & _names(entry) and entry["class_name"] != "__lambda__"
        ]
        names += [f"the function {function}" for function in map(_odd_function, entries) if function]
        if not names and any(CODE & _names(entry) for entry in entries):
            names = ["a Python lambda"]
        return ", ".join(names)

    def _config(self) -> dict[str, Any]:
        """Returns the description of the layers."""
        with at_border(lambda error: ModelError(f"model {self.name}: {self.path} is damaged ({described(error)})")):
            text = _config_of_archive(self.path) if self.kind == "keras" else config_of_hdf5(self.path)
            config = json.loads(text) if text is not None else None
        if not isinstance(config, dict):
            what = "weights only, no model" if self.kind == "h5" else "no model"
            raise ModelError(f"model {self.name}: {self.path} holds {what}. Save the whole model: model.save(FILE).")
        return config


def keras_source(name: str, base_dir: Path) -> KerasSource:
    """Returns the Keras model that `keras/FILE` names.

    Args:
        name: As in the recipe.
        base_dir: The recipe's folder, from which FILE starts.

    Raises:
        ModelError: There is no such file or folder, or it is no Keras model.
    """
    path = Path(base_dir, Path(name.removeprefix(PREFIX)).expanduser())
    if path.is_dir():
        if any((path / program).is_file() for program in _PROGRAM):
            return KerasSource(name, path, "saved-model")
        raise ModelError(f"model {name}: the folder {path} is no SavedModel: {_PROGRAM[0]} is missing. {EXPECTED}")
    try:
        with open_regular(path) as handle:
            start = handle.read(len(_HDF5))
    except FileNotFoundError as error:
        raise ModelError(
            f"model {name}: there is no {path}. Paths start from the recipe's folder. {EXPECTED}"
        ) from error
    except OSError as error:
        raise ModelError(f"model {name}: {path}: {error.strerror or error}") from error
    if path.suffix == ".keras" and zipfile.is_zipfile(path):
        return KerasSource(name, path, "keras")
    if path.suffix in {".h5", ".hdf5"} and start == _HDF5:
        return KerasSource(name, path, "h5")
    raise ModelError(f"model {name}: {path} is damaged, or no Keras model. {EXPECTED}")


def _config_of_archive(path: Path) -> str | None:
    with zipfile.ZipFile(path) as archive:
        check_unpacked(path, archive.infolist(), "model", ModelError)
        if "config.json" not in archive.namelist():
            return None
        if archive.getinfo("config.json").file_size > _LARGEST_CONFIG:
            raise ValueError("its description of layers is too large to be one")
        text = archive.read("config.json").decode()
    if WEIGHTS in archive.namelist():
        config_of_hdf5(path, WEIGHTS)
    return text


def _entries(node: Any) -> Iterator[dict[str, Any]]:
    """Gives every object that the description has loaded, at any depth, in the order in which they stand there."""
    waiting = [node]
    while waiting:  # no recursion: a stranger's description may be nested deeper than Python's calls
        node = waiting.pop()
        if isinstance(node, dict):
            if isinstance(node.get("class_name"), str):
                yield node
            node = list(node.values())
        if isinstance(node, list):
            waiting += reversed(node)


def _names(entry: dict[str, Any]) -> frozenset[str]:
    """Returns what an object's class is called, without the modules and the package that may stand before it."""
    spelled = (entry["class_name"], entry.get("registered_name"))
    return frozenset(_PARTS.split(name)[-1] for name in spelled if isinstance(name, str))


def _is_foreign(entry: dict[str, Any]) -> bool:
    """Says whether an object's class is of another package, so that its code would have to be found elsewhere."""
    name, registered = entry["class_name"], entry.get("registered_name")
    if ">" in name or (isinstance(registered, str) and ">" in registered):
        return True
    module = entry.get("module", "")
    if "module" not in entry or module == "builtins":  # an older Keras's, a notation of its own, or a function's name
        return "." in name and name.partition(".")[0] != "keras"
    return str(module).partition(".")[0] != "keras"


def _odd_function(entry: dict[str, Any]) -> str:
    """Returns the full name of a function that does something else than compute; "" for others and for classes."""
    module = str(entry.get("module", "builtins"))
    if entry["class_name"] != "function" or module == "builtins":
        return ""
    name = f"{module}.{entry.get('config')}"
    parts = [part for part in name.split(".")[1:] if part != "src"]
    return "" if parts[0] in COMPUTING else name


def _config_of(entry: dict[str, Any]) -> dict[str, Any]:
    config = entry.get("config")
    return config if isinstance(config, dict) else {}


def _name_of(entry: dict[str, Any]) -> str:
    name = _config_of(entry).get("name")
    return f"`{name}`" if name else ""
