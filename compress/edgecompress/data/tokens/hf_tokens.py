"""The tokens of a Hugging Face model: what it was trained with, special tokens and padding behind included."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecompress.data.tokens.subwords import BATCH, head
from edgecompress.errors import ModelError
from edgecompress.quiet import quiet
from edgecompress.sources.border import at_border, described
from edgecompress.sources.hugging_face import CONFIG, TOKENIZER, hf_config, hf_document, hf_folder

FAILS = "fails on a text of the data"


class HfTokens:
    """A vocabulary that a model brings.

    Attributes:
        padding: The token that stands behind short texts.
    """

    def __init__(self, document: Mapping[str, Any], padding: int, origin: str = "the vocabulary") -> None:
        """Takes the document of a tokenizer of the `tokenizers` library, and what messages call it.

        Raises:
            ModelError: It is none.
        """
        from tokenizers import Tokenizer

        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
        self.padding = padding
        self._origin = origin
        self._document = {**document, "truncation": None, "padding": None}
        with self._blamed("is no tokenizer"):
            self._tokenizer = Tokenizer.from_str(json.dumps(self._document))

    @contextlib.contextmanager
    def _blamed(self, problem: str) -> Iterator[None]:
        """Turns what the library raises into an error that names the tokenizer; its panics announce themselves."""

        def explain(error: BaseException) -> ModelError:
            return ModelError(
                f"{self._origin} {problem} ({described(error)}). Save it again with the `tokenizers` library."
            )

        with at_border(explain), quiet():
            yield

    @property
    def size(self) -> int:
        """How many tokens there are."""
        return int(self._tokenizer.get_vocab_size())

    def encode_whole(self, text: str) -> NDArray[np.int32]:
        """Returns all tokens of a text, without special ones."""
        with self._blamed(FAILS):
            return np.array(self._tokenizer.encode(text, add_special_tokens=False).ids, np.int32)

    def encode(self, texts: Sequence[str], length: int) -> NDArray[np.int32]:
        """Returns (N, length) token numbers as the model expects them: cut off and padded behind."""
        result = np.full((len(texts), length), self.padding, np.int32)
        with self._blamed(FAILS):
            self._tokenizer.enable_truncation(length)
            for start in range(0, len(texts), BATCH):
                found = self._tokenizer.encode_batch_fast([head(text, length) for text in texts[start : start + BATCH]])
                for row, one in zip(result[start:], found, strict=False):
                    row[: len(one.ids)] = one.ids
            self._tokenizer.no_truncation()
        return result

    def decode(self, tokens: Sequence[int]) -> str:
        """Returns the text that tokens stand for."""
        with self._blamed("cannot turn tokens back into text"):
            return str(self._tokenizer.decode([int(token) for token in tokens], skip_special_tokens=False))

    def document(self) -> dict[str, Any]:
        """Returns plain JSON values from which another program can do the same: `tokenizer` is the library's own."""
        return {"kind": "hf", "padding": self.padding, "tokenizer": self._document}


def hf_tokens(name: str, base_dir: Path) -> HfTokens:
    """Returns the vocabulary of the model `hf/DIR`.

    Raises:
        ModelError: Its folder cannot be used.
    """
    folder = hf_folder(name, base_dir)
    padding = hf_config(name, folder).get("pad_token_id")
    document = hf_document(name, folder, TOKENIZER)
    origin = f"model {name}: {folder / TOKENIZER}"
    tokens = HfTokens(document, padding if isinstance(padding, int) else 0, origin)
    if not 0 <= tokens.padding < max(tokens.size, 1):
        raise ModelError(
            f"model {name}: {folder / CONFIG}: `pad_token_id` is {tokens.padding}, but {TOKENIZER} has the tokens 0 to "
            f"{tokens.size - 1}."
        )
    return tokens
