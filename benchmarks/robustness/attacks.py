"""Data, models and configurations of at most 10 MB that are made to take memory and time."""

from __future__ import annotations

import gzip
import io
import json
import pickle
import shutil
import struct
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

MIB = 1024**2
TEN_MB = 10_000_000
TABLE = {"source": "csv", "path": "x.csv", "label": "y"}
TEXT = {"source": "csv", "path": "x.csv"}
LINES = {"source": "jsonl", "path": "x.jsonl"}
ARRAYS = {"source": "npz", "path": "x.npz"}
SERIES = "timeseries-classification"


@dataclass(frozen=True)
class Attack:
    """One input.

    Attributes:
        name: The source, and what is done to it.
        data: The recipe's `data` block.
        make: Writes what it names into a folder.
        task: What is learnt.
        student: The recipe's `student` block, but for `train`.
        good: The name of the harmless one of its kind.
    """

    name: str
    data: dict[str, Any]
    make: Callable[[Path], object]
    task: str = "regression"
    student: dict[str, Any] = field(default_factory=lambda: {"model": "mlp"})
    good: str = "csv: good"


def text(name: str, content: str | bytes) -> Callable[[Path], object]:
    """Writes one file."""
    written = content.encode() if isinstance(content, str) else content
    return lambda folder: (folder / name).write_bytes(written)


def zeros(
    name: str, size: int, before: bytes = b"", after: bytes = b"", value: bytes = b"a"
) -> Callable[[Path], object]:
    """Writes a gzip file that unpacks to one line."""

    def make(folder: Path) -> None:
        with gzip.open(folder / name, "wb", 6) as stream:
            stream.write(before)
            for _ in range(size // MIB):
                stream.write(value * (MIB // len(value)))
            stream.write(after)

    return make


def npy(shape: str, kind: str, content: bytes) -> bytes:
    """Returns an array file whose header says what it likes."""
    header = f"{{'descr': {kind}, 'fortran_order': False, 'shape': {shape}, }}".encode()
    header += b" " * (117 - len(header)) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + content


def npz(members: dict[str, bytes], *more: tuple[str, bytes]) -> Callable[[Path], object]:
    """Writes an archive of such arrays; `more` may have names that are there."""

    def make(folder: Path) -> None:
        with zipfile.ZipFile(folder / "x.npz", "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in (*members.items(), *more):
                archive.writestr(f"{name}.npy", content)

    return make


def saved(**arrays: Any) -> dict[str, bytes]:
    """Returns arrays as files."""
    found = {}
    for name, array in arrays.items():
        stream = io.BytesIO()
        np.save(stream, array, allow_pickle=True)
        found[name] = stream.getvalue()
    return found


def pictures(odd: Callable[[Path], object], number: int = 12) -> Callable[[Path], object]:
    """Writes a folder of two classes, with something odd among them."""

    def make(folder: Path) -> None:
        for one in range(number):
            path = folder / "pictures" / "ab"[one % 2] / f"{one}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.random.default_rng(one).integers(0, 255, (16, 16, 3)).astype(np.uint8)).save(path)
        odd(folder / "pictures" / "a")

    return make


def png(width: int, height: int, chunks: bytes = b"", rows: bytes = b"") -> bytes:
    """Returns a picture whose header says what it likes."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    packed = zlib.compress(rows) if rows else zlib.compress(bytes(1000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunks + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


def png_chunk(name: bytes, content: bytes) -> bytes:
    """Returns a chunk of one."""
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def wav(rate: int = 16_000, channels: int = 1, claimed: int | None = None, content: bytes = bytes(32_000)) -> bytes:
    """Returns a recording whose header says what it likes."""
    size = len(content) if claimed is None else claimed
    form = struct.pack("<HHIIHH", 1, channels, rate, rate * 2 % 2**32, 2 * channels % 2**16, 16)
    return b"RIFF" + struct.pack("<I", 36 + len(content)) + b"WAVEfmt " + struct.pack("<I", 16) + form + (
        b"data" + struct.pack("<I", size) + content
    )  # fmt: skip


def recordings(content: bytes, number: int = 6) -> Callable[[Path], object]:
    """Writes a folder of two classes of good recordings and of some."""

    def make(folder: Path) -> None:
        for one in range(12 + number):
            path = folder / "wav" / "ab"[one % 2] / f"{one}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            good = wav(content=np.random.default_rng(one).integers(0, 255, 32_000).astype(np.uint8).tobytes())
            path.write_bytes(content if one >= 12 else good)

    return make


def folders(count: int, depth: int, link: bool = False) -> Callable[[Path], object]:
    """Adds empty folders, side by side or within each other, or a link that goes round."""

    def odd(place: Path) -> None:
        for one in range(count):
            (place.parent / f"empty-{one}").mkdir()
        inner = place
        for _ in range(depth):
            inner /= "d"
            inner.mkdir()
        if link:
            (place / "again").symlink_to(place.parent)

    return pictures(odd)


def batches(content: bytes) -> Callable[[Path], object]:
    """Writes CIFAR-10's six files."""

    def make(folder: Path) -> None:
        for name in (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"):
            (folder / name).write_bytes(content)

    return make


def batch(labels: Any) -> bytes:
    """Returns a batch as CIFAR-10 has it."""
    rows = np.random.default_rng(0).integers(0, 255, (20, 3072)).astype(np.uint8)
    return pickle.dumps({"data": rows, "labels": labels}, 2)


def nested(levels: int) -> list[Any]:
    """Returns a list of ten times the same list, and so on."""
    found: list[Any] = [1] * 10
    for _ in range(levels):
        found = [found] * 10
    return found


def idx(*shape: int, content: bytes = bytes(1000)) -> bytes:
    """Returns an IDX file whose header says what it likes."""
    return struct.pack(f">HBB{len(shape)}I", 0, 8, len(shape), *shape) + content


def clothes(images: bytes, ending: str = "") -> Callable[[Path], object]:
    """Writes Fashion-MNIST's four files."""

    def make(folder: Path) -> None:
        for part in ("train", "t10k"):
            (folder / f"{part}-images-idx3-ubyte{ending}").write_bytes(images)
            (folder / f"{part}-labels-idx1-ubyte{ending}").write_bytes(gzip.compress(idx(10, content=bytes(range(10)))))

    return make


def hugging_face(**changes: Any) -> Callable[[Path], object]:
    """Writes a small BERT with its texts, and changes its configuration."""

    def make(folder: Path) -> None:
        import tokenizers
        import transformers

        place = folder / "bert"
        words = {"[PAD]": 0, "[UNK]": 1, "good": 2, "bad": 3}
        config = transformers.BertConfig(
            vocab_size=4, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
            max_position_embeddings=32,
        )  # fmt: skip
        transformers.BertModel(config).save_pretrained(place)
        tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, "[UNK]"))
        tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()  # type: ignore[assignment]
        tokenizer.save(str(place / "tokenizer.json"))
        document = json.loads((place / "config.json").read_text())
        (place / "config.json").write_text(json.dumps(document | changes))
        (folder / "x.csv").write_text("text,label\n" + "good good,p\nbad,n\n" * 20)

    return make


def copied(source: Path) -> Callable[[Path], object]:
    """Takes a folder that is there."""
    return lambda folder: shutil.copytree(source, folder, dirs_exist_ok=True)
