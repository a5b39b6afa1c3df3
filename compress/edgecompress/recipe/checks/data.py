"""What the `data` block cannot say: sources that do not go with the task, keys that a source or a task does not use."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from edgecompress.recipe.fields import KeyPath, listed
from edgecompress.recipe.schema import SOURCES, TASKS

Finding = tuple[KeyPath, str, str]

#: Sources that are read from a file or folder the user must name.
NEED_PATH = {
    "npz": "my-data.npz",
    "image-folder": "my-pictures/",
    "csv": "my-data.csv",
    "jsonl": "my-data.jsonl",
    "wav-folder": "my-recordings/",
    "text-files": "my-texts/",
}
DOWNLOADABLE = ("fashion-mnist", "cifar10")
#: Ends of a file's name -> the source that reads it.
SOURCE_BY_SUFFIX = {
    ".npz": "npz", ".csv": "csv", ".tsv": "csv", ".tab": "csv", ".jsonl": "jsonl", ".txt": "text-files",
}  # fmt: skip
TEXT = ("text-classification", "language-modeling")
TABLES = (*TEXT, "timeseries-classification", "regression", "anomaly-detection")
#: Source -> the tasks it has samples for; pictures for all others. `npz` and `python:` go with every task.
TASKS_OF = {
    "csv": TABLES,
    "jsonl": TABLES,
    "wav-folder": ("audio-classification", "anomaly-detection"),
    "text-files": ("language-modeling",),
}
PICTURES = ("image-classification",)
ARRAYS = ("npz", "python")
#: Task -> a source that has samples for it.
SOURCE_FOR = {"audio-classification": "wav-folder", "language-modeling": "text-files"}
#: Key -> the sources that use it.
USED_BY_SOURCE = {
    "test_path": ("csv", "jsonl", "text-files"),
    "text": ("csv", "jsonl"),
    "label": ("csv", "jsonl"),
    "features": ("csv", "jsonl"),
    "split_by": ("csv", "jsonl", "wav-folder", *ARRAYS),
    "audio": ("wav-folder",),
    "on_error": ("image-folder", "wav-folder"),
    "length": ("csv", "jsonl", "text-files", *ARRAYS),
    "hop": ("csv", "jsonl", *ARRAYS),
    "clip": ("csv", "jsonl", *ARRAYS),
    "tokenizer": ("csv", "jsonl", "text-files", *ARRAYS),
}
#: Key -> the tasks that use it; a regression may be over any kind of sample.
USED_BY_TASK = {
    "text": (*TEXT, "regression"),
    "label": tuple(task for task in TABLES if task != "language-modeling"),
    "features": ("timeseries-classification", "regression", "anomaly-detection"),
    "length": tuple(task for task in TASKS if task not in ("image-classification", "audio-classification")),
    "hop": ("timeseries-classification", "regression", "anomaly-detection"),
    "clip": ("timeseries-classification", "regression"),  # an anomaly may be just what lies beyond
    "tokenizer": (*TEXT, "regression"),
    "augment": tuple(task for task in TASKS if task not in TEXT),
    "image_size": (*PICTURES, "regression"),
    "channels": (*PICTURES, "regression"),
}
#: What recordings of a `wav-folder` can be kept together by.
AUDIO_GROUPS = ("speaker", "name")


def check_data(data: dict[str, Any]) -> Iterator[Finding]:
    """Returns what cannot work in the `data` block: (path of the key to blame, message, hint)."""
    given = data.get("data")
    given = given if isinstance(given, dict) else {}
    source, task = given.get("source", "digits"), data.get("task", "image-classification")
    if not isinstance(source, str):
        return
    yield from _source(given, source)
    if source not in SOURCES and not source.startswith("python:"):
        return  # said elsewhere
    kind = "python" if source.startswith("python:") else source
    tasks = TASKS if kind in ARRAYS else TASKS_OF.get(kind, PICTURES)
    if task in TASKS and task not in tasks:
        yield _wrong_task(given, source, task, tasks)
        return  # which keys are used is another question then
    for key, value in given.items():
        if value is None:
            continue
        if kind not in USED_BY_SOURCE.get(key, (kind,)):
            sources = [f"`{one}:`" if one == "python" else f"`{one}`" for one in USED_BY_SOURCE[key]]
            yield ("data", key), f"is not used by source `{source}`, only by {', '.join(sources)}", "remove it"
        elif task in TASKS and task not in USED_BY_TASK.get(key, (task,)):
            yield ("data", key), f"is not used by task `{task}`", "remove it"
    yield from _together(given, kind, task)


def _source(given: dict[str, Any], source: str) -> Iterator[Finding]:
    path = given.get("path")
    if source in NEED_PATH and path is None:
        yield ("data", "path"), f"is required: source `{source}` reads it", f"for example `path: {NEED_PATH[source]}`"
    if source == "digits" and path is not None:
        written = str(path).removesuffix(".gz")
        likely = next((name for end, name in SOURCE_BY_SUFFIX.items() if written.endswith(end)), "image-folder")
        message = "is not used: source `digits` (the default) is built in"
        yield ("data", "path"), message, f"did you mean `source: {likely}`?"
    if given.get("download") is True and source in SOURCES and source not in DOWNLOADABLE:
        message = f"source `{source}` cannot be downloaded, only `fashion-mnist` and `cifar10` can"
        yield ("data", "download"), message, "remove it"
    if given.get("args") and source in SOURCES:
        yield ("data", "args"), f"is not used: only `python:` sources take arguments, not `{source}`", "remove it"


def _wrong_task(given: dict[str, Any], source: str, task: str, tasks: tuple[str, ...]) -> Finding:
    if "source" in given:
        message = f"source `{source}` has no samples for task `{task}`, only for {listed(tasks, 'and')}"
        return (
            ("data", "source"),
            message,
            f"choose another task, or for example `source: {SOURCE_FOR.get(task, 'csv')}`",
        )
    message = f"`{task}` needs data of its own: the default source, `digits`, has pictures"
    name = SOURCE_FOR.get(task, "csv")
    return ("task",), message, f"add for example `data: {{source: {name}, path: {NEED_PATH[name]}}}`"


def _together(given: dict[str, Any], source: str, task: Any) -> Iterator[Finding]:
    if given.get("test") is not None and given.get("test_path") is not None:
        yield ("data", "test"), "is not used beside `test_path`, which is the test split", "remove one of the two"
    if given.get("hop") is not None and given.get("length") is None and task in USED_BY_TASK["hop"]:
        yield ("data", "hop"), "needs `length`: how many steps a window has", "add for example `length: 128`"
    group = given.get("split_by")
    if source == "wav-folder" and isinstance(group, str) and group not in AUDIO_GROUPS:
        yield (
            ("data", "split_by"),
            f"source `wav-folder` knows {listed(AUDIO_GROUPS)}, found {group!r}",
            "split_by: speaker",
        )
    for key, rule in (("tokenizer", _tokenizer), ("audio", _audio)):
        inner = given.get(key)
        if isinstance(inner, dict):
            yield from rule(inner)


def _tokenizer(given: dict[str, Any]) -> Iterator[Finding]:
    kind, size = given.get("kind", "word"), given.get("vocabulary")
    for key in ("vocabulary", "lowercase"):
        if kind == "byte" and given.get(key) is not None:
            yield ("data", "tokenizer", key), "is not used: `byte` takes the 256 bytes as they are", "remove it"
    least = 258
    if kind == "bpe" and isinstance(size, int) and size < least:
        message = f"`bpe` begins with the 256 bytes, 0 and 1: {size} are too few"
        yield ("data", "tokenizer", "vocabulary"), message, f"ask for more than {least}"


def _audio(given: dict[str, Any]) -> Iterator[Finding]:
    kind = given.get("features", "log-mel")
    coefficients, bands = given.get("coefficients"), given.get("bands", 40)
    if kind == "log-mel" and coefficients is not None:
        message = (
            f"is used by `mfcc` only, and the features are `log-mel`{'' if 'features' in given else ' (the default)'}"
        )
        yield ("data", "audio", "coefficients"), message, "remove it, or choose `features: mfcc`"
    elif isinstance(coefficients, int) and isinstance(bands, int) and coefficients > bands:
        message = f"there are no more coefficients than bands, and these are {bands}"
        yield ("data", "audio", "coefficients"), message, f"ask for {bands} at most"
    window, seconds = given.get("window_ms", 30.0), given.get("seconds", 1.0)
    if isinstance(window, int | float) and isinstance(seconds, int | float) and window > seconds * 1000 > 0:
        yield ("data", "audio", "window_ms"), f"no frame of {window:g} ms fits into {seconds:g} s", "window_ms: 30"
