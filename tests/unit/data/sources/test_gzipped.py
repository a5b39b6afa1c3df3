"""Files that people left gzipped, whatever source reads them, and what only looks like one."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest

from edgecompress.data.loading import fingerprint, load_dataset
from edgecompress.data.sources.fashion_mnist import read_idx
from edgecompress.errors import DataError
from edgecompress.sources import archives

ROWS = [(f"a text {n}", "ab"[n % 2], n * 7 % 20) for n in range(20)]


def lines(sep: str) -> bytes:
    return "\n".join([sep.join(("text", "label", "x")), *(sep.join(map(str, row)) for row in ROWS)]).encode()


def npz() -> bytes:
    content = io.BytesIO()
    np.savez(content, x_train=np.zeros((20, 4, 4), np.uint8), y_train=np.arange(20) % 2)
    return content.getvalue()


JSONL = "\n".join(json.dumps({"text": text, "label": label}) for text, label, _ in ROWS).encode()
TEXT, IMAGES = "text-classification", "image-classification"
FILES = {
    "x.csv": ("csv", TEXT, lines(",")), "x.tsv": ("csv", TEXT, lines("\t")), "x.jsonl": ("jsonl", TEXT, JSONL),
    "x.txt": ("text-files", "language-modeling", b"some words " * 400), "x.npz": ("npz", IMAGES, npz()),
}  # fmt: skip


def samples(recipe_of, source: str, task: str, **data) -> list[int]:
    if source == "text-files":
        data |= {
            "length": 8,
            "test_path": data["path"].replace("x.", "y."),
            "path": data["path"].replace("x.", "[xz]."),
        }
    found = load_dataset(recipe_of(source, task=task, **data), trust=False)
    return [len(found.train), len(found.validation), len(found.test)]


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("renamed", [False, True])
def test_a_gzipped_file_is_read_as_the_file(recipe_of, tmp_path: Path, name: str, renamed: bool) -> None:
    source, task, content = FILES[name]
    for stem in ("x", "y", "z"):
        (tmp_path / name.replace("x", stem, 1)).write_bytes(content)
        # Known by its first bytes: browsers unpack what they fetch, or take the ending away.
        packed = name.replace("x", stem, 1) + ("" if renamed else ".gz")
        (tmp_path / "packed").mkdir(exist_ok=True)
        (tmp_path / "packed" / packed).write_bytes(gzip.compress(content))
    plain = samples(recipe_of, source, task, path=name)
    assert samples(recipe_of, source, task, path=f"packed/{name}{'' if renamed else '.gz'}") == plain
    assert sum(plain) > 0


def test_a_test_file_may_be_gzipped_too(recipe_of, tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_bytes(lines(","))
    (tmp_path / "y.csv.gz").write_bytes(gzip.compress(lines(",")))
    assert samples(recipe_of, "csv", TEXT, path="x.csv", test_path="y.csv.gz")[2] == 20


@pytest.mark.parametrize("path", ["texts", "texts/**/*"])
def test_text_folders_take_gzipped_files_and_leave_what_is_hidden(recipe_of, tmp_path: Path, path: str) -> None:
    for name in (
        "a.txt.gz",
        "a.text",
        "deep/b.md.gz",
        ".git/c.txt",
        "deep/.ipynb_checkpoints/d.txt",
        "__MACOSX/._e.txt",
        "._f.txt",
    ):
        (tmp_path / "texts" / name).parent.mkdir(parents=True, exist_ok=True)
        content = b"some words " * 100
        (tmp_path / "texts" / name).write_bytes(gzip.compress(content) if name.endswith("gz") else content)
    (tmp_path / "texts/deep/round").symlink_to(tmp_path / "texts")
    recipe = recipe_of("text-files", task="language-modeling", path=path, length=8)
    data = load_dataset(recipe, trust=False)
    assert len(data.train.texts if data.train.texts is not None else data.train.inputs) > 0
    notes = " ".join(data.notes)
    assert "3 files in hidden folders were left out" in notes
    assert "skipped: 1 hidden." in notes
    before = fingerprint(recipe, trust=False)
    (tmp_path / "texts/.git/c.txt").write_text("other")
    assert fingerprint(recipe, trust=False) == before


def test_a_linked_folder_of_texts_is_followed(recipe_of, tmp_path: Path) -> None:
    for name in ("texts/a.txt", "texts/d.txt", "elsewhere/b.txt", "elsewhere/c.rst"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("some words " * 100)
    (tmp_path / "texts/more").symlink_to("../elsewhere")
    data = load_dataset(recipe_of("text-files", task="language-modeling", path="texts", length=8), trust=False)
    assert len(data.test) > 0
    assert f"{tmp_path}/texts: 1 hidden or other file that is no text file was skipped: 1 .rst." in data.notes


@pytest.mark.parametrize("name", ["images.idx", "images.idx.gz"])
@pytest.mark.parametrize("packed", [True, False])
def test_idx_files_are_known_by_their_content(tmp_path: Path, name: str, packed: bool) -> None:
    content = struct.pack(">HBB3I", 0, 8, 3, 2, 4, 4) + bytes(range(32))
    (tmp_path / name).write_bytes(gzip.compress(content) if packed else content)
    assert read_idx(tmp_path / name, 3).ravel().tolist() == list(range(32))


@pytest.mark.parametrize("name", FILES)
def test_damaged_gzip_is_told(recipe_of, tmp_path: Path, name: str) -> None:
    source, task, content = FILES[name]
    whole = gzip.compress(content)
    for spoilt in (whole[: len(whole) // 2], whole[:12] + bytes(8) + whole[20:], whole[:3]):
        for stem in ("x", "y", "z"):
            (tmp_path / f"{name.replace('x', stem, 1)}.gz").write_bytes(spoilt)
        with pytest.raises(DataError, match=r"\.gz: gzip that is damaged or cut short"):
            samples(recipe_of, source, task, path=f"{name}.gz")


@pytest.mark.parametrize("name", FILES)
def test_a_gzip_bomb_is_not_unpacked(recipe_of, tmp_path: Path, monkeypatch, name: str) -> None:
    source, task, _ = FILES[name]
    monkeypatch.setattr(archives, "HARMLESS_BYTES", 2**20)
    for stem in ("x", "y", "z"):
        (tmp_path / f"{name.replace('x', stem, 1)}.gz").write_bytes(gzip.compress(bytes(2**23)))
    with pytest.raises(DataError, match=r"\.gz: a gzip bomb: 0.0 MiB that unpack to more than 1 MiB"):
        samples(recipe_of, source, task, path=f"{name}.gz")
    monkeypatch.setattr(archives, "memory_bytes", lambda: 2**21)
    with pytest.raises(DataError, match=r"it unpacks to more than the 1 MiB of memory here"):
        samples(recipe_of, source, task, path=f"{name}.gz")


def test_other_archives_are_told_with_what_unpacks_them(recipe_of, tmp_path: Path) -> None:
    content = lines(",")
    with zipfile.ZipFile(tmp_path / "x.csv", "w") as archive:
        archive.writestr("inner.csv", content)
    found = {(tmp_path / "x.csv").read_bytes(): "a ZIP archive.* unzip x.csv", bz2.compress(content): "a bzip2 archive",
             lzma.compress(content): r"an? xz archive; only gzip is read packed. Unpack it: xz -d x.csv"}  # fmt: skip
    for packed, message in found.items():
        (tmp_path / "x.csv").write_bytes(packed)
        with pytest.raises(DataError, match=message):
            samples(recipe_of, "csv", TEXT, path="x.csv")
