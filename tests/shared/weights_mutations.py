"""Files of weights, models, tokenizers and checkpoints that are cut, flipped and overwritten; a seed names each.

What is packed or hashed is damaged within, and packed or hashed again: a reader that stops at the checksum sees little.
"""

from __future__ import annotations

import io
import json
import random
import struct
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import h5py
import torch
from safetensors.torch import save
from torch import nn

from edgecompress.context import Context, plain_digest
from edgecompress.data.tokens.hf_tokens import HfTokens
from edgecompress.errors import ModelError
from edgecompress.models.weights import load_foreign_weights
from edgecompress.sources.keras import keras_source
from edgecompress.training.checkpoint import DIGEST, Checkpoint, Progress
from edgecompress.training.restoring import Course
from tests.shared.flatbuffer_mutations import mutated

#: Values that replace a number, a text or a name in JSON.
VALUES = (b"-1", b"1e999", b"null", b"[]", b"{}", b'""', b"18446744073709551616", b'"F8_E4M3"', b"NaN", b"true")


class Net(nn.Module):
    """A layer with a norm, and a mask that may be infinite."""

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.bn = nn.Linear(4, 3), nn.BatchNorm1d(3)
        self.register_buffer("mask", torch.full((3,), -float("inf")))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.bn(self.fc(x)) + self.mask.clamp(-1)


def _net() -> Net:
    torch.manual_seed(0)
    return Net()


def _saved(content: object, *, old: bool = False) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, _use_new_zipfile_serialization=not old)
    return buffer.getvalue()


def _safetensors(seed: int) -> bytes:
    return mutated(save(_net().state_dict()), seed)


def _header(seed: int) -> bytes:
    content = save(_net().state_dict())
    size = struct.unpack("<Q", content[:8])[0]
    head = _odd_json(content[8 : 8 + size].strip(), seed)
    return struct.pack("<Q", len(head)) + head + content[8 + size :]


def _archive(seed: int) -> bytes:
    return mutated(_saved(_net().state_dict()), seed)


def _pickle(seed: int) -> bytes:
    averaged = {name: one * 2 for name, one in _net().state_dict().items()}
    return _repacked(_saved({"state_dict": _net().state_dict(), "ema": averaged, "epoch": 3}), "data.pkl", seed)


def _legacy(seed: int) -> bytes:
    return mutated(_saved(_net().state_dict(), old=True), seed)


def _repacked(content: bytes, member: str, seed: int) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as source, zipfile.ZipFile(buffer, "w") as target:
        for one in source.infolist():
            inside = source.read(one)
            target.writestr(one, mutated(inside, seed) if one.filename.endswith(member) else inside)
    return buffer.getvalue()


def _odd_json(text: bytes, seed: int) -> bytes:
    """Returns JSON with some of its values replaced, or with its bytes damaged."""
    rng = random.Random(seed)  # noqa: S311 - damage, not a secret
    if rng.random() < 0.3:
        return mutated(text, seed)
    for _ in range(rng.choice([1, 1, 2, 4])):
        marks = [place for place, letter in enumerate(text) if letter in b":,["]
        start = rng.choice(marks) + 1
        end = min(
            (place for place in (text.find(mark, start) for mark in (b",", b"]", b"}")) if place > 0), default=start
        )
        text = text[:start] + rng.choice(VALUES) + text[end:]
    return text


DENSE = {"module": "keras.layers", "class_name": "Dense", "config": {"name": "dense", "units": 3, "activation": "relu"}}
CONFIG = json.dumps(
    {"module": "keras", "class_name": "Sequential", "config": {"name": "s", "layers": [DENSE, DENSE]}}
).encode()


def _keras(seed: int) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("config.json", _odd_json(CONFIG, seed) if seed % 2 else CONFIG)
        weights = io.BytesIO()
        with h5py.File(weights, "w") as inside:
            inside["layers/dense/vars/0"] = [1.0, 2.0]
        file.writestr("model.weights.h5", mutated(weights.getvalue(), seed) if seed % 3 else weights.getvalue())
    return buffer.getvalue() if seed % 2 else mutated(buffer.getvalue(), seed)


def _hdf5(seed: int) -> bytes:
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        file.attrs["model_config"] = (
            _odd_json(CONFIG, seed).decode(errors="replace").replace("\0", " ") if seed % 2 else CONFIG.decode()
        )
    return buffer.getvalue() if seed % 2 else mutated(buffer.getvalue(), seed)


def _tokenizer(seed: int) -> bytes:
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

    kinds = (
        models.WordPiece({"[UNK]": 0, "a": 1, "##b": 2}, unk_token="[UNK]"),  # noqa: S106 - no secret
        models.BPE({"a": 0, "b": 1, "ab": 2}, [("a", "b")]),
        models.Unigram([("<unk>", 0.0), ("a", -1.0)], 0, False),
    )
    tokenizer = Tokenizer(kinds[seed % 3])
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.ByteLevel(), pre_tokenizers.Digits()])
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace("x", "y")])
    return _odd_json(tokenizer.to_str().encode(), seed)


def _course() -> Course:
    model = _net()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    return Course(model, optimizer, None, 0, 8, 4, 8)


def _checkpoint(seed: int) -> bytes:
    course = _course()
    with torch.random.fork_rng(devices=[]):
        course.model(torch.ones(2, 4)).sum().backward()
    course.optimizer.step()
    checkpoint = Checkpoint(Context(), "net")
    checkpoint.hold(Progress(3, [], [0.5] * 3), course.model, course.optimizer, None)
    assert checkpoint._held is not None
    return bytes(DIGEST) + _repacked(checkpoint._held, "data.pkl", seed)


def read_weights(path: Path) -> None:
    """Gives a model the weights; it is whole afterwards, also where they are refused."""
    model = _net()
    before = {name: one.clone() for name, one in model.state_dict().items()}
    try:
        load_foreign_weights(model, path)
    except BaseException:
        assert all(torch.equal(one, before[name]) for name, one in model.state_dict().items()), "half loaded"
        raise
    assert all(bool(torch.isfinite(one).all()) for one in model.parameters()), "not finite"


def read_keras(path: Path) -> None:
    """Looks for code in a Keras model."""
    keras_source(f"keras/{path}", Path()).require_trust(False)


def read_tokenizer(path: Path) -> None:
    """Makes tokens by it, and text of them."""
    try:
        document = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:  # as its folder's reader answers
        raise ModelError(f"{path}: {error}") from error
    if isinstance(document, dict):
        tokens = HfTokens(document, 0)
        tokens.decode([*tokens.encode(["a b 1 x", "\0\U0001f600"], 4).ravel(), *tokens.encode_whole("ab c")])


def read_checkpoint(path: Path) -> None:
    """Takes a checkpoint that is sealed for its place, or says why not; the training is whole afterwards."""
    payload = path.read_bytes()[DIGEST:]
    path.write_bytes(plain_digest(f"checkpoint {path.parent.name} {path.name}", payload).encode() + payload)
    course, told = _course(), list[str]()
    before = {name: one.clone() for name, one in course.model.state_dict().items()}
    context = Context(listeners=[lambda event: told.append(event.kind)], checkpoints=path.parent)
    saved = Checkpoint(context, path.stem).load(course.why_unfit)
    assert (saved is None) == bool(told), "nothing was said"
    assert all(torch.equal(one, before[name]) for name, one in course.model.state_dict().items()), "changed"


#: Kind -> the name of such a file, what makes one by its seed, and what reads it.
KINDS: dict[str, tuple[str, Callable[[int], bytes], Callable[[Path], None]]] = {
    "safetensors": ("w.safetensors", _safetensors, read_weights),
    "safetensors, header": ("w.safetensors", _header, read_weights),
    "torch archive": ("w.pt", _archive, read_weights),
    "torch archive, pickle": ("w.ckpt", _pickle, read_weights),
    "torch before 1.6": ("w.pth", _legacy, read_weights),
    "keras archive": ("m.keras", _keras, read_keras),
    "keras hdf5": ("m.h5", _hdf5, read_keras),
    "tokenizer": ("tokenizer.json", _tokenizer, read_tokenizer),
    "checkpoint": ("net.checkpoint", _checkpoint, read_checkpoint),
}


def written(kind: str, seed: int, folder: Path) -> Path:
    """Writes a damaged file of a kind and returns its path."""
    name, make, _ = KINDS[kind]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what zipfile says of members of one name
        (folder / name).write_bytes(make(seed))
    assert DIGEST == 64  # the checkpoint's hash is written as it is read
    return folder / name
