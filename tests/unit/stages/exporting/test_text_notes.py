"""What the flatbuffer's metadata tell of text, audio and numbers, and the text that a model writes."""

from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from edgecompress.data.base import Dataset, Normalization
from edgecompress.data.forms import NO_NORMALIZATION
from edgecompress.data.front_end import describe
from edgecompress.data.tokens.tokenizer import make_vocabulary
from edgecompress.recipe.schema import AudioSpec, Recipe, TokenizerSpec
from edgecompress.stages.exporting.notes import metadata_of
from edgecompress.stages.exporting.text_notes import vocabulary_summary
from edgecompress.stages.verifying import sample_text
from edgecompress.tflite.runtime.session import TensorDetails
from tests.unit.made_flatbuffer import int8_classifier, make_model
from tests.unit.stages.exporting.test_notes import EMPTY
from tests.unit.tasks.test_language import task_of

TEXTS = ["a cat sat\non a mat", "a dog"]
MODEL = make_model(*int8_classifier())


def recipe(task: str) -> Recipe:
    return Recipe.model_validate({"version": 1, "task": task, "teacher": {"model": "mlp"}, "quantize": {}})


def text(kind: str) -> Dataset:
    vocabulary = make_vocabulary(TokenizerSpec.model_validate({"kind": kind, "vocabulary": 300}), TEXTS, 0)
    return Dataset("csv", EMPTY, EMPTY, EMPTY, ("x", "y"), (9,), NO_NORMALIZATION, kind="tokens", vocabulary=vocabulary)


@pytest.mark.parametrize("kind", ["word", "char", "wordpiece"])
def test_a_vocabulary_is_a_line_for_every_token(kind: str) -> None:
    data = text(kind)
    notes, files = metadata_of(recipe("text-classification"), data, MODEL)
    assert notes is not None
    assert files is not None
    assert [(one.name, one.kind) for one in notes.inputs[0].files] == [("vocab.txt", "vocabulary")]
    lines = files["vocab.txt"].decode().removesuffix("\n").split("\n")
    assert data.vocabulary is not None
    assert len(lines) == data.vocabulary.size
    assert lines[:2] == ["[PAD]", "[UNK]"]
    for word in ("a",):
        assert lines[int(data.vocabulary.encode_whole(word)[0])] == word
    assert "9 token numbers" in notes.inputs[0].description
    assert notes.inputs[0].mean == ()


def test_a_line_break_in_a_vocabulary_of_characters_is_escaped() -> None:
    _, files = metadata_of(recipe("text-classification"), text("char"), MODEL)
    assert files is not None
    assert "\\n" in files["vocab.txt"].decode().split("\n")


def test_bytes_need_no_file_and_bpe_its_tokenizer() -> None:
    notes, files = metadata_of(recipe("text-classification"), text("byte"), MODEL)
    assert notes is not None
    assert (notes.inputs[0].files, files) == ((), None)
    assert "token = byte + 2" in notes.inputs[0].description
    _, files = metadata_of(recipe("text-classification"), text("bpe"), MODEL)
    assert files is not None
    assert json.loads(files["tokenizer.json"])["model"]["type"] == "BPE"
    assert vocabulary_summary(text("byte").vocabulary) == {"kind": "byte", "encoding": "utf-8", "first": 2, "size": 258}
    assert "tokens" not in (vocabulary_summary(text("word").vocabulary) or {})
    assert vocabulary_summary(None) is None


def test_a_recordings_front_end_is_told_in_full() -> None:
    description = describe(AudioSpec())
    plain = Normalization(1.0, (0.0,) * 40, (1.0,) * 40, "made up")
    data = Dataset("wav", EMPTY, EMPTY, EMPTY, ("x", "y"), (49, 40), plain, kind="series", front_end=description)
    notes, files = metadata_of(recipe("audio-classification"), data, MODEL)
    assert notes is not None
    assert files is not None
    assert json.loads(files["front_end.json"]) == description
    assert "49 frames of 40 values" in notes.inputs[0].description


def test_numbers_are_told_with_their_scale() -> None:
    plain = Normalization(1.0, (0.0,) * 3, (1.0,) * 3, "made up")
    data = Dataset(
        "csv", EMPTY, EMPTY, EMPTY, (), (3,), plain, kind="features", target_names=("minutes", "flat"),
        target_mean=(40.0, -1.0), target_std=(8.0, 0.5), output_shape=(2,),
    )  # fmt: skip
    notes, files = metadata_of(recipe("regression"), data, MODEL)
    assert notes is not None
    assert files is None
    assert notes.outputs[0].description == "minutes = output * 8 + 40; flat = output * 0.5 - 1"
    assert (notes.outputs[0].name, notes.outputs[0].least) == ("prediction", (-128.0,))
    other = replace(data, class_names=("normal", "anomaly"), output_shape=(3,))
    notes, files = metadata_of(recipe("anomaly-detection"), other, MODEL)
    assert notes is not None
    assert notes.outputs[0].name == "reconstruction"
    assert files is None  # the classes are no outputs


class Echo:
    """A session that finds the token after the last one likely by far."""

    def __init__(self, size: int) -> None:
        self.input = TensorDetails("x", (1, 4), np.dtype(np.int32))
        self.output = TensorDetails("y", (1, 4, size), np.dtype(np.float32))
        self.seen: list[list[int]] = []

    def run(self, inputs: np.ndarray) -> np.ndarray:
        self.seen.append(inputs[0].tolist())
        scores = np.zeros((1, *self.output.shape[1:]), np.float32)
        scores[0, -1, inputs[0, -1] + 1] = 200.0
        scores[0, -1, :2] = 400.0  # never text
        return scores


def test_a_model_writes_from_its_own_window(monkeypatch: pytest.MonkeyPatch) -> None:
    task = task_of("byte")
    session = Echo(task.dataset.outputs[1])
    monkeypatch.setattr(sample_text, "RUNTIMES", {"litert": SimpleNamespace(session=lambda *_args, **_more: session)})
    monkeypatch.setattr(sample_text, "TOKENS", 3)
    bench: Any = SimpleNamespace(
        dataset=task.dataset, task=task, ctx=SimpleNamespace(progress=lambda *_event: None),
        recipe=SimpleNamespace(seed=0, benchmark=SimpleNamespace(threads=1)),
    )  # fmt: skip
    found = sample_text.sample_text(bench, None)  # type: ignore[arg-type]
    assert found == {"prompt": "the ", "text": '!"#', "tokens": 3, "temperature": 0.8}
    assert len(session.seen) == 3
    assert session.seen[1] == [*session.seen[0][1:], 2 + ord("!")]


def test_tokens_are_drawn_by_their_shares() -> None:
    rng = np.random.default_rng(0)
    logits = np.log(np.array([1e9, 1e9, 1.0, 3.0], np.float32)) * sample_text.TEMPERATURE
    drawn = [sample_text.draw(logits, rng) for _ in range(2000)]
    assert set(drawn) == {2, 3}
    assert np.mean(np.array(drawn) == 3) == pytest.approx(0.75, abs=0.03)
