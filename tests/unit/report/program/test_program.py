"""The report's program for text, recordings, numbers and anomalies: it does what the run did."""

from __future__ import annotations

import sys
import wave
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edgecompress.data import front_end
from edgecompress.data.tokens.tokenizer import make_vocabulary
from edgecompress.recipe.schema import AudioSpec, TokenizerSpec
from edgecompress.report.program.program import snippet
from edgecompress.report.schema import DataSummary, TensorSummary
from edgecompress.stages.exporting.text_notes import vocabulary_summary
from edgecompress.store.files import write_json
from edgecompress.tflite.runtime.probe import build
from tests.unit.report import sample

DATA = replace(
    sample.inputs().data, classes=(), input_shape=(4,), value_scale=1.0, mean=(0.0,), std=(1.0,), kind="features"
)
IDENTITY = TensorSummary("int8", (1, 4), 1.0, 0)
TEXT = "The cat sat; the dog sat.\nA cat ran to the Dog."


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[[str], str]:
    """Runs a program on a sample and the probe's flatbuffer, RELU on four int8 values of scale 1."""
    monkeypatch.chdir(tmp_path)
    Path("model.tflite").write_bytes(build())
    np.save("sample.npy", np.array([1.0, 2.0, 3.0, -4.0]))

    def output(program: str) -> str:
        monkeypatch.setattr(sys, "argv", ["program.py", "sample.npy"])
        exec(compile(program, "program.py", "exec"), {"__name__": "__main__"})  # noqa: S102 - our own program
        return capsys.readouterr().out

    return output


def loaded(program: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Returns a program's functions, as they are beside the run's files."""
    monkeypatch.chdir(folder)
    names: dict[str, Any] = {"__name__": "program"}
    exec(compile(program, "program.py", "exec"), names)  # noqa: S102 - our own program
    return names


def test_pictures_of_16_bits_become_8_as_in_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = replace(sample.inputs().data, input_shape=(1, 2, 2), value_scale=1 / 255, levels=(500, 800))
    program = snippet("x", data, replace(IDENTITY, shape=(1, 2, 2, 1)), IDENTITY, "model.tflite")
    load = loaded(program, tmp_path, monkeypatch)["load"]
    Image.fromarray(np.array([[400, 500], [700, 900]], np.uint16)).save("x.png")
    assert load("x.png")[..., 0].tolist() == [[0, 0], [170, 255]]
    Image.fromarray(np.array([[4, 5], [7, 9]], np.uint8)).save("x.png")
    assert load("x.png")[..., 0].tolist() == [[4, 5], [7, 9]]


def test_values_too_large_for_float32_are_given_as_they_are(run: Callable[[str], str]) -> None:
    base = 1_700_000_000_000_000_000
    targets = tuple({"name": f"number {k}", "mean": 1.7e9, "std": 1.0} for k in range(4))
    data = replace(DATA, targets=targets, subtracted=(base,))
    np.save("sample.npy", base + np.array([1, 2, 3, -4]))
    program = snippet("x", data, IDENTITY, IDENTITY, "model.tflite", "regression")
    assert run(program).splitlines() == [
        f"number {k}: {1_700_000_001 + k if k < 3 else 1_700_000_000}" for k in range(4)
    ]
    each = replace(data, subtracted=(base, base, base, base - 9))
    program = snippet("x", each, IDENTITY, IDENTITY, "model.tflite", "regression")
    assert run(program).splitlines()[3] == "number 3: 1700000005"


def test_numbers_are_printed_in_the_units_of_the_data(run: Callable[[str], str]) -> None:
    targets = tuple({"name": f"number {k}", "mean": 10.0 * k, "std": 2.0} for k in range(4))
    program = snippet("x", replace(DATA, targets=targets), IDENTITY, IDENTITY, "model.tflite", "regression")
    assert "python predict.py sample.npy" in program
    assert run(program) == "number 0: 2\nnumber 1: 14\nnumber 2: 26\nnumber 3: 30\n"


def test_the_score_of_an_anomaly_is_the_mean_square_of_what_is_not_given_back(run: Callable[[str], str]) -> None:
    program = snippet("x", DATA, IDENTITY, IDENTITY, "model.tflite", "anomaly-detection")
    assert float(run(program)) == 4.0  # RELU gives all but the last one back


@pytest.mark.parametrize("kind", ["byte", "char", "word", "wordpiece", "bpe"])
def test_text_becomes_the_tokens_of_the_run(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = TokenizerSpec.model_validate({"kind": kind, "vocabulary": 300})
    vocabulary = make_vocabulary(spec, [TEXT] * 3, 0)
    write_json(tmp_path / "vocabulary.json", vocabulary.document())
    data = replace(
        DATA, kind="tokens", input_shape=(12,), vocabulary=vocabulary_summary(vocabulary), classes=("a", "b")
    )
    given = TensorSummary("int32", (1, 12))
    program = snippet("x", data, given, TensorSummary("int8", (1, 2), 0.1, 0), "model.tflite", "text-classification")
    names = loaded(program, tmp_path, monkeypatch)
    for text in (TEXT, "Unseen: a dog", ""):
        (tmp_path / "text.txt").write_text(text, encoding="utf-8")
        found = names["load"]("text.txt")
        np.testing.assert_array_equal(found, vocabulary.encode([text], 12)[0])
        assert found.dtype == np.int32
    whole = vocabulary.encode_whole(TEXT).tolist()
    assert names["encode"](TEXT) == whole
    assert names["decode"](whole) == vocabulary.decode(whole)


def test_a_language_model_goes_on_token_by_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = replace(DATA, kind="tokens", input_shape=(4,), vocabulary={"kind": "byte", "first": 2, "size": 258})
    given, answer = TensorSummary("int32", (1, 4)), TensorSummary("int8", (1, 4, 258), 0.1, 0)
    program = snippet("x", data, given, answer, "model.tflite", "language-modeling")
    names = loaded(program, tmp_path, monkeypatch)
    seen: list[list[int]] = []

    def output(_index: int) -> np.ndarray:
        scores = np.zeros((1, 4, 258), np.int8)
        scores[0, -1, seen[-1][-1] + 1] = 100  # the next byte
        scores[0, -1, :2] = 127  # padding and the unknown are no text
        return scores

    interpreter: Any = SimpleNamespace(
        get_input_details=lambda: [{"index": 0}],
        get_output_details=lambda: [{"index": 1}],
        set_tensor=lambda _index, x: seen.append(x[0].tolist()),
        invoke=lambda: None,
        get_tensor=output,
    )
    assert names["write"](interpreter, "ab", 3) == "abcde"
    assert seen[0] == [0, 0, 2 + ord("a"), 2 + ord("b")]
    assert seen[-1] == [2 + ord(letter) for letter in "abcd"]


@pytest.mark.parametrize("features", ["log-mel", "mfcc"])
def test_recordings_become_the_frames_of_the_run(
    features: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    description = front_end.describe(AudioSpec.model_validate({"features": features, "sample_rate": 8000}))
    shape = front_end.shape(description)
    data = replace(
        DATA, kind="series", input_shape=shape, front_end=description, classes=("a", "b"), mean=(0.0,) * shape[1],
        std=(1.0,) * shape[1],
    )  # fmt: skip
    given = TensorSummary("int8", (1, *shape), 0.1, 0)
    program = snippet("x", data, given, TensorSummary("int8", (1, 2), 0.1, 0), "model.tflite", "audio-classification")
    names = loaded(program, tmp_path, monkeypatch)
    stereo = np.random.default_rng(0).integers(-9000, 9000, (6000, 2)).astype("<i2")
    _record(tmp_path / "short.wav", stereo, 8000)
    waveform = (stereo.mean(1) / 32768).astype(np.float32)
    expected = front_end.features(front_end.fitted(waveform, 8000, description)[None], description)[0]
    np.testing.assert_allclose(names["load"]("short.wav"), expected, atol=1e-3)
    _record(tmp_path / "fast.wav", stereo, 16000)
    with pytest.raises(SystemExit, match="8000"):
        names["load"]("fast.wav")


def _record(path: Path, samples: np.ndarray, rate: int) -> None:
    with wave.open(str(path), "wb") as recording:
        recording.setnchannels(samples.shape[1])
        recording.setsampwidth(2)
        recording.setframerate(rate)
        recording.writeframes(samples.tobytes())


def test_many_channels_are_read_from_the_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mean = tuple(float(k) for k in range(50))
    data: DataSummary = replace(DATA, input_shape=(50,), mean=mean, std=(2.0,) * 50)
    write_json(tmp_path / "report.json", {"data": {"normalization": {"mean": list(mean), "std": [2.0] * 50}}})
    given = TensorSummary("float32", (1, 50))
    program = snippet("x", data, given, given, "model.tflite", "anomaly-detection")
    names = loaded(program, tmp_path, monkeypatch)
    np.testing.assert_array_equal(names["MEAN"], mean)
    report = sample.report(data=data, input=given)
    assert report["input"]["formula"] == "x = value * 0.5 + offset"
    assert len(report["input"]["offset"]) == 50
