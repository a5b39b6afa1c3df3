"""TFLite metadata: what a flatbuffer's ends mean, in the public format that mobile libraries read.

The description is a flatbuffer of its own (`metadata_schema.fbs`, file identifier M001) in a buffer that the model's
metadata names TFLITE_METADATA; the files it refers to, such as labels.txt, are a zip archive behind the model.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

ENTRY = b"TFLITE_METADATA"
IDENTIFIER = b"M001"
LABELS_FILE = "labels.txt"
AXIS_LABELS = "axis labels"
#: The first version of the schema has every field that is written here.
PARSER_VERSION = "1.0.0"
#: The earliest moment a zip archive can name: the same files give the same bytes.
ZIP_TIME = (1980, 1, 1, 0, 0, 0)
UNIX, REGULAR_FILE = 3, 0o100644
#: Numbers of the schema's unions and enumerations.
CONTENTS = ("", "feature", "image", "bounding box", "audio")
COLOR_SPACES = ("", "RGB", "GRAYSCALE")
FILE_TYPES = ("", "descriptions", AXIS_LABELS, "value labels", "score calibration", "vocabulary", "search index")
NORMALIZATION, THRESHOLD = 1, 3


@dataclass(frozen=True)
class AssociatedFile:
    """A file behind the model: its name, and what it is for (one of FILE_TYPES)."""

    name: str
    kind: str = ""
    description: str = ""


@dataclass(frozen=True)
class TensorNotes:
    """What one input or output means.

    Attributes:
        name: What people call it.
        description: In words.
        content: One of CONTENTS.
        color_space: Of an image: one of COLOR_SPACES.
        mean: Of an input, per channel or once: x = (value - mean) / std for raw values, 0 to 255 for pictures.
        std: See `mean`.
        least: Least value of the tensor, per channel or once; of x where the tensor is float.
        greatest: Greatest value.
        least_score: Of an output: readers leave scores below it out; None leaves that to them (they take 0).
        files: What belongs to it.
    """

    name: str = ""
    description: str = ""
    content: str = ""
    color_space: str = ""
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    least: tuple[float, ...] = ()
    greatest: tuple[float, ...] = ()
    least_score: float | None = None
    files: tuple[AssociatedFile, ...] = ()


@dataclass(frozen=True)
class ModelNotes:
    """What a flatbuffer is and what its ends mean; the order of the ends is that of the first graph."""

    name: str = ""
    description: str = ""
    version: str = ""
    parser_version: str = PARSER_VERSION
    inputs: tuple[TensorNotes, ...] = ()
    outputs: tuple[TensorNotes, ...] = ()


def label_lines(names: Sequence[str]) -> bytes:
    """Returns labels.txt: UTF-8, one name a line, in the order of the classes.

    Readers count lines, and some skip empty ones: line breaks in a name become spaces, an empty name its number.
    """
    plain = [" ".join(name.split("\n")).replace("\r", " ") for name in names]
    lines = [name if name.strip() else str(number) for number, name in enumerate(plain)]
    return "".join(f"{line}\n" for line in lines).encode("utf-8", "replace")


def attach_notes(model: schema.ModelT, notes: ModelNotes) -> None:
    """Adds the description to a model that is about to be packed."""
    buffer, entry = schema.BufferT(), schema.MetadataT()
    buffer.data = np.frombuffer(pack_notes(notes), np.uint8)
    model.buffers.append(buffer)
    entry.name, entry.buffer = ENTRY, len(model.buffers) - 1
    model.metadata = [*(model.metadata or []), entry]


def append_files(content: bytes, files: Mapping[str, bytes]) -> bytes:
    """Returns a flatbuffer with files behind it, stored as they are: readers look into the archive without zlib."""
    if not files:
        return content
    whole = io.BytesIO(content)
    with zipfile.ZipFile(whole, "a", zipfile.ZIP_STORED) as archive:
        for name, data in files.items():
            info = zipfile.ZipInfo(name, ZIP_TIME)
            info.create_system, info.external_attr = UNIX, REGULAR_FILE << 16
            archive.writestr(info, data)
    return whole.getvalue()


def pack_notes(notes: ModelNotes) -> bytes:
    """Returns the description as a flatbuffer of the metadata schema; the same notes give the same bytes."""
    builder = flatbuffers.Builder(1024)
    graph = _table(
        builder,
        {
            2: _tables(builder, [_pack_tensor(builder, tensor) for tensor in notes.inputs]),
            3: _tables(builder, [_pack_tensor(builder, tensor) for tensor in notes.outputs]),
        },
    )
    strings = {0: notes.name, 1: notes.description, 2: notes.version, 7: notes.parser_version}
    root = _table(builder, {**_strings(builder, strings), 3: _tables(builder, [graph])})
    builder.Finish(root, IDENTIFIER)
    return bytes(builder.Output())


def _pack_tensor(builder: flatbuffers.Builder, notes: TensorNotes) -> int:
    fields = _strings(builder, {0: notes.name, 1: notes.description})
    if notes.content:
        properties = _table(builder, {}, {0: COLOR_SPACES.index(notes.color_space)})
        fields[3] = _table(builder, {1: properties}, {0: CONTENTS.index(notes.content)})
    units = []
    if notes.mean:
        options = _table(builder, {0: _floats(builder, notes.mean), 1: _floats(builder, notes.std)})
        units.append(_table(builder, {1: options}, {0: NORMALIZATION}))
    if notes.least_score is not None:
        builder.StartObject(1)
        builder.PrependFloat32Slot(0, notes.least_score, 0.0)
        units.append(_table(builder, {1: builder.EndObject()}, {0: THRESHOLD}))
    fields[4] = _tables(builder, units)
    if notes.least:
        fields[5] = _table(builder, {0: _floats(builder, notes.greatest), 1: _floats(builder, notes.least)})
    files = [
        _table(builder, _strings(builder, {0: one.name, 1: one.description}), {2: FILE_TYPES.index(one.kind)})
        for one in notes.files
    ]
    return _table(builder, {**fields, 6: _tables(builder, files)})


def _table(builder: flatbuffers.Builder, offsets: Mapping[int, int], small: Mapping[int, int] | None = None) -> int:
    """Returns the offset of a table with fields by slot: offsets (0 leaves a field out), and one-byte numbers."""
    builder.StartObject(1 + max([*offsets, *(small or {}), -1]))
    for slot, offset in offsets.items():
        builder.PrependUOffsetTRelativeSlot(slot, offset, 0)
    for slot, value in (small or {}).items():
        builder.PrependUint8Slot(slot, value, 0)
    done: int = builder.EndObject()
    return done


def _strings(builder: flatbuffers.Builder, values: Mapping[int, str]) -> dict[int, int]:
    return {slot: builder.CreateString(value.encode("utf-8", "replace")) for slot, value in values.items() if value}


def _floats(builder: flatbuffers.Builder, values: Sequence[float]) -> int:
    offset: int = builder.CreateNumpyVector(np.array(values, np.float32))
    return offset


def _tables(builder: flatbuffers.Builder, offsets: Sequence[int]) -> int:
    """Returns the offset of a vector of tables, 0 for none."""
    if not offsets:
        return 0
    builder.StartVector(4, len(offsets), 4)
    for offset in reversed(offsets):
        builder.PrependUOffsetTRelative(offset)
    done: int = builder.EndVector()
    return done
