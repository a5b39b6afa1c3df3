"""The attacks of `benchmarks.robustness.large_inputs`, kind by kind, each kind after its harmless input."""

from __future__ import annotations

# One line is one attack; they are made only as they are needed.
# ruff: noqa: E501, PLW0108
import gzip
import pickle
import zlib
from functools import partial

import numpy as np

from benchmarks.robustness.attacks import (
    ARRAYS,
    LINES,
    MIB,
    SERIES,
    TABLE,
    TEXT,
    Attack,
    batch,
    batches,
    clothes,
    folders,
    hugging_face,
    idx,
    nested,
    npy,
    npz,
    pictures,
    png,
    png_chunk,
    recordings,
    saved,
    text,
    wav,
    zeros,
)

TEXTS = "text-classification"
PICTURES = "image-classification"
ROWS = "".join(f"{n / 7:.3f},{n % 5},{n}\n" for n in range(200))
CNN = {"model": "text-cnn"}
NET = {"model": "resnet8"}
DS = {"model": "ds-cnn"}
FOLDER = {"source": "image-folder", "path": "pictures"}
WAVES = {"source": "wav-folder", "path": "wav"}
CLOTHES = {"source": "fashion-mnist", "path": "."}
CIFAR = {"source": "cifar10", "path": "."}
BERT = {"model": "hf/bert"}
CLASSES = {"source": "csv", "path": "x.csv", "label": "y", "text": "a"}

csv = partial(Attack, data=TABLE)
jsonl = partial(Attack, data=LINES, task=SERIES, student={"model": "tcn"}, good="jsonl: good")
texts = partial(Attack, task=TEXTS, student=CNN, good="texts: good")
files = partial(Attack, task="language-modeling", student={"model": "gru"}, good="text-files: good")
arrays = partial(Attack, data=ARRAYS, task=PICTURES, student=NET, good="npz: good")
folder = partial(Attack, data=FOLDER, task=PICTURES, student=NET, good="pictures: good")
waves = partial(Attack, data=WAVES, task="audio-classification", student=DS, good="wav: good")
clothing = partial(Attack, data=CLOTHES, task=PICTURES, student=NET, good="npz: good")
cifar = partial(Attack, data=CIFAR, task=PICTURES, student=NET, good="npz: good")
hf = partial(Attack, data=TEXT | {"length": 16}, task=TEXTS, student=BERT, good="hf: good")
sized = partial(Attack, make=lambda place: text("x.csv", "a,b,y\n" + ROWS)(place), data=TABLE)

TINY = saved(x_train=np.zeros((40, 8, 8, 1), np.uint8), y_train=np.arange(40) % 2)
LABELS = {"y_train": TINY["y_train"]}
MEMO = b"\x80\x02Nr\xff\xff\xff\x7f."
FLOOD = b"".join(b"LIST" + bytes(4) for _ in range(100_000))

ATTACKS: tuple[Attack, ...] = (
    csv("csv: good", make=lambda place: text("x.csv", "a,b,y\n" + ROWS)(place)),
    csv("csv: one cell of 9 MB", make=lambda place: text("x.csv", 'a,y\n"' + "x,\n" * 3_000_000 + '",0\n1,1\n2,0\n')(place)),
    csv(
        "csv: a million columns",
        make=lambda place: text("x.csv", ",".join(f"c{n}" for n in range(10**6)) + ",y\n" + ("1," * 10**6 + "1\n"))(place),
    ),
    csv("csv: 65,000 columns", make=lambda place: text("x.csv", ",".join(f"c{n}" for n in range(65_000)) + ",y\n" + (("1," * 65_000) + "1\n") * 60)(place)),
    csv("csv: three million rows", make=lambda place: text("x.csv", "a,y\n" + "1,2\n2,1\n" * 1_200_000)(place)),
    csv("csv: a long cell among 100,000", make=lambda place: text("x.csv", "a,y\n" + "1,2\n" * 100_000 + "1" * 5_000_000 + ",2\n")(place)),
    csv("csv: numbers of a million digits", make=lambda place: text("x.csv", "a,y\n" + ("7" * 10**6 + ",1\n") * 9)(place)),
    csv("csv: numbers without end", make=lambda place: text("x.csv", "a,y\n" + "1e400,1\nnan,2\n" * 100_000)(place)),
    csv("csv: five million bad rows", make=lambda place: text("x.csv", "a,y\n1,2\n" + "x\n" * 5_000_000)(place)),
    csv("csv: bad cells everywhere", make=lambda place: text("x.csv", "a,b,y\n" + "1,x,2\n1,2,y\n" * 700_000)(place)),
    csv("csv: a quote never closed", make=lambda place: text("x.csv", 'a,y\n"' + "1,2\n" * 2_400_000)(place)),
    csv("csv: zero bytes", make=lambda place: text("x.csv", b"a,y\n" + bytes(9_000_000))(place)),
    csv("csv: 1 GB in one line, gzip", make=lambda place: zeros("x.csv", 1024 * MIB)(place)),
    csv("csv: cells, gzip", make=lambda place: zeros("x.csv", 96 * MIB, b"a,b,y\n", value=b"12,34,56\n345,67,8901\n12345678,1,21\n")(place)),
    csv("csv: a recipe of a million keys", make=lambda place: text("x.csv", "a,y\n1,2\n")(place), data=TABLE | {"args": {str(n): n for n in range(9_000)}}),
    texts("texts: good", data=TEXT, make=lambda place: text("x.csv", "text,label\n" + "good one,p\nbad one,n\n" * 50)(place)),
    texts("texts: a million labels", data=CLASSES, make=lambda place: text("x.csv", "a,y\n" + "".join(f"x,{n}\n" for n in range(10**6)))(place)),
    texts("texts: labels of 1 MB", data=CLASSES, make=lambda place: text("x.csv", "a,y\n" + "".join(f"x,{'z' * 10**6}{n}\n" for n in range(9)))(place)),
    texts("texts: 2.4 million rows", data=CLASSES, make=lambda place: text("x.csv", "a,y\n" + "q,0\nw,1\n" * 1_200_000)(place)),
    texts(
        "texts: groups times classes",
        data=CLASSES | {"split_by": "g"},
        make=lambda place: text("x.csv", "a,y,g\n" + "".join(f"x,{n % 90_000},{n % 200_000}\n" for n in range(600_000)))(place),
    ),
    texts("texts: long groups", data=CLASSES | {"split_by": "g"}, make=lambda place: text("x.csv", "a,y,g\n" + "x,0,1\nz,1,2\n" * 500_000 + f"x,0,{'g' * 900}\n")(place)),
    jsonl("jsonl: good", make=lambda place: text("x.jsonl", "".join(f'{{"s": [1, 2, {n}], "label": "{n % 2}"}}\n' for n in range(200)))(place)),
    jsonl("jsonl: nested", make=lambda place: text("x.jsonl", '{"s": ' + "[" * 5_000_000)(place)),
    jsonl("jsonl: nested 900 deep", make=lambda place: text("x.jsonl", ('{"s": ' + "[" * 900 + "]" * 900 + ', "label": "a"}\n') * 5_000)(place)),
    jsonl("jsonl: a million keys", make=lambda place: text("x.jsonl", "{" + ", ".join(f'"{n}": 1' for n in range(700_000)) + "}\n")(place)),
    jsonl("jsonl: keys times rows", make=lambda place: text("x.jsonl", "".join(f'{{"k{n % 60_000}": 1}}\n' for n in range(600_000)))(place)),
    jsonl("jsonl: a series of a million steps", make=lambda place: text("x.jsonl", "".join(f'{{"s": [{"1, " * 10**6} 2], "label": "{n}"}}\n' for n in range(3)))(place)),
    jsonl(
        "jsonl: one long series among many",
        make=lambda place: text("x.jsonl", f'{{"s": [{"1," * 65_000} 2], "label": "a"}}\n' + '{"s": [1], "label": "b"}\n' * 300_000)(place),
    ),
    jsonl("jsonl: three million empty objects", make=lambda place: text("x.jsonl", "{}\n" * 3_300_000)(place)),
    jsonl("jsonl: five million bad lines", make=lambda place: text("x.jsonl", "x\n" * 5_000_000)(place)),
    jsonl("jsonl: whole numbers of 4,000 digits", make=lambda place: text("x.jsonl", ('{"s": [' + "7" * 4_000 + '], "label": "a"}\n') * 2_000)(place)),
    jsonl("jsonl: whole numbers of a million digits", make=lambda place: text("x.jsonl", ('{"s": [' + "7" * 10**6 + '], "label": "a"}\n') * 9)(place)),
    jsonl("jsonl: 1 GB in one line, gzip", make=lambda place: zeros("x.jsonl", 1024 * MIB)(place)),
    jsonl("jsonl: empty lists, gzip", make=lambda place: zeros("x.jsonl", 64 * MIB, b'{"s": [', b'[]], "label": "a"}\n', value=b"[],[],{},")(place)),
    files("text-files: good", data={"source": "text-files", "path": "*.txt"}, make=lambda place: [(place / f"{n}.txt").write_text("some words here. " * 500) for n in range(9)]),
    files("text-files: 1 GB in one line, gzip", data={"source": "text-files", "path": "x.txt"}, make=lambda place: zeros("x.txt", 1024 * MIB)(place)),
    files(
        "text-files: one word of 9 MB, bpe",
        data={"source": "text-files", "path": "*.txt", "tokenizer": {"kind": "bpe", "vocabulary": 4000}},
        make=lambda place: [(place / f"{n}.txt").write_bytes(np.random.default_rng(n).integers(97, 123, 3_000_000).astype(np.uint8).tobytes()) for n in range(3)],
    ),
    arrays("npz: good", make=lambda place: npz(TINY)(place)),
    arrays("npz: a shape of terabytes", make=lambda place: npz({"x_train": npy("(1000000, 1000, 1000)", "'|u1'", bytes(1000)), **LABELS})(place)),
    arrays("npz: texts of no length", make=lambda place: npz({**TINY, "y_train": npy("(1000000000000,)", "'<U0'", b"")})(place)),
    arrays("npz: objects", make=lambda place: npz(saved(x_train=np.array([{}] * 40, object)) | LABELS)(place)),
    arrays("npz: a bomb", make=lambda place: npz({"x_train": npy("(1000, 1000, 2000)", "'|u1'", bytes(2 * 10**9)), **LABELS})(place)),
    arrays("npz: 60,000 members", make=lambda place: npz({f"m{n}": b"x" for n in range(60_000)})(place)),
    arrays("npz: a name twice", make=lambda place: npz(TINY, ("x_train", TINY["x_train"]))(place)),
    arrays("npz: a deep header", make=lambda place: npz({"x_train": npy("(" * 60, "'|u1'", b""), **LABELS})(place)),
    arrays("npz: bytes that are no names", make=lambda place: npz(TINY | saved(class_names=np.array([b"\xff\xfe", b"b"])))(place)),
    arrays("npz: names of 40 MB", make=lambda place: npz(TINY | saved(class_names=np.array(["a" * 5_000_000, "b"])))(place)),
    clothing("idx: a shape of terabytes", make=lambda place: clothes(idx(2**31, 2**15, 2**15))(place)),
    clothing("idx: a bomb", make=lambda place: clothes(gzip.compress(idx(600_000, 40, 40, content=bytes(960_000_000))), ".gz")(place)),
    clothing("idx: sides of nothing", make=lambda place: clothes(idx(0, 2**32 - 1, 2**32 - 1, content=b""))(place)),
    cifar("cifar10: a memo of gigabytes", make=lambda place: batches(MEMO)(place)),
    cifar("cifar10: lists of one list", make=lambda place: batches(batch(nested(9)))(place)),
    cifar("cifar10: ten million steps", make=lambda place: batches(b"\x80\x02(" + b"N0" * 1_000_000 + b".")(place)),
    cifar("cifar10: no dictionary", make=lambda place: batches(pickle.dumps([1] * 1000, 2))(place)),
    waves("wav: good", make=lambda place: recordings(wav())(place)),
    waves("wav: a header of hours", make=lambda place: recordings(wav(claimed=2**31 - 2**20))(place)),
    waves("wav: 65,535 channels", make=lambda place: recordings(wav(channels=65_535, content=bytes(131_070 * 4)))(place)),
    waves("wav: 1 Hz", make=lambda place: recordings(wav(rate=1))(place)),
    waves("wav: 4 GHz", make=lambda place: recordings(wav(rate=2**32 - 1))(place)),
    waves("wav: rates without a common measure", make=lambda place: recordings(wav(rate=999_983), 40)(place)),
    waves("wav: a flood of chunks", make=lambda place: recordings(wav()[:36] + FLOOD)(place)),
    waves("wav: seconds and bands", data=WAVES | {"audio": {"seconds": 600, "hop_ms": 0.1, "sample_rate": 192_000}}, make=lambda place: recordings(wav())(place)),
    folder("pictures: good", make=lambda place: pictures(lambda _: None)(place)),
    folder("pictures: 60,000 x 60,000 in 1 KB", make=lambda place: pictures(lambda place: (place / "x.png").write_bytes(png(60_000, 60_000)))(place)),
    folder("pictures: 9,000 x 9,000 twelve times", make=lambda place: pictures(lambda place: [(place / f"x{n}.png").write_bytes(png(9_000, 9_000)) for n in range(12)])(place), data=FOLDER | {"image_size": 4096}),
    folder("pictures: a text of 1 GB", make=lambda place: pictures(lambda place: (place / "x.png").write_bytes(png(16, 16, png_chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(500 * MIB))))))(place) ),
    folder("pictures: cut short", make=lambda place: pictures(lambda place: (place / "x.png").write_bytes(png(4000, 4000)))(place)),
    folder("pictures: 110,000 folders", make=lambda place: folders(110_000, 0)(place)),
    folder("pictures: 300 folders deep", make=lambda place: folders(0, 300)(place)),
    folder("pictures: a link that goes round", make=lambda place: folders(0, 0, link=True)(place)),
    hf("hf: good", make=lambda place: hugging_face()(place)),
    hf("hf: a billion layers", make=lambda place: hugging_face(num_hidden_layers=10**9)(place)),
    hf("hf: 900 layers of 4,000", make=lambda place: hugging_face(num_hidden_layers=900, hidden_size=4000, intermediate_size=16_000)(place)),
    hf("hf: a vocabulary of 2^40", make=lambda place: hugging_face(vocab_size=2**40)(place)),
    hf("hf: four million positions", make=lambda place: hugging_face(max_position_embeddings=2**22, hidden_size=4096)(place)),
    hf("hf: a width as text", make=lambda place: hugging_face(hidden_size="16")(place)),
    hf("hf: a width below nothing", make=lambda place: hugging_face(hidden_size=-16)(place)),
    hf("hf: no number", make=lambda place: hugging_face(layer_norm_eps=float("nan"))(place)),
    hf("hf: a type that is none", make=lambda place: hugging_face(dtype="evil", torch_dtype="float17")(place)),
    hf("hf: code", make=lambda place: hugging_face(auto_map={"AutoModel": "evil--module.Evil"}, model_type="evil")(place)),
    hf("hf: elsewhere", make=lambda place: hugging_face(_name_or_path="someone/else", architectures=7)(place)),
    hf("hf: a configuration of 10 MB", make=lambda place: hugging_face(more=[[[n] for n in range(100)] for _ in range(9_000)])(place)),
    hf("hf: padding beyond the vocabulary", make=lambda place: hugging_face(pad_token_id=10**9)(place)),
    sized("sizes: a width of a billion", student={"model": "mlp", "args": {"width": 10**9}}),
    sized("sizes: a thousand layers of a thousand", student={"model": "mlp", "args": {"width": 1024, "layers": 1024}}),
    sized(
        "sizes: torchvision", make=lambda place: pictures(lambda _: None)(place), data=FOLDER, task=PICTURES,
        student={"model": "torchvision/mobilenet_v2", "args": {"width_mult": 1e6}}, good="pictures: good",
    ),
    sized(
        "sizes: timm", make=lambda place: pictures(lambda _: None)(place), data=FOLDER, task=PICTURES,
        student={"model": "timm/vit_tiny_patch16_224", "args": {"depth": 10**9}}, good="pictures: good",
    ),
    sized("sizes: pictures of 4,096", data={"source": "digits", "image_size": 4096, "channels": 3}, task=PICTURES, student=NET),
    sized("sizes: texts of 65,536 tokens", data=TEXT | {"length": 65_536}, make=lambda place: text("x.csv", "text,label\n" + "a,b\nc,d\n" * 100_000)(place), task=TEXTS, student=CNN),
)  # fmt: skip
