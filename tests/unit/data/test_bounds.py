"""What data may cost: in proportion to what they are made of, told before it is taken."""

from __future__ import annotations

import gzip
import io
import json
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as some

from edgecompress.data import limits, splits
from edgecompress.data.forms import windows
from edgecompress.data.front_end import describe, fitted
from edgecompress.data.labels import class_names_of, read_labels
from edgecompress.data.limits import MIB, check_memory, most_bytes
from edgecompress.data.loading import load_dataset
from edgecompress.data.pictures import resized
from edgecompress.data.reading import delimited, folders, json_lines, picture_files, table
from edgecompress.data.reading.delimited import read_delimited
from edgecompress.data.reading.json_lines import read_json_lines
from edgecompress.data.reading.table import shown
from edgecompress.data.reading.wav_files import read_wav
from edgecompress.data.sources import cifar10
from edgecompress.data.sources.fashion_mnist import read_idx
from edgecompress.errors import DataError
from edgecompress.recipe.schema import AudioSpec

TABLE = {"source": "csv", "path": "x.csv", "label": "y"}
Load = Callable[..., Any]


@pytest.fixture
def load(recipe_of, tmp_path: Path) -> Load:
    """Loads a table of a regression, or what else is asked for."""

    def make(content: str, **data: Any) -> Any:
        task = data.pop("task", "regression")
        (tmp_path / str(data.get("path", "x.csv"))).write_text(content)
        return load_dataset(recipe_of(task=task, **(TABLE | data)), trust=False)

    return make


def test_data_may_cost_in_proportion_and_no_more_than_half_of_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    assert most_bytes(0) == most_bytes(MIB) == limits.FREE_BYTES
    assert most_bytes(100 * MIB) == 6400 * MIB
    check_memory(limits.FREE_BYTES, 0, "x", "y")
    with pytest.raises(DataError, match=r"x would take 513 MiB.*at most 512 .*proportion to the 1\.0 MiB.* y$"):
        check_memory(513 * MIB, MIB, "x", "y")
    monkeypatch.setattr(limits, "memory_bytes", lambda: 256 * MIB)
    with pytest.raises(DataError, match=r"at most 128 MiB are given to data \(half of the 256 MiB of this machine\)"):
        check_memory(129 * MIB, 100 * MIB, "x", "y")


def test_a_table_has_so_many_columns(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delimited, "MOST_COLUMNS", 5)
    assert load("a,b,c,d,y\n" + "1,2,3,4,5\n6,7,8,9,1\n" * 20).input_shape == (4,)
    with pytest.raises(DataError, match=r"x\.csv:1: 6 columns; at most 5 are read\. Give so many numbers as arrays"):
        load("a,b,c,d,e,y\n" + "1,2,3,4,5,6\n" * 20)
    with pytest.raises(DataError, match=r"x\.csv:3: 6 fields; a table may have 5 columns"):
        load("a,b,c,d,y\n1,2,3,4,5\n1,2,3,4,5,6\n")


def test_cells_are_weighed_as_they_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "FREE_BYTES", 10_000)
    monkeypatch.setattr(limits, "PER_BYTE", 30)
    (tmp_path / "x.csv").write_text("a,y\n" + "1,2\n" * 1000)
    assert len(read_delimited(tmp_path / "x.csv", ["y"])) == 1000
    (tmp_path / "x.csv").write_bytes(gzip.compress(b"a,y\n" + b"1,2\n" * 1000))
    with pytest.raises(
        DataError, match=r"x\.csv: its cells, up to line [\d,]+ alone, would take .*Unpack it, use a part"
    ):
        read_delimited(tmp_path / "x.csv", ["y"])


def test_cells_that_are_equal_are_kept_once(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("a,y\n" + "word,12345\n" * 100)
    found = read_delimited(tmp_path / "x.csv", ["y"])
    assert len({id(cell) for cell in found.columns["a"]}) == 1


@pytest.mark.parametrize("ends", ["\n", "\r\n", "\r"])
def test_lines_end_as_they_do(tmp_path: Path, ends: str) -> None:
    (tmp_path / "x.csv").write_bytes(ends.join(["a,y", '"1', '2",3', "", "4,5"]).encode())
    found = read_delimited(tmp_path / "x.csv", ["y"])
    assert found.columns == {"a": [f"1{ends}2", "4"], "y": ["3", "5"]}
    assert found.lines == [2, 5]


@pytest.mark.parametrize(
    ("cell", "message"),
    [("1" * 5000, "is not finite, or too large for float32: '1111"), ("1e400", "is not finite"),
     ("x" * 100_000, r"is no number: 'xxxx.{30,40}\.\.\.$"), ("0" * 5000, None)],
)  # fmt: skip
def test_one_long_cell_costs_the_others_nothing(load: Load, cell: str, message: str | None) -> None:
    content = "a,y\n" + "1,2\n2,3\n" * 20 + f"{cell},3\n"
    if message is None:
        assert load(content).input_shape == (1,)
        return
    with pytest.raises(DataError, match=r"x\.csv:42: `a` " + message.rstrip("$")) as refused:
        load(content)
    assert max(map(len, str(refused.value).splitlines())) < 300


def test_rows_are_blamed_up_to_a_number(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (table, delimited, json_lines):
        monkeypatch.setattr(module, "MOST_BAD", 10)
    with pytest.raises(DataError, match=r"x\.csv: 10 rows or more cannot be used"):
        load("a,y\n1,2\n" + "1,2\n" * 50 + "1,2,3\n" * 30)
    with pytest.raises(DataError, match=r"x\.csv: 10 rows or more cannot be used"):
        load("a,y\n" + "1,2\n" * 50 + "1,x\n" * 30)
    with pytest.raises(DataError, match=r"x\.jsonl: 10 rows or more cannot be used"):
        load('{"a": 1, "y": 2}\n' + "x\n" * 30, source="jsonl", path="x.jsonl")


def test_labels_and_groups_are_names(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = {"task": "text-classification", "text": "a"}
    with pytest.raises(DataError, match=r"`y` is no name: 2,000 characters \('zzz.*at most 1,000 are read"):
        load("a,y\nq,b\nq," + "z" * 2000 + "\n", **texts)
    with pytest.raises(DataError, match=r"the group is no name: 2,000 characters"):
        load("a,y,g\nq,b,c\nq,d," + "z" * 2000 + "\n", **texts, split_by="g")
    data = load("a,y,g\n" + "".join(f"q,{n % 2},{'g' * 900}{n}\n" for n in range(40)), **texts, split_by="g")
    assert data.train.groups is not None
    assert data.train.groups.dtype == object
    from edgecompress.data import labels

    monkeypatch.setattr(labels, "MAX_CLASSES", 10)
    with pytest.raises(DataError, match=r"40 different labels; at most 10 are classes\. Is the label an identifier"):
        load("a,y\n" + "".join(f"q,{n}\n" for n in range(40)), **texts)
    with pytest.raises(DataError, match="11 different labels"):
        read_labels(np.eye(11, dtype=np.uint8), 11, "y")
    with pytest.raises(DataError, match=r"class_names\[1\] has 5,000 characters"):
        class_names_of(np.array(["a", "b" * 5000]), {"train": read_labels(np.array([0, 1]), 2, "y")}, "x")


def test_names_in_bytes_need_not_be_text() -> None:
    names = class_names_of(np.array([b"\xff", b"b"]), {"train": read_labels(np.array([0, 1]), 2, "y")}, "x")
    assert names == ("\N{REPLACEMENT CHARACTER}", "b")


def test_json_has_so_many_keys_and_weighs_what_it_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text("".join(f'{{"k{n}": 1}}\n' for n in range(30)))
    assert len(read_json_lines(path).names) == 30
    monkeypatch.setattr(limits, "FREE_BYTES", 4000)
    monkeypatch.setattr(limits, "PER_BYTE", 1)
    with pytest.raises(DataError, match=r"30 keys in 30 objects would take"):
        read_json_lines(path)
    path.write_text(json.dumps({"a": [[]] * 100}) + "\n")
    with pytest.raises(DataError, match=r"its objects, up to line 1 alone, would take"):
        read_json_lines(path)
    monkeypatch.setattr(json_lines, "MOST_COLUMNS", 20)
    path.write_text(json.dumps(dict.fromkeys(map(str, range(21)), 1)) + "\n")
    with pytest.raises(DataError, match=r"x\.jsonl:1: up to here there are 21 different keys, at most 20 .*as a list"):
        read_json_lines(path)


def test_what_is_nested_deep_is_shown_so_far() -> None:
    deep: list[Any] = []
    for _ in range(950):
        deep = [deep]
    assert len(shown(deep)) <= 40
    assert shown({"a": [1, "b"]}) == "{'a': [1, 'b']}"


@pytest.mark.parametrize("line", ['{"s": ' + "[" * 900 + "]" * 900 + ', "y": 1}', '{"s": ' + "[" * 100_000, "7" * 5000])
def test_json_that_is_nested_or_has_many_digits_is_a_bad_row(load: Load, line: str) -> None:
    with pytest.raises(DataError, match=r"x\.jsonl:1: "):
        load(f"{line}\n", source="jsonl", path="x.jsonl", features=("s",))


def test_series_have_so_many_steps(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    from edgecompress.data import forms

    monkeypatch.setattr(forms, "MAX_LENGTH", 10)
    lines = "".join(json.dumps({"s": list(range(11)), "y": n % 2}) + "\n" for n in range(20))
    series = {"source": "jsonl", "path": "x.jsonl", "features": ("s",), "task": "timeseries-classification"}
    with pytest.raises(DataError, match=r"11 steps, at most 10 are read: set data.length \(and data.hop"):
        load(lines, **series)
    with pytest.raises(DataError, match=r"the longest series has 12 steps, at most 10"):
        load(lines + json.dumps({"s": list(range(12)), "y": 1}) + "\n", **series)
    assert load(lines, **series, length=5).input_shape == (5, 1)


def test_one_long_series_among_short_ones_is_weighed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "FREE_BYTES", 4 * 50 * 40)
    series = np.empty(51, object)
    series[:] = [np.zeros((40, 1), np.float32)] + [np.zeros((1, 1), np.float32)] * 50
    monkeypatch.setattr(limits, "PER_BYTE", 1)
    with pytest.raises(DataError, match=r"51 windows of 40 steps would take .* Set a smaller data\.length"):
        windows(series, 40, None)
    assert windows(series[:50], 40, None)[0].shape == (50, 40, 1)


def test_texts_in_tokens_are_weighed(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "FREE_BYTES", 10_000)
    content = "text,y\n" + "q,a\nw,b\n" * 40
    with pytest.raises(DataError, match=r"\d+ texts of 128 tokens would take .* Set a smaller data\.length"):
        load(content, task="text-classification")
    assert load(content, task="text-classification", length=8).input_shape == (8,)


def test_pictures_in_a_size_are_weighed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "memory_bytes", lambda: 2 * MIB)
    with pytest.raises(DataError, match=r"3 pictures of 1024x1024 pixels .* Set a smaller data\.image_size"):
        resized(np.zeros((3, 8, 8, 1), np.uint8), (1024, 1024))
    assert resized(np.zeros((3, 8, 8, 1), np.uint8), (64, 64)).shape == (3, 64, 64, 1)


def test_many_groups_of_many_classes_are_held_out_by_their_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(splits, "DENSE", 10)
    groups, labels = np.arange(100) // 4, np.arange(100) % 50
    kept, held = splits.by_group(groups, labels, 0.2, 0)
    assert not set(groups[kept]) & set(groups[held])
    assert len(held) == 20
    kept, held = splits.by_group(np.arange(100) // 50, labels, 0.01, 0)  # each is larger than the share
    assert len(held) == 50


def npz_with(path: Path, header: bytes, content: bytes = b"", *more: tuple[str, bytes]) -> None:
    array = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + content
    labels = io.BytesIO()
    np.save(labels, np.arange(4) % 2)
    with zipfile.ZipFile(path, "w") as archive:
        for name, written in (("x_train.npy", array), ("y_train.npy", labels.getvalue()), *more):
            archive.writestr(name, written)


@pytest.mark.slow
@given(
    shape=some.lists(some.integers(-(2**70), 2**70), max_size=5),
    kind=some.sampled_from(["|u1", "<f8", "<U0", "|S0", "<U1000000", "|V16", "<f4,<f4", "|O", "x"]),
)
def test_headers_of_arrays_may_claim_anything(
    tmp_path_factory: pytest.TempPathFactory, shape: list[int], kind: str
) -> None:
    from edgecompress.recipe.schema import Recipe

    folder = tmp_path_factory.mktemp("npz")
    header = f"{{'descr': {kind!r}, 'fortran_order': False, 'shape': {tuple(shape)}, }}\n".encode()
    npz_with(folder / "x.npz", header, bytes(256))
    recipe = Recipe(
        version=1, student={"model": "resnet8"}, data={"source": "npz", "path": "x.npz"}, base_dir=str(folder)
    )
    with pytest.raises(DataError, match=r"x\.npz"):
        load_dataset(recipe, trust=False)


def test_an_archive_holds_each_array_once_and_not_too_many(recipe_of, tmp_path: Path, monkeypatch) -> None:
    recipe = recipe_of("npz", path="x.npz")
    with pytest.warns(UserWarning, match="Duplicate"):
        npz_with(tmp_path / "x.npz", b"", b"", ("y_train.npy", b"x"))
    with pytest.raises(DataError, match=r"x\.npz: y_train is in it twice"):
        load_dataset(recipe, trust=False)
    from edgecompress.data.sources import npz

    monkeypatch.setattr(npz, "MOST_MEMBERS", 5)
    npz_with(tmp_path / "x.npz", b"", b"", *((str(n), b"") for n in range(5)))
    with pytest.raises(DataError, match=r"more than 5 arrays\. Expected x_train"):
        load_dataset(recipe, trust=False)
    np.save(tmp_path / "x.npz.npy", np.zeros(5))
    (tmp_path / "x.npz.npy").replace(tmp_path / "x.npz")
    with pytest.raises(DataError, match="holds a single array"):
        load_dataset(recipe, trust=False)


@given(shape=some.tuples(*[some.integers(0, 2**32 - 1)] * 3), packed=some.booleans())
def test_headers_of_idx_files_may_claim_anything(
    tmp_path_factory: pytest.TempPathFactory, shape: tuple[int, ...], packed: bool
) -> None:
    path = tmp_path_factory.mktemp("idx") / "x"
    content = struct.pack(">HBB3I", 0, 8, 3, *shape) + bytes(7)
    path.write_bytes(gzip.compress(content) if packed else content)
    if int(np.prod(shape, dtype=object)) != 7:
        with pytest.raises(DataError, match="x"):
            read_idx(path, 3)


MEMO = b"\x80\x02Nr\xff\xff\xff\x7f."


@pytest.mark.parametrize(
    "content",
    [MEMO, pickle.dumps({"data": 1, "labels": [[[1] * 2] * 2] * 2}, 2), b"\x80\x02(" + b"N0" * 100 + b".",
     pickle.dumps({"data": np.zeros((2, 3072), np.dtype("f4,f4")), "labels": [1, 2]}, 2)],
)  # fmt: skip
def test_pickles_do_no_more_than_a_batch_does(recipe_of, tmp_path: Path, monkeypatch, content: bytes) -> None:
    monkeypatch.setattr(cifar10, "MOST_STEPS", 100)
    for name in (*cifar10.TRAIN, cifar10.TEST):
        (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=r"not a CIFAR-10 batch|uint8 array|one integer"):
        load_dataset(recipe_of("cifar10", path="."), trust=False)


@given(rate=some.integers(0, 2**32 - 1), channels=some.integers(0, 65_535), size=some.integers(0, 2**32 - 1))
def test_headers_of_recordings_may_claim_anything(
    tmp_path_factory: pytest.TempPathFactory, rate: int, channels: int, size: int
) -> None:
    path = tmp_path_factory.mktemp("wav") / "x.wav"
    form = struct.pack("<HHIIHH", 1, channels, rate, 0, 0, 16)
    path.write_bytes(b"RIFF" + struct.pack("<I", 100) + b"WAVEfmt " + struct.pack("<I", 16) + form + b"data"
                     + struct.pack("<I", size) + bytes(64))  # fmt: skip
    if (
        channels
        and 100 <= rate <= 1_000_000
        and 2 * channels <= 64
        and (size >= 0x7FFF0000 or 2 * channels <= size <= 64)
    ):
        assert len(read_wav(path).samples) <= 32
        return
    with pytest.raises(DataError, match=r"x\.wav: "):
        read_wav(path)


def test_rates_without_a_common_measure_are_refused() -> None:
    description = describe(AudioSpec())
    with pytest.raises(DataError, match=r"999,983 Hz cannot be resampled to 16,000 Hz.*ffmpeg -i IN\.wav -ar 16000"):
        fitted(np.zeros(100, np.float32), 999_983, description)
    assert len(fitted(np.zeros(100, np.float32), 22_255, description)) == 16_000


@pytest.mark.parametrize(
    ("spec", "message"),
    [({"seconds": 600, "hop_ms": 0.1}, r"has 4,799,761 frames; at most 65,536"),
     ({"window_ms": 1000, "sample_rate": 192_000, "bands": 512}, "take more memory than a front end may have")],
)  # fmt: skip
def test_a_front_end_has_so_many_frames_and_filters(spec: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        describe(AudioSpec(**spec))


def test_folders_lie_so_deep_and_are_so_many(recipe_of, picture, tmp_path: Path, monkeypatch) -> None:
    for name in ("a", "b"):
        picture(f"{name}/x.png")
    (tmp_path / "a" / "/".join("d" * 60)).mkdir(parents=True)
    recipe = recipe_of("image-folder", path=".")
    with pytest.raises(DataError, match="folders lie within each other 50 deep"):
        load_dataset(recipe, trust=False)
    monkeypatch.setattr(folders, "MOST_FOLDERS", 20)
    monkeypatch.setattr(folders, "DEEPEST", 100)
    with pytest.raises(DataError, match="more than 20 folders"):
        load_dataset(recipe, trust=False)
    from edgecompress.data.sources import class_folders

    monkeypatch.setattr(class_folders, "MAX_CLASSES", 1)
    with pytest.raises(DataError, match="more than 1 folders, which would be classes"):
        load_dataset(recipe, trust=False)


def test_a_jpeg_has_so_many_scans(picture, tmp_path: Path, monkeypatch) -> None:
    picture("x.jpg", (64, 64, 3), progressive=True)
    assert picture_files.read_header(tmp_path / "x.jpg").size == (64, 64)
    monkeypatch.setattr(picture_files, "MOST_SCANS", 3)
    with pytest.raises(DataError, match=r"x\.jpg: a JPEG of \d+ scans"):
        picture_files.read_header(tmp_path / "x.jpg")
