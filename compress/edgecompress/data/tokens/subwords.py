"""WordPiece and byte-level BPE, by the `tokenizers` library."""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

PADDING = 0
#: Names of tokens 0 and 1; in a text they are characters like any other.
SPECIAL_TOKENS = ["[PAD]", "[UNK]"]
#: What the pieces of a word other than its first begin with, as in BERT (Devlin et al. 2019).
CONTINUED = "##"
#: Words and the gaps between them, as the library sees them: Python counts four control characters as space besides.
WORD = re.compile(r"[\S\x1c-\x1f]+")
GAP = re.compile(r"(?<=[\S\x1c-\x1f])(?![\x1c-\x1f])\s")
#: Longest word that WordPiece takes apart, as in BERT; a longer one is unknown.
LONGEST_WORD = 100
#: Longest word that BPE learns from in one piece.
LEARNT_FROM = 1_000
LONG_WORD = re.compile(rf"\S{{{LEARNT_FROM + 1},}}")
#: Code points that stand for characters within a word while WordPiece is learnt: private ones, so rarely met in text.
WITHIN = 0xF0000
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
        return [
            np.array(one.ids, np.int32) for one in self._tokenizer.encode_batch_fast(texts, add_special_tokens=False)
        ]


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


def _bounded(text: str) -> Iterator[str]:
    """Returns a text with long words in pieces: each pair that is merged would go through all of such a word again."""
    start = 0
    for word in LONG_WORD.finditer(text):
        for end in range(word.start() + LEARNT_FROM, word.end(), LEARNT_FROM):
            yield text[start:end]
            start = end
    yield text[start:]


def train_subwords(kind: str, texts: Sequence[str], *, size: int, lowercase: bool) -> Subwords:
    """Returns a vocabulary of at most `size` tokens, learnt from texts; the same texts always give the same one.

    `wordpiece` is as in BERT; `bpe` is on bytes, as in GPT-2 (Radford et al. 2019): nothing is unknown to it, and what
    it decodes is what was encoded.
    """
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers

    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    parts = (part for text in texts for part in _parts(text))
    normalizer = normalizers.Lowercase() if lowercase else None
    if kind == "wordpiece":
        splitter = pre_tokenizers.BertPreTokenizer()
        clean = (normalizer.normalize_str(part) if normalizer is not None else part for part in parts)
        counts = Counter(word for part in clean for word, _ in splitter.pre_tokenize_str(part))
        pieces = _wordpieces(counts, size)
        model = models.WordPiece(vocab=pieces, unk_token=SPECIAL_TOKENS[1], max_input_chars_per_word=LONGEST_WORD)
        tokenizer = Tokenizer(model)
        tokenizer.pre_tokenizer, tokenizer.decoder = splitter, decoders.WordPiece(CONTINUED, cleanup=False)
    else:
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    if kind == "bpe":
        words = (piece for part in parts for piece in _bounded(part))
        tokenizer.train_from_iterator(words, _trainer(size, pre_tokenizers.ByteLevel.alphabet()))
    document = json.loads(tokenizer.to_str())
    # Else a text that holds "[PAD]" would be padding there.
    document["added_tokens"] = []
    return Subwords(kind, document)


def _trainer(size: int, alphabet: list[str]) -> Any:
    from tokenizers import trainers

    return trainers.BpeTrainer(
        vocab_size=size, special_tokens=SPECIAL_TOKENS, show_progress=False, initial_alphabet=alphabet
    )


def _wordpieces(counts: Counter[str], size: int) -> dict[str, int]:
    """Returns the pieces of words with their numbers, in the order in which they were found.

    The library's own trainer numbers the characters within words as its hash table has them, another way in each
    process. So pairs are merged by its trainer for BPE, over words whose inner characters are others than their first.
    """
    from tokenizers import Tokenizer, models, pre_tokenizers

    inner = {
        character: chr(WITHIN + number) for number, character in enumerate(sorted({c for w in counts for c in w[1:]}))
    }
    outer = {private: character for character, private in inner.items()}
    words = {
        word[0] + "".join(map(inner.__getitem__, word[1:])): count
        for word, count in counts.items()
        if len(word) <= LONGEST_WORD and word[0] not in outer
    }
    often: Counter[str] = Counter()
    for word, count in words.items():
        for character in word:
            often[character] += count
    known = sorted(often, key=lambda character: (-often[character], character))[: size - len(SPECIAL_TOKENS)]
    whole = sorted(word for word in words if set(word) <= set(known))
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    repeated = (" ".join([word] * words[word]) for word in whole)
    tokenizer.train_from_iterator(repeated, _trainer(size, known))
    numbers = sorted(tokenizer.get_vocab().items(), key=lambda pair: pair[1])
    return {_piece(token, outer): number for token, number in numbers}


def _piece(token: str, outer: Mapping[str, str]) -> str:
    """Returns a piece with its own characters, marked if it stands within a word."""
    plain = "".join(outer.get(character, character) for character in token)
    return CONTINUED + plain if token[0] in outer else plain
