"""WordPiece and byte-level BPE, by the `tokenizers` library."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

PADDING = 0
#: Names of tokens 0 and 1; in a text they are characters like any other.
SPECIAL_TOKENS = ["[PAD]", "[UNK]"]
#: What the pieces of a word other than its first begin with, as in BERT (Devlin et al. 2019).
CONTINUED = "##"
WORD = re.compile(r"\S+")
#: A place between two words.
GAP = re.compile(r"(?<=\S)\s")
#: Longer texts are tokenised in parts of about this many characters, texts at a time in batches of this many: the
#: library notes a hundred bytes about every token.
PART, BATCH = 200_000, 512


class Subwords:
    """A vocabulary of pieces of words."""

    def __init__(self, kind: str, document: Mapping[str, Any]) -> None:
        """Takes the kind and the document of a tokenizer of the library."""
        from tokenizers import Tokenizer

        # Nothing here is slow enough to be worth its threads, which warn where a process is forked later.
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
        self._kind = kind
        self._document = dict(document)
        self._tokenizer = Tokenizer.from_str(json.dumps(self._document))

    @property
    def size(self) -> int:
        """How many tokens there are, padding and unknown included."""
        return int(self._tokenizer.get_vocab_size())

    def encode_whole(self, text: str) -> NDArray[np.int32]:
        """Returns all tokens of a text."""
        return np.concatenate([np.zeros(0, np.int32), *self._encoded(list(_parts(text)))])

    def encode(self, texts: Sequence[str], length: int) -> NDArray[np.int32]:
        """Returns (N, length) token numbers, the ends of longer texts cut off, shorter ones padded in front by 0."""
        result = np.full((len(texts), length), PADDING, np.int32)
        for start in range(0, len(texts), BATCH):
            whole = texts[start : start + BATCH]
            heads = [head(text, length) for text in whole]
            for row, tokens, text, cut in zip(result[start:], self._encoded(heads), whole, heads, strict=False):
                found = tokens
                if len(tokens) < length and len(cut) < len(text):  # words that came to no token
                    found = self.encode_whole(text)
                kept = found[:length]
                row[length - len(kept) :] = kept
        return result

    def decode(self, tokens: Sequence[int]) -> str:
        """Returns the text that tokens stand for."""
        known = [token for token in tokens if token != PADDING]
        return str(self._tokenizer.decode(known, skip_special_tokens=False))

    def document(self) -> dict[str, Any]:
        """Returns plain JSON values from which another program can do the same: `tokenizer` is the library's own."""
        return {"kind": self._kind, "tokenizer": self._document}

    def _encoded(self, texts: list[str]) -> list[NDArray[np.int32]]:
        return [np.array(one.ids, np.int32) for one in self._tokenizer.encode_batch(texts, add_special_tokens=False)]


def head(text: str, length: int) -> str:
    """Returns the beginning of a text that its first `length` tokens are made of: a word comes to one or more."""
    if len(text) <= length:
        return text
    for number, word in enumerate(WORD.finditer(text), 1):
        if number == length:
            return text[: word.end()]
    return text


def _parts(text: str) -> Iterator[str]:
    """Returns a text in parts that are tokenised as they are in the whole: each begins at the gap before a word."""
    start = 0
    while gap := GAP.search(text, start + PART):
        yield text[start : gap.start()]
        start = gap.start()
    yield text[start:]


def train_subwords(kind: str, texts: Sequence[str], *, size: int, lowercase: bool) -> Subwords:
    """Returns a vocabulary of at most `size` tokens, learnt from texts.

    `wordpiece` is as in BERT; `bpe` is on bytes, as in GPT-2 (Radford et al. 2019): nothing is unknown to it, and what
    it decodes is what was encoded.
    """
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    trainer: Any
    if kind == "wordpiece":
        tokenizer = Tokenizer(models.WordPiece(unk_token=SPECIAL_TOKENS[1]))
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        tokenizer.decoder = decoders.WordPiece(prefix=CONTINUED, cleanup=False)
        # A character may stand in front and within: it takes two tokens.
        alphabet = max((size - len(SPECIAL_TOKENS)) // 2, 1)
        trainer = trainers.WordPieceTrainer(
            vocab_size=size, special_tokens=SPECIAL_TOKENS, show_progress=False, continuing_subword_prefix=CONTINUED,
            limit_alphabet=alphabet,
        )  # fmt: skip
    else:
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=size, special_tokens=SPECIAL_TOKENS, show_progress=False,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        )  # fmt: skip
    if lowercase:
        tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.train_from_iterator((part for text in texts for part in _parts(text)), trainer)
    document = json.loads(tokenizer.to_str())
    # Else a text that holds "[PAD]" would be padding there.
    document["added_tokens"] = []
    return Subwords(kind, document)
