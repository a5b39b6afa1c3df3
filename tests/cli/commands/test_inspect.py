"""`edgecompress inspect`, on a flatbuffer of one operator."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgecompress.tflite.format.flatbuffer import read_model
from edgecompress.tflite.format.metadata import (
    AssociatedFile,
    ModelNotes,
    TensorNotes,
    append_files,
    attach_notes,
    label_lines,
)
from edgecompress.tflite.format.packing import pack
from edgecompress.tflite.runtime.probe import build
from edgecompress_cli.commands import inspect as command
from edgecompress_cli.main import invoke
from tests.unit.made_flatbuffer import Made, Op, int8, make_bytes

NOTES = ModelNotes(
    "a net", "identity", "1a",
    inputs=(TensorNotes("image", content="image", color_space="RGB", mean=(1.0, 2.5, 3.0), std=(64.0,)),),
    outputs=(TensorNotes(files=(AssociatedFile("labels.txt", "axis labels"),)),),
)  # fmt: skip
Capture = pytest.CaptureFixture[str]


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    Path("relu.tflite").write_bytes(build())
    return "relu.tflite"


def test_shows_operators_types_and_sizes(model: str, capsys: Capture) -> None:
    assert invoke(["inspect", model, "--no-run"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    lines = out.splitlines()
    size = len(build())
    assert lines[0].startswith(f"relu.tflite: {size / 1024:.1f} KiB, ")
    assert lines[1] == "input   input  int8[1, 4]  int8 = round(real / 1), clipped to -128..127"
    assert lines[2] == "output  output  int8[1, 4]  real = 1 * int8"
    assert "RELU          1  int8 1" in lines
    assert "weights:   0, 0.0% of them zero" in lines
    assert lines[-1] == "INT8 throughout."
    assert "arena" not in out


def test_shows_what_the_metadata_says(model: str, capsys: Capture) -> None:
    classes = [f"class {number}" for number in range(12)]
    content = read_model(build())
    attach_notes(content, NOTES)
    Path(model).write_bytes(append_files(pack(content), {"labels.txt": label_lines(classes)}))
    assert invoke(["inspect", model, "--no-run"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "  a net, version 1a: identity" in lines
    assert "  input   image: image RGB, (value - [1, 2.5, 3]) / 64" in lines
    assert "  output  unnamed: labels.txt" in lines
    assert f"  labels  12: {', '.join(classes[:10])}, ..." in lines
    assert any(line.startswith("overhead:  ") and "(within the 8,408 that" in line for line in lines)
    assert invoke(["inspect", model, "--no-run", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["tflite_metadata"]["labels"] == classes
    assert document["metadata_bytes"] == document["bytes"]["metadata"] > sum(map(len, classes))


def test_metadata_that_is_damaged_is_named(model: str, capsys: Capture) -> None:
    content = read_model(build())
    attach_notes(content, NOTES)
    content.buffers[-1].data = content.buffers[-1].data[:30]
    Path(model).write_bytes(pack(content))
    assert invoke(["inspect", model, "--no-run"]) == 0
    out = capsys.readouterr().out
    assert "  unreadable: its TFLite metadata is damaged" in out
    assert "INT8 throughout." in out


@pytest.mark.slow
def test_runs_it_for_the_arena(model: str, capsys: Capture) -> None:
    pytest.importorskip("tflite_micro")
    assert invoke(["inspect", model]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "LiteRT:    runs it" in lines
    assert any(line.startswith("arena:     ") and "by tflite-micro" in line for line in lines)


def test_wider_types_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    monkeypatch.chdir(tmp_path)
    wide = {"scale": (0.5,), "zero_point": (0,)}
    ops = [Op("QUANTIZE", (0,), (1,)), Op("RELU", (1,), (2,)), Op("DEQUANTIZE", (2,), (3,))]
    tensors = [int8(1, 4), Made((1, 4), "int16", **wide), Made((1, 4), "int16", **wide), Made((1, 4))]
    Path("wide.tflite").write_bytes(make_bytes(tensors[:3], ops[:2]))
    assert invoke(["inspect", "wide.tflite", "--no-run"]) == 0
    out = capsys.readouterr().out
    assert "Integers throughout: INT8, and INT16 in 2 tensors\n" in out
    assert "Not INT8" not in out
    assert "A recipe may have asked for these types (quantize.activations, quantize.allow)." in out
    ops.append(Op("SIN", (3,), (4,)))
    Path("wide.tflite").write_bytes(make_bytes([*tensors, Made((1, 4))], ops))
    assert invoke(["inspect", "wide.tflite", "--no-run"]) == 0
    assert "Not INT8: 4 tensors (2 float32, 2 int16)\n" in capsys.readouterr().out


def test_json_is_one_document(model: str, capsys: Capture) -> None:
    assert invoke(["inspect", model, "--no-run", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["ok"] is True
    assert document["size_bytes"] == len(build())
    assert document["ops"] == {"RELU": {"count": 1, "dtypes": {"int8": 1}}}
    assert [layer["op"] for layer in document["layers"]] == ["RELU"]
    assert (document["runs"], document["arena"], document["not_int8"]) == (None, None, [])


@pytest.mark.parametrize("content", [None, b"no flatbuffer at all", b""])
@pytest.mark.parametrize("as_json", [False, True])
def test_what_is_no_flatbuffer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture, content: bytes | None, as_json: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    if content is not None:
        Path("gone.tflite").write_bytes(content)
    assert invoke(["inspect", "gone.tflite", *(["--json"] if as_json else [])]) == 4
    out, err = capsys.readouterr()
    said = json.loads(out)["error"]["message"] if as_json else err
    assert "gone.tflite" in said
    assert "Traceback" not in said


def test_layers_faults_and_a_refusal_are_shown(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    layer = {
        "index": 0, "layer": "a_very_long_name/of/a/layer/that/does/not/fit/here/conv;bias", "op": "CONV_2D",
        "dtypes": "int8", "output_shape": [1, 8, 8, 16], "macs": 9216, "constant_bytes": 208, "weight_dtype": "int8",
        "weight_shape": [16, 3, 3, 1], "weight_quantization": {"kind": "per channel"}, "output_scale": 0.0235294,
        "output_zero_point": -128, "sparsity": {"zeros": 14, "weights": 144, "share": 14 / 144},
    }  # fmt: skip
    fault = {"op": "MEAN", "op_index": 3, "layer": "pool;x", "dtype": "float32", "why": "it writes float32 values"}
    found = {
        "file": "x.tflite", "size_bytes": 2048, "gzip_bytes": 1024, "zstd_bytes": 768, "inputs": [],
        "metadata": ["min_runtime_version"],
        "outputs": [{"name": "", "dtype": "float32", "shape": [1, 10], "how": "real numbers as they are"}],
        "layers": [layer], "ops": {"CONV_2D": {"count": 1, "dtypes": {"int8": 1}}}, "tensors": {"int8": 2},
        "macs": 9216,
        "weights": {"count": 144, "share": 14 / 144}, "quantization": {"per_tensor": 2, "per_channel": 1, "none": 0},
        "bytes": {"weights": 144, "metadata": 0}, "runs": {"works": False, "reason": "it was refused"},
        "arena": {"arena_bytes": None, "reason": "tflite-micro is not installed"}, "not_int8": [fault] * 12,
        "tflite_metadata": {"problem": "it was cut short"}, "overhead_bytes": 9000, "overhead_allowance_bytes": 8408,
    }  # fmt: skip
    monkeypatch.setattr("edgecompress.tflite.facts.inspection.inspect_flatbuffer", lambda path, *, run: found)
    assert invoke(["inspect", "x.tflite"]) == 0
    out = capsys.readouterr().out
    cut = "..." + "a_very_long_name/of/a/layer/that/does/not/fit/here/conv"[3 - command.NAME_WIDTH :]
    assert len(cut) == command.NAME_WIDTH
    for text in (
        cut, "int8 16x3x3x1, per channel", "9.7%", "0.023529, -128", "9,216", "metadata: min_runtime_version",
        "output  unnamed  float32[1, 10]", "LiteRT:    it was refused", "bytes:     weights 144\n",
        "arena:     not available (tflite-micro is not installed)", "Not INT8: 12 tensors (12 float32)",
        "  MEAN (#3, pool): it writes float32 values", "  and 2 more (--json lists all)",
        "  unreadable: it was cut short", "overhead:  9,000 bytes", "(more than the 8,408 that",
    ):  # fmt: skip
        assert text in out, text
