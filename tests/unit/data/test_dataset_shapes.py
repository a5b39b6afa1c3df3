"""What a dataset tells the stages of shapes and types."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from edgecompress.data.base import NUMBERS_PER_TOKEN, Dataset, Ends, Normalization, Split
from edgecompress.data.tokens.tokenizer import make_vocabulary
from edgecompress.recipe.schema import TokenizerSpec

SPLIT = Split(np.zeros((4, 9), np.float32), np.zeros(4, np.int64))
DATASET = Dataset(
    "npz", SPLIT, SPLIT, SPLIT, ("a", "b"), (9,), Normalization(1.0, (0.0,), (1.0,), "none"), kind="features"
)


def test_a_table_is_floats_and_answers_with_a_score_for_each_class() -> None:
    assert DATASET.ends == Ends((9,), (2,), "features", 0)
    assert DATASET.input_dtype == torch.float32
    assert DATASET.value_shape == (9,)


def test_tokens_are_whole_numbers_and_each_stands_for_many() -> None:
    vocabulary = make_vocabulary(TokenizerSpec(kind="byte"), ["text"], 0)
    tokens = replace(DATASET, kind="tokens", vocabulary=vocabulary, output_shape=(9, vocabulary.size))
    assert tokens.ends == Ends((9,), (9, vocabulary.size), "tokens", vocabulary.size)
    assert tokens.input_dtype == torch.int32
    assert tokens.ends.example(3).dtype == torch.int32
    assert tokens.ends.example(3).shape == (3, 9)
    assert tokens.value_shape == (9, NUMBERS_PER_TOKEN)
