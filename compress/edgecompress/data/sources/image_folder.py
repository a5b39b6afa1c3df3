"""Source `image-folder`: one folder per class, in `train` and `test`, or to be split; see EXPECTED."""

from __future__ import annotations

from collections import Counter

import numpy as np

from edgecompress.data.base import Split
from edgecompress.data.labels import describe_classes
from edgecompress.data.pictures import check_pictures, sides
from edgecompress.data.raw import RawData, empty_split, hash_files, required_path
from edgecompress.data.reading.broken import Broken
from edgecompress.data.reading.picture_files import SUFFIXES, common_form, levels_of, read_headers, read_pictures
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
    broken, seen = Broken.of(recipe, "picture"), Counter[str]()
    broken.add_nowhere(found.walk.nowhere)
    headers = read_headers(every, broken)
    if not headers:
        broken.skip = False
        broken.settle(len(every))
    form = common_form(headers, sides(recipe.data.image_size), recipe.data.channels)
    check_pictures(len(every), *form)
    levels = levels_of(found.files.get("train") or every, headers, broken)
    pictures = {part: read_pictures(files, form, levels, seen, broken) for part, files in found.files.items()}
    notes = [*found.notes, *found.walk.notes(root, LAYOUT.noun), *broken.settle(len(every))]
    kept = found.without(broken.files, root)
    splits = {
        part: Split(pictures[part][kept[part]], np.array(labels, np.int64)[kept[part]])
        for part, labels in found.labels.items()
    }
    notes += [
        f"{root}: {counted(count, 'picture')} {what.format(verb(count, 'was', 'were'))}."
        for what, count in sorted(seen.items())
    ]
    shallow = sum(not header.deep for header in headers.values())
    if 0 < shallow < len(headers):
        stay = verb(shallow, "stays as it is", "stay as they are")
        notes.append(f"{root}: {counted(shallow, 'picture')} of 8 bits beside those of 16 {stay}.")
    notes += describe_classes({part: split.labels for part, split in splits.items()}, found.names, str(root))
    train = splits.get("train") or empty_split((*form[0], form[1]), np.dtype(np.uint8))
    calibration = pictures[CALIBRATION][kept[CALIBRATION]] if CALIBRATION in pictures else None
    deep = (levels.low, levels.high) if any(header.deep for header in headers.values()) else ()
    return RawData(train, splits.get("test"), found.names, calibration, notes=tuple(notes), levels=deep)


def fingerprint(recipe: Recipe, _trust: bool) -> str:
    """Returns the hash of the pictures, their places in the folder and the classes."""
    root = required_path(recipe, EXPECTED)
    found = scan(root, LAYOUT)
    every = [path for files in found.files.values() for path in files]
    hashed = hash_files(
        ((path.relative_to(root).as_posix(), path) for path in every), lenient=recipe.data.on_error == "skip"
    )
    return sha256_json([list(found.names), hashed])
