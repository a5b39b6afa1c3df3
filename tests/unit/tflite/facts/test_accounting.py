"""Where the bytes of a file go: parts of a file made by hand, of the converter's, and of what is shipped."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from edgecompress.tflite.facts.accounting import OVERHEAD, USEFUL, account, allowance, breakdown, overhead
from edgecompress.tflite.format.finish import finish
from edgecompress.tflite.format.flatbuffer import read_model
from edgecompress.tflite.format.metadata import ModelNotes, append_files, attach_notes
from edgecompress.tflite.format.metadata_reader import archive_bytes
from edgecompress.tflite.format.packing import pack
from tests.unit.converted_net import Converted
from tests.unit.made_flatbuffer import Op, constant, int8, int8_classifier, make_bytes, make_model


def test_bytes_of_a_file_made_by_hand() -> None:
    tensors, ops = int8_classifier()
    content = make_bytes(tensors, ops)
    parts = breakdown(read_model(content), content)
    assert parts["weights"] == 72 + 36 + 20
    assert parts["biases"] == 4 * (4 + 4 + 5)
    assert parts["constants"] == 8
    # Five activations share the scale 0.5; w0, b0, w1 and b1 have four each, w2 and b2 five.
    assert parts["scales"] == 4 * (1 + 4 + 4 + 4 + 4 + 5 + 5)
    assert parts["zero_vectors"] == 8 * (4 + 5)  # four times 0 and five times 0, each stored once
    assert parts["zero_points"] == 8  # of the activations: one 3, stored once
    assert parts["names"] == sum(len(tensor.name) for tensor in tensors) + len("main") + len("made by hand")
    assert sum(parts.values()) == len(content)
    assert parts["structure"] > 0
    assert set(parts) == {*USEFUL, *OVERHEAD}
    assert overhead(parts) == len(content) - sum(parts[name] for name in USEFUL)


def test_the_allowance_is_eight_kib_and_a_share_for_each_operator_and_tensor() -> None:
    assert allowance(make_model(*int8_classifier())) == 8192 + 4 * 120 + 12 * 48


def test_zeros_that_are_stored_again_are_overhead() -> None:
    model = make_model(*int8_classifier())
    shared = pack(model)
    before = breakdown(read_model(shared), shared)
    builder = schema.flatbuffers.Builder(1024)  # flatbuffers' own: it stores every vector
    builder.Finish(model.Pack(builder), b"TFL3")
    content = bytes(builder.Output())
    parts = breakdown(read_model(content), content)
    assert parts["zero_vectors"] == before["zero_vectors"]
    # Four tensors have four zero points and two have five; one of each is not overhead.
    assert overhead(parts) >= overhead(before) + 8 * (3 * 4 + 5)
    assert sum(parts.values()) == len(content)


def test_parameters_of_other_operators_are_weights_and_shapes_are_not() -> None:
    tensors = [
        int8(1, 2, 2, 3),
        constant([1, 2, 3], "int8", scale=(0.1,)),
        int8(1, 2, 2, 3),
        constant([1, 12], "int32"),
        int8(1, 12),
    ]
    content = make_bytes(tensors, [Op("MUL", (0, 1), (2,)), Op("RESHAPE", (2, 3), (4,))])
    parts = breakdown(read_model(content), content)
    assert (parts["weights"], parts["constants"]) == (3, 8)


def test_a_buffer_two_tensors_share_counts_once() -> None:
    model = make_model(*int8_classifier())
    model.subgraphs[0].tensors[10].buffer = model.subgraphs[0].tensors[2].buffer
    model.subgraphs[0].tensors[10].shape = [4]
    before = breakdown(model, bytes(10_000))
    assert before["biases"] == 4 * (4 + 4)
    assert sum(before.values()) == 10_000


@pytest.mark.parametrize("kind", ["floating", "structure"])
def test_bytes_add_up_in_files_of_the_converter(converted: Converted, kind: str) -> None:
    content = converted.floating.read_bytes() if kind == "floating" else converted.structure
    parts = breakdown(read_model(content), content)
    assert sum(parts.values()) == len(content)
    assert min(parts.values()) >= 0
    params = sum(p.numel() for p in converted.module.parameters() if p.ndim > 1)
    assert params * (4 if kind == "floating" else 1) <= parts["weights"] < 1.01 * params * 4


def test_metadata_is_all_that_notes_and_labels_add_but_for_their_entry() -> None:
    plain = make_bytes(*int8_classifier())
    model = make_model(*int8_classifier())
    attach_notes(model, ModelNotes(name="a name of some length", description="x" * 100))
    content = append_files(pack(model), {"labels.txt": b"a\nb\n"})
    before, after = breakdown(read_model(plain), plain), breakdown(read_model(content), content)
    assert before["metadata"] == 0
    assert after["metadata"] > archive_bytes(content) + 121
    changed = {name: after[name] - before[name] for name in after if name != "metadata"}
    assert {name for name, more in changed.items() if more} == {"structure"}
    assert 0 < changed["structure"] <= 100  # the entry, its table and its buffer's


def test_what_is_shipped_keeps_within_the_allowance_and_holds_no_zeros_twice(int8_file: Path, tmp_path: Path) -> None:
    sizes = account(int8_file)
    content = int8_file.read_bytes()
    assert sizes["size_bytes"] == len(content) == sum(sizes["parts"].values())
    assert sizes["overhead_bytes"] == overhead(sizes["parts"]) <= sizes["overhead_allowance_bytes"]
    model = read_model(content)
    lengths = {
        len(tensor.quantization.zeroPoint)
        for tensor in model.subgraphs[0].tensors
        if tensor.quantization is not None
        and tensor.quantization.zeroPoint is not None
        and not np.any(tensor.quantization.zeroPoint)
    }
    assert sizes["parts"]["zero_vectors"] == 8 * sum(lengths)
    labels = [f"layer{k}" for k in range(len(model.subgraphs[0].operators))]
    described, _ = finish(read_model(content), labels, "int8", ModelNotes(name="n"), {"labels.txt": b"a\n"})
    (tmp_path / "described.tflite").write_bytes(described)
    more = account(tmp_path / "described.tflite")
    assert more["metadata_bytes"] > sizes["metadata_bytes"]
    assert abs(more["overhead_bytes"] - sizes["overhead_bytes"]) <= 100
    assert more["overhead_allowance_bytes"] == sizes["overhead_allowance_bytes"]
