"""The form a network takes: pictures normalised, series padded, text as tokens; and what it has to answer."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecompress.data.base import Dataset, Normalization, Split, Vocabulary
from edgecompress.data.limits import check_memory
from edgecompress.data.normalize import choose_normalization
from edgecompress.data.raw import RawData
from edgecompress.data.tokens.hf_tokens import hf_tokens
from edgecompress.data.tokens.tokenizer import make_vocabulary
from edgecompress.errors import DataError, ModelError
from edgecompress.recipe.data import MAX_LENGTH
from edgecompress.recipe.schema import ModelSpec, Recipe
from edgecompress.sources.hugging_face import PREFIX
from edgecompress.wording import counted

BYTE_SCALE = 1 / 255
#: Tokens of a sample where the recipe says nothing.
TOKENS = 128
#: What tokens have in the place of a normalisation.
NO_NORMALIZATION = Normalization(1.0, (0.0,), (1.0,), "none: tokens are numbers of a vocabulary")

#: Kinds of samples whose values may end.
CLIPPED = ("series", "features")


@dataclass(frozen=True)
class Parts:
    """The splits of a run, before they have their form.

    Attributes:
        train: What is learnt from.
        validation: Held out of train.
        test: For the report.
        calibration: The source's own inputs to calibrate on.
    """

    train: Split
    validation: Split
    test: Split
    calibration: NDArray[Any] | None

    def each(self, change: Callable[[NDArray[Any]], NDArray[Any]]) -> Parts:
        """Returns the splits with their inputs changed."""
        train, validation, test = (
            replace(split, inputs=change(split.inputs)) for split in (self.train, self.validation, self.test)
        )
        return Parts(train, validation, test, None if self.calibration is None else change(self.calibration))


def form(recipe: Recipe, raw: RawData, parts: Parts, normalization: Normalization | None, notes: list[str]) -> Dataset:
    """Returns the dataset of splits that are made.

    Raises:
        DataError: The samples are not what the task needs.
    """
    clip = recipe.data.clip
    if clip is not None and raw.kind not in CLIPPED:
        raise DataError(f"data.clip is for series and tables of numbers, but the data holds {raw.kind}: remove it.")
    make = {"pictures": _pictures, "series": _series, "features": _features, "text": _text}[raw.kind]
    dataset = make(recipe, raw, parts, normalization)
    if clip is not None:
        dataset = replace(dataset, normalization=replace(dataset.normalization, clip=clip))
    if raw.subtracted or raw.levels:
        told = replace(dataset.normalization, subtracted=raw.subtracted, levels=raw.levels)
        dataset = replace(dataset, normalization=told)
    return replace(dataset, notes=(*notes, *dataset.notes), front_end=raw.front_end, target_names=raw.target_names)


def _pictures(recipe: Recipe, raw: RawData, parts: Parts, normalization: Normalization | None) -> Dataset:
    inputs = parts.train.inputs
    scale = raw.value_scale or (BYTE_SCALE if inputs.dtype == np.uint8 else 1.0)
    chosen, notes = choose_normalization(parts.train, raw.calibration, scale, normalization)
    height, width, channels = inputs.shape[1:]
    return _dataset(recipe, raw, parts, (channels, height, width), chosen, notes=tuple(notes))


def _features(recipe: Recipe, raw: RawData, parts: Parts, _published: Normalization | None) -> Dataset:
    chosen, notes = choose_normalization(parts.train, raw.calibration, raw.value_scale or 1.0, None)
    dataset = _dataset(recipe, raw, parts, parts.train.inputs.shape[1:], chosen, notes=tuple(notes))
    return replace(dataset, kind="features")


def _series(recipe: Recipe, raw: RawData, parts: Parts, _published: Normalization | None) -> Dataset:
    """Pads series in front, so that a recurrent network's last step is the last one seen.

    What was added counts in no statistics and is the mean, which is 0 for the network.
    """
    notes: tuple[str, ...] = ()
    if parts.train.inputs.dtype == object or recipe.data.length is not None:
        known = parts.train.inputs if len(parts.train) else parts.test.inputs
        lengths = [len(one) for one in known]
        shortest, longest = min(lengths, default=1), max(lengths, default=1)
        length, hop = recipe.data.length or longest, recipe.data.hop
        if length > MAX_LENGTH:
            raise DataError(
                f"the longest series has {length:,} steps, at most {MAX_LENGTH:,} are read: set data.length (and "
                "data.hop, which cuts longer ones into windows)."
            )
        if shortest < longest or recipe.data.length is not None:
            long = "keep their first steps" if hop is None else f"are cut into windows that begin every {hop}"
            note = (
                f"Series have {shortest} to {counted(longest, 'step')}: longer ones than {length} {long}, shorter ones "
                "are padded in front with the mean."
            )
            notes = (note,)
        parts = cut(parts, length, hop)
    elif parts.train.inputs.shape[1] > MAX_LENGTH:
        raise DataError(
            f"the series have {parts.train.inputs.shape[1]:,} steps, at most {MAX_LENGTH:,} are read: set "
            "data.length (and data.hop, which cuts longer ones into windows)."
        )
    rows = parts.train.inputs.reshape(-1, parts.train.inputs.shape[-1])
    seen = rows[~np.isnan(rows).any(-1)]
    chosen, more = choose_normalization(Split(seen, np.zeros(len(seen), np.int64)), None, raw.value_scale or 1.0, None)
    mean = np.array(chosen.mean, np.float32) / np.float32(chosen.value_scale)
    parts = parts.each(lambda inputs: np.where(np.isnan(inputs), mean, inputs).astype(np.float32))
    shape = parts.train.inputs.shape[1:]
    dataset = _dataset(recipe, raw, parts, shape, chosen, notes=(*notes, *more))
    return replace(dataset, kind="series")


def cut(parts: Parts, length: int, hop: int | None) -> Parts:
    """Returns series of one length: NaN in front of short ones; long ones cut off, or into windows.

    Args:
        parts: Splits of (N, steps, features) or (N,) objects of (steps, features).
        length: Steps of a sample.
        hop: From one window to the next; None: only the first window is used. Each has the label and the group of its
            series; steps at the end that are too few for another window are left out.
    """

    def split(one: Split) -> Split:
        inputs, owners = windows(one.inputs, length, hop)
        return replace(one.take(owners), inputs=inputs)

    calibration = None if parts.calibration is None else windows(parts.calibration, length, hop)[0]
    return Parts(split(parts.train), split(parts.validation), split(parts.test), calibration)


def windows(series: NDArray[Any], length: int, hop: int | None) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Returns (N, length, features) windows, NaN in front of short series, and which series each one is of."""
    features = series[0].shape[-1] if len(series) else series.shape[-1] if series.ndim > 1 else 0
    starts = [range(0, max(len(one) - length, 0) + 1, hop) if hop else range(1) for one in series]
    count, given = sum(map(len, starts)), 4 * features * sum(map(len, series))
    check_memory(
        4 * count * length * features,
        given,
        f"{count:,} windows of {length:,} steps",
        "Set a smaller data.length or a larger data.hop.",
    )
    result = np.full((count, length, features), np.nan, np.float32)
    owners = np.repeat(np.arange(len(series)), [len(one) for one in starts])
    window = 0
    for one, places in zip(series, starts, strict=True):
        for start in places:
            steps = one[start : start + length]
            result[window, length - len(steps) :] = steps
            window += 1
    return result, owners


def bringing_tokens(recipe: Recipe) -> ModelSpec | None:
    """Returns the model whose tokens the data has: the one that is shipped, or a teacher of the next token.

    None where the recipe's tokenizer makes them. A teacher that classifies may have others than its student.
    """
    teaches = recipe.task == "language-modeling" and recipe.teacher is not None
    spec = recipe.teacher if teaches and recipe.teacher is not None else recipe.compressed
    return spec if spec.model.startswith(PREFIX) else None


def token_length(recipe: Recipe, spec: ModelSpec | None) -> int:
    """Returns how many tokens a sample has, for a model that says so or for all others."""
    asked = spec.args.get("length") if spec is not None else None
    if asked is not None and (isinstance(asked, bool) or not isinstance(asked, int) or not 1 <= asked <= MAX_LENGTH):
        raise ModelError(f"args.length must be a whole number from 1 to {MAX_LENGTH}, not {asked!r}")
    return asked or recipe.data.length or TOKENS


def with_tokens_of(recipe: Recipe, spec: ModelSpec, dataset: Dataset) -> Dataset:
    """Returns a dataset of text with the tokens that a model brings; the dataset itself where it has them.

    Raises:
        ModelError: The model's folder cannot be used.
    """
    if not spec.model.startswith(PREFIX) or bringing_tokens(recipe) is spec or dataset.train.texts is None:
        return dataset
    vocabulary, length = hf_tokens(spec.model, Path(recipe.base_dir)), token_length(recipe, spec)

    def told(split: Split) -> Split:
        return replace(split, inputs=_tokens([] if split.texts is None else split.texts, vocabulary, length))

    return replace(
        dataset,
        train=told(dataset.train),
        validation=told(dataset.validation),
        test=told(dataset.test),
        calibration=None,
        input_shape=(length,),
        vocabulary=vocabulary,
    )


def _text(recipe: Recipe, raw: RawData, parts: Parts, _published: Normalization | None) -> Dataset:
    brought = bringing_tokens(recipe)
    length = token_length(recipe, brought)
    vocabulary = (
        hf_tokens(brought.model, Path(recipe.base_dir))
        if brought is not None
        else make_vocabulary(recipe.data.tokenizer, [str(one) for one in parts.train.inputs], recipe.seed)
    )
    if recipe.task == "language-modeling":
        train, validation, test = (
            _next_tokens(split, vocabulary, length, part)
            for part, split in (("train", parts.train), ("validation", parts.validation), ("test", parts.test))
        )
        parts = Parts(train, validation, test, None)
    else:
        texts = [split.inputs for split in (parts.train, parts.validation, parts.test)]
        parts = parts.each(lambda texts: _tokens(texts, vocabulary, length))
        if recipe.teacher is not None and recipe.teacher.model.startswith(PREFIX):  # it has tokens of its own
            train, validation, test = (
                replace(split, texts=one)
                for split, one in zip((parts.train, parts.validation, parts.test), texts, strict=True)
            )
            parts = Parts(train, validation, test, parts.calibration)
    dataset = _dataset(recipe, raw, parts, (length,), NO_NORMALIZATION)
    if recipe.task == "language-modeling":
        dataset = replace(dataset, output_shape=(length, vocabulary.size))
    return replace(dataset, kind="tokens", vocabulary=vocabulary)


def _next_tokens(split: Split, vocabulary: Vocabulary, length: int, part: str) -> Split:
    """Returns texts cut into windows of `length` tokens, each with the tokens that follow one place later.

    Windows do not overlap and do not reach from one text into the next; a text's last tokens, too few for a window, are
    left out.

    Raises:
        DataError: There are texts, but none is long enough for a window.
    """
    tokens = [vocabulary.encode_whole(str(one)) for one in split.inputs]
    counts = [max((len(one) - 1) // length, 0) for one in tokens]
    longest = max(map(len, tokens), default=0)
    if len(split) and longest <= length:
        raise DataError(
            f"the longest of the {counted(len(split), f'{part} text')} has {counted(longest, 'token')}: no window of "
            f"data.length ({length}) and its next token fits. Give longer texts, or a smaller data.length."
        )
    inputs, labels = np.empty((sum(counts), length), np.int32), np.empty((sum(counts), length), np.int64)
    row = 0
    for place, count in enumerate(counts):
        one, tokens[place] = tokens[place], tokens[place][:0]  # let go, text by text
        inputs[row : row + count] = one[: count * length].reshape(count, length)
        labels[row : row + count] = one[1 : count * length + 1].reshape(count, length)
        row += count
    return Split(inputs, labels)


def _tokens(texts: Iterable[Any], vocabulary: Vocabulary, length: int) -> NDArray[np.int32]:
    """Returns (N, length) token numbers."""
    found = [str(one) for one in texts]
    remedy = "Set a smaller data.length, or data.train_samples and data.test_samples."
    needed, given = 4 * length * len(found), sum(map(len, found))
    check_memory(needed, given, f"{counted(len(found), 'text')} of {counted(length, 'token')}", remedy)
    return vocabulary.encode(found, length)


def _dataset(
    recipe: Recipe,
    raw: RawData,
    parts: Parts,
    input_shape: tuple[int, ...],
    normalization: Normalization,
    notes: tuple[str, ...] = (),
) -> Dataset:
    dataset = Dataset(
        name=recipe.data.source,
        train=parts.train,
        validation=parts.validation,
        test=parts.test,
        class_names=raw.class_names,
        input_shape=input_shape,
        normalization=normalization,
        calibration=parts.calibration,
        notes=notes,
    )
    if recipe.task == "anomaly-detection":
        return replace(dataset, output_shape=input_shape)
    if recipe.task != "regression":
        return dataset
    if parts.train.labels.dtype.kind != "f":
        raise DataError(f"task regression needs numbers to predict, but source `{recipe.data.source}` has classes.")
    values = parts.train.labels.astype(np.float64)
    std = values.std(0) if len(values) else np.ones(values.shape[1])
    return replace(
        dataset,
        output_shape=(values.shape[1],),
        target_mean=tuple((values.mean(0) if len(values) else np.zeros(values.shape[1])).tolist()),
        target_std=tuple(np.where(std > 0, std, 1.0).tolist()),
    )
