"""Combinations of keys that cannot work, or that would do something else than their author thinks.

They look at what the user wrote, not at the filled-in recipe: only there does it show whether a key was given. A block
of the wrong type counts as not there, so these checks run whatever else is wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from edgecompress.recipe.checks.data import Finding, check_data
from edgecompress.recipe.checks.streaming import check_streaming
from edgecompress.recipe.checks.tasks import check_task
from edgecompress.recipe.fields import blocks
from edgecompress.recipe.names import KERAS_INPUTS, MODEL_ARGUMENTS
from edgecompress.recipe.techniques import FLOAT_PARTS

#: Types that input and output can have, by that of the activations.
IO_BY_ACTIVATIONS = {
    "int8": ("int8", "uint8", "float32"),
    "int16": ("int16", "float32"),
    "dynamic": ("float32",),
    "float32": ("float32",),
}


def check(data: dict[str, Any]) -> list[Finding]:
    """Returns what cannot work together: (path of the key to blame, message, hint), in the recipe's order."""
    return [finding for rule in RULES for finding in rule(data)]


def _block(data: dict[str, Any], *path: str) -> dict[str, Any]:
    """Returns a block as the user wrote it, empty where it is absent or no block."""
    for part in path:
        inner = data.get(part)
        data = inner if isinstance(inner, dict) else {}
    return data


def _has(data: dict[str, Any], name: str) -> bool:
    return data.get(name) is not None


def _models(data: dict[str, Any]) -> Iterator[Finding]:
    if not _has(data, "teacher") and not _has(data, "student"):
        yield (), "a recipe needs a `teacher` or a `student`", "add for example `teacher: {model: resnet9}`"
        return
    if not _has(data, "distill"):
        return
    for needed, role in (("teacher", "to learn from"), ("student", "that learns")):
        if not _has(data, needed):
            yield ("distill",), f"needs a `{needed}` {role}", f"add a `{needed}` block, or remove `distill`"
    if _has(_block(data, "student"), "train"):
        message = "is not used: `distill` says how the student is trained"
        yield ("student", "train"), message, "move it to `distill.train`, or remove `distill`"


def _arguments(data: dict[str, Any]) -> Iterator[Finding]:
    for block in ("teacher", "student"):
        given = _block(data, block)
        known = MODEL_ARGUMENTS.get(str(given.get("model")))
        if known is None:
            continue
        for name, value in _block(given, "args").items():
            path = (block, "args", str(name))
            if name not in known:
                listed = ", ".join(f"`{one}`" for one in known)
                yield path, f"is no argument of {given['model']}", f"it takes {listed}"
            elif isinstance(value, bool) or not isinstance(value, int | float if known[name] == "float" else int):
                expected = "a number" if known[name] == "float" else "a whole number"
                yield (
                    path,
                    f"expected {expected}, found {value!r}",
                    f"{name}: {'0.5' if known[name] == 'float' else 16}",
                )


def _weights(data: dict[str, Any]) -> Iterator[Finding]:
    for block in ("teacher", "student"):
        given = _block(data, block)
        if _has(given, "weights_key") and not _has(given, "weights"):
            message = "is not used: it chooses among the sets of weights in the file that `weights` names"
            yield (block, "weights_key"), message, "add `weights`, or remove it"


def _keras(data: dict[str, Any]) -> Iterator[Finding]:
    message = "cannot be compressed: a Keras model can only be a teacher, beside a student in PyTorch"
    if str(_block(data, "student").get("model")).startswith("keras/"):
        yield ("student", "model"), message, "choose another student, and name the Keras model as the teacher's"
    given = _block(data, "teacher")
    model = str(given.get("model"))
    if not model.startswith("keras/"):
        return
    if not _has(data, "student"):
        yield ("teacher", "model"), message, "add for example `student: {model: resnet8}`"
    if _has(given, "train"):
        yield ("teacher", "train"), "is not supported: a Keras model is used as it is", "train it in Keras; remove this"
    if _has(given, "weights"):
        yield ("teacher", "weights"), f"is not used: {model.removeprefix('keras/')} holds the weights", "remove it"
    for name, value in _block(given, "args").items():
        path = ("teacher", "args", str(name))
        if name != "input":
            yield path, "is no argument of a Keras model", "it takes `input`"
        elif value not in KERAS_INPUTS:
            listed = ", ".join(f"`{one}`" for one in KERAS_INPUTS)
            yield path, f"expected one of {listed}, found {value!r}", "input: unit"


def _prune(data: dict[str, Any]) -> Iterator[Finding]:
    given = _block(data, "prune")
    if given.get("method") == "unstructured" and _has(given, "round_to"):
        message = "is not used: `unstructured` pruning keeps every width"
        yield ("prune", "round_to"), message, "remove it, or choose `method: structured`"
    if given.get("method") == "unstructured" and _has(given, "widths"):
        message = "is used by `structured` only: `unstructured` keeps every width"
        yield ("prune", "widths"), message, "remove it, or choose `method: structured`"
    if given.get("method") == "unstructured" and _has(given, "importance"):
        message = "is used by `structured` only: `unstructured` ranks weights by their size"
        yield ("prune", "importance"), message, "remove it, or choose `method: structured`"
    if given.get("method", "structured") == "structured":
        for key in ("pattern", "scope"):
            if given.get(key) is not None:
                message = "is used by `unstructured` only: `structured` removes whole channels"
                yield ("prune", key), message, "remove it, or choose `method: unstructured`"


def _prune_target(data: dict[str, Any]) -> Iterator[Finding]:
    given, target = _block(data, "prune"), _block(data, "prune", "target")
    if given.get("target") is None:
        return
    for key in ("ratio", "of"):
        if _has(given, key):
            message = "is not used beside `target`, which says in absolute numbers how far to prune"
            yield ("prune", key), message, "remove one of the two"
    if given.get("method") == "unstructured":
        message = "is used by `structured` only: zeros change none of these"
        yield ("prune", "target"), message, "remove it, or choose `method: structured`"
    for key in ("size_kib", "latency_ms"):
        wanted, limit = target.get(key), _block(data, "budget").get(key)
        if isinstance(limit, int | float) and isinstance(wanted, int | float) and wanted > limit:
            message = f"prunes to {wanted:g}, but the budget allows {limit:g}"
            yield ("prune", "target", key), message, f"ask for no more than budget.{key}"


def _quantize(data: dict[str, Any]) -> Iterator[Finding]:
    given = _block(data, "quantize")
    if given.get("mode", "ptq") == "ptq" and given.get("escalate") is None:
        for key in ("train", "learn_from_teacher"):
            if _has(given, key):
                message = f"is used by `qat` only, and the mode is `ptq`{'' if 'mode' in given else ' (the default)'}"
                yield ("quantize", key), message, "remove it, or choose `mode: qat`"
    if _has(given, "ranges") and given.get("mode", "ptq") == "ptq" and given.get("escalate") is None:
        message = "is used by `qat` only: `ptq` calibrates"
        yield ("quantize", "ranges"), message, "remove it, or choose `mode: qat`"
    elif _has(given, "ranges") and given.get("activations") in ("dynamic", "float32"):
        message = f"is not used: with `activations: {given['activations']}` there are no fixed ranges"
        yield ("quantize", "ranges"), message, "remove it"
    if _has(given, "wide_macs") and not given.get("allow"):
        message = "is not used: no wider type is allowed"
        yield ("quantize", "wide_macs"), message, "add for example `allow: [int16]`, or remove it"
    elif _has(given, "wide_macs") and given.get("max_drop_points") is None:
        message = "is not used: only the repairs of `max_drop_points` keep layers wider"
        yield ("quantize", "wide_macs"), message, _repairs_or_nothing(given)


def _clusters(data: dict[str, Any]) -> Iterator[Finding]:
    given = _block(data, "quantize")
    if not _has(given, "clusters"):
        return
    if given.get("weights") == "int4":
        message = "is for INT8 weights: those of four bits have 15 values anyway"
        yield ("quantize", "clusters"), message, "remove it, or choose `weights: int8`"
    if given.get("max_drop_points") is not None:
        message = "does not go with the repairs of `max_drop_points`, which round weights to all 255 values"
        yield ("quantize", "clusters"), message, "remove one of the two; `mode: qat` trains with clusters"


def _portable(data: dict[str, Any]) -> Iterator[Finding]:
    given = _block(data, "quantize")
    if given.get("portable") is not True:
        return
    for key in ("weights", "activations"):
        if given.get(key, "int8") != "int8":
            message = f"is about INT8: it does not go with `{key}: {given[key]}`"
            yield ("quantize", "portable"), message, f"remove it, or choose `{key}: int8`"
    if given.get("clusters") is not None:
        message = "does not go with `clusters`: both choose which integers weights may be"
        yield ("quantize", "portable"), message, "remove one of the two"


def _repairs_or_nothing(given: dict[str, Any]) -> str:
    """Returns the hint for a key that only repairs use; QAT has none."""
    return "remove it" if given.get("mode") == "qat" else "add for example `max_drop_points: 0.5`, or remove it"


def _types(data: dict[str, Any]) -> Iterator[Finding]:
    """Which types go together: weights, activations, what is allowed beside, input and output."""
    given, io = _block(data, "quantize"), _block(data, "export").get("io")
    activations = given.get("activations", "int8")
    if io in ("int8", "uint8", "int16") and not isinstance(data.get("quantize"), dict):
        message = f"`{io}` needs a quantized model"
        example = "activations: int16" if io == "int16" else "mode: ptq"
        yield ("export", "io"), message, f"add `quantize: {{{example}}}`, or choose `io: float32`"
    elif io in ("int8", "uint8", "int16") and activations in IO_BY_ACTIVATIONS:
        fitting = IO_BY_ACTIVATIONS[activations]
        if io not in fitting:
            listed = " or ".join(f"`{one}`" for one in fitting)
            message = f"`{io}` does not go with `quantize.activations: {activations}`, which has {listed}"
            yield ("export", "io"), message, f"choose `io: {fitting[0]}`"
    if activations in ("dynamic", "float32") and given.get("max_drop_points") is not None:
        message = f"repairs set fixed ranges, and `activations: {activations}` has none"
        yield ("quantize", "max_drop_points"), message, "remove it, or choose `activations: int8`"
    if activations in ("dynamic", "float32") and given.get("allow"):
        message = f"is not used: with `activations: {activations}` all activations are float32"
        yield ("quantize", "allow"), message, "remove it"
    allowed = given.get("allow")
    if isinstance(allowed, list) and "int16" in allowed and activations == "int8":
        if given.get("max_drop_points") is None:
            message = "`int16` is not used: only the repairs of `max_drop_points` keep layers wider"
            yield ("quantize", "allow"), message, _repairs_or_nothing(given)
    elif isinstance(allowed, list) and "int16" in allowed and activations == "int16":
        yield ("quantize", "allow"), "`int16` is what all activations are anyway", "remove it"


def _parts(data: dict[str, Any]) -> Iterator[Finding]:
    """Types of what may be wider than the other activations, never narrower."""
    given = _block(data, "quantize")
    activations = given.get("activations", "int8")
    for key in FLOAT_PARTS:
        if _has(given, key) and activations in ("dynamic", "float32"):
            message = f"is not used: with `activations: {activations}` all activations are float32"
            yield ("quantize", key), message, "remove it"
        elif given.get(key) == "int8" and activations == "int16":
            message = f"`int8` does not go with `activations: int16`: {key} are as wide as the rest, or wider"
            yield ("quantize", key), message, f"choose `{key}: float32`, or remove it"


def _training(data: dict[str, Any]) -> Iterator[Finding]:
    for place in blocks():
        path = tuple(place.split("."))
        train = _block(data, *path)
        if path[-1] == "train" and _has(train, "momentum") and train.get("optimizer") in ("adam", "adamw"):
            message = f"is used by `sgd` only, and the optimizer is `{train['optimizer']}`"
            yield (*path, "momentum"), message, "remove it, or choose `optimizer: sgd`"
    if _has(data, "teacher") and _has(_block(data, "distill", "train"), "label_smoothing"):
        message = "is not used where a student learns from a teacher: its soft targets take the place of smooth labels"
        yield ("distill", "train", "label_smoothing"), message, "remove it"


def _lists(data: dict[str, Any]) -> Iterator[Finding]:
    for path in (("data", "augment"), ("quantize", "allow"), ("benchmark", "runtimes")):
        given = _block(data, path[0]).get(path[1])
        seen: set[str] = set()
        for place, value in enumerate(given if isinstance(given, list) else ()):
            if repr(value) in seen:
                yield (*path, place), f"`{value}` is there twice", "remove one"
            seen.add(repr(value))


def _ladder(data: dict[str, Any]) -> Iterator[Finding]:
    given = _block(data, "quantize")
    for key in ("max_drop_points", "escalate"):
        if given.get(key) is not None and given.get("mode") == "qat":
            yield ("quantize", key), "is used by `ptq` only, and the mode is `qat`", "remove it, or choose `mode: ptq`"
    if given.get("escalate") is not None and given.get("max_drop_points") is None:
        message = "needs `max_drop_points`: without it nothing tells when PTQ is not enough"
        yield ("quantize", "escalate"), message, "add for example `max_drop_points: 0.5`"


def _runtimes(data: dict[str, Any]) -> Iterator[Finding]:
    given = _block(data, "benchmark").get("runtimes", ["litert"])
    if not isinstance(given, list):
        return
    if given and given[0] == "tflite-micro":
        message = "cannot begin with tflite-micro: how long its kernels take on this machine says nothing of a device"
        yield ("benchmark", "runtimes"), message, "put `litert` first"
    if _block(data, "budget").get("arena_kib") is not None and "tflite-micro" not in given:
        message = "needs `tflite-micro` in `benchmark.runtimes`: it is what measures the arena"
        yield ("budget", "arena_kib"), message, "add for example `benchmark: {runtimes: [litert, tflite-micro]}`"


def _budget(data: dict[str, Any]) -> Iterator[Finding]:
    given = _block(data, "budget")
    for key, least, unit, why in (
        ("size_kib", 1.0, "KiB", "the smallest flatbuffer with a layer in it is larger"),
        ("latency_ms", 0.001, "ms", "calling an interpreter alone takes longer"),
    ):
        limit = given.get(key)
        if isinstance(limit, (int, float)) and not isinstance(limit, bool) and 0 < limit < least:
            yield ("budget", key), f"no model can meet {limit:g} {unit}: {why}", f"the unit is {unit}"


def _paths(data: dict[str, Any]) -> Iterator[Finding]:
    for block, key in (("data", "path"), ("data", "test_path"), ("teacher", "weights"), ("student", "weights")):
        value = _block(data, block).get(key)
        if isinstance(value, str) and value.startswith("~"):
            try:
                Path(value).expanduser()
            except RuntimeError:
                name = value.partition("/")[0]
                yield (block, key), f"`{name}` names a user that this machine does not have", "write the folder's path"


#: Every rule, in the order of the recipe's blocks.
RULES: tuple[Callable[[dict[str, Any]], Iterator[Finding]], ...] = (
    _models,
    _arguments,
    _weights,
    _keras,
    check_data,
    check_task,
    check_streaming,
    _prune,
    _prune_target,
    _quantize,
    _clusters,
    _portable,
    _types,
    _parts,
    _training,
    _budget,
    _ladder,
    _lists,
    _runtimes,
    _paths,
)
