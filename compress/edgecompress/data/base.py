"""What a data source gives: splits in memory, names of the classes, and how inputs are prepared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:  # sources are hashed without waiting for it
    import torch

#: About as many numbers stand for a token in a small network.
NUMBERS_PER_TOKEN = 64
#: What samples are, as the network sees them.
Kind = Literal["pictures", "series", "features", "tokens"]


class Vocabulary(Protocol):
    """Turns text into token numbers; made from the train split."""

    @property
    def size(self) -> int:
        """How many tokens there are, padding (0) and unknown (1) included."""

    def encode(self, texts: Sequence[str], length: int) -> NDArray[np.int32]:
        """Returns (N, length) token numbers, the ends of longer texts cut off, shorter ones padded in front by 0."""

    def encode_whole(self, text: str) -> NDArray[np.int32]:
        """Returns all tokens of a text, as many as there are."""

    def decode(self, tokens: Sequence[int]) -> str:
        """Returns the text that tokens stand for."""

    def document(self) -> dict[str, Any]:
        """Returns plain JSON values from which another program can do the same."""


@dataclass(frozen=True)
class Split:
    """Samples and what is to be answered.

    Attributes:
        inputs: (N, ...) array as the source has it: pictures (N, H, W, C), series (N, steps, features) or (N,) objects
            of (steps, features), tables (N, features), text (N,) objects, tokens (N, length) int32.
        labels: (N,) int64 class numbers; (N, targets) float64 in a regression; (N, length) int64 next tokens.
            Where there are no labels: zeros.
        groups: (N,) what each sample belongs to, such as a speaker; None where it is not known.
        texts: (N,) objects of type str that `inputs` are the tokens of, for teachers with tokens of their own.
    """

    inputs: NDArray[Any]
    labels: NDArray[Any]
    groups: NDArray[Any] | None = None
    texts: NDArray[Any] | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, index: NDArray[np.int64]) -> Split:
        """Returns the samples at `index`, in that order."""
        groups, texts = (None if rows is None else rows[index] for rows in (self.groups, self.texts))
        return Split(self.inputs[index], self.labels[index], groups, texts)


@dataclass(frozen=True)
class Normalization:
    """x = ((value - subtracted) * value_scale - mean) / std, per channel, ended at -clip and clip where there is one.

    Attributes:
        value_scale: 1/255 for uint8 pictures, 1 for float32 ones.
        mean: One number per channel, of value * value_scale.
        std: One number per channel.
        origin: Where the numbers are from, in words, for the report.
        clip: In standard deviations; None where values do not end.
        subtracted: From raw values, by whoever reads them (one number per channel, or one for all): they are too large
            for float32. Samples of a dataset come without it. Empty: nothing.
        levels: Of grey pictures of 16 bits: the values that became 0 and 255, before anything else. Empty: there are
            none.
    """

    value_scale: float
    mean: tuple[float, ...]
    std: tuple[float, ...]
    origin: str
    clip: float | None = None
    subtracted: tuple[int, ...] = ()
    levels: tuple[int, ...] = ()


@dataclass(frozen=True)
class Ends:
    """What a network is built between: its input and its output.

    Attributes:
        input_shape: Of one sample.
        outputs: Shape of the answer to one sample: (classes,), (targets,), or (length, vocabulary).
        kind: What the inputs are.
        vocabulary: How many tokens there are; 0 where inputs are no tokens.
    """

    input_shape: tuple[int, ...]
    outputs: tuple[int, ...]
    kind: Kind = "pictures"
    vocabulary: int = 0

    @property
    def dtype(self) -> torch.dtype:
        """Type of the input: whole numbers for tokens."""
        import torch

        return torch.int32 if self.kind == "tokens" else torch.float32

    def example(self, samples: int = 1) -> torch.Tensor:
        """Returns an input of zeros."""
        import torch

        return torch.zeros(samples, *self.input_shape, dtype=self.dtype)


@dataclass(frozen=True)
class Dataset:
    """Everything the stages see of the data.

    Attributes:
        name: The source's name.
        train: What is learnt from; may be empty where a recipe trains nothing.
        validation: Held out of train, to choose by.
        test: Read once, for the report.
        class_names: One per class.
        input_shape: Shape of one sample as the network sees it: (C, H, W) for pictures, (steps, features) for series,
            (features,) for tables, (length,) for tokens.
        normalization: How inputs are prepared; of tokens it says nothing.
        calibration: Unlabelled inputs to calibrate on, where the source has its own; else they are drawn from train.
        notes: Plain sentences for the report (for example: what was dropped).
        kind: What the inputs are.
        vocabulary: Of text: which token stands for what.
        front_end: Of audio: how frames are made of a waveform, by the names of the recipe's `audio` block.
        target_names: Of a regression: the numbers to predict.
        target_mean: Of a regression: mean per number in the train split; networks predict (value - mean) / std.
        target_std: Of a regression: standard deviation per number in the train split.
        output_shape: What the network answers to one sample; empty: one number per class.
    """

    name: str
    train: Split
    validation: Split
    test: Split
    class_names: tuple[str, ...]
    input_shape: tuple[int, ...]
    normalization: Normalization
    calibration: NDArray[Any] | None = None
    notes: tuple[str, ...] = ()
    kind: Kind = "pictures"
    vocabulary: Vocabulary | None = None
    front_end: Mapping[str, Any] | None = None
    target_names: tuple[str, ...] = ()
    target_mean: tuple[float, ...] = ()
    target_std: tuple[float, ...] = ()
    output_shape: tuple[int, ...] = ()

    @property
    def num_classes(self) -> int:
        """How many classes there are."""
        return len(self.class_names)

    @property
    def outputs(self) -> tuple[int, ...]:
        """Shape of what the network answers to one sample."""
        return self.output_shape or (self.num_classes,)

    @property
    def ends(self) -> Ends:
        """What a network for these data is built between."""
        size = self.vocabulary.size if self.vocabulary is not None else 0
        return Ends(self.input_shape, self.outputs, self.kind, size)

    @property
    def value_shape(self) -> tuple[int, ...]:
        """Shape of the numbers a network computes with first: a token is a row of a table for it."""
        return (*self.input_shape, NUMBERS_PER_TOKEN) if self.kind == "tokens" else self.input_shape

    @property
    def input_dtype(self) -> torch.dtype:
        """Type of what the network takes: whole numbers for tokens."""
        return self.ends.dtype
