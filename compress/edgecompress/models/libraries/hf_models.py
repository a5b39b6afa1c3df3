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
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from edgecompress.data.base import Ends
from edgecompress.errors import ModelError, ResourceError
from edgecompress.machine import memory_bytes
from edgecompress.models.built_in.sequence import Unpadded
from edgecompress.models.construction import explaining
from edgecompress.models.nested import states_in
from edgecompress.models.tensors import cast, refusal, shortened
from edgecompress.models.weight_files import read_content, safetensors_types
from edgecompress.quiet import quiet
from edgecompress.sources.allowance import MIB, Building
from edgecompress.sources.border import at_border, described
from edgecompress.sources.hugging_face import CONFIG, EXPECTED, hf_config, hf_folder, shards
from edgecompress.sources.torchvision_import import import_torchvision
from edgecompress.wording import counted, verb

#: What is added to the scores of padding: it weighs exp(-30) = 1e-13.
HIDDEN = -30.0
#: How many tensors a message names.
SHOWN = 4
#: Bytes of a model per byte of its files, which may hold 8 bits a weight, and tied ones once; and those of what is new.
GROWTH, FREE = 8, 128 * MIB
#: The share of the memory that it may take.
SHARE = 0.5
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
    config = hf_config(name, folder)
    if ends.kind != "tokens":
        raise ModelError(f"model {name} takes text, not {ends.kind}")
    longest = config.get("max_position_embeddings")
    if isinstance(longest, int) and ends.input_shape[0] > longest:
        raise ModelError(
            f"model {name} takes texts of at most {longest} tokens, not {ends.input_shape[0]}: set `args: {{length: "
            f"{longest}}}`, or data.length"
        )
    architectures = config.get("architectures")
    architecture = str(architectures[0]) if isinstance(architectures, list) and architectures else ""
    causal, each = architecture.endswith(CAUSAL), len(ends.outputs) == 2  # noqa: PLR2004 - an answer per token
    if causal != each:
        what = "a causal language model, which does not classify" if causal else f"no language model ({architecture})"
        raise ModelError(f"model {name} is {what}")
    ready = architecture.endswith(CLASSIFIER) and _labels(config) == math.prod(ends.outputs)
    kind = "AutoModelForCausalLM" if each else "AutoModelForSequenceClassification" if ready else "AutoModel"
    with explaining(name, args, ends.input_shape, ends.outputs[-1], lambda: "length"):
        if each:
            return HfLanguageModel(_loaded(kind, folder, name), ends)
        padding = config.get("pad_token_id") or 0
        hidden = Unpadded(HIDDEN, 0.0) if padding == 0 else Hidden(_tokens(name, config, padding), padding)
        body = _loaded(kind, folder, name)
        return HfClassifier(body, hidden) if ready else HfEncoder(body, hidden, _width(config), ends.outputs[-1])


def _labels(config: Mapping[str, Any]) -> int:
    labels = config.get("id2label")
    return len(labels) if isinstance(labels, Mapping) else int(config.get("num_labels", 2))


def _tokens(name: str, config: Mapping[str, Any], padding: Any) -> int:
    """Returns how many tokens there are, of which padding is one."""
    tokens = config.get("vocab_size")
    if not isinstance(tokens, int) or not isinstance(padding, int) or not 0 <= padding < tokens:
        raise ModelError(f"model {name}: {CONFIG}: `pad_token_id` {padding} is none of `vocab_size` {tokens} tokens.")
    return tokens


def _width(config: Mapping[str, Any]) -> int:
    return int(next(config[key] for key in ("hidden_size", "dim", "d_model", "n_embd") if key in config))


def _loaded(kind: str, folder: Path, name: str) -> nn.Module:
    files = shards(name, folder)
    _check_tensors(name, files)
    os.environ["HF_HUB_OFFLINE"] = "1"  # whatever the folder's files name

    def explain(error: BaseException) -> ModelError:
        return ModelError(f"model {name}: transformers cannot load {folder} ({described(error)}). {EXPECTED}")

    with at_border(explain), quiet(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with contextlib.suppress(ResourceError):  # transformers imports it where it is there, and fails as it does
            import_torchvision()
        import huggingface_hub
        import transformers

        huggingface_hub.constants.HF_HUB_OFFLINE = True  # where it was imported before
        transformers.logging.set_verbosity_error()  # type: ignore[no-untyped-call]
        _check_size(name, kind, folder, sum(file.stat().st_size for file in files))
        model, info = getattr(transformers, kind).from_pretrained(
            folder,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=files[0].suffix == ".safetensors",
            attn_implementation="eager",
            dtype=torch.float32,
            output_loading_info=True,
        )
    # What a file lacks the library draws at random, and says so where nobody looks.
    lacking = sorted(one for one in info["missing_keys"] if "pooler" not in one.split("."))
    if lacking:
        raise ModelError(
            f"model {name}: {folder}: {counted(len(lacking), 'tensor')} of the model {verb(len(lacking), 'is', 'are')} "
            f"not in the weights ({shortened(lacking, SHOWN)}). Save the whole model: model.save_pretrained(FOLDER)."
        )
    # Of no use here, and gradients never reach it.
    if getattr(model, "pooler", None) is not None:
        model.pooler = None
    learned = {one for one, _ in model.named_parameters(remove_duplicate=False)}
    for one, tensor in model.state_dict().items():
        _, problem = cast(tensor, tensor, learned=one in learned)
        if problem:
            raise ModelError(f"model {name}: {folder}: {one} {problem}.")
    return model  # type: ignore[no-any-return]


def _check_size(name: str, kind: str, folder: Path, there: int) -> None:
    """Lets a model pass whose configuration describes about as many weights as its files hold (`there`, in bytes).

    Raises:
        ModelError: It describes more than that.
    """
    import transformers

    why = f"its files hold {there / MIB:,.1f} MiB; is {folder / CONFIG} theirs?"
    most = min(FREE + GROWTH * there, int(SHARE * memory_bytes()))
    config = transformers.AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    with torch.device("meta"), Building(name, most, why):
        getattr(transformers, kind).from_config(config, trust_remote_code=False, attn_implementation="eager")


def _check_tensors(name: str, files: Sequence[Path]) -> None:
    """Raises ModelError where weights are no plain numbers, by name, or lie in two files; of damaged files too."""
    seen: dict[str, Path] = {}
    for path in files:
        if path.suffix == ".safetensors":
            found = safetensors_types(path)
        else:
            states = states_in(read_content(path), path)
            found = {one: refusal(tensor) for state in states.values() for one, tensor in state.items()}
        for one, problem in found.items():
            if problem:
                raise ModelError(f"model {name}: {path}: {one} is {problem}, and give that folder.")
            if one in seen:
                raise ModelError(
                    f"model {name}: {one} lies in two files ({seen[one].name} and {path.name}): nobody can tell which "
                    "one is meant. Save the model again: model.save_pretrained(FOLDER)."
                )
            seen[one] = path
