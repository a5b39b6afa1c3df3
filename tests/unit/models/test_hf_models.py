"""Hugging Face models from folders: tiny ones made here, read as a user's would be."""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from edgecompress.data.base import Dataset, Ends, Split
from edgecompress.data.forms import NO_NORMALIZATION, with_tokens_of
from edgecompress.data.tokens.hf_tokens import hf_tokens
from edgecompress.data.tokens.tokenizer import vocabulary_from
from edgecompress.errors import ModelError
from edgecompress.models.building import build_model
from edgecompress.models.libraries.hf_models import Hidden
from edgecompress.recipe.schema import ModelSpec, Recipe
from edgecompress.sources.hugging_face import hf_sha256
from edgecompress.sources.torchvision_import import import_torchvision

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "cat", "sat", "on", "mat", "##s"]
SIZES = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 12}
LENGTH = 6


def transformers() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import_torchvision()
        import transformers

        return transformers


def write_tokenizer(folder: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    tokenizer = Tokenizer(models.WordPiece({word: n for n, word in enumerate(WORDS)}, unk_token="[UNK]"))  # noqa: S106
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer.enable_padding(length=64)  # what a folder says of lengths does not count
    tokenizer.save(str(folder / "tokenizer.json"))


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an encoder."""
    folder = tmp_path_factory.mktemp("encoder")
    hub = transformers()
    torch.manual_seed(0)
    config = hub.BertConfig(vocab_size=len(WORDS), max_position_embeddings=16, **SIZES)
    hub.BertModel(config).save_pretrained(folder)
    write_tokenizer(folder)
    return folder


def built(folder: Path, outputs: tuple[int, ...] = (3,), length: int = LENGTH, **args: object) -> nn.Module:
    spec = ModelSpec.model_validate({"model": f"hf/{folder}", "args": args})
    ends = Ends((length,), outputs, "tokens", len(WORDS))
    return build_model(spec, ends.input_shape, outputs[-1], trust=False, base_dir=Path(), seed=0, ends=ends).eval()


def test_tokens_are_the_models_own_padded_behind(encoder: Path) -> None:
    tokens = hf_tokens(f"hf/{encoder}", Path())
    found = tokens.encode(["a cat", "a cats sat on a mat on a mat", ""], LENGTH)
    assert found.tolist() == [[2, 4, 5, 3, 0, 0], [2, 4, 5, 9, 6, 3], [2, 3, 0, 0, 0, 0]]
    assert found.dtype == np.int32
    assert tokens.encode_whole("cats sat").tolist() == [5, 9, 6]
    again = vocabulary_from(json.loads(json.dumps(tokens.document())))
    assert again.encode(["a cat"], LENGTH).tolist() == found[:1].tolist()
    assert again.size == len(WORDS)


def test_an_encoder_gets_a_head_on_the_mean_of_what_is_no_padding(encoder: Path) -> None:
    model = built(encoder)
    text = torch.tensor([[2, 4, 5, 3, 0, 0]], dtype=torch.int32)
    hub = transformers().AutoModel.from_pretrained(encoder).eval()
    with torch.no_grad():
        mean = hub(input_ids=text[:, :4].long()).last_hidden_state.mean(1)
        assert torch.allclose(model(text), model.fc(mean), atol=1e-5)


def test_padding_may_be_any_token() -> None:
    found = Hidden(5, 3)(torch.tensor([[1, 3]], dtype=torch.int32))
    assert found.tolist() == [[[0.0], [-30.0]]]


def test_a_classifier_of_as_many_classes_is_taken_as_it_is(tmp_path: Path) -> None:
    hub = transformers()
    config = hub.BertConfig(vocab_size=len(WORDS), max_position_embeddings=16, num_labels=3, **SIZES)
    original = hub.BertForSequenceClassification(config).eval()
    original.save_pretrained(tmp_path)
    write_tokenizer(tmp_path)
    text = torch.tensor([[2, 4, 5, 3, 0, 0]], dtype=torch.int32)
    with torch.no_grad():
        expected = original(input_ids=text[:, :4].long()).logits
        assert torch.allclose(built(tmp_path)(text), expected, atol=1e-5)
    assert built(tmp_path).comes_trained
    assert built(tmp_path, (4,)).fc.out_features == 4


def test_a_causal_model_tells_the_next_token(tmp_path: Path) -> None:
    hub = transformers()
    config = hub.GPT2Config(vocab_size=len(WORDS) + 2, n_positions=16, n_embd=8, n_layer=1, n_head=2)
    original = hub.GPT2LMHeadModel(config).eval()
    original.save_pretrained(tmp_path)
    write_tokenizer(tmp_path)
    text = torch.tensor([[4, 5, 6, 7, 4, 8]], dtype=torch.int32)
    with torch.no_grad():
        expected = original(input_ids=text.long()).logits[..., : len(WORDS)]
        assert torch.allclose(built(tmp_path, (LENGTH, len(WORDS)))(text), expected, atol=1e-5)
    with pytest.raises(ModelError, match="is a causal language model, which does not classify"):
        built(tmp_path)


def test_a_teacher_reads_the_same_texts_in_its_own_tokens(encoder: Path) -> None:
    texts = np.array(["a cat", "on mat"], object)
    split = Split(np.zeros((2, 4), np.int32), np.array([0, 1]), texts=texts)
    dataset = Dataset("x", split, split.take(np.array([1])), split, ("a", "b"), (4,), NO_NORMALIZATION, kind="tokens")
    teacher = {"model": f"hf/{encoder}", "args": {"length": 5}, "train": {}}
    recipe = Recipe.model_validate(
        {"version": 1, "task": "text-classification", "teacher": teacher, "student": {"model": "text-cnn"}}
    )
    assert recipe.teacher is not None
    assert recipe.teacher.train is not None
    assert (recipe.teacher.habits.optimizer, recipe.teacher.habits.rate) == ("adamw", 5e-5)
    read = with_tokens_of(recipe, recipe.teacher, dataset)
    assert read.validation.inputs.tolist() == [[2, 7, 8, 3, 0]]
    assert read.ends == Ends((5,), (2,), "tokens", len(WORDS))
    assert recipe.student is not None
    assert with_tokens_of(recipe, recipe.student, dataset) is dataset


def test_folders_that_are_no_models_are_told(encoder: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"config\.json is missing\. Expected the folder of a Hugging Face model"):
        built(tmp_path)
    (tmp_path / "config.json").write_text("[]")
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(ModelError, match="holds no weights"):
        built(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(ModelError, match=r"config\.json is no JSON object"):
        built(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ModelError, match="is no tokenizer"):
        hf_tokens(f"hf/{tmp_path}", Path())
    with pytest.raises(ModelError, match="takes texts of at most 16 tokens, not 17"):
        built(encoder, length=17)
    with pytest.raises(ModelError, match="takes no argument `width`"):
        built(encoder, width=3)
    assert hf_sha256(f"hf/{encoder}", Path()) == hf_sha256(f"hf/{encoder.name}", encoder.parent)


def test_norms_stay_float_where_such_a_model_is_what_is_quantized() -> None:
    teacher = {"model": "hf/somewhere", "train": {}}
    recipe = {"version": 1, "task": "text-classification", "teacher": teacher, "quantize": {}}
    assert Recipe.model_validate(recipe).float_norms
    for change in (
        {"quantize": {"norms": "int8"}},
        {"quantize": {"activations": "int16"}},
        {"quantize": {"activations": "dynamic"}},
        {"quantize": None},
        {"student": {"model": "transformer"}},
    ):
        assert not Recipe.model_validate({**recipe, **change}).float_norms
    student = {"student": {"model": "transformer"}, "quantize": {"norms": "float32"}}
    assert Recipe.model_validate({**recipe, **student}).float_norms


def parted(encoder: Path, folder: Path) -> Path:
    """A copy of the encoder with its weights in two files and an index."""
    shutil.copytree(encoder, folder)
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names, index = sorted(tensors), {}
    for number, part in ((1, names[::2]), (2, names[1::2])):
        file = f"model-{number:05}-of-00002.safetensors"
        save_file({name: tensors[name] for name in part}, folder / file, {"format": "pt"})
        index |= dict.fromkeys(part, file)
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": index}))
    return folder


INDEX = "model.safetensors.index.json"
EMBEDDING = "embeddings.word_embeddings.weight"


def change_index(folder: Path, change: Callable[[dict[str, str]], object]) -> None:
    document = json.loads((folder / INDEX).read_text())
    change(document["weight_map"])
    (folder / INDEX).write_text(json.dumps(document))


def test_weights_in_several_files_are_read_by_their_index(encoder: Path, tmp_path: Path) -> None:
    folder = parted(encoder, tmp_path / "parted")
    text = torch.tensor([[2, 4, 5, 3, 0, 0]], dtype=torch.int32)
    with torch.no_grad():
        assert torch.allclose(built(folder)(text), built(encoder)(text))
    before = hf_sha256(f"hf/{folder}", Path())
    change_index(folder, lambda names: names.pop(EMBEDDING))
    assert hf_sha256(f"hf/{folder}", Path()) != before


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("model-00009-of-00002.safetensors", "which should hold embeddings.* is not there"),
        ("../../outside.safetensors", "is not a file of this folder"),
        ("config.json", "is not there"),
    ],
)
def test_an_index_names_files_of_its_folder_alone(encoder: Path, tmp_path: Path, file: str, message: str) -> None:
    folder = parted(encoder, tmp_path / "a" / "parted")
    save_file({EMBEDDING: torch.zeros(10, 8)}, tmp_path / "outside.safetensors")
    change_index(folder, lambda names: names.update({EMBEDDING: file}))
    for use in (lambda: built(folder), lambda: hf_sha256(f"hf/{folder}", Path())):
        with pytest.raises(ModelError, match=rf"index\.json: .*{file}.*{message}"):
            use()


def test_an_index_that_is_none_is_refused(encoder: Path, tmp_path: Path) -> None:
    folder = parted(encoder, tmp_path / "parted")
    for text in ("[]", "{}", '{"weight_map": {"a": 3}}', "{"):
        (folder / INDEX).write_text(text)
        with pytest.raises(ModelError, match=r"index\.json (is no JSON|has no `weight_map`|cannot be read)"):
            built(folder)
    (folder / INDEX).unlink()
    with pytest.raises(ModelError, match=r"but neither model\.safetensors nor an index"):
        built(folder)


def changed(encoder: Path, folder: Path, **tensors: torch.Tensor | None) -> Path:
    """A copy of the encoder with other tensors."""
    shutil.copytree(encoder, folder)
    found: dict[str, torch.Tensor | None] = {**load_file(folder / "model.safetensors")}
    found |= {name.replace("__", "."): one for name, one in tensors.items()}
    kept = {name: one for name, one in found.items() if one is not None}
    save_file(kept, folder / "model.safetensors", {"format": "pt"})
    return folder


def test_what_would_be_drawn_at_random_is_named(encoder: Path, tmp_path: Path) -> None:
    folder = changed(encoder, tmp_path / "a", embeddings__word_embeddings__weight=None)
    with pytest.raises(ModelError, match=r"1 tensor of the model is not in the weights \(embeddings\.word"):
        built(folder)
    assert built(changed(encoder, tmp_path / "b", pooler__dense__weight=None))


def test_tensors_that_are_no_plain_numbers_or_lie_in_two_files_are_named(encoder: Path, tmp_path: Path) -> None:
    tiny = torch.zeros(10, 8).to(torch.float8_e4m3fn)
    with pytest.raises(ModelError, match=r"embeddings\.word_embeddings\.weight is of the type F8_E4M3"):
        built(changed(encoder, tmp_path / "a", embeddings__word_embeddings__weight=tiny))
    bad = torch.full((10, 8), float("nan"))
    with pytest.raises(ModelError, match=r"embeddings\.word_embeddings\.weight has values that are not finite"):
        built(changed(encoder, tmp_path / "b", embeddings__word_embeddings__weight=bad))
    folder = parted(encoder, tmp_path / "c")
    second = load_file(folder / "model-00002-of-00002.safetensors")
    first = load_file(folder / "model-00001-of-00002.safetensors")
    save_file(
        second | {next(iter(first)): torch.zeros(1)}, folder / "model-00002-of-00002.safetensors", {"format": "pt"}
    )
    with pytest.raises(ModelError, match=r"lies in two files \(model-00001-of-00002\.safetensors and model-00002"):
        built(folder)


def test_pickled_weights_are_read_as_tensors_only_and_by_their_kind(encoder: Path, tmp_path: Path) -> None:
    shutil.copytree(encoder, tmp_path / "a")
    tensors = load_file(tmp_path / "a" / "model.safetensors")
    (tmp_path / "a" / "model.safetensors").unlink()
    file = tmp_path / "a" / "pytorch_model.bin"
    torch.save(tensors, file)
    text = torch.tensor([[2, 4, 5, 3, 0, 0]], dtype=torch.int32)
    with torch.no_grad():
        assert torch.allclose(built(tmp_path / "a")(text), built(encoder)(text))
    torch.save({**tensors, EMBEDDING: tensors[EMBEDDING].to_sparse()}, file)
    with pytest.raises(ModelError, match=rf"{EMBEDDING} is sparse"):
        built(tmp_path / "a")
    torch.save({**tensors, EMBEDDING: print}, file)
    with pytest.raises(ModelError, match="could run code"):
        built(tmp_path / "a")


@pytest.mark.parametrize("name", ["../other.safetensors", "absent.safetensors"])
def test_weights_and_adapters_from_elsewhere_are_refused(encoder: Path, tmp_path: Path, name: str) -> None:
    folder = tmp_path / "a"
    shutil.copytree(encoder, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "transformers_weights": name}))
    with pytest.raises(ModelError, match=rf"config\.json names weights that .* does not hold \({name}"):
        built(folder)
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "/elsewhere"}))
    with pytest.raises(ModelError, match="holds an adapter"):
        built(folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"num_hidden_layers": 10**9}, r"config\.json: `num_hidden_layers` is 1,000,000,000"),
     ({"num_hidden_layers": 900, "hidden_size": 4096}, r"too large: .*its files hold 0\.\d MiB; is .*theirs"),
     ({"pad_token_id": 10**6}, "`pad_token_id`"), ({"architectures": 7, "pad_token_id": [1]}, "`pad_token_id`"),
     ({"auto_map": {"AutoConfig": "evil.Evil", "AutoModel": "evil.Evil"}, "model_type": "evil"}, "cannot load")],
)  # fmt: skip
def test_a_configuration_is_held_against_the_weights(encoder: Path, tmp_path: Path, changes, message: str) -> None:
    folder = tmp_path / "model"
    shutil.copytree(encoder, folder)
    (folder / "evil.py").write_text("raise SystemExit('it ran')")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | changes))
    with pytest.raises(ModelError, match=message):
        built(folder)
