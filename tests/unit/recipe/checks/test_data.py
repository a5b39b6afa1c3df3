"""Sources, tasks and keys of the `data` block that do not go together."""

from __future__ import annotations

from typing import Any

import pytest

from edgecompress.recipe.checks.data import NEED_PATH, USED_BY_SOURCE, USED_BY_TASK, check_data
from edgecompress.recipe.schema import SOURCES, DataSpec

TEXT, SERIES, AUDIO, LANGUAGE = (
    "text-classification", "timeseries-classification", "audio-classification", "language-modeling",
)  # fmt: skip
CSV, JSONL, NPZ, WAV, FILES = (
    {"source": source, "path": "x"} for source in ("csv", "jsonl", "npz", "wav-folder", "text-files")
)
IMAGES = "image-classification"


def found(task: str = "image-classification", **data: Any) -> list[tuple[str, str, str]]:
    given = {"task": task, "data": data} if data else {"task": task}
    return [(".".join(map(str, path)), message, hint) for path, message, hint in check_data(given)]


@pytest.mark.parametrize(
    ("task", "data"),
    [
        (TEXT, {**CSV, "test_path": "y", "text": "a", "label": "b", "split_by": "c", "length": 9}),
        (TEXT, {**JSONL, "tokenizer": {"kind": "bpe", "vocabulary": 1000}}),
        (TEXT, {**NPZ, "tokenizer": {"kind": "byte"}, "length": 4}),
        (SERIES, {**NPZ, "length": 128, "hop": 64, "split_by": "subject"}),
        (SERIES, {**NPZ, "clip": 3.5}),
        ("regression", {**CSV, "clip": 10}),
        (SERIES, {**CSV, "features": ["a"]}),
        (AUDIO, {**WAV, "split_by": "speaker", "audio": {"features": "mfcc", "coefficients": 9}}),
        ("anomaly-detection", WAV),
        ("anomaly-detection", {**CSV, "features": ["a", "b"]}),
        ("regression", {**CSV, "text": "a", "tokenizer": {"kind": "char"}}),
        ("regression", {**NPZ, "image_size": 8}),
        (LANGUAGE, {**FILES, "length": 9, "test": 0.5}),
        (LANGUAGE, {"source": "python:a:b", "args": {"x": 1}, "length": 9}),
        (IMAGES, {**NPZ, "split_by": "scene", "augment": ["flip"], "text": None}),
        (IMAGES, {}),
        ("nonsense", CSV),
        (TEXT, {"source": "cvs"}),
        (TEXT, {"source": 3, "tokenizer": "word", "audio": 4}),
    ],
)
def test_what_works_is_not_blamed(task: str, data: dict[str, Any]) -> None:
    assert found(task, **data) == []


@pytest.mark.parametrize("source", NEED_PATH)
def test_sources_of_files_need_a_path(source: str) -> None:
    tasks = {"csv": TEXT, "jsonl": TEXT, "wav-folder": AUDIO, "text-files": LANGUAGE}
    assert found(tasks.get(source, "image-classification"), source=source) == [
        ("data.path", f"is required: source `{source}` reads it", f"for example `path: {NEED_PATH[source]}`")
    ]


@pytest.mark.parametrize(
    ("task", "data", "blamed", "message", "hint"),
    [
        (
            TEXT,
            {},
            "task",
            "needs data of its own: the default source, `digits`, has pictures",
            "{source: csv, path: my-data.csv}",
        ),
        (LANGUAGE, {}, "task", "needs data of its own", "{source: text-files, path: my-texts/}"),
        (AUDIO, {"test": 0.1}, "task", "needs data of its own", "{source: wav-folder, path: my-recordings/}"),
        (TEXT, FILES, "data.source", "task `text-classification`, only for `language-modeling`", "source: csv"),
        (AUDIO, CSV, "data.source", "no samples for task `audio-classification`", "wav-folder"),
        (IMAGES, {"source": "csv", "path": "x.csv"}, "data.source", "no samples for task", "source: csv"),
        ("regression", WAV, "data.source", "only for `audio-classification` and", "csv"),
        (
            IMAGES,
            {"tokenizer": {}},
            "data.tokenizer",
            "by source `digits`, only by `csv`, `jsonl`, `text-files`, `npz`, `python:`",
            "remove it",
        ),
        (TEXT, {**CSV, "audio": {}}, "data.audio", "only by `wav-folder`", "remove it"),
        (TEXT, {**CSV, "features": ["a"]}, "data.features", "not used by task", "remove it"),
        (TEXT, {**CSV, "augment": ["flip"]}, "data.augment", "not used by task", "remove it"),
        (TEXT, {**CSV, "hop": 3, "length": 3}, "data.hop", "not used by task", "remove it"),
        (TEXT, {**CSV, "clip": 3.0}, "data.clip", "not used by task", "remove it"),
        ("anomaly-detection", {**NPZ, "clip": 3.0}, "data.clip", "not used by task", "remove it"),
        (AUDIO, {**WAV, "clip": 3.0}, "data.clip", "not used by", "remove it"),
        (AUDIO, {**WAV, "length": 3}, "data.length", "not used by source", "remove it"),
        (AUDIO, {**NPZ, "length": 3}, "data.length", "not used by task", "remove it"),
        (LANGUAGE, {**CSV, "label": "a"}, "data.label", "not used by task", "remove it"),
        (IMAGES, {**NPZ, "test_path": "y"}, "data.test_path", "only by `csv`", "remove"),
        (LANGUAGE, {**FILES, "test_path": "y", "test": 0.1}, "data.test", "not used beside", "one"),
        (SERIES, {**NPZ, "hop": 3}, "data.hop", "needs `length`", "length: 128"),
        (AUDIO, {**WAV, "split_by": "room"}, "data.split_by", "knows `speaker` or `name`", "speaker"),
        (
            TEXT,
            {**CSV, "tokenizer": {"kind": "byte", "vocabulary": 99}},
            "data.tokenizer.vocabulary",
            "`byte` takes the 256 bytes",
            "remove it",
        ),
        (
            TEXT,
            {**CSV, "tokenizer": {"kind": "bpe", "vocabulary": 99}},
            "data.tokenizer.vocabulary",
            "99 are too few",
            "more than 258",
        ),
        (
            AUDIO,
            {**WAV, "audio": {"coefficients": 9}},
            "data.audio.coefficients",
            "the features are `log-mel` (the default)",
            "features: mfcc",
        ),
        (
            AUDIO,
            {**WAV, "audio": {"features": "mfcc", "coefficients": 50}},
            "data.audio.coefficients",
            "no more coefficients than bands, and these are 40",
            "40 at most",
        ),
        (
            AUDIO,
            {**WAV, "audio": {"window_ms": 600, "seconds": 0.5}},
            "data.audio.window_ms",
            "no frame of 600 ms fits into 0.5 s",
            "window_ms: 30",
        ),
    ],
)
def test_what_does_not_go_together_is_blamed(task: str, data, blamed: str, message: str, hint: str) -> None:
    ((path, said, advice),) = found(task, **data)
    assert path == blamed
    assert message in said
    assert hint in advice


def test_the_source_that_reads_a_file_is_proposed() -> None:
    names = {"a.csv": "csv", "a.tab": "csv", "a.jsonl": "jsonl", "a.npz": "npz", "b": "image-folder"}
    for path, source in names.items():
        assert found(path=path)[0] == (
            "data.path", "is not used: source `digits` (the default) is built in", f"did you mean `source: {source}`?"
        )  # fmt: skip


def test_the_tables_name_what_there_is() -> None:
    assert {*USED_BY_SOURCE, *USED_BY_TASK} <= set(DataSpec.model_fields)
    assert {source for sources in USED_BY_SOURCE.values() for source in sources} <= {*SOURCES, "python"}
