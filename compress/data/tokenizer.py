"""Text as token numbers: bytes, characters, words or pieces of words, learnt from the train split."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compress.data.base import Vocabulary
from compress.errors import DataError
from compress.recipe import TokenizerSpec

#: Token 0 pads, token 1 stands for everything that is not in the vocabulary.
PADDING, UNKNOWN = 0, 1
WORD = re.compile(r"\w+|[^\w\s]")


class Words:
    """A vocabulary of words and punctuation marks."""

    def __init__(self, words: Sequence[str], *, lowercase: bool) -> None:
        """Takes the words in the order of their numbers, which start at 2."""
        self._words = tuple(words)
        self._lowercase = lowercase
        self._numbers = {word: number for number, word in enumerate(words, start=2)}

    @property
    def size(self) -> int:
        """How many tokens there are, padding and unknown included."""
        return len(self._words) + 2

    def encode_whole(self, text: str) -> NDArray[np.int32]:
        """Returns all tokens of a text."""
        found = WORD.findall(text.lower() if self._lowercase else text)
        return np.array([self._numbers.get(word, UNKNOWN) for word in found], np.int32)

    def encode(self, texts: Sequence[str], length: int) -> NDArray[np.int32]:
        """Returns (N, length) token numbers, the ends of longer texts cut off, shorter ones padded in front by 0."""
        result = np.full((len(texts), length), PADDING, np.int32)
        for row, text in zip(result, texts, strict=True):
            tokens = self.encode_whole(text)[:length]
            row[length - len(tokens) :] = tokens
        return result

    def decode(self, tokens: Sequence[int]) -> str:
        """Returns the words that tokens stand for, with spaces between them."""
        return " ".join("?" if n == UNKNOWN else self._words[n - 2] for n in tokens if n != PADDING)

    def document(self) -> dict[str, Any]:
        """Returns plain JSON values from which another program can do the same."""
        return {"kind": "word", "lowercase": self._lowercase, "pattern": WORD.pattern, "tokens": list(self._words)}


def make_vocabulary(spec: TokenizerSpec, texts: Sequence[str], seed: int) -> Vocabulary:
    """Returns the vocabulary that a recipe asks for, learnt from texts.

    Raises:
        DataError: The texts hold nothing to learn it from.
    """
    del seed
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(WORD.findall(text.lower() if spec.lowercase else text))
    if not counts:
        raise DataError("the training texts hold no words: there is nothing to make a vocabulary of.")
    # The commonest first; the alphabet decides between equals, so that the order of the texts does not.
    ranked = sorted(counts, key=lambda word: (-counts[word], word))
    return Words(ranked[: spec.vocabulary - 2], lowercase=spec.lowercase)
