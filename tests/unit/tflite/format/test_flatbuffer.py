"""Reading flatbuffers: what is wrong with a file ends in one kind of error, what is right comes back as it was."""

from __future__ import annotations

import gzip
import random
from pathlib import Path

import numpy as np
import pytest
import zstandard
from ai_edge_litert import schema_py_generated as schema

from edgecompress.errors import ResourceError
from edgecompress.tflite.facts.accounting import breakdown
from edgecompress.tflite.facts.census import census
from edgecompress.tflite.facts.weights import weight_zeros
from edgecompress.tflite.format import flatbuffer
from edgecompress.tflite.format.flatbuffer import packed_sizes, read_content, read_model, sizes, write_model
from edgecompress.tflite.format.packing import pack
from edgecompress.tflite.format.views import graph_views
from tests.unit.made_flatbuffer import Made, Op, constant, int8, int8_classifier, make_bytes, make_model


@pytest.fixture(scope="module")
def content() -> bytes:
    return make_bytes(*int8_classifier())


def survives(content: bytes) -> bool:
    """Returns whether a file can be read; if so, everything that can be told about it can be told."""
    try:
        model = read_model(content)
    except ResourceError:
        return False
    census(model).as_dict()
    assert len(graph_views(model)) == len(model.subgraphs)
    assert sum(breakdown(model, content).values()) == len(content)
    return True


def test_a_sound_file_comes_back_complete(content: bytes) -> None:
    model = read_model(content)
    graph = model.subgraphs[0]
    assert len(graph.operators) == 4
    assert [tensor.name for tensor in graph.tensors][:3] == [b"input", b"w0", b"b0"]
    assert model.metadata == []
    assert model.signatureDefs == []
    assert graph.inputs.tolist() == [0]
    assert graph.outputs.tolist() == [11]
    assert graph.tensors[0].shape.tolist() == [1, 6, 6, 2]


def test_what_was_read_is_written_as_it_was(content: bytes) -> None:
    written = write_model(read_model(content))
    assert write_model(read_model(written)) == written
    assert graph_views(read_model(written)) == graph_views(read_model(content))
    for before, after in zip(read_model(content).buffers, read_model(written).buffers, strict=True):
        assert (before.data is None) == (after.data is None)
        assert before.data is None or bytes(before.data) == bytes(after.data)


def test_every_truncation_is_noticed_or_harmless(content: bytes) -> None:
    readable = sum(survives(content[:length]) for length in range(len(content)))
    # A file may do without its last bytes of padding, but not without more.
    assert readable < 16


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_flipped_bits_never_raise_anything_else(content: bytes, seed: int) -> None:
    rng = random.Random(seed)  # noqa: S311 - damage, not a secret
    readable = 0
    for _ in range(200):
        damaged = bytearray(content)
        for _ in range(rng.choice([1, 1, 4])):
            damaged[rng.randrange(len(damaged))] ^= 1 << rng.randrange(8)
        readable += survives(bytes(damaged))
    assert 0 < readable < 200  # both happen: a flipped weight is none of the reader's business


@pytest.mark.slow
@pytest.mark.parametrize("word", [0, 0xFFFFFFFF, 0x7FFFFFFF, 0x80000000, 0x00010000])
def test_offsets_and_counts_that_lead_nowhere_never_raise_anything_else(content: bytes, word: int) -> None:
    readable = 0
    for place in range(0, len(content) - 4, 4):
        readable += survives(content[:place] + word.to_bytes(4, "little") + content[place + 4 :])
    assert 0 < readable < len(content) // 4


@pytest.mark.parametrize(
    "other",
    [b"", b"TFL3", b"PK\x03\x04" + bytes(64), bytes(1000), b"%PDF-1.7 and so on", b"\x89PNG\r\n\x1a\n" + bytes(50)],
)
def test_other_files_are_told_apart(other: bytes, tmp_path: Path) -> None:
    path = tmp_path / "other.tflite"
    path.write_bytes(other)
    with pytest.raises(ResourceError, match=r"other\.tflite is not a TFLite flatbuffer"):
        read_model(path)


def test_the_magic_alone_is_not_enough() -> None:
    with pytest.raises(ResourceError, match="damaged"):
        read_model(b"\xff\xff\xff\xffTFL3" + bytes(100))


def test_files_that_cannot_be_opened_are_named(tmp_path: Path) -> None:
    with pytest.raises(ResourceError, match=r"cannot read .*gone\.tflite: No such file"):
        read_model(tmp_path / "gone.tflite")
    with pytest.raises(ResourceError, match="Is a directory"):
        read_content(tmp_path)


def damaged_model(**changes: object) -> schema.ModelT:
    model = make_model(*int8_classifier())
    graph = model.subgraphs[0]
    for key, value in changes.items():
        owner, _, attribute = key.rpartition("__")
        target = {"": model, "graph": graph, "op": graph.operators[0], "tensor": graph.tensors[3]}[owner]
        setattr(target, attribute, value)
    return model


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"version": 2}, "schema version is 2"),
        ({"subgraphs": []}, "holds no graph"),
        ({"op__opcodeIndex": 9}, "operator code 9 of 4"),
        ({"op__inputs": [0, 1, 99]}, "tensor 99 of 12"),
        ({"op__inputs": [0, 1, -2]}, "tensor -2 of 12"),
        ({"op__outputs": [-1]}, "tensor -1 of 12"),
        ({"graph__inputs": [12]}, "tensor 12 of 12"),
        ({"tensor__buffer": 77}, "buffer 77 of"),
        ({"tensor__shape": [1, -6, 6, 4]}, "shape"),
    ],
)
def test_references_are_checked(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ResourceError, match=message):
        read_model(pack(damaged_model(**changes)))


def test_an_optional_input_may_be_absent() -> None:
    model = read_model(pack(damaged_model(op__inputs=[0, 1, -1])))
    assert model.subgraphs[0].operators[0].inputs.tolist() == [0, 1, -1]


@pytest.mark.parametrize("scale", [float("nan"), float("inf")])
def test_scales_must_be_numbers(scale: float) -> None:
    with pytest.raises(ResourceError, match="no finite number"):
        read_model(make_bytes([Made((1, 2), "int8", scale=(scale,)), int8(1, 2)], [Op("RELU", (0,), (1,))]))


def test_metadata_must_lie_in_a_buffer() -> None:
    model = make_model(*int8_classifier())
    entry = schema.MetadataT()
    entry.name, entry.buffer = b"about", 50
    model.metadata = [entry]
    with pytest.raises(ResourceError, match="buffer 50"):
        read_model(pack(model))


def test_data_behind_the_flatbuffer_are_found() -> None:
    """Files of more than 2 GiB keep their buffers there."""
    model = make_model(
        [int8(1, 4), constant([[1, 2, 3, 4]], "int8", scale=(1.0,)), int8(1, 1)],
        [Op("FULLY_CONNECTED", (0, 1, -1), (2,))],
    )
    for tensor in model.subgraphs[0].tensors:
        tensor.buffer = 1 if tensor.buffer else 0
    model.buffers[1].data = None
    model.buffers[1].size = 4
    head = len(pack_with_offset(model, 1 << 20))
    packed = pack_with_offset(model, head)
    assert len(packed) == head
    read = read_model(packed + bytes([9, 0, 0, 7]))
    assert np.asarray(read.buffers[1].data).tolist() == [9, 0, 0, 7]
    assert weight_zeros(read) == (2, 4)
    with pytest.raises(ResourceError, match="damaged"):
        read_model(packed)


def pack_with_offset(model: schema.ModelT, offset: int) -> bytes:
    model.buffers[1].offset = offset
    return pack(model)


def test_sizes_are_those_of_the_file_and_of_what_gzip_and_zstd_make_of_it(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "x.tflite"
    path.write_bytes(content)
    found = sizes(path)
    assert found["size_bytes"] == len(content)
    assert 0 < found["gzip_bytes"] < len(content)
    assert found == sizes(path)  # no time in the gzip header
    assert found["gzip_bytes"] == len(gzip.compress(content, 9, mtime=5))
    assert 0 < found["zstd_bytes"] < len(content)
    packed = zstandard.compress(content, 19)
    assert found["zstd_bytes"] == len(packed)
    assert zstandard.decompress(packed) == content


def test_large_files_are_packed_as_the_programs_do(monkeypatch: pytest.MonkeyPatch) -> None:
    content = np.random.default_rng(0).integers(0, 9, 10_000).astype(np.uint8).tobytes()
    monkeypatch.setattr(flatbuffer, "STRONGLY_PACKED_BYTES", 10_000)
    assert packed_sizes(content)["zstd_bytes"] == len(zstandard.compress(content, 19))
    monkeypatch.setattr(flatbuffer, "STRONGLY_PACKED_BYTES", 9_999)
    assert packed_sizes(content) == {
        "size_bytes": 10_000,
        "gzip_bytes": len(gzip.compress(content, 6)),
        "zstd_bytes": len(zstandard.compress(content)),
    }  # fmt: skip


def test_zeros_of_weights_are_counted_and_biases_are_not() -> None:
    tensors, ops = int8_classifier()
    tensors[9].values[1:4] = 0
    expected_zeros = sum(int((tensors[n].values == 0).sum()) for n in (1, 4, 9))
    tensors[10].values[:] = 0
    assert weight_zeros(read_model(make_bytes(tensors, ops))) == (expected_zeros, 4 * 18 + 36 + 20)
    assert expected_zeros >= 12


def test_a_device_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "endless.tflite").symlink_to("/dev/zero")
    with pytest.raises(ResourceError, match="not a regular file"):
        read_content(tmp_path / "endless.tflite")
