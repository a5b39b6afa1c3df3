"""Hugging Face models from a local folder: classifiers as they are, encoders with a new head, causal language models.

The model is told which places are padding by a number that is added to its attention scores; nothing is compared or
selected in the graph. Files are read as safetensors or by torch's weights-only loader; code that a folder may hold is
not run.
"""

from __future__ import annotations

import contextlib
import math
import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from edgecompress.data.base import Ends
from edgecompress.errors import ModelError, ResourceError
from edgecompress.models.built_in.sequence import Unpadded
from edgecompress.models.construction import explaining
from edgecompress.quiet import quiet
from edgecompress.sources.hugging_face import CONFIG, hf_document, hf_folder, weight_files
from edgecompress.sources.torchvision_import import import_torchvision

#: What is added to the scores of padding: it weighs exp(-30) = 1e-13.
HIDDEN = -30.0
#: Ends of the names of architectures.
CLASSIFIER, CAUSAL = "ForSequenceClassification", ("ForCausalLM", "LMHeadModel")


class Hidden(nn.Module):
    """What is added to attention scores, by token, where padding is another token than 0."""

    table: torch.Tensor

    def __init__(self, vocabulary: int, padding: int) -> None:
        """Takes the number of tokens and the one that pads."""
        super().__init__()
        table = torch.zeros(vocabulary, 1)
        table[padding] = HIDDEN
        self.register_buffer("table", table, persistent=False)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Returns (N, length, 1) for (N, length) token numbers."""
        return nn.functional.embedding(tokens, self.table)


class HfClassifier(nn.Module):
    """A model with a classification head of its own."""

    comes_trained = True

    def __init__(self, body: nn.Module, hidden: nn.Module) -> None:
        """Takes the model and what hides its padding."""
        super().__init__()
        self.body, self.hidden = body, hidden

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Returns (N, classes) for (N, length) token numbers."""
        mask = self.hidden(tokens).transpose(1, 2)[:, None]
        return self.body(input_ids=tokens, attention_mask=mask, return_dict=False)[0]  # type: ignore[no-any-return]


class HfEncoder(nn.Module):
    """An encoder, the mean over what is no padding, and a new linear layer."""

    def __init__(self, body: nn.Module, hidden: nn.Module, width: int, outputs: int) -> None:
        """Takes the encoder, what hides its padding, and the widths of the head."""
        super().__init__()
        self.body, self.hidden = body, hidden
        self.drop = nn.Dropout(0.1)
        self.fc = nn.Linear(width, outputs)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Returns (N, outputs) for (N, length) token numbers."""
        hidden = self.hidden(tokens).transpose(1, 2)
        steps = self.body(input_ids=tokens, attention_mask=hidden[:, None], return_dict=False)[0]
        mean = hidden.softmax(-1) @ steps
        return self.fc(self.drop(mean.flatten(1)))  # type: ignore[no-any-return]


class HfLanguageModel(nn.Module):
    """A causal language model."""

    comes_trained = True
    causal: torch.Tensor

    def __init__(self, body: nn.Module, ends: Ends) -> None:
        """Takes the model and what it is used between."""
        super().__init__()
        self.body, self.tokens = body, ends.outputs[-1]
        steps = ends.input_shape[0]
        self.register_buffer("causal", torch.full((steps, steps), HIDDEN * 10).triu(1)[None, None], persistent=False)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Returns (N, length, vocabulary) for (N, length) token numbers."""
        logits = self.body(input_ids=tokens, attention_mask=self.causal, use_cache=False, return_dict=False)[0]
        return logits[..., : self.tokens]  # type: ignore[no-any-return]


def build_hf(name: str, args: Mapping[str, Any], ends: Ends, base_dir: Path) -> nn.Module:
    """Returns the model of a folder with its weights.

    A classifier with as many classes as there are is taken as it is; any other encoder gets a new head, which only
    training makes useful.

    Args:
        name: `hf/DIR`.
        args: `length` alone, which is the data's affair.
        ends: What it is built between; its vocabulary is the model's own.
        base_dir: The recipe's folder.

    Raises:
        ModelError: The folder cannot be used, or its model is not for this task.
    """
    for argument in args:
        if argument != "length":
            raise ModelError(f"model {name} takes no argument `{argument}`. Its arguments: length (tokens of a text)")
    folder = hf_folder(name, base_dir)
    config = hf_document(name, folder, CONFIG)
    if ends.kind != "tokens":
        raise ModelError(f"model {name} takes text, not {ends.kind}")
    longest = config.get("max_position_embeddings")
    if isinstance(longest, int) and ends.input_shape[0] > longest:
        raise ModelError(
            f"model {name} takes texts of at most {longest} tokens, not {ends.input_shape[0]}: set `args: {{length: "
            f"{longest}}}`, or data.length"
        )
    architecture = str((config.get("architectures") or [""])[0])
    causal, each = architecture.endswith(CAUSAL), len(ends.outputs) == 2  # noqa: PLR2004 - an answer per token
    if causal != each:
        what = "a causal language model, which does not classify" if causal else f"no language model ({architecture})"
        raise ModelError(f"model {name} is {what}")
    ready = architecture.endswith(CLASSIFIER) and _labels(config) == math.prod(ends.outputs)
    kind = "AutoModelForCausalLM" if each else "AutoModelForSequenceClassification" if ready else "AutoModel"
    with explaining(name, args, ends.input_shape, ends.outputs[-1], lambda: "length"):
        body = _loaded(kind, folder)
        if each:
            return HfLanguageModel(body, ends)
        padding = config.get("pad_token_id") or 0
        hidden = Unpadded(HIDDEN, 0.0) if padding == 0 else Hidden(int(config["vocab_size"]), padding)
        return HfClassifier(body, hidden) if ready else HfEncoder(body, hidden, _width(config), ends.outputs[-1])


def _labels(config: Mapping[str, Any]) -> int:
    labels = config.get("id2label")
    return len(labels) if isinstance(labels, Mapping) else int(config.get("num_labels", 2))


def _width(config: Mapping[str, Any]) -> int:
    return int(next(config[key] for key in ("hidden_size", "dim", "d_model", "n_embd") if key in config))


def _loaded(kind: str, folder: Path) -> nn.Module:
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    with quiet(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with contextlib.suppress(ResourceError):  # transformers imports it where it is there, and fails as it does
            import_torchvision()
        import transformers

        transformers.logging.set_verbosity_error()  # type: ignore[no-untyped-call]
        model: nn.Module = getattr(transformers, kind).from_pretrained(
            folder,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=weight_files(folder)[0].suffix == ".safetensors",
            attn_implementation="eager",
            dtype=torch.float32,
        )
    # Of no use here, and gradients never reach it.
    if getattr(model, "pooler", None) is not None:
        model.pooler = None  # type: ignore[assignment]
    return model
