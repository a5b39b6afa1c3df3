"""From a source's arrays to the dataset the stages see: size, splits, subsets, normalisation."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from compress.data.base import Dataset, Normalization, Split
from compress.data.normalize import choose_normalization
from compress.data.pictures import fitted, sides
from compress.data.raw import RawData, listing
from compress.data.splits import derived_seed, stratified, subset
from compress.recipe import Recipe
from compress.wording import counted, verb

BYTE_SCALE = 1 / 255


def prepare(recipe: Recipe, raw: RawData, normalization: Normalization | None) -> Dataset:
    """Returns the dataset: test held out (where the source has none), subsets, validation held out, in that order."""
    notes = list(raw.notes)
    raw = _fitted(recipe, raw)
    train, test = raw.train, raw.test
    if test is None:
        train, test = _hold_out(recipe, train, "test", raw.class_names, notes)
        notes.append(
            f"The source has no test split: {len(test)} of {counted(len(test) + len(train), 'sample')} "
            f"{verb(len(test), 'was', 'were')} held out for it, stratified by class, by seed {recipe.seed}."
        )
    train = _thinned(train, recipe.data.train_samples, recipe.seed, "train_samples", notes)
    test = _thinned(test, recipe.data.test_samples, recipe.seed, "test_samples", notes)
    train, validation = _hold_out(recipe, train, "validation", raw.class_names, notes)
    scale = raw.value_scale or (BYTE_SCALE if train.inputs.dtype == np.uint8 else 1.0)
    chosen, more = choose_normalization(train, raw.calibration, scale, normalization)
    height, width, channels = train.inputs.shape[1:]
    return Dataset(
        name=recipe.data.source,
        train=train,
        validation=validation,
        test=test,
        class_names=raw.class_names,
        input_shape=(channels, height, width),
        normalization=chosen,
        calibration=raw.calibration,
        notes=(*notes, *more),
    )


def _fitted(recipe: Recipe, raw: RawData) -> RawData:
    size, channels, name = sides(recipe.data.image_size), recipe.data.channels, recipe.data.source

    def fit(split: Split) -> Split:
        return Split(fitted(split.inputs, size, channels, name), split.labels)

    return replace(
        raw,
        train=fit(raw.train),
        test=None if raw.test is None else fit(raw.test),
        calibration=None if raw.calibration is None else fitted(raw.calibration, size, channels, name),
    )


def _hold_out(
    recipe: Recipe, split: Split, purpose: str, names: tuple[str, ...], notes: list[str]
) -> tuple[Split, Split]:
    """Returns (what is left, what is held out for `purpose`)."""
    share = recipe.data.test if purpose == "test" else recipe.data.validation
    kept, held = stratified(split.labels, share, derived_seed(recipe.seed, purpose))
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
    index: NDArray[np.int64] = subset(split.labels, count, derived_seed(seed, key))
    return split.take(index)
