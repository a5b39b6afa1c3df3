"""Every kind of tokenizer: what it encodes, what it gives back, and texts that are long, odd or nearly empty."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgecompress.data.tokens.subwords import CONTINUED, PART, head
from edgecompress.data.tokens.tokenizer import Bytes, make_vocabulary, vocabulary_from
from edgecompress.errors import DataError
from edgecompress.recipe.schema import TokenizerSpec
from tests.shared.processes import unmeasured

KINDS = ("byte", "char", "word", "wordpiece", "bpe")
TEXTS = [
    "The quick brown fox jumps over the lazy dog.",
    "Löwen und Bären, Tiger und Affen: alle Tiere sind müde!",
    "the fox, the dog and the other foxes jumped; nobody slept.",
]


def made(kind: str, texts=TEXTS, **spec):
    return make_vocabulary(TokenizerSpec(kind=kind, **{"vocabulary": 400, **spec}), texts, 0)


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_learnt_from_comes_back(kind: str) -> None:
    vocabulary = made(kind, lowercase=False)
    for text in TEXTS:
        tokens = vocabulary.encode_whole(text)
        assert tokens.dtype == np.int32
        assert tokens.min() >= 2
        assert tokens.max() < vocabulary.size <= 400
        back = vocabulary.decode(tokens.tolist())
        assert back.replace(" ", "") == text.replace(" ", "")
        if kind in ("byte", "char", "bpe"):
            assert back == text


@pytest.mark.parametrize("kind", KINDS)
def test_rows_are_padded_in_front_and_cut_behind(kind: str) -> None:
    vocabulary = made(kind)
    rows = vocabulary.encode([*TEXTS, "", "   "], 7)
    assert rows.shape == (5, 7)
    for row, text in zip(rows, TEXTS, strict=False):
        assert row.tolist() == vocabulary.encode_whole(text)[:7].tolist()
    short = vocabulary.encode(["dog"], 20)[0]
    whole = vocabulary.encode_whole("dog")
    assert short.tolist() == [0] * (20 - len(whole)) + whole.tolist()
    assert vocabulary.decode(short.tolist()) == "dog"
    assert not rows[3].any()
    assert vocabulary.encode([], 7).shape == (0, 7)
    assert vocabulary.encode_whole("").shape == (0,)


@pytest.mark.parametrize("kind", KINDS)
def test_another_program_can_do_the_same_from_the_document(kind: str) -> None:
    vocabulary = made(kind)
    again = vocabulary_from(json.loads(json.dumps(vocabulary.document())))
    assert again.size == vocabulary.size
    for text in (*TEXTS, "unheard of: \N{SNOWMAN} zebra"):
        assert again.encode_whole(text).tolist() == vocabulary.encode_whole(text).tolist()
    assert again.document() == vocabulary.document()


def test_a_document_of_another_kind_is_refused() -> None:
    with pytest.raises(DataError, match="`sentencepiece` is not known"):
        vocabulary_from({"kind": "sentencepiece"})


@pytest.mark.parametrize(
    ("kind", "unknown"), [("char", True), ("word", True), ("wordpiece", True), ("byte", False), ("bpe", False)]
)
def test_what_was_never_seen_is_token_1(kind: str, unknown: bool) -> None:
    tokens = made(kind).encode_whole("\N{SNOWMAN}\N{SNOWMAN}")
    assert (1 in tokens) == unknown
    assert len(tokens) >= 1


@pytest.mark.parametrize("kind", KINDS)
def test_capitals_count_where_they_are_asked_to(kind: str) -> None:
    small, both = made(kind, lowercase=True), made(kind, lowercase=False)
    assert both.encode_whole("The").tolist() != both.encode_whole("the").tolist()
    assert (small.encode_whole("The").tolist() == small.encode_whole("the").tolist()) == (kind != "byte")


@pytest.mark.parametrize("kind", KINDS)
def test_a_vocabulary_of_one_word(kind: str) -> None:
    vocabulary = made(kind, ["a", "a a a"], vocabulary=4 if kind != "bpe" else 258)
    assert vocabulary.size == {"byte": 258, "bpe": 258}.get(kind, 4 if kind == "char" else 3)
    tokens = vocabulary.encode(["a", "zebra a", "!"], 3)
    assert vocabulary.decode(tokens[0].tolist()) == "a"
    assert tokens.min() >= 0
    assert tokens.max() < vocabulary.size


@pytest.mark.parametrize("kind", ["char", "word", "wordpiece", "bpe"])
@pytest.mark.parametrize("texts", [[], [""], ["  ", "\n\t"]])
def test_nothing_to_learn_from_is_said(kind: str, texts) -> None:
    with pytest.raises(DataError, match="the training texts hold no words"):
        made(kind, texts)


@pytest.mark.parametrize("kind", ["char", "word", "wordpiece"])
def test_the_size_asked_for_is_not_passed(kind: str) -> None:
    for size in (4, 10, 31):
        assert made(kind, vocabulary=size).size <= size
    chinese = "".join(chr(0x4E00 + n) for n in range(500))
    assert made(kind, [chinese, " ".join(chinese)], vocabulary=100).size <= 100


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("text", ["word, " * 16_667, "x" * 100_000, "\N{SNOWMAN}" * 100_000, "Ärger\r\n" * 16_667])
def test_a_text_of_100_000_characters_takes_no_time(kind: str, text: str) -> None:
    vocabulary = made(kind)
    start = time.process_time()
    row = vocabulary.encode([text] * 3, 64)[0]
    assert time.process_time() - start < 1.0
    expected = vocabulary.encode_whole(text)[:64].tolist()
    assert row.tolist() == [0] * (64 - len(expected)) + expected


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["wordpiece", "bpe"])
def test_parts_of_a_long_text_are_tokenised_as_the_whole(kind: str) -> None:
    generator = random.Random(0)  # noqa: S311 - nothing secret
    words = [
        word + generator.choice(["", ",", "\n", "   ", "\t", "'s", "!?", "\r\n  "]) for word in " ".join(TEXTS).split()
    ]
    text = " ".join(generator.choice(words) for _ in range(PART // 3))
    assert len(text) > PART * 2
    vocabulary = made(kind)
    whole = vocabulary._tokenizer.encode(text, add_special_tokens=False).ids
    assert vocabulary.encode_whole(text).tolist() == whole


@settings(max_examples=25, deadline=None)
@given(st.text(max_size=60), st.integers(1, 12))
def test_cutting_a_text_does_not_change_its_first_tokens(text: str, length: int) -> None:
    for kind in KINDS:
        vocabulary = LEARNT[kind]
        expected = vocabulary.encode_whole(text)[:length].tolist()
        found = vocabulary.encode([text], length)[0].tolist()
        assert found == [0] * (length - len(expected)) + expected
    assert text.startswith(head(text, length))


LEARNT = {kind: made(kind) for kind in KINDS}


@settings(max_examples=50, deadline=None)
@given(st.text(max_size=40))
def test_bytes_and_byte_pairs_give_back_any_text(text: str) -> None:
    assert Bytes().decode(Bytes().encode_whole(text).tolist()) == text
    exact = EXACT
    assert exact.decode(exact.encode_whole(text).tolist()) == text


EXACT = made("bpe", lowercase=False)


@pytest.mark.parametrize("kind", ["wordpiece", "bpe"])
def test_the_names_of_special_tokens_are_text_like_any_other(kind: str) -> None:
    tokens = made(kind, ["[PAD] [UNK] pad unk"]).encode_whole("[PAD] [UNK]")
    assert 0 not in tokens
    assert len(tokens) > 2


def test_wordpieces_are_learnt_by_how_often_they_are_met() -> None:
    vocabulary = made("wordpiece", ["un" * 1 + "do undo undone redo redone do done"] * 5, vocabulary=24)
    tokens = vocabulary.document()["tokenizer"]["model"]["vocab"]
    assert {token: number for token, number in tokens.items() if number < 2} == {"[PAD]": 0, "[UNK]": 1}
    assert sorted(tokens.values()) == list(range(len(tokens)))
    assert {"u", "##d", "##o", "##do", "do", "undo"} <= set(tokens)
    ids = {token: number for number, token in enumerate(sorted(tokens, key=tokens.__getitem__))}
    assert vocabulary.encode_whole("undo").tolist() == [ids["undo"]]
    assert len(vocabulary.encode_whole("dodo")) == 2
    assert vocabulary.decode(vocabulary.encode_whole("dodo").tolist()) == "dodo"
    assert all(not token.startswith(CONTINUED) or len(token) > 2 for token in tokens)


def test_half_a_byte_sequence_is_shown_as_such() -> None:
    assert Bytes().decode([0, 0, 0xC3 + 2]) == "\N{REPLACEMENT CHARACTER}"
    assert Bytes().document() == {"kind": "byte", "encoding": "utf-8", "first": 2}


@pytest.mark.slow
def test_every_process_learns_the_same() -> None:
    program = (
        "import json\nfrom edgecompress.recipe.schema import TokenizerSpec\n"
        "from edgecompress.data.tokens.tokenizer import make_vocabulary\n"
        "texts = [' '.join(f'w{a * b % 97}x{a}' for a in range(60)) for b in range(50)]\n"
        "print(json.dumps([make_vocabulary(TokenizerSpec(kind=k, vocabulary=600), texts, 0).document() for k in "
        "('char', 'word', 'wordpiece', 'bpe')]))"
    )
    runs = {
        subprocess.run(
            [sys.executable, "-c", program], env=unmeasured(os.environ), capture_output=True, text=True, check=True
        ).stdout
        for _ in range(2)
    }
    assert len(runs) == 1
