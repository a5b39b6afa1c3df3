"""Sizes in a configuration are those of a model, before anything is built by them."""

from __future__ import annotations

from typing import Any

import pytest

from edgecompress.sources.hf_sizes import check_sizes

GOOD = {
    "vocab_size": 250_002, "hidden_size": 768, "num_hidden_layers": 12, "n_inner": None, "pad_token_id": -1,
    "layer_norm_eps": 1e-12, "rope_theta": 10_000_000.0, "hidden_act": "gelu", "tie_word_embeddings": True,
    "position_embedding_type": "absolute", "max_position_embeddings": 1_048_576, "eos_token_id": [2, 3],
    "depths": [2, 2, 18, 2], "id2label": {str(n): f"LABEL_{n}" for n in range(1000)}, "initializer_range": 0.02,
    "text_config": {"hidden_size": 64}, "sliding_window": None, "label2id": {"a": 0}, "image_size": [224, 224],
}  # fmt: skip


def test_configurations_as_they_are_pass() -> None:
    assert check_sizes(GOOD) == ""


@pytest.mark.parametrize(
    ("key", "value", "wrong"),
    [("num_hidden_layers", 10**9, r"`num_hidden_layers` is 1,000,000,000. Expected a number from 0 to 1,000"),
     ("n_layer", 2_000, "from 0 to 1,000"), ("depths", [2, 10**6], "from 0 to 1,000"),
     ("vocab_size", 2**40, "Expected"),
     ("hidden_size", 10**8, "from 0 to 4,194,304"), ("hidden_size", -16, "is -16"), ("d_ff", float("nan"), "is nan"),
     ("hidden_size", "768", "is the text '768'. Expected a number without quotes"), ("num_labels", 10**12, "Expected"),
     ("num_attention_heads", 10**6, "from 0 to 4,096"), ("x", float("inf"), "is inf"),
     pytest.param("x", 10**4000, "a model may have", id="digits"),
     ("text_config", {"n_layers": 10**6}, "`n_layers`"), ("x", [[[[[[[[[[[[1]]]]]]]]]]]], "nested more than 10 levels"),
     ("x", [0] * 1_000_001, "more than 1,000,000 values")],
)  # fmt: skip
def test_sizes_that_no_model_has_are_named(key: str, value: Any, wrong: str) -> None:
    assert wrong in check_sizes({**GOOD, key: value})
