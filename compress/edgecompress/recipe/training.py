"""The type of every block of a recipe, and the one type of training wherever something learns."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

#: Learning rates that suit each optimizer when a model is trained from scratch; fine-tuning takes a share of it.
BASE_LEARNING_RATE = {"sgd": 0.1, "adam": 2e-3, "adamw": 2e-3}
BASE_WEIGHT_DECAY = {"sgd": 5e-4, "adam": 0.0, "adamw": 0.01}


#: Trained weights are fine-tuned at this share of the rate for training from scratch.
PRETRAINED_SHARE = 0.1


class Block(BaseModel):
    """A frozen mapping that refuses unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, protected_namespaces=())


class TrainSpec(Block):
    """How a model is trained, wherever one is."""

    epochs: int = Field(default=20, ge=1, le=10_000, description="Passes over the training data.")
    optimizer: Literal["sgd", "adam", "adamw"] = Field(default="sgd", description="`sgd` uses Nesterov momentum.")
    learning_rate: float = Field(
        default=0.1,
        gt=0,
        le=100,
        description="Peak learning rate. Default: one that suits the optimizer and the block, a tenth of it where "
        "the model starts from `weights`.",
    )
    schedule: Literal["cosine", "linear", "constant"] = Field(
        default="cosine", description="How the learning rate falls to zero after the warm-up."
    )
    warmup: float = Field(
        default=0.1, ge=0, lt=1, description="Share of the steps in which the learning rate rises from zero."
    )
    batch_size: int = Field(default=256, ge=1, le=65_536, description="Samples per step.")
    weight_decay: float = Field(
        default=5e-4,
        ge=0,
        le=10,
        description="Decay of weight matrices (not of biases and norms). Default: as suits the optimizer.",
    )
    momentum: float = Field(default=0.9, ge=0, lt=1, description="Momentum, for sgd.")
    label_smoothing: float = Field(
        default=0.0, ge=0, lt=1, description="Label smoothing. A smoothed teacher distils badly (Müller et al. 2019)."
    )
    clip_norm: float | None = Field(
        default=None, gt=0, description="Clip the gradient's norm to this; null: no clipping."
    )
    on_divergence: Literal["stop", "retry"] = Field(
        default="stop",
        description="Where loss, gradients or weights stop being finite numbers: `stop` ends the run (exit code 4), "
        "`retry` goes back to the start of the epoch with half the learning rate, three times at most.",
    )


class Trains(Block):
    """A block with a `train` entry, whose defaults differ by block."""

    train_defaults: ClassVar[dict[str, Any]] = {}
    #: Share of the optimizer's learning rate from scratch that this block starts from.
    learning_rate_share: ClassVar[float] = 1.0

    @model_validator(mode="before")
    @classmethod
    def _fill_train(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        train = data.get("train", {})
        if "train" in data and train is None:
            return data
        if isinstance(train, TrainSpec) or not isinstance(train, dict):
            return data
        filled = cls.filled_train(train)
        pretrained = data.get("weights") is not None and "model" in cls.model_fields  # not the type of quantized ones
        if pretrained and "learning_rate" not in train and "learning_rate" in filled:
            filled["learning_rate"] *= PRETRAINED_SHARE
        return {**data, "train": filled}

    @classmethod
    def filled_train(cls, train: dict[str, Any]) -> dict[str, Any]:
        """Returns the keys of a `train` entry with this block's defaults for the ones that were left out."""
        filled = {**cls.train_defaults, **train}
        optimizer = filled.get("optimizer", "sgd")
        if isinstance(optimizer, str) and optimizer in BASE_LEARNING_RATE:
            filled.setdefault("learning_rate", BASE_LEARNING_RATE[optimizer] * cls.learning_rate_share)
            filled.setdefault("weight_decay", BASE_WEIGHT_DECAY[optimizer])
        return filled
