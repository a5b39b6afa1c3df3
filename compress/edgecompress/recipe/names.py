"""The names of data sources and models that a recipe may use, and the messages for all others."""

from __future__ import annotations

import difflib

#: The tables that build these are tested to hold exactly them.
SOURCES = (
    "digits", "fashion-mnist", "cifar10", "image-folder", "npz", "csv", "jsonl", "wav-folder", "text-files",
)  # fmt: skip
MODELS = (
    "resnet8", "resnet9", "resnet20", "ds-cnn", "mobilenet-v1", "mobilenet-v2", "text-cnn", "tcn", "gru", "lstm",
    "transformer", "mlp", "fc-autoencoder",
)  # fmt: skip
#: Arguments of the built-in models: `int` counts channels, `float` multiplies them.
MODEL_ARGUMENTS: dict[str, dict[str, str]] = {
    "resnet8": {"width": "int", "stages": "int"},
    "resnet9": {"width": "int"},
    "resnet20": {"width": "int", "stages": "int"},
    "ds-cnn": {"width": "int"},
    "mobilenet-v1": {"width": "float"},
    "mobilenet-v2": {"width": "float"},
    "text-cnn": {"width": "int", "embedding": "int"},
    "tcn": {"width": "int", "embedding": "int", "layers": "int"},
    "gru": {"width": "int", "embedding": "int", "layers": "int"},
    "lstm": {"width": "int", "embedding": "int", "layers": "int"},
    "transformer": {"layers": "int", "heads": "int", "width": "int", "hidden": "int", "dropout": "float"},
    "mlp": {"width": "int", "layers": "int"},
    "fc-autoencoder": {"width": "int", "bottleneck": "int", "layers": "int"},
}
#: Names of models that are looked up elsewhere.
MODEL_PREFIXES = ("torchvision/", "timm/", "keras/", "hf/")
#: Prefixes of files and folders -> what a message calls what follows.
_ON_DISK = {"keras/": "FILE", "hf/": "DIR"}
#: What a `keras/` model may take: values as the student gets them, from 0 to 1, or from 0 to 255.
KERAS_INPUTS = ("normalized", "unit", "bytes")


def check_name(value: str, known: tuple[str, ...], *, python: bool, prefixes: tuple[str, ...] = (), what: str) -> str:
    """Returns `value` if it is a known name or a well-formed prefixed one.

    Raises:
        ValueError: It is neither; the message names the nearest known one.
    """
    if value in known or any(value.startswith(prefix) and len(value) > len(prefix) for prefix in prefixes):
        return value
    if python and value.startswith("python:"):
        module, separator, function = value.removeprefix("python:").partition(":")
        if separator and all(part.isidentifier() for part in (*module.split("."), function)):
            return value
        raise ValueError(f"`{value}` must read python:module:function")
    near = [f"`{name}`" for name in difflib.get_close_matches(value.lower(), known, n=1)]
    if value.isidentifier():  # the name of a library's model without its library, perhaps
        near += [f"`{prefix}{value}`" for prefix in prefixes if prefix not in _ON_DISK]
    elif "keras/" in prefixes and value.endswith((".keras", ".h5", ".hdf5")):
        near = [f"`keras/{value}`"]
    hint = f"; did you mean {' or '.join(near)}?" if near else "."
    more = [
        *known,
        *(f"{prefix}{_ON_DISK.get(prefix, 'NAME')}" for prefix in prefixes),
        *(["python:module:function"] if python else []),
    ]
    raise ValueError(f"unknown {what} `{value}`{hint} Known: {', '.join(more)}")
