"""Source `image-folder`: one folder per class, in `train` and `test`, or to be split; see EXPECTED."""

from __future__ import annotations

from collections import Counter

import numpy as np

from edgecompress.data.base import Split
from edgecompress.data.labels import describe_classes
from edgecompress.data.pictures import sides
from edgecompress.data.raw import RawData, empty_split, hash_files, required_path
from edgecompress.data.reading.picture_files import SUFFIXES, common_form, read_pictures
from edgecompress.data.sources.class_folders import CALIBRATION, Layout, scan
from edgecompress.recipe.schema import Recipe
from edgecompress.store.files import sha256_json
from edgecompress.wording import counted, verb

EXPECTED = (
    "a folder with train/CLASS/*.png and test/CLASS/*.png, or with CLASS/*.png to be split; "
    "if wanted, calibration/*.png and classes.txt (one class name per line)"
)
LAYOUT = Layout("picture", SUFFIXES, EXPECTED)


def load(recipe: Recipe, _trust: bool) -> RawData:
    """Returns the pictures as (N, H, W, C) uint8; classes are in the order of their sorted names or of classes.txt."""
    root = required_path(recipe, EXPECTED)
    found = scan(root, LAYOUT)
    every = [path for files in found.files.values() for path in files]
    size, channels = common_form(every, sides(recipe.data.image_size), recipe.data.channels)
    seen: Counter[str] = Counter()
    pictures = {part: read_pictures(files, size, channels, seen) for part, files in found.files.items()}
    splits = {part: Split(pictures[part], np.array(labels, np.int64)) for part, labels in found.labels.items()}
    notes = found.notes
    if found.skipped:
        other = counted(found.skipped, "hidden or other file")
        notes.append(
            f"{root}: {other} that {verb(found.skipped, 'is no picture was', 'are no pictures were')} skipped."
        )
    notes += [
        f"{root}: {counted(count, 'picture')} {what.format(verb(count, 'was', 'were'))}."
        for what, count in sorted(seen.items())
    ]
    notes += describe_classes({part: split.labels for part, split in splits.items()}, found.names, str(root))
    train = splits.get("train") or empty_split((*size, channels), np.dtype(np.uint8))
    return RawData(train, splits.get("test"), found.names, pictures.get(CALIBRATION), notes=tuple(notes))


def fingerprint(recipe: Recipe, _trust: bool) -> str:
    """Returns the hash of the pictures, their places in the folder and the classes."""
    root = required_path(recipe, EXPECTED)
    found = scan(root, LAYOUT)
    every = [path for files in found.files.values() for path in files]
    return sha256_json([list(found.names), hash_files((path.relative_to(root).as_posix(), path) for path in every)])
