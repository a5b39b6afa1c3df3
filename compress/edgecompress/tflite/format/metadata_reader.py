"""The reader of TFLite metadata; it may come from anywhere, so damage ends in a message, whatever the bytes."""

from __future__ import annotations

import io
import lzma
import math
import struct
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

from ai_edge_litert import schema_py_generated as schema

from edgecompress.errors import ResourceError
from edgecompress.tflite.format.metadata import (
    AXIS_LABELS,
    COLOR_SPACES,
    CONTENTS,
    ENTRY,
    FILE_TYPES,
    IDENTIFIER,
    NORMALIZATION,
    THRESHOLD,
    AssociatedFile,
    ModelNotes,
    TensorNotes,
)
from edgecompress.tflite.format.views import text

HEADER_BYTES = 8
ZIP_HEADER = b"PK\x03\x04"
#: Associated files that unpack to more than this are not read.
FILE_LIMIT_BYTES = 16 * 1024**2
#: The largest vocabularies have a quarter of this.
MOST_LABELS = 1_000_000
#: How associated files are packed; of others it is not known how much memory unpacking takes.
_PACKINGS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
#: The least an entry of an archive takes, at both of its places.
_ENTRY_BYTES = 76
_ZIP_ERRORS = (
    zipfile.BadZipFile, zlib.error, struct.error, NotImplementedError, RuntimeError, EOFError, ValueError, OSError,
    OverflowError, IndexError, lzma.LZMAError,
)  # fmt: skip
_PARSE_ERRORS = (struct.error, ValueError, OverflowError)


def read_notes(model: schema.ModelT) -> ModelNotes | None:
    """Returns the description in a model that `read_model` gave, None where it has none.

    Raises:
        ResourceError: It is no metadata of the schema's first generation, or is damaged.
    """
    entry = next((entry for entry in model.metadata if entry.name == ENTRY), None)
    if entry is None:
        return None
    data = model.buffers[entry.buffer].data
    blob = b"" if data is None else bytes(data)
    if len(blob) < HEADER_BYTES or blob[4:8] != IDENTIFIER:
        found = blob[4:8].decode("ascii", "replace")
        raise ResourceError(f"its TFLite metadata is none: {IDENTIFIER.decode()!r} expected at byte 4, {found!r} found")
    try:
        return _unpack(_Table(_Blob(blob), struct.unpack_from("<I", blob)[0]))
    except _PARSE_ERRORS as error:
        raise ResourceError(f"its TFLite metadata is damaged: {error}") from error


def read_files(content: bytes) -> dict[str, bytes]:
    """Returns the files behind a flatbuffer by name; none where there is no archive.

    Raises:
        ResourceError: The archive is damaged, or a file in it is larger than FILE_LIMIT_BYTES.
    """
    found: dict[str, bytes] = {}
    if not zipfile.is_zipfile(io.BytesIO(content)):
        return found
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            left = FILE_LIMIT_BYTES
            if len(archive.infolist()) > len(content) // _ENTRY_BYTES:
                raise ValueError("it claims to hold more files than its size allows")
            for info in archive.infolist():
                if info.compress_type not in _PACKINGS:
                    raise ValueError(f"{text(info.filename)} is packed otherwise than by deflate")
                with archive.open(info) as packed:
                    data = packed.read(left + 1)
                left -= len(data)
                if left < 0:
                    raise ValueError(f"its files unpack to more than {FILE_LIMIT_BYTES >> 20} MiB")
                found[text(info.filename)] = data
    except _ZIP_ERRORS as error:
        raise ResourceError(f"the archive behind the flatbuffer cannot be read: {error}") from error
    return found


def archive_bytes(content: bytes) -> int:
    """Returns how many bytes the archive behind a flatbuffer takes, 0 where there is none."""
    if not zipfile.is_zipfile(io.BytesIO(content)):
        return 0
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            start = min((info.header_offset for info in archive.infolist()), default=-1)
    except _ZIP_ERRORS:
        return 0
    return len(content) - start if start >= 0 and content.startswith(ZIP_HEADER, start) else 0


def labels_of(notes: ModelNotes, files: Mapping[str, bytes]) -> list[str] | None:
    """Returns the classes in the order of the outputs, as the first label file of an output has them."""
    for one in (file for output in notes.outputs for file in output.files):
        if one.kind == AXIS_LABELS and one.name in files:
            if files[one.name].count(b"\n") > MOST_LABELS:
                raise ResourceError(f"its {one.name} has more than {MOST_LABELS:,} lines")
            lines = files[one.name].decode("utf-8", "replace").removesuffix("\n").split("\n")
            return [text(line.removesuffix("\r")) for line in lines]
    return None


def _unpack(root: _Table) -> ModelNotes:
    graphs = root.tables(3)
    return ModelNotes(
        name=root.text(0),
        description=root.text(1),
        version=root.text(2),
        parser_version=root.text(7),
        inputs=tuple(_unpack_tensor(tensor) for graph in graphs[:1] for tensor in graph.tables(2)),
        outputs=tuple(_unpack_tensor(tensor) for graph in graphs[:1] for tensor in graph.tables(3)),
    )


def _unpack_tensor(tensor: _Table) -> TensorNotes:
    content, stats = tensor.table(3), tensor.table(5)
    kind = _named(CONTENTS, content.byte(0)) if content is not None else ""
    properties = content.table(1) if content is not None else None
    units = {unit.byte(0): unit.table(1) for unit in tensor.tables(4)}
    normalization, threshold = units.get(NORMALIZATION), units.get(THRESHOLD)
    is_image = kind == "image" and properties is not None
    return TensorNotes(
        name=tensor.text(0),
        description=tensor.text(1),
        content=kind,
        color_space=_named(COLOR_SPACES, properties.byte(0)) if is_image and properties is not None else "",
        mean=normalization.floats(0) if normalization is not None else (),
        std=normalization.floats(1) if normalization is not None else (),
        least=stats.floats(1) if stats is not None else (),
        greatest=stats.floats(0) if stats is not None else (),
        least_score=threshold.number(0) if threshold is not None else None,
        files=tuple(
            AssociatedFile(one.text(0), _named(FILE_TYPES, one.byte(2)), one.text(1)) for one in tensor.tables(6)
        ),
    )


def _named(names: Sequence[str], number: int) -> str:
    return names[number] if number < len(names) else f"unknown ({number})"


class _Blob:
    """Bytes that may be hostile: no place before them is read, and no more elements than they have room for."""

    def __init__(self, content: bytes) -> None:
        self.content, self.left = content, len(content)

    def number(self, form: str, at: int) -> Any:
        if at < 0:
            raise ValueError("it refers to a place outside of itself")
        return struct.unpack_from(form, self.content, at)[0]

    def elements(self, at: int, size: int) -> range:
        """Returns the places of a vector's elements."""
        count = self.number("<I", at)
        self.left -= size * count
        if self.left < 0 or at + 4 + size * count > len(self.content):
            raise ValueError("it claims to hold more than its size allows")
        return range(at + 4, at + 4 + size * count, size)


class _Table:
    """One table of the metadata; fields are asked for by slot, and one that is left out is empty."""

    def __init__(self, blob: _Blob, at: int) -> None:
        self._blob, self._at = blob, at
        self._slots = at - blob.number("<i", at)
        self._end = blob.number("<H", self._slots)

    def _place(self, slot: int) -> int | None:
        entry = 4 + 2 * slot
        offset = self._blob.number("<H", self._slots + entry) if entry + 2 <= self._end else 0
        return self._at + offset if offset else None

    def _target(self, slot: int) -> int | None:
        place = self._place(slot)
        return None if place is None else place + self._blob.number("<I", place)

    def byte(self, slot: int) -> int:
        place = self._place(slot)
        return 0 if place is None else int(self._blob.number("<B", place))

    def number(self, slot: int) -> float:
        place = self._place(slot)
        return 0.0 if place is None else _finite(self._blob.number("<f", place))

    def text(self, slot: int) -> str:
        target = self._target(slot)
        if target is None:
            return ""
        letters = self._blob.elements(target, 1)
        return text(self._blob.content[letters.start : letters.stop])

    def table(self, slot: int) -> _Table | None:
        target = self._target(slot)
        return None if target is None else _Table(self._blob, target)

    def tables(self, slot: int) -> list[_Table]:
        target = self._target(slot)
        places = range(0) if target is None else self._blob.elements(target, 4)
        return [_Table(self._blob, place + self._blob.number("<I", place)) for place in places]

    def floats(self, slot: int) -> tuple[float, ...]:
        target = self._target(slot)
        places = range(0) if target is None else self._blob.elements(target, 4)
        return tuple(_finite(self._blob.number("<f", place)) for place in places)


def _finite(value: float) -> float:
    if not math.isfinite(value):
        raise ValueError("it holds a number that is not finite")
    return value
