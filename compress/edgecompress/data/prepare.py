"""From a source's arrays to the dataset the stages see: splits, subsets, and the form a network takes."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from edgecompress.data.base import Dataset, Normalization, Split
from edgecompress.data.forms import Parts, form
from edgecompress.data.labels import check_some_known, unseen_classes
from edgecompress.data.pictures import fitted, sides
from edgecompress.data.raw import RawData, listing
from edgecompress.data.splits import by_group, derived_seed, stratified, subset, undivided
from edgecompress.errors import DataError
from edgecompress.recipe.schema import Recipe
from edgecompress.wording import counted, verb


def prepare(recipe: Recipe, raw: RawData, normalization: Normalization | None) -> Dataset:
    """Returns the dataset: test held out (where the source has none), subsets, validation held out, in that order.

    What is learnt from data (vocabulary, mean and spread) is learnt from what is then left in train.

    Raises:
        DataError: The recipe asks for what the source does not have.
    """
    notes = list(raw.notes)
    for name in raw.class_names:
        if any("\ud800" <= letter <= "\udfff" for letter in name):  # of folders, say, with names in another encoding
            raise DataError(f"the class name {name!a} is no text that UTF-8 can hold. Rename it.")
    if raw.kind == "pictures":
        raw = _fitted(recipe, raw)
    train, test = raw.train, raw.test
    if test is not None:
        _keep_apart(recipe, {"train": train, "validation": raw.validation, "test": test})
    else:
        train, test = _hold_out(recipe, train, "test", raw.class_names, notes)
        how = f"by {recipe.data.split_by}" if recipe.data.split_by else "stratified by class" if raw.class_names else ""
        notes.append(
            f"The source has no test split: {len(test)} of {counted(len(test) + len(train), 'sample')} "
            f"{verb(len(test), 'was', 'were')} held out for it, {f'{how}, ' if how else ''}by seed {recipe.seed}."
        )
    train = _thinned(train, recipe.data.train_samples, recipe.seed, "train_samples", notes)
    test = _thinned(test, recipe.data.test_samples, recipe.seed, "test_samples", notes)
    if raw.validation is not None:
        validation = raw.validation
    else:
        train, validation = _hold_out(recipe, train, "validation", raw.class_names, notes)
    _look_at_classes(recipe, raw, train, test, notes)
    if recipe.task == "anomaly-detection":
        train = _normal(train, notes)
    return form(recipe, raw, Parts(train, validation, test, raw.calibration), normalization, notes)


def _look_at_classes(recipe: Recipe, raw: RawData, train: Split, test: Split, notes: list[str]) -> None:
    """Notes classes of the test split that train has not.

    Raises:
        DataError: It has no other ones.
    """
    if not (recipe.task.endswith("classification") and raw.class_names and len(train)):
        return
    hint = "Are the labels spelt the same way, and are these files of one data set?"
    if raw.test is None:
        hint = f"Groups ({recipe.data.split_by}) of one class each cannot be held out: split otherwise."
    check_some_known(train.labels, test.labels, raw.class_names, recipe.data.path or recipe.data.source, hint)
    unseen = unseen_classes(train.labels, test.labels, raw.class_names)
    known = f"the test split has samples of {unseen}, the train split none"  # as the source has it already
    if unseen and not any(known in note for note in notes):
        how = f"Split by {recipe.data.split_by}, the" if recipe.data.split_by else "The"
        notes.append(f"{how} test split has samples of {unseen}, train none.")


def _keep_apart(recipe: Recipe, splits: dict[str, Split | None]) -> None:
    """Lets splits of the source's own pass that share no group.

    Raises:
        DataError: Two do, although the recipe asks for groups that are in one split only.
    """
    if recipe.data.split_by is None:
        return
    groups = {
        part: set(one.groups.tolist()) for part, one in splits.items() if one is not None and one.groups is not None
    }
    for first, second in itertools.combinations(groups, 2):
        if both := sorted(groups[first] & groups[second]):
            raise DataError(
                f"data.split_by: {recipe.data.split_by}: {counted(len(both), 'group')} of `{recipe.data.source}` "
                f"{verb(len(both), 'is', 'are')} in both {first} and {second}: {listing(both)}. Remove them from one, "
                "or give all samples as train, to be split by group."
            )


def _normal(train: Split, notes: list[str]) -> Split:
    """Returns what an auto-encoder may learn from: samples without anomaly."""
    normal = np.flatnonzero(train.labels == 0)
    if len(train) and not len(normal):
        raise DataError("all samples left to train on are anomalies; anomaly-detection learns what is normal.")
    if left_out := len(train) - len(normal):
        notes.append(
            f"Left out of train, which is to hold what is normal: {counted(left_out, 'sample')} with an anomaly."
        )
    return train.take(normal)


def _fitted(recipe: Recipe, raw: RawData) -> RawData:
    size, channels, name = sides(recipe.data.image_size), recipe.data.channels, recipe.data.source

    def fit(split: Split) -> Split:
        return replace(split, inputs=fitted(split.inputs, size, channels, name))

    return replace(
        raw,
        train=fit(raw.train),
        test=None if raw.test is None else fit(raw.test),
        validation=None if raw.validation is None else fit(raw.validation),
        calibration=None if raw.calibration is None else fitted(raw.calibration, size, channels, name),
    )


def _hold_out(
    recipe: Recipe, split: Split, purpose: str, names: tuple[str, ...], notes: list[str]
) -> tuple[Split, Split]:
    """Returns (what is left, what is held out for `purpose`)."""
    share, seed = recipe.data.test if purpose == "test" else recipe.data.validation, derived_seed(recipe.seed, purpose)
    if recipe.data.split_by is not None and len(split):
        if split.groups is None:
            raise DataError(
                f"data.split_by: {recipe.data.split_by}: source `{recipe.data.source}` says of no sample which group "
                "it belongs to. Give a column, key or array of that name, or remove it."
            )
        kept, held = by_group(split.groups, split.labels if names else None, share, seed)
        found = listing(np.unique(split.groups[held]))
        notes.append(f"Held out for the {purpose}, by {recipe.data.split_by}: {found}.")
        return split.take(kept), split.take(held)
    if not names:
        if len(split) == 1:
            what = "text file" if recipe.data.source == "text-files" else "sample"
            more = f"data.test_path, or more {what}s" if purpose == "test" else f"more {what}s"
            where = f"{recipe.data.path}: " if recipe.data.path is not None else ""
            raise DataError(f"{where}there is one {what} only to hold out a {purpose} split from: give {more}.")
        kept, held = undivided(len(split), share, seed)
        return split.take(kept), split.take(held)
    kept, held = stratified(split.labels, share, seed)
    single = np.flatnonzero(np.bincount(split.labels, minlength=1) == 1)
    if len(single):
        listed = listing(f"`{names[number]}`" for number in single)
        notes.append(f"One sample only of class {listed}: it stays in train, and the {purpose} split has none.")
    return split.take(kept), split.take(held)


def _thinned(split: Split, count: int | None, seed: int, key: str, notes: list[str]) -> Split:
    if count is None:
        return split
    if count > len(split):
        notes.append(f"data.{key} asks for {counted(count, 'sample')}; all {len(split):,} of the source are used.")
        return split
    labels = split.labels if split.labels.ndim == 1 and split.labels.dtype.kind == "i" else np.zeros(len(split), int)
    index: NDArray[np.int64] = subset(labels, count, derived_seed(seed, key))
    return split.take(index)
