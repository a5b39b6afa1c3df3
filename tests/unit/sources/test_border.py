"""The border to native readers: their panics, which are no exceptions, become errors that name the file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, models

from edgecompress.data.reading import picture_files
from edgecompress.data.tokens.hf_tokens import HfTokens, hf_tokens
from edgecompress.data.tokens.tokenizer import vocabulary_from
from edgecompress.errors import DataError, EdgecompressError, ModelError
from edgecompress.models import weight_files
from edgecompress.sources.border import at_border, described


class Panic(BaseException):
    """As Rust's libraries raise it: no Exception."""


def explain(error: BaseException) -> ModelError:
    return ModelError(f"file.bin: damaged ({described(error)})")


@pytest.mark.parametrize("error", [Panic("index out of bounds"), ValueError("no"), RecursionError(), OSError("gone")])
def test_whatever_a_reader_raises_becomes_an_error_with_the_files_name(error: BaseException) -> None:
    with pytest.raises(ModelError, match=rf"file\.bin: damaged \({type(error).__name__}") as caught, at_border(explain):
        raise error
    assert caught.value.__cause__ is error


@pytest.mark.parametrize("event", [KeyboardInterrupt(), SystemExit(3), MemoryError(), DataError("said before")])
def test_what_says_nothing_of_the_file_passes_through(event: BaseException) -> None:
    with pytest.raises(type(event)) as caught, at_border(explain):
        raise event
    assert caught.value is event


def test_a_description_is_one_short_line() -> None:
    assert described(ValueError("\n first.\nsecond")) == "ValueError: first"
    assert described(Panic()) == "Panic"
    assert len(described(ValueError("x" * 9999))) < 400


def panics(*_: Any, **__: Any) -> Any:
    raise Panic("called `Option::unwrap()` on a `None` value")


def test_every_native_reader_stands_behind_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "w.safetensors").write_bytes(b"\x02\0\0\0\0\0\0\0{}")
    (tmp_path / "w.pt").write_bytes(b"\x80\x02")
    (tmp_path / "a.png").write_bytes(b"x")
    monkeypatch.setattr(weight_files, "load", panics)
    monkeypatch.setattr("torch.load", panics)
    monkeypatch.setattr(picture_files.Image, "open", panics)
    for read, name in (
        (weight_files.read_safetensors, "w.safetensors"),
        (weight_files.read_content, "w.pt"),
        (lambda path: picture_files._opened(path).__enter__(), "a.png"),
    ):
        with pytest.raises(EdgecompressError, match=rf"{name}.*Panic: called"):
            read(tmp_path / name)


def tokenizer(**parts: Any) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(Tokenizer(models.WordLevel({"[UNK]": 0, "a": 1}, "[UNK]")).to_str())
    return {**document, **parts}


#: The library panics on the first as it reads it, on the second at a text.
CHARSMAP = tokenizer(normalizer={"type": "Precompiled", "precompiled_charsmap": "AAAA"})
NO_LENGTH = tokenizer(pre_tokenizer={"type": "FixedLength", "length": 0})


def test_a_tokenizer_on_which_the_library_panics(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(b"")
    file = tmp_path / "tokenizer.json"
    file.write_text(json.dumps(CHARSMAP))
    with pytest.raises(ModelError, match=r"tokenizer\.json is no tokenizer .PanicException: Precompiled"):
        hf_tokens(f"hf/{tmp_path}", Path())
    file.write_text(json.dumps(NO_LENGTH))
    tokens = hf_tokens(f"hf/{tmp_path}", Path())
    for use in (lambda: tokens.encode(["a b"], 4), lambda: tokens.encode_whole("a b")):
        with pytest.raises(
            ModelError, match=r"tokenizer\.json fails on a text of the data .PanicException: chunk size"
        ):
            use()
    file.write_text(json.dumps(tokenizer()))
    assert hf_tokens(f"hf/{tmp_path}", Path()).encode(["a"], 2).tolist() == [[1, 0]]
    assert "panicked" not in capfd.readouterr().err


def test_a_vocabulary_that_is_none_is_refused() -> None:
    for document in ({"kind": "hf"}, {"kind": "hf", "tokenizer": [], "padding": 0}, {"kind": "bpe", "tokenizer": {}}):
        with pytest.raises(EdgecompressError):
            vocabulary_from(document)
    with pytest.raises(ModelError, match="the vocabulary is no tokenizer"):
        HfTokens(CHARSMAP, 0)
