"""Small files that ask for much: refused with the reason, or read in proportion to their size."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edgecompress.errors import ResourceError
from edgecompress.tflite.facts.inspection import inspect_flatbuffer
from edgecompress.tflite.format import metadata_reader
from edgecompress.tflite.format.flatbuffer import read_model
from edgecompress.tflite.format.packing import pack
from edgecompress.tflite.format.views import graph_views, least_bytes
from tests.shared import bombs
from tests.unit.made_flatbuffer import Made, Op, int8, make_bytes, make_model

SIZE = 100_000
#: What reading a file of this size may take at most; unbounded it was a hundred times as much and more.
MOST_BYTES = 64 << 20


@pytest.mark.parametrize("bomb", bombs.REFUSED, ids=lambda bomb: bomb.__name__)
def test_what_comes_to_more_than_the_file_could_hold_is_refused(bomb: Callable[[int], bytes]) -> None:
    content = bomb(SIZE)
    said = (
        r"is damaged: (its names come|its vectors come|the names of its operators come|it claims to hold|a tensor has)"
    )
    tracemalloc.start()
    try:
        with pytest.raises(ResourceError, match=said):
            read_model(content)
        assert tracemalloc.get_traced_memory()[1] < MOST_BYTES
    finally:
        tracemalloc.stop()


@pytest.mark.slow
@pytest.mark.parametrize("bomb", bombs.READ, ids=lambda bomb: bomb.__name__)
def test_what_is_read_takes_memory_in_proportion(bomb: Callable[[int], bytes], tmp_path: Path) -> None:
    path = tmp_path / "bomb.tflite"
    path.write_bytes(bomb(SIZE))
    tracemalloc.start()
    try:
        found = inspect_flatbuffer(path, run=False)
        assert tracemalloc.get_traced_memory()[1] < MOST_BYTES
    finally:
        tracemalloc.stop()
    assert found["size_bytes"] == path.stat().st_size


@pytest.mark.slow
def test_equal_vectors_may_be_stored_once() -> None:
    """As our own writer does: a thousand layers of a hundred channels share their zero points."""
    model = bombs.relus(1000)
    for number, tensor in enumerate(model.subgraphs[0].tensors):
        tensor.name = f"layer_{number}/with/a/name/as/long/as/they/are"
        tensor.quantization.scale = np.full(100, 0.5 + number, np.float32)
        tensor.quantization.zeroPoint = np.zeros(100, np.int64)
    content = pack(model)
    assert len(content) < 800 * 1001  # the zero points alone would come to this
    assert len(read_model(content).subgraphs[0].tensors) == 1001


def test_texts_that_are_only_unusual_are_read() -> None:
    content = make_bytes([int8(1, 4, name="n" * 60_000), int8(1, 4)], [Op("RELU", (0,), (1,))])
    assert graph_views(read_model(content))[0].tensors[0].name == "n" * 60_000


def test_the_least_memory_is_that_of_the_most_demanding_operator() -> None:
    tensors = [Made((1, 10)), Made((1, 100)), Made((1, 1000)), Made((1, 7), "int8")]
    model = make_model(tensors, [Op("RELU", (0,), (1,)), Op("RELU", (1,), (2,)), Op("RELU", (2,), (3,))])
    assert least_bytes(graph_views(read_model(pack(model)))) == 4 * 1100


def test_labels_are_limited_in_number(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "labels.tflite"
    path.write_bytes(bombs.labels(10))
    told = inspect_flatbuffer(path, run=False)["tflite_metadata"]
    assert (told["problem"], len(told["labels"])) == (None, 120)
    monkeypatch.setattr(metadata_reader, "MOST_LABELS", 100)
    told = inspect_flatbuffer(path, run=False)["tflite_metadata"]
    assert told["problem"] == "its labels.txt has more than 100 lines"


def test_archives_are_read_as_far_as_their_format_is_known(tmp_path: Path) -> None:
    path = tmp_path / "packed.tflite"
    path.write_bytes(bombs.packed_by_lzma(0))
    told = inspect_flatbuffer(path, run=False)["tflite_metadata"]
    assert "labels.txt is packed otherwise than by deflate" in told["problem"]
