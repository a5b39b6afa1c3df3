"""TFLite metadata: what is written is read again, by the public schema too, and nothing hostile breaks the reader."""

from __future__ import annotations

import contextlib
import io
import struct
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from flatbuffers import encode, number_types
from flatbuffers.table import Table
from hypothesis import given, settings
from hypothesis import strategies as st

from edgecompress.errors import ResourceError
from edgecompress.tflite.facts.inspection import inspect_flatbuffer
from edgecompress.tflite.format import metadata_reader
from edgecompress.tflite.format.finish import finish
from edgecompress.tflite.format.flatbuffer import read_model, sizes
from edgecompress.tflite.format.metadata import (
    AXIS_LABELS,
    LABELS_FILE,
    ZIP_TIME,
    AssociatedFile,
    ModelNotes,
    TensorNotes,
    append_files,
    attach_notes,
    label_lines,
    pack_notes,
)
from edgecompress.tflite.format.metadata_reader import archive_bytes, labels_of, read_files, read_notes
from edgecompress.tflite.format.packing import pack
from edgecompress.tflite.runtime.child import call
from edgecompress.tflite.runtime.runtimes import RUNTIMES
from tests.unit.made_flatbuffer import int8_classifier, make_bytes, make_model

NAMES = ("zéro", "ein Paar", "二", "T-shirt/top", "💡")
NOTES = ModelNotes(
    name="resnet8",
    description="made for a test, naïvely",
    version="ab12",
    inputs=(
        TensorNotes(
            "image", "a picture", "image", "RGB", mean=(1.5, 2.5, 3.5), std=(4.0, 5.0, 6.0), least=(-128.0,),
            greatest=(127.0,),
        ),
    ),
    outputs=(
        TensorNotes(
            "logits", content="feature", least_score=-3.0, files=(AssociatedFile(LABELS_FILE, AXIS_LABELS, "names"),)
        ),
    ),
)  # fmt: skip


def described(notes: ModelNotes = NOTES, names: tuple[str, ...] = NAMES) -> bytes:
    """Returns a small classifier with metadata."""
    model = make_model(*int8_classifier())
    attach_notes(model, notes)
    return append_files(pack(model), {LABELS_FILE: label_lines(names)})


def with_blob(blob: bytes) -> bytes:
    """Returns a small classifier whose TFLITE_METADATA is `blob`."""
    model = make_model(*int8_classifier())
    attach_notes(model, NOTES)
    model.buffers[-1].data = np.frombuffer(blob, np.uint8)
    return pack(model)


CONTENT = described()
ARCHIVE_BYTES = archive_bytes(CONTENT)


def test_what_is_written_is_read_again() -> None:
    content = described()
    notes = read_notes(read_model(content))
    assert notes == NOTES
    files = read_files(content)
    assert files == {LABELS_FILE: "".join(f"{name}\n" for name in NAMES).encode()}
    assert labels_of(notes, files) == list(NAMES)


def test_least_notes_and_no_notes() -> None:
    assert read_notes(read_model(described(ModelNotes()))) == ModelNotes()
    assert read_notes(read_model(make_bytes(*int8_classifier()))) is None
    assert read_files(make_bytes(*int8_classifier())) == {}
    assert labels_of(NOTES, {}) is None


def field(table: Table, slot: int) -> int:
    """Returns where a field lies, by flatbuffers' own reader."""
    offset = table.Offset(4 + 2 * slot)
    assert offset, f"slot {slot} is empty"
    return int(table.Pos + offset)


def inner(table: Table, slot: int, index: int | None = None) -> Table:
    """Returns the table in a slot, or the one at `index` of the vector there."""
    at = field(table, slot)
    place = table.Indirect(at) if index is None else table.Indirect(table.Vector(at - table.Pos) + 4 * index)
    return Table(table.Bytes, place)


def floats(table: Table, slot: int) -> list[float]:
    offset = field(table, slot) - table.Pos
    return [
        table.Get(number_types.Float32Flags, table.Vector(offset) + 4 * index)
        for index in range(table.VectorLen(offset))
    ]


def string(table: Table, slot: int) -> str:
    return str(table.String(field(table, slot)), "utf-8")


def test_every_field_stands_where_the_public_schema_has_it() -> None:
    """The slots are those of metadata_schema.fbs, read with flatbuffers' reader instead of ours."""
    blob = pack_notes(NOTES)
    assert blob[4:8] == b"M001"
    root = Table(blob, encode.Get(number_types.UOffsetTFlags.packer_type, blob, 0))
    assert [string(root, slot) for slot in (0, 1, 2, 7)] == ["resnet8", "made for a test, naïvely", "ab12", "1.0.0"]
    graph = inner(root, 3, 0)  # ModelMetadata.subgraph_metadata
    given = inner(graph, 2, 0)  # SubGraphMetadata.input_tensor_metadata
    assert (string(given, 0), string(given, 1)) == ("image", "a picture")
    content = inner(given, 3)
    assert content.Get(number_types.Uint8Flags, field(content, 0)) == 2  # ContentProperties.ImageProperties
    assert inner(content, 1).Get(number_types.Uint8Flags, field(inner(content, 1), 0)) == 1  # ColorSpaceType.RGB
    unit = inner(given, 4, 0)
    assert unit.Get(number_types.Uint8Flags, field(unit, 0)) == 1  # ProcessUnitOptions.NormalizationOptions
    assert (floats(inner(unit, 1), 0), floats(inner(unit, 1), 1)) == ([1.5, 2.5, 3.5], [4.0, 5.0, 6.0])
    stats = inner(given, 5)
    assert (floats(stats, 0), floats(stats, 1)) == ([127.0], [-128.0])  # Stats.max comes first
    answer = inner(graph, 3, 0)
    unit = inner(answer, 4, 0)
    assert unit.Get(number_types.Uint8Flags, field(unit, 0)) == 3  # ProcessUnitOptions.ScoreThresholdingOptions
    assert inner(unit, 1).Get(number_types.Float32Flags, field(inner(unit, 1), 0)) == -3.0
    file = inner(answer, 6, 0)
    assert (string(file, 0), string(file, 1)) == ("labels.txt", "names")
    assert file.Get(number_types.Uint8Flags, field(file, 2)) == 2  # AssociatedFileType.TENSOR_AXIS_LABELS


def test_the_archive_is_stored_dated_1980_and_the_same_every_time() -> None:
    content = described()
    assert content == described()
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        (info,) = archive.infolist()
    assert (info.filename, info.compress_type, info.date_time) == ("labels.txt", zipfile.ZIP_STORED, ZIP_TIME)
    start = len(content) - archive_bytes(content)
    assert content[start : start + 4] == b"PK\x03\x04"
    assert content[info.header_offset :].startswith(b"PK\x03\x04")  # places count from the start of the whole file
    assert read_model(content[:start]).subgraphs[0].tensors  # what lies before is the flatbuffer
    assert append_files(content[:start], {}) == content[:start]


def test_buffers_stay_aligned_and_sizes_count_the_archive(tmp_path: Path) -> None:
    content = described()
    root = schema.Model.GetRootAs(content, 0)
    for number in range(root.BuffersLength()):
        data = root.Buffers(number).DataAsNumpy()
        if isinstance(data, np.ndarray):
            assert (data.__array_interface__["data"][0] - np.frombuffer(content, np.uint8).ctypes.data) % 16 == 0
    (tmp_path / "m.tflite").write_bytes(content)
    assert sizes(tmp_path / "m.tflite")["size_bytes"] == len(content)


@pytest.mark.parametrize("runtime", ["litert", "tensorflow", "tflite-runtime", "tflite-micro"])
def test_every_runtime_computes_the_same_with_and_without(runtime: str, tmp_path: Path, int8_file: Path) -> None:
    try:
        RUNTIMES[runtime].require()
    except ResourceError as error:
        pytest.skip(str(error))
    model = read_model(int8_file)
    count = len(model.subgraphs[0].operators)
    content, _ = finish(model, [f"layer{k}" for k in range(count)], "int8", NOTES, {LABELS_FILE: label_lines(NAMES)})
    path = tmp_path / "with.tflite"
    path.write_bytes(content)
    inputs = np.random.default_rng(0).integers(-128, 128, (4, 12, 12, 3)).astype(np.int8)
    np.save(tmp_path / "inputs.npy", inputs)
    outputs = []
    for file in (int8_file, path):
        if runtime == "tflite-runtime":  # it has an environment of its own
            places = {"inputs": str(tmp_path / "inputs.npy"), "outputs": str(tmp_path / "outputs.npy")}
            call("outputs", {"path": str(file), "runtime": runtime, "threads": 1, **places}, runtime=runtime)
            outputs.append(np.load(tmp_path / "outputs.npy"))
        else:
            outputs.append(RUNTIMES[runtime].session(file).run(inputs))
    np.testing.assert_array_equal(*outputs)
    assert outputs[0].any()


def test_the_version_is_that_of_the_model_alone(int8_file: Path) -> None:
    def version(notes: ModelNotes, change: float = 1.0) -> str:
        model = read_model(int8_file)
        labels = [f"layer{k}" for k in range(len(model.subgraphs[0].operators))]
        scale = model.subgraphs[0].tensors[int(model.subgraphs[0].inputs[0])].quantization
        scale.scale = np.array(scale.scale) * np.float32(change)
        found = read_notes(read_model(finish(model, labels, "int8", notes)[0]))
        assert found is not None
        return found.version

    assert version(NOTES) == version(replace(NOTES, name="another", version="mine")) != version(NOTES, 2.0)
    assert len(version(NOTES)) == 12


def test_names_that_would_shift_the_lines() -> None:
    lines = label_lines(["two\nlines", "", " ", "\r", "bad \udcff", "end"]).decode().split("\n")
    assert lines == ["two lines", "1", "2", "3", "bad ?", "end", ""]


@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
@pytest.mark.parametrize("last", [True, False])
def test_labels_of_other_writers(line_end: str, last: bool) -> None:
    data = line_end.join(NAMES) + (line_end if last else "")
    assert labels_of(NOTES, {LABELS_FILE: data.encode()}) == list(NAMES)


def told(tmp_path: Path, content: bytes) -> Any:
    path = tmp_path / "told.tflite"
    path.write_bytes(content)
    found = inspect_flatbuffer(path, run=False)
    assert sum(found["bytes"].values()) == len(content)
    return found["tflite_metadata"]


def test_inspect_tells_what_it_says(tmp_path: Path) -> None:
    found = told(tmp_path, described())
    assert (found["problem"], found["version"], found["labels"]) == (None, "ab12", list(NAMES))
    assert found["inputs"][0]["mean"] == [1.5, 2.5, 3.5]
    assert found["archive"] == {LABELS_FILE: len(label_lines(NAMES))}
    assert told(tmp_path, make_bytes(*int8_classifier())) is None


@pytest.mark.parametrize(
    ("blob", "problem"),
    [
        (b"", "'M001' expected at byte 4"),
        (b"\x08\0\0\0M002" + bytes(16), "'M002' found"),
        (pack_notes(NOTES)[:40], "damaged"),
        (b"\xff\xff\xff\x7fM001" + bytes(16), "damaged"),
        (b"\x08\0\0\0M001" + struct.pack("<i", 1000) + bytes(16), "outside of itself"),
    ],
)
def test_a_damaged_description_is_named_and_the_rest_is_told(tmp_path: Path, blob: bytes, problem: str) -> None:
    found = told(tmp_path, with_blob(blob))
    assert list(found) == ["problem"]
    assert problem in found["problem"]


def test_numbers_that_are_none_and_vectors_that_claim_too_much_are_refused() -> None:
    nan = replace(NOTES, inputs=(replace(NOTES.inputs[0], mean=(float("nan"), 1.0, 1.0)),))
    with pytest.raises(ResourceError, match="not finite"):
        read_notes(read_model(described(nan)))
    blob = bytearray(pack_notes(ModelNotes(name="claims much")))
    place = blob.index(b"claims much") - 4
    blob[place : place + 4] = struct.pack("<I", 2**31)
    with pytest.raises(ResourceError, match="more than its size allows"):
        read_notes(read_model(with_blob(bytes(blob))))


def test_numbers_of_later_schemas_are_named_as_unknown() -> None:
    blob = bytearray(pack_notes(NOTES))
    table = Table(bytes(blob), encode.Get(number_types.UOffsetTFlags.packer_type, blob, 0))
    blob[field(inner(inner(inner(table, 3, 0), 2, 0), 3), 0)] = 77
    notes = read_notes(read_model(with_blob(bytes(blob))))
    assert notes is not None
    assert notes.inputs[0].content == "unknown (77)"


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(st.data())
def test_whatever_bytes_are_changed_the_reader_ends_in_notes_or_a_message(data: st.DataObject) -> None:
    blob = bytearray(pack_notes(NOTES))
    for _ in range(data.draw(st.integers(1, 4))):
        blob[data.draw(st.integers(8, len(blob) - 1))] = data.draw(st.integers(0, 255))
    model = schema.ModelT()
    model.metadata, model.buffers = [schema.MetadataT()], [schema.BufferT()]
    model.metadata[0].name, model.metadata[0].buffer = b"TFLITE_METADATA", 0
    model.buffers[0].data = np.frombuffer(bytes(blob[: data.draw(st.integers(8, len(blob)))]), np.uint8)
    with contextlib.suppress(ResourceError):
        assert isinstance(read_notes(model), ModelNotes)


@pytest.mark.slow
@settings(max_examples=200, deadline=None)
@given(st.data())
def test_whatever_bytes_of_the_archive_are_changed_it_is_read_or_a_message_says_why(data: st.DataObject) -> None:
    content = bytearray(CONTENT)
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(len(content) - ARCHIVE_BYTES, len(content) - 1))
        content[place] = data.draw(st.integers(0, 255))
    assert 0 <= archive_bytes(bytes(content)) <= len(content)
    with contextlib.suppress(ResourceError):
        assert all(isinstance(name, str) for name in read_files(bytes(content)))


def test_damaged_and_too_large_archives_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = bytearray(described())
    start = len(content) - archive_bytes(bytes(content))
    content[start + 34] ^= 1  # within the name: the two places that hold it differ
    assert "cannot be read" in told(tmp_path, bytes(content))["problem"]
    content[len(content) - 22 + 16] ^= 0xFF  # where the list of files is said to be
    assert "cannot be read" in told(tmp_path, bytes(content))["problem"]
    assert archive_bytes(bytes(content)) == 0
    monkeypatch.setattr(metadata_reader, "FILE_LIMIT_BYTES", 8)
    with pytest.raises(ResourceError, match="unpack to more than"):
        read_files(described())


def test_a_compressed_archive_of_another_writer_is_read() -> None:
    whole = io.BytesIO(make_bytes(*int8_classifier()))
    with zipfile.ZipFile(whole, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("labels.txt", "a\n" * 1000)
    assert read_files(whole.getvalue()) == {"labels.txt": b"a\n" * 1000}
    assert 0 < archive_bytes(whole.getvalue()) < 300
