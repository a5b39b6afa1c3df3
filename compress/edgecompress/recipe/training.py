"""The type of every block of a recipe, and the one type of training wherever something learns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator

#: Peak learning rates that suit each optimizer where a model is trained from scratch, SGD's in batches of 256.
BASE_LEARNING_RATE = {"sgd": 0.1, "adam": 2e-3, "adamw": 2e-3}
BASE_WEIGHT_DECAY = {"sgd": 5e-4, "adam": 0.0, "adamw": 0.01}
BASE_MOMENTUM = 0.9


#: Trained weights are fine-tuned at this share of the rate for training from scratch.
PRETRAINED_SHARE = 0.1


class Block(BaseModel):
    """A frozen mapping that refuses unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, protected_namespaces=())

    @field_validator("*", mode="before")
    @classmethod
    def _as_tuple(cls, value: Any, info: ValidationInfo) -> Any:
        # Validators that see a whole block, as those that fill `train`, hand on Python's lists, which a strict tuple
        # refuses.
        kind = cls.model_fields[str(info.field_name)].annotation
        takes_many = any(get_origin(one) is tuple for one in (kind, *get_args(kind)))
        return tuple(value) if isinstance(value, list) and takes_many else value


class TrainSpec(Block):
    """How a model is trained, wherever one is. What is null is chosen when data and model are known."""

    epochs: int | None = Field(
        default=None,
        ge=1,
        le=10_000,
        description="Passes over the training data. `null`: 15 for a model, 20 with a teacher, 5 for pruning, 3 for "
        "QAT and for an `hf/` model, and more where that would come to too few steps.",
    )
    optimizer: Literal["sgd", "adam", "adamw"] | None = Field(
        default=None,
        description="`sgd` uses Nesterov momentum. `null`: `sgd` for a network with batch norms, `adamw` for others.",
    )
    learning_rate: float | None = Field(
        default=None,
        gt=0,
        le=100,
        description="Peak learning rate. `null`: one that suits optimizer, batch size, network and block.",
    )
    schedule: Literal["cosine", "linear", "constant"] = Field(
        default="cosine", description="How the learning rate falls to zero after the warm-up."
    )
    warmup: float = Field(
        default=0.1, ge=0, lt=1, description="Share of the steps in which the learning rate rises from zero."
    )
    batch_size: int | None = Field(
        default=None,
        ge=1,
        le=65_536,
        description="Samples per step. `null`: the largest power of two from 8 to 256 with which an epoch has 20 "
        "steps.",
    )
    last_batch: Literal["use", "drop"] = Field(
        default="use",
        description="The samples of an epoch that fill no batch: `use` makes a smaller one of them (a single one "
        "joins the batch before), `drop` leaves them out, others in every epoch.",
    )
    weight_decay: float | None = Field(
        default=None,
        ge=0,
        le=10,
        description="Decay of weight matrices (not of biases and norms). `null`: 0.0005 for `sgd`, 0.01 for `adamw`, "
        "none for `adam`.",
    )
    momentum: float | None = Field(
        default=None, ge=0, lt=1, description="Momentum, for sgd, which it chooses. `null`: 0.9."
    )
    label_smoothing: float = Field(
        default=0.0, ge=0, lt=1, description="Label smoothing. A smoothed teacher distils badly (Müller et al. 2019)."
    )
    clip_norm: float | None = Field(
        default=None, gt=0, description="Clip the gradient's norm to this; null: no clipping."
    )
    on_divergence: Literal["stop", "retry"] = Field(
        default="retry",
        description="Where loss, gradients or weights stop being finite numbers: `retry` goes back to the start of the "
        "epoch and on with half the learning rate, three times at most; `stop` ends the run (exit code 4).",
    )


@dataclass(frozen=True)
class Habits:
    """How a block's model is trained where its `train` leaves that open.

    Attributes:
        epochs: Passes over the data, where they are enough.
        steps: The fewest steps there should be.
        rate_share: Share of the learning rate for training from scratch.
        largest_batch: What the batch size does not exceed.
        optimizer: In the place of one that suits the network.
        rate: In the place of a share, a learning rate.
    """

    epochs: int
    steps: int
    rate_share: float = 1.0
    largest_batch: int = 256
    optimizer: Literal["sgd", "adam", "adamw"] | None = None
    rate: float | None = None


class Trains(Block):
    """A block with a `train` entry, whose defaults differ by block."""

    train_defaults: ClassVar[dict[str, Any]] = {}
    usual: ClassVar[Habits]

    @property
    def habits(self) -> Habits:
        """How it is trained where its `train` leaves that open."""
        return self.usual

    @model_validator(mode="before")
    @classmethod
    def _fill_train(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        if cls.habits_in(data) is None:
            return {**data, "train": None}
        train = data.get("train", {})
        return {**data, "train": cls.filled_train(train)} if isinstance(train, dict) else data

    @classmethod
    def habits_in(cls, data: dict[str, Any]) -> Habits | None:
        """Returns the habits of a block as it is written; None where it is not trained."""
        del data
        return cls.usual

    @classmethod
    def with_defaults(cls, data: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
        """Returns a block with a recipe's own defaults for training laid under what it says.

        A learning rate is that of training from scratch, of which the block takes its share; none where the block has
        an optimizer of its own, for which it was not meant.

        Args:
            data: The block as it is written.
            given: What the recipe says of all of its trainings.
        """
        habits, train = cls.habits_in(data), data.get("train", {})
        if habits is None or not isinstance(train, dict):
            return data
        laid = {key: value for key, value in given.items() if value is not None}
        if "learning_rate" in laid:
            alike = "optimizer" in laid or "optimizer" not in {**cls.train_defaults, **train}
            rate = laid.pop("learning_rate")
            laid |= {"learning_rate": rate * habits.rate_share} if alike else {}
        return {**data, "train": {**laid, **train}}

    @classmethod
    def filled_train(cls, train: dict[str, Any]) -> dict[str, Any]:
        """Returns the keys of a `train` entry with this block's defaults for the ones that were left out."""
        return {**cls.train_defaults, **train}
