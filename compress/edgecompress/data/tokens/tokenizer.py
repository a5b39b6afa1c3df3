"""Text as token numbers: bytes, characters, words or pieces of words, learnt from the train split."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecompress.data.base import Vocabulary
from edgecompress.data.tokens.hf_tokens import HfTokens
from edgecompress.data.tokens.subwords import Subwords, train_subwords
from edgecompress.errors import DataError
from edgecompress.recipe.schema import TokenizerSpec
from edgecompress.sources.border import at_border, described

#: Token 0 pads, token 1 stands for everything that is not in the vocabulary.
PADDING, UNKNOWN = 0, 1
SPECIAL = 2
WORD = re.compile(r"\w+|[^\w\s]")
#: What an unknown token is written as.
UNKNOWN_SHOWN = "\N{REPLACEMENT CHARACTER}"


def in_rows(tokens: Iterable[NDArray[np.int32]], count: int, length: int) -> NDArray[np.int32]:
    """Returns (count, length) token numbers, the ends of longer rows cut off, shorter ones padded in front by 0."""
    result = np.full((count, length), PADDING, np.int32)
    for row, found in zip(result, tokens, strict=True):
        kept = found[:length]
        row[length - len(kept) :] = kept
    return result


class Bytes:
    """The bytes of UTF-8, numbered from 2: nothing is unknown, and nothing is learnt."""

    size = 256 + SPECIAL

    def encode_whole(self, text: str) -> NDArray[np.int32]:
        """Returns all tokens of a text."""
        return np.frombuffer(text.encode(), np.uint8).astype(np.int32) + SPECIAL

    def encode(self, texts: Sequence[str], length: int) -> NDArray[np.int32]:
        """Returns (N, length) token numbers; see `in_rows`."""
        # A character has a byte or more: what lies behind `length` of them is not needed.
        return in_rows((self.encode_whole(text[:length]) for text in texts), len(texts), length)

    def decode(self, tokens: Sequence[int]) -> str:
        """Returns the text that tokens stand for; bytes that are no UTF-8 become replacement characters."""
        return bytes(token - SPECIAL for token in tokens if token >= SPECIAL).decode(errors="replace")

    def document(self) -> dict[str, Any]:
        """Returns plain JSON values from which another program can do the same."""
        return {"kind": "byte", "encoding": "utf-8", "first": SPECIAL}


class Pieces:
    """A vocabulary of pieces that a text is cut into: its characters, or its words and punctuation marks."""

    def __init__(self, kind: str, pieces: Sequence[str], *, lowercase: bool) -> None:
        """Takes the pieces in the order of their numbers, which start at 2."""
        self._kind = kind
        self._pieces = tuple(pieces)
        self._lowercase = lowercase
        self._numbers = {piece: number for number, piece in enumerate(pieces, start=SPECIAL)}
        self._cut = CUT[kind]

    @property
    def size(self) -> int:
        """How many tokens there are, padding and unknown included."""
        return len(self._pieces) + SPECIAL

    def encode_whole(self, text: str) -> NDArray[np.int32]:
        """Returns all tokens of a text."""
        return self._tokens(text, None)

    def encode(self, texts: Sequence[str], length: int) -> NDArray[np.int32]:
        """Returns (N, length) token numbers; see `in_rows`."""
        return in_rows((self._tokens(text, length) for text in texts), len(texts), length)

    def decode(self, tokens: Sequence[int]) -> str:
        """Returns the text that tokens stand for: words with spaces between them."""
        between = "" if self._kind == "char" else " "
        return between.join(
            UNKNOWN_SHOWN if token == UNKNOWN else self._pieces[token - SPECIAL] for token in tokens if token != PADDING
        )

    def document(self) -> dict[str, Any]:
        """Returns plain JSON values from which another program can do the same."""
        pattern = {"pattern": WORD.pattern} if self._kind == "word" else {}
        return {"kind": self._kind, "lowercase": self._lowercase, **pattern, "tokens": list(self._pieces)}

    def _tokens(self, text: str, most: int | None) -> NDArray[np.int32]:
        found = islice(self._cut(text.lower() if self._lowercase else text), most)
        return np.fromiter((self._numbers.get(piece, UNKNOWN) for piece in found), np.int32)


def _words(text: str) -> Iterable[str]:
    return (match.group() for match in WORD.finditer(text))


def _characters(text: str) -> Iterable[str]:
    return text


#: Kind -> what cuts a text, from the front and no further than is asked for.
CUT: dict[str, Callable[[str], Iterable[str]]] = {"word": _words, "char": _characters}


def make_vocabulary(spec: TokenizerSpec, texts: Sequence[str], seed: int) -> Vocabulary:
    """Returns the vocabulary that a recipe asks for, learnt from texts; the seed makes no difference.

    Raises:
        DataError: The texts hold nothing to learn it from.
    """
    del seed
    if spec.kind == "byte":
        return Bytes()
    if not any(text.strip() for text in texts):
        raise DataError("the training texts hold no words: there is nothing to make a vocabulary of.")
    if spec.kind in ("wordpiece", "bpe"):
        return train_subwords(spec.kind, texts, size=spec.vocabulary, lowercase=spec.lowercase)
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(CUT[spec.kind](text.lower() if spec.lowercase else text))
    # The commonest first; the alphabet decides between equals, so that the order of the texts does not.
    ranked = sorted(counts, key=lambda piece: (-counts[piece], piece))
    return Pieces(spec.kind, ranked[: spec.vocabulary - SPECIAL], lowercase=spec.lowercase)


def vocabulary_from(document: Mapping[str, Any]) -> Vocabulary:
    """Returns the vocabulary that a `document()` describes.

    Raises:
        DataError: It describes none.
    """
    with at_border(lambda error: DataError(f"this is no vocabulary that a run left ({described(error)})")):
        match document.get("kind"):
            case "byte":
                return Bytes()
            case "hf":
                return HfTokens(document["tokenizer"], document["padding"])
            case "wordpiece" | "bpe":
                return Subwords(str(document["kind"]), document["tokenizer"])
            case "word" | "char":
                return Pieces(str(document["kind"]), document["tokens"], lowercase=document["lowercase"])
    raise DataError(f"a vocabulary of kind `{document.get('kind')}` is not known")
