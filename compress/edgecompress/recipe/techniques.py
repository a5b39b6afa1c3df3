"""The recipe's blocks of the three techniques: distillation, pruning, quantization."""

from __future__ import annotations

import re
from typing import Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from edgecompress.recipe.training import Block, Habits, Trains, TrainSpec

_COUNT = re.compile(r"([0-9]*\.?[0-9]+)\s*([kMG])")
_UNITS = {"k": 1e3, "M": 1e6, "G": 1e9}
#: Keys of `quantize` by which parts of a network stay float32 where all else is INT8.
FLOAT_PARTS = ("norms", "cells", "softmax", "divisions")
#: Key of `prune.target` -> what it is counted in, and that in its unit.
TARGETS = {
    "params": ("params", 1.0),
    "macs": ("macs", 1.0),
    "size_kib": ("size", 1024.0),
    "latency_ms": ("latency", 1.0),
}

#: Share of zeros that a pattern of pruning makes.
PATTERN_RATIOS = {"2:4": 0.5, "4:8": 0.5, "4:16": 0.75}
PATTERN_TOLERANCE = 1e-9


class DistillSpec(Trains):
    """Training the student from the teacher (Hinton, Vinyals, Dean 2015)."""

    usual: ClassVar[Habits] = Habits(epochs=20, steps=1000)

    temperature: float = Field(
        default=4.0, ge=0.1, le=100, description="Softens both outputs before they are compared."
    )
    alpha: float = Field(default=0.7, ge=0, le=1, description="Weight of the soft targets; the labels weigh 1 - alpha.")
    views: int = Field(
        default=8,
        ge=0,
        le=1000,
        description="Augmented views for which the teacher's outputs are stored; 0 runs the teacher at every step.",
    )
    train: TrainSpec = Field(default_factory=TrainSpec, description="How the student is trained.")


class PruneTarget(Block):
    """What the pruned model may have at most, in absolute numbers; one of these."""

    params: float | None = Field(default=None, gt=0, description="Parameters; `250k` and `1.5M` are numbers too.")
    macs: float | None = Field(default=None, gt=0, description="Multiply-accumulates of one sample, such as `10M`.")
    size_kib: float | None = Field(default=None, gt=0, description="KiB of the flatbuffer.")
    latency_ms: float | None = Field(
        default=None, gt=0, description="Milliseconds of one inference (p50) on the first of benchmark.runtimes."
    )

    @field_validator("params", "macs", mode="before")
    @classmethod
    def _with_unit(cls, value: Any) -> Any:
        found = _COUNT.fullmatch(value.strip()) if isinstance(value, str) else None
        return float(found[1]) * _UNITS[found[2]] if found else value

    @model_validator(mode="after")
    def _one(self) -> PruneTarget:
        given = [name for name in type(self).model_fields if getattr(self, name) is not None]
        if len(given) != 1:
            text = f"expected one of its keys, found {' and '.join(given) or 'none'}"
            raise PydanticCustomError("wrong_combination", "{text}", {"text": text, "key": ""})
        return self


class PruneSpec(Trains):
    """Removing weights or channels by importance, with fine-tuning to win the loss back."""

    usual: ClassVar[Habits] = Habits(epochs=5, steps=400, rate_share=0.2)

    method: Literal["structured", "unstructured"] = Field(
        default="structured",
        description="`structured` removes channels (smaller, faster); `unstructured` sets weights to zero.",
    )
    ratio: float = Field(default=0.5, gt=0, lt=1, description="The share REMOVED, of what `of` names.")
    of: Literal["params", "macs", "size", "latency", "weights"] = Field(
        default="macs",
        description="structured: `params`, `macs`, `size` (bytes of the flatbuffer) or `latency` (p50 on the first of "
        "benchmark.runtimes); unstructured: `weights` (its default).",
    )
    target: PruneTarget | None = Field(
        default=None, description="structured: an absolute number in the place of `ratio` and `of`."
    )
    pattern: Literal["2:4", "4:8", "4:16", "1x4", "1x16"] | None = Field(
        default=None,
        description="unstructured: where zeros may lie. `N:M` keeps N of M neighbouring input channels (it sets "
        "`ratio`; layers without whole groups stay dense), `1xM` clears them in blocks. `null`: anywhere.",
    )
    scope: Literal["global", "layer"] = Field(
        default="global",
        description="unstructured: weights are ranked over all layers, or each layer loses the same share.",
    )
    importance: Literal["l2", "l1", "bn", "taylor"] = Field(
        default="l2",
        description="structured: what a channel is worth: squared (`l2`) or absolute (`l1`) weights of all layers that "
        "lose it, scales of its batch norms (`bn`), or what the loss would change by its gradients (`taylor`).",
    )
    steps: int = Field(
        default=5,
        ge=1,
        le=100,
        description="Pruning steps, with fine-tuning between them. Default for `unstructured`: 20.",
    )
    round_to: int = Field(
        default=8, ge=1, le=256, description="Widths become multiples of this where they are large enough."
    )
    widths: dict[str, Any] | None = Field(
        default=None,
        description="structured: layer -> its width after each step (or after the last one), in the place of a search; "
        "`recipe.lock.yaml` has those that a run came to.",
    )
    learn_from_teacher: bool = Field(
        default=False,
        description="Fine-tune on the teacher's soft targets too, where there is a teacher. Labels alone were better "
        "in the comparison of docs/pruning.md.",
    )
    train: TrainSpec = Field(
        default_factory=TrainSpec, description="Fine-tuning; the epochs are the total over the steps."
    )

    @model_validator(mode="before")
    @classmethod
    def _of_by_method(cls, data: Any) -> Any:
        if isinstance(data, dict) and data.get("method") == "unstructured":
            ratio = {"ratio": PATTERN_RATIOS[data["pattern"]]} if data.get("pattern") in PATTERN_RATIOS else {}
            return {"of": "weights", "steps": 20, **ratio, **data}
        return data

    @model_validator(mode="after")
    def _method_fits(self) -> PruneSpec:
        if (self.method == "unstructured") != (self.of == "weights"):
            expected = "`weights`" if self.method == "unstructured" else "`params`, `macs`, `size` or `latency`"
            text = f"method `{self.method}` counts {expected}, not `{self.of}`"
            raise PydanticCustomError("wrong_combination", "{text}", {"text": text, "key": "of"})
        share = PATTERN_RATIOS.get(self.pattern or "", self.ratio)
        if abs(self.ratio - share) > PATTERN_TOLERANCE:
            text = f"pattern `{self.pattern}` makes a share of {share:g} zero, not {self.ratio:g}"
            raise PydanticCustomError("wrong_combination", "{text}", {"text": text, "key": "ratio"})
        return self

    @model_validator(mode="after")
    def _widths_fit(self) -> PruneSpec:
        for name, widths in self.steps_of_widths().items():
            whole = all(isinstance(width, int) and not isinstance(width, bool) and width > 0 for width in widths)
            if not whole or len(widths) not in (1, self.steps):
                expected = f"a width or a list of {self.steps} (prune.steps)" if self.steps > 1 else "a width"
                text = f"`{name}` takes {expected}, in whole numbers above 0"
                raise PydanticCustomError("wrong_combination", "{text}", {"text": text, "key": "widths"})
        if self.widths == {}:
            raise PydanticCustomError("wrong_combination", "{text}", {"text": "names no layer", "key": "widths"})
        return self

    def steps_of_widths(self) -> dict[str, tuple[int, ...]]:
        """Returns `widths` with every layer's as a tuple."""
        given = self.widths or {}
        return {name: tuple(widths) if isinstance(widths, list) else (widths,) for name, widths in given.items()}

    @property
    def goal(self) -> tuple[str, float | None]:
        """What pruning counts (`params`, `macs`, `size` in bytes, `latency` in ms) and its absolute target, if any."""
        for key, (kind, unit) in TARGETS.items():
            value = getattr(self.target, key, None)
            if value is not None:
                return kind, value * unit
        return self.of, None


class QuantizeSpec(Trains):
    """INT8: from a calibration set (PTQ) or by training with simulated low precision (QAT)."""

    # With batch norm folded nothing evens out the channels' scales any more: plain SGD at a rate that moves the small
    # ones blows up the large ones, Adam's steps do not depend on them.
    train_defaults: ClassVar[dict[str, Any]] = {
        "optimizer": "adam", "weight_decay": 0.0, "warmup": 0.05, "clip_norm": 1.0,
    }  # fmt: skip
    usual: ClassVar[Habits] = Habits(epochs=3, steps=300, rate_share=0.05)

    mode: Literal["ptq", "qat"] = Field(default="ptq", description="`ptq` calibrates; `qat` calibrates, then trains.")
    weights: Literal["int8", "int4"] = Field(
        default="int8",
        description="Of convolutions and linear layers; depthwise convolutions keep `int8` with `int4` as well.",
    )
    clusters: int | None = Field(
        default=None,
        ge=16,
        le=64,
        description="How many values the INT8 weights of a layer may have, zero among them (k-means; `qat` trains with "
        "them): the file stays as large, but packs smaller. `null`: all 255.",
    )
    activations: Literal["int8", "int16", "dynamic", "float32"] = Field(
        default="int8",
        description="`int8` | `int16` (finer; fewer operators, slower) | `dynamic` (float32 between operators, INT8 "
        "where they multiply by weights, ranges found anew for each input) | `float32` (only weights are integers).",
    )
    allow: tuple[Literal["int16", "float32"], ...] = Field(
        default=(),
        description="Types that operators may have beside: those without an integer kernel, and those that the repairs "
        "of `max_drop_points` keep wider.",
    )
    norms: Literal["int8", "float32"] | None = Field(
        default=None,
        description="Layer norms and the sums they read, which multiply by no weights: `int8` | `float32`. BERT-like "
        "networks lose points in INT8 and none in float32, in about the same time. `null`: `float32` where the model "
        "that is quantized comes from `hf/` and activations are `int8`, else as the activations.",
    )
    cells: Literal["int8", "float32"] | None = Field(
        default=None,
        description="What a step of an LSTM or GRU computes between its linear layers, gates and cell or state, which "
        "multiplies by no weights: `int8` | `float32`. Rounded anew in each step, it is what INT8 costs such networks "
        "most; in float32 it takes hardly longer. `null`: `float32` where activations are `int8` and the model that is "
        "quantized is a `gru`, an `lstm` or your own, else as the activations.",
    )
    softmax: Literal["int8", "float32"] | None = Field(
        default=None,
        description="What attention computes between its two products, from scores to probabilities, and any other "
        "softmax but that of the answer, which multiply by no weights: `int8` | `float32`. LiteRT's INT8 softmax takes "
        "seven times as long as float32's, and knows steps of 1/256 only. In front of "
        "masks of more than 256 values scores stay INT8, for the file's size. `null`: `float32` where activations are "
        "`int8` and the model that is quantized is a `transformer`, not built in, or your own, else as the "
        "activations.",
    )
    divisions: Literal["int8", "float32"] | None = Field(
        default=None,
        description="Divisions by what the network computes: `int8` | `float32`. INT8 kernels give full scale for the "
        "smallest quotients, and fail where a divisor is rounded to zero. With `float32`, so is what a divisor is "
        "computed from behind the last layer with weights. `null`: as `softmax`.",
    )
    portable: bool = Field(
        default=False,
        description="Weights and biases are written so that convolutions and linear layers give the same integers on "
        "every runtime: LiteRT, TensorFlow, tflite-runtime, TFLite Micro. They keep 7 bits, in steps of powers of two: "
        "`qat` loses nothing by it, `ptq` of a large network may.",
    )
    wide_macs: float = Field(
        default=0.1, gt=0, le=1, description="Largest share of the multiplications in layers that repairs keep wider."
    )
    calibration_samples: int = Field(
        default=512, ge=1, le=100_000, description="Training samples that set the first ranges."
    )
    ranges: Literal["ema", "lsq"] = Field(
        default="ema",
        description="qat: activation ranges follow the batches by a moving average (`ema`) or are learned with the "
        "weights (`lsq`, Esser et al. 2020); both are frozen for the last two fifths.",
    )
    max_drop_points: float | None = Field(
        default=None,
        ge=0,
        le=100,
        description="ptq: points of validation accuracy that may be lost (of an error or a perplexity: percent of the "
        "float model's). Repairs follow until it fits: better ranges, "
        "equalised layers and corrected biases, learned rounding, and with `allow` sensitive layers in wider types. "
        "`null`: least and largest values, no repair.",
    )
    escalate: Literal["qat"] | None = Field(
        default=None, description="ptq: `qat` trains by the `train` block where no repair suffices."
    )
    learn_from_teacher: bool = Field(
        default=True, description="QAT learns from the teacher's soft targets where there is a teacher."
    )
    train: TrainSpec = Field(default_factory=TrainSpec, description="QAT's training.")

    @property
    def types(self) -> str:
        """What the model is stored and computed in, in words."""
        same = self.weights == self.activations
        return self.weights if same else f"{self.weights} weights, {self.activations} activations"
