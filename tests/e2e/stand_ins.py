"""Small data in the place of what `make data` brings, for machines where it cannot be had."""

from __future__ import annotations

import gzip
import json
import warnings
import wave
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image

from edgecompress.data.sources.fashion_mnist import FOLDERS

ROOT = Path(__file__).parents[2]


def stand_in(path: Path, folder: Path) -> list[str]:
    """Returns overrides by which a shipped recipe reads what was written to `folder`; none where it has its data."""
    recipe = yaml.safe_load(path.read_text(encoding="utf-8"))
    data, found = recipe["data"], []
    if data["source"] == "fashion-mnist":
        return [] if FOLDERS[0].is_dir() else [f"data.path={stand_in_fashion_mnist(folder)}"]
    if "path" not in data:
        return []
    place = (path.parent / data["path"]).resolve()
    if data["source"] == "image-folder":  # whatever there is: of the number of its blocks nothing here depends
        return stand_in_imagenet(folder / "pictures")
    if not place.exists():
        found += MAKERS[data["source"]](folder)
    if str(recipe.get("teacher", {}).get("model")).startswith("hf/"):
        # The real one is a matter of minutes, and of how large it is nothing here depends.
        found.append(f"teacher.model=hf/{stand_in_bert(folder / 'bert')}")
    return found


def stand_in_fashion_mnist(folder: Path) -> Path:
    """Writes files in Fashion-MNIST's format with other pictures, for machines where the real ones cannot be had."""
    rng = np.random.default_rng(0)
    for name, count in (("train", 400), ("t10k", 100)):
        labels = (np.arange(count) % 10).astype(np.uint8)
        pictures = (rng.integers(0, 60, (count, 28, 28)) + 15 * labels[:, None, None]).astype(np.uint8)
        head = np.array([0x803, count, 28, 28], ">i4").tobytes()
        (folder / f"{name}-images-idx3-ubyte.gz").write_bytes(gzip.compress(head + pictures.tobytes()))
        head = np.array([0x801, count], ">i4").tobytes()
        (folder / f"{name}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(head + labels.tobytes()))
    return folder


def stand_in_imagenet(folder: Path) -> list[str]:
    """Writes pictures in the layout of `make data`, and for their classes weights of a MobileNetV2 of four blocks."""
    from safetensors.torch import save_file

    from edgecompress.sources.torchvision_import import import_torchvision

    rng = np.random.default_rng(0)
    for name in ("test/0", "test/1", "calibration"):
        (folder / name).mkdir(parents=True)
        for number in range(8):
            pixels = rng.integers(0, 256, (40, 50, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{number}.png")
    (folder / "classes.txt").write_text("".join(f"{number} something\n" for number in range(1000)))
    weights = folder / "weights.safetensors"
    args = {"width_mult": 0.5, "inverted_residual_setting": [[1, 16, 1, 1], [6, 24, 2, 2], [6, 32, 1, 2]]}
    save_file(import_torchvision().models.mobilenet_v2(num_classes=1000, **args).state_dict(), weights)
    return [f"data.path={folder}", f"teacher.weights={weights}", f"teacher.args={json.dumps(args)}"]


def stand_in_texts(folder: Path) -> list[str]:
    """Writes two tables of texts in the layout of Orange's: three lines of header, the class first."""
    rng = np.random.default_rng(0)
    for part, count in (("train", 240), ("test", 80)):
        lines = ["Category\tText", "d\tstring", "class\t"]
        for number in range(count):
            words = [f"w{word}" for word in rng.integers(0, 200, 30)]
            lines.append(f"c{number % 4}\t{' '.join([*words, f'topic{number % 4}'])}")
        (folder / f"{part}.tab").write_text("\n".join(lines) + "\n")
    return [f"data.path={folder / 'train.tab'}", f"data.test_path={folder / 'test.tab'}"]


def stand_in_series(folder: Path) -> list[str]:
    """Writes series of six channels from ten people."""
    rng = np.random.default_rng(0)
    labels, people = np.arange(70) % 7, np.arange(70) // 7
    lengths = rng.integers(420, 600, 70)
    time = np.arange(600)[None, :, None] * (1 + labels[:, None, None]) / 20
    series = (np.sin(time + np.arange(6)) + rng.normal(0, 0.1, (70, 600, 6))).astype(np.float32)
    names = np.array([f"exercise {n}" for n in range(7)])
    np.savez(
        folder / "watch.npz", x_train=series, y_train=labels, lengths_train=lengths, subject=people, class_names=names
    )
    return [f"data.path={folder / 'watch.npz'}"]


def stand_in_recordings(folder: Path) -> list[str]:
    """Writes tones, one folder for each of five pitches, the same names in each."""
    rng = np.random.default_rng(0)
    for pitch, language in enumerate(("en", "es", "fr", "it", "ru")):
        (folder / "spoken" / language).mkdir(parents=True)
        for number in range(48):
            tone = np.sin(np.arange(8000) * (0.1 + 0.15 * pitch)) * rng.uniform(3_000, 12_000)
            with wave.open(str(folder / "spoken" / language / f"prompt-{number}.wav"), "wb") as file:
                file.setnchannels(1)
                file.setsampwidth(2)
                file.setframerate(8000)
                file.writeframes((tone + rng.normal(0, 500, 8000)).astype("<i2").tobytes())
    return [f"data.path={folder / 'spoken'}"]


def stand_in_library(folder: Path) -> list[str]:
    """Writes some program text."""
    for part, count in (("train", 6), ("test", 2)):
        (folder / "texts" / part).mkdir(parents=True)
        for number in range(count):
            text = "".join(f"def function_{k}(value):\n    return value + {k * number}\n\n" for k in range(60))
            (folder / "texts" / part / f"{number}.txt").write_text(text)
    return [f"data.path={folder / 'texts' / 'train'}", f"data.test_path={folder / 'texts' / 'test'}"]


def stand_in_bert(folder: Path) -> Path:
    """Writes a tiny BERT with random weights and the tokenizer of one."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    from edgecompress.sources.torchvision_import import import_torchvision

    words = [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        *"abcdefghijklmnopqrstuvwxyz",
        *(f"##{c}" for c in "abcdefghijklmnopqrs"),
    ]
    tokenizer = Tokenizer(models.WordPiece({word: n for n, word in enumerate(words)}, unk_token="[UNK]"))  # noqa: S106
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    folder.mkdir()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import_torchvision()
        import transformers

        config = transformers.BertConfig(
            vocab_size=len(words), max_position_embeddings=256, hidden_size=16, num_hidden_layers=1,
            num_attention_heads=2, intermediate_size=32,
        )  # fmt: skip
        transformers.BertModel(config).save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


#: Source -> what writes its stand-in and returns the overrides.
MAKERS: dict[str, Any] = {
    "csv": stand_in_texts,
    "npz": stand_in_series,
    "wav-folder": stand_in_recordings,
    "text-files": stand_in_library,
}
