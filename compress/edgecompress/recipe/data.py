"""The recipe's `data` block: what is learnt from, and how it is brought into the form a network takes."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator

from edgecompress.recipe.names import SOURCES, check_name
from edgecompress.recipe.training import Block

#: Largest side of a picture, in pixels.
MAX_SIDE = 4096
#: Longest sequence, in tokens or time steps.
MAX_LENGTH = 65_536


class TokenizerSpec(Block):
    """How text becomes token numbers. Trained on the train split only; 0 pads, 1 stands for what is not known."""

    kind: Literal["byte", "char", "word", "wordpiece", "bpe"] = Field(
        default="word",
        description="`byte` (UTF-8, 256 tokens, nothing to train) | `char` | `word` | `wordpiece` | `bpe`.",
    )
    vocabulary: int = Field(
        default=8000, ge=4, le=1_000_000, description="Most tokens there may be (all kinds but `byte`)."
    )
    lowercase: bool = Field(default=True, description="Whether capitals count as small letters (all kinds but `byte`).")


class AudioSpec(Block):
    """The front end of audio: from a waveform to frames of features, the same on a device."""

    features: Literal["log-mel", "mfcc"] = Field(
        default="log-mel",
        description="`log-mel` (logarithm of the energy in bands on the mel scale) | `mfcc` (their cosine transform).",
    )
    sample_rate: int = Field(
        default=16_000, ge=1_000, le=192_000, description="In hertz; recordings at other rates are resampled."
    )
    seconds: float = Field(
        default=1.0, gt=0, le=600, description="Length of a sample; recordings are cut or padded to it."
    )
    window_ms: float = Field(default=30.0, gt=0, le=1000, description="Length of a frame, in milliseconds.")
    hop_ms: float = Field(default=20.0, gt=0, le=1000, description="From one frame to the next, in milliseconds.")
    bands: int = Field(default=40, ge=4, le=512, description="How many mel bands.")
    coefficients: int = Field(default=10, ge=1, le=512, description="How many cepstral coefficients (`mfcc` only).")


class DataSpec(Block):
    """What the models learn from and are measured on."""

    source: str = Field(
        default="digits",
        description="`digits` | `fashion-mnist` | `cifar10` | `image-folder` | `npz` | `csv` | `jsonl` | "
        "`wav-folder` | `text-files` | `python:module:function`.",
    )
    path: str | None = Field(
        default=None,
        description="The file or folder it is read from (and downloaded to, with `download: true`); `text-files`: or a "
        "pattern such as `texts/**/*.txt`. Tables, texts and arrays may be gzipped.",
    )
    test_path: str | None = Field(
        default=None,
        description="File (`text-files`: or folder, pattern) of the test split, where it is apart (`csv`, `jsonl`, "
        "`text-files`).",
    )
    args: dict[str, Any] = Field(default_factory=dict, description="Keyword arguments of a `python:` source.")
    download: bool = Field(default=False, description="Fetch `fashion-mnist` or `cifar10` if it is not there.")
    image_size: int | tuple[int, int] | None = Field(
        default=None, description="Resize pictures to this side, or to [height, width]. Needed where sizes differ."
    )
    channels: Literal[1, 3] | None = Field(
        default=None, description="1 for grey, 3 for RGB (grey pictures are repeated). Default: as the pictures are."
    )
    text: str | None = Field(
        default=None,
        description="Column (`csv`) or key (`jsonl`) that holds the text. Default: the one called `text`. In a "
        "`regression` over text it has to be named.",
    )
    label: str | None = Field(
        default=None,
        description="Column or key of the label, or of the number to predict. Default: the one called `label`.",
    )
    features: tuple[str, ...] | None = Field(
        default=None,
        min_length=1,
        description="Columns of numbers (`csv`, `jsonl`); in a `jsonl` one key may hold a list of numbers, or a series "
        "as a list of such lists. Default: all but label and group.",
    )
    split_by: str | None = Field(
        default=None,
        description="Column, key or array of groups, such as a speaker: no group is in two splits. In `wav-folder`, "
        "`speaker` is the part of a file's name before the first underscore, `name` the name itself: recordings of one "
        "name in several classes stay together.",
    )
    length: int | None = Field(
        default=None,
        ge=1,
        le=MAX_LENGTH,
        description="Tokens or time steps of a sample; longer ones are cut, shorter ones padded in front. Default: 128 "
        "tokens; the longest series of the train split.",
    )
    hop: int | None = Field(
        default=None,
        ge=1,
        le=MAX_LENGTH,
        description="Cut series longer than `length` into windows that begin every so many steps, each one a sample, "
        "once the splits are made. Default: only the first `length` steps are used.",
    )
    clip: float | None = Field(
        default=None,
        gt=0,
        le=1000,
        description="Series and tables: normalised values end at so many standard deviations either way, in training "
        "as on the device. Rare peaks then neither teach the network nor widen the steps of its INT8 input. Default: "
        "they do not end.",
    )
    tokenizer: TokenizerSpec = Field(default_factory=TokenizerSpec, description=str(TokenizerSpec.__doc__))
    audio: AudioSpec = Field(default_factory=AudioSpec, description=str(AudioSpec.__doc__))
    test: float = Field(
        default=0.2, gt=0, lt=1, description="Share held out for the test, where the source has no test split."
    )
    validation: float = Field(default=0.1, gt=0, lt=1, description="Share of the training data held out to choose by.")
    augment: tuple[Literal["crop", "flip", "shift", "cutout", "scale", "rotate", "mirror"], ...] = Field(
        default=(),
        description="Random changes to training pictures: `crop` (padded by an eighth of the side and cut out again), "
        "`shift` (by up to a fourteenth of the side), `flip` (left-right), `cutout` (a square of a third of the side); "
        "to series: `shift` (in time, by up to a quarter, round the ends), `scale` (each channel by up to 30 %), and "
        "for motion sensors `rotate` (every three channels, by up to 25 degrees) and `mirror` (left for right: three "
        "channels of acceleration and three of rotation).",
    )
    on_error: Literal["stop", "skip"] = Field(
        default="stop",
        description="Where pictures or recordings are broken (`image-folder`, `wav-folder`): `stop` ends the run and "
        "names them all, `skip` leaves them out; the report counts and names them.",
    )
    train_samples: int | None = Field(
        default=None, ge=1, description="Use only this many training samples (stratified)."
    )
    test_samples: int | None = Field(default=None, ge=1, description="Use only this many test samples (stratified).")

    @field_validator("source")
    @classmethod
    def _known_source(cls, value: str) -> str:
        return check_name(value, SOURCES, python=True, what="data source")

    @field_validator("image_size")
    @classmethod
    def _positive_size(cls, value: int | tuple[int, int] | None) -> int | tuple[int, int] | None:
        sides = (value, value) if isinstance(value, int) else value
        if sides is not None and not all(1 <= side <= MAX_SIDE for side in sides):
            raise ValueError(f"each side must be between 1 and {MAX_SIDE} pixels")
        return value
