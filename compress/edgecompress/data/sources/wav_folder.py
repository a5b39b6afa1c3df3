"""Source `wav-folder`: recordings in one folder per class, or as Speech Commands has them; see EXPECTED."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecompress.data.base import Split
from edgecompress.data.front_end import describe, features, fitted, shape
from edgecompress.data.labels import anomaly_numbers, describe_classes
from edgecompress.data.limits import check_memory
from edgecompress.data.raw import RawData, empty_split, hash_files, required_path
from edgecompress.data.reading.broken import Broken
from edgecompress.data.reading.folders import normal, total_size
from edgecompress.data.reading.text_reading import read_text
from edgecompress.data.reading.wav_files import read_wav
from edgecompress.data.sources.class_folders import CALIBRATION, Found, Layout, scan
from edgecompress.errors import DataError
from edgecompress.recipe.schema import Recipe
from edgecompress.store.files import sha256_json
from edgecompress.wording import counted, verb

EXPECTED = (
    "a folder with train/CLASS/*.wav and test/CLASS/*.wav, or with CLASS/*.wav to be split; if wanted, "
    "calibration/*.wav and classes.txt (one class name per line); or, as in Speech Commands, testing_list.txt and "
    "validation_list.txt beside the classes"
)
#: Recordings of noise that Speech Commands brings along.
NOISE = "_background_noise_"
#: Files that name what belongs to a split, of Speech Commands (Warden 2018), by split.
LISTS = {"test": "testing_list.txt", "validation": "validation_list.txt"}
LAYOUT = Layout("recording", frozenset({".wav", ".wave"}), EXPECTED, (NOISE,), tuple(LISTS.values()))
#: What recordings can be kept together by -> the group of a file.
GROUPS: dict[str, Callable[[Path], str]] = {
    "speaker": lambda path: normal(path.stem).split("_")[0],
    "name": lambda path: normal(path.stem),
}


def load(recipe: Recipe, _trust: bool) -> RawData:
    """Returns (N, frames, features) float32; classes are in the order of their sorted names or of classes.txt."""
    root, found = _found(recipe)
    by = recipe.data.split_by
    if by is not None and by not in GROUPS:
        raise DataError(f"data.split_by: {by}: source `wav-folder` knows {', '.join(GROUPS)}.")
    description = describe(recipe.data.audio)
    seen: Counter[str] = Counter()
    broken = Broken.of(recipe, "recording")
    broken.add_nowhere(found.walk.nowhere)
    inputs = _read(found.files, description, seen, broken)
    total = sum(map(len, found.files.values()))
    left_out = broken.settle(total)
    for part, places in found.without(broken.files, root).items():
        inputs[part] = inputs[part][places]
        found.files[part] = [found.files[part][place] for place in places.tolist()]
        if part in found.labels:
            found.labels[part] = [found.labels[part][place] for place in places.tolist()]
    labels: dict[str, NDArray[np.int64]] = {part: np.array(numbers, np.int64) for part, numbers in found.labels.items()}
    names, notes = found.names, list(found.notes)
    if recipe.task == "anomaly-detection":
        answers = {part: [names[number] for number in numbers] for part, numbers in found.labels.items()}
        labels, names = anomaly_numbers(answers, {part: len(one) for part, one in answers.items()}, str(root))
    else:
        notes += describe_classes(labels, names, str(root))
    splits = {
        part: Split(
            inputs[part], labels[part], np.array([GROUPS[by](path) for path in found.files[part]]) if by else None
        )
        for part in labels
    }
    notes += [*found.walk.notes(root, LAYOUT.noun), *left_out]
    notes += [
        f"{root}: {counted(count, 'recording')} {what.format(verb(count, 'was', 'were'))}."
        for what, count in sorted(seen.items())
    ]
    train = splits.get("train") or empty_split(shape(description), np.dtype(np.float32))
    return RawData(
        train,
        splits.get("test"),
        names,
        inputs.get(CALIBRATION),
        notes=tuple(notes),
        kind="series",
        front_end=description,
        validation=splits.get("validation"),
    )


def fingerprint(recipe: Recipe, _trust: bool) -> str:
    """Returns the hash of the recordings, their places in the folder, the classes and the splits."""
    root, found = _found(recipe)
    places = {part: [path.relative_to(root).as_posix() for path in files] for part, files in found.files.items()}
    every = [path for files in found.files.values() for path in files]
    hashed = hash_files(
        ((path.relative_to(root).as_posix(), path) for path in every), lenient=recipe.data.on_error == "skip"
    )
    return sha256_json([list(found.names), places, hashed])


def _found(recipe: Recipe) -> tuple[Path, Found]:
    root = required_path(recipe, EXPECTED)
    found = scan(root, LAYOUT)
    if (root / NOISE).is_dir():
        found.notes.append(f"{root}: {NOISE} is no class and is left out.")
    if "test" not in found.files:
        _apply_lists(root, found)
    return root, found


def _apply_lists(root: Path, found: Found) -> None:
    """Moves what Speech Commands' lists name from train into test and validation.

    Raises:
        DataError: A list names a file that is not there, or that the other one names too.
    """
    part_of: dict[str, str] = {}
    there = {normal(path.relative_to(root).as_posix()): place for place, path in enumerate(found.files["train"])}
    for part, name in LISTS.items():
        file = root / name
        if not file.is_file():
            continue
        for number, line in enumerate(read_text(file).splitlines(), 1):
            entry = normal(line.strip().replace("\\", "/"))
            if entry.startswith(f"{NOISE}/") or not entry:
                continue
            if entry not in there:
                raise DataError(f"{file}:{number}: {entry} is not in {root}. Is the folder whole?")
            if part_of.setdefault(entry, part) != part:
                raise DataError(f"{file}:{number}: {entry} is in {LISTS[part_of[entry]]} too.")
    if not part_of:
        return
    files, labels = found.files["train"], found.labels["train"]
    parts = [part_of.get(entry, "train") for entry in there]
    for part in dict.fromkeys(["train", *parts]):
        chosen = [place for place, one in enumerate(parts) if one == part]
        found.files[part] = [files[place] for place in chosen]
        found.labels[part] = [labels[place] for place in chosen]


def _read(
    files: dict[str, list[Path]], description: dict[str, Any], seen: Counter[str], broken: Broken
) -> dict[str, NDArray[np.float32]]:
    """Returns the features of recordings by part; those of broken ones are zeros."""
    result = {}
    for part, paths in files.items():
        needed, given = 4 * len(paths) * math.prod(shape(description)), total_size(paths)
        check_memory(
            needed, given, f"{counted(len(paths), 'recording')} as frames", "Set a shorter data.audio.seconds."
        )
        result[part] = np.zeros((len(paths), *shape(description)), np.float32)
        for number, path in enumerate(paths):
            try:
                recording = read_wav(path)
            except DataError as error:
                broken.add(path, str(error))
                continue
            try:
                waveform = fitted(recording.samples, recording.rate, description)
            except DataError as error:
                broken.add(path, f"{path}: {error}")
                continue
            result[part][number] = features(waveform[np.newaxis], description)[0]
            if recording.open_end:
                seen["without a length in the header {} read to the end of the file"] += 1
            _count(seen, len(recording.samples) / recording.rate, recording.rate, recording.channels, description)
    return result


def _count(seen: Counter[str], seconds: float, rate: int, channels: int, description: dict[str, Any]) -> None:
    """Counts what had to be changed."""
    if rate != description["sample_rate"]:
        seen[f"at {rate:,} Hz {{}} resampled to {description['sample_rate']:,} Hz"] += 1
    if channels > 1:
        seen[f"of {channels} channels {{}} averaged to one"] += 1
    if abs(difference := seconds - description["seconds"]) > 1 / description["sample_rate"]:
        length = f"{description['seconds']:g} s"
        seen[
            f"longer than {length} {{}} cut" if difference > 0 else f"shorter than {length} {{}} padded with silence"
        ] += 1
