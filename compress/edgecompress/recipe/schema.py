"""The recipe: what the user wrote, validated and frozen.

The field descriptions below are the reference: the README's table and the JSON Schema are made from them.
Nothing here imports torch, TensorFlow or NumPy, so a recipe is checked before anything heavy is loaded.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any, ClassVar, Literal, get_args

from pydantic import Field, ValidationError, field_validator, model_validator

from edgecompress.recipe.data import AudioSpec, DataSpec, TokenizerSpec
from edgecompress.recipe.names import MODEL_PREFIXES, MODELS, SOURCES, check_name
from edgecompress.recipe.techniques import FLOAT_PARTS, DistillSpec, PruneSpec, QuantizeSpec
from edgecompress.recipe.training import (
    BASE_LEARNING_RATE,
    BASE_WEIGHT_DECAY,
    PRETRAINED_SHARE,
    Block,
    Habits,
    Trains,
    TrainSpec,
)

__all__ = [
    "BASE_LEARNING_RATE", "BASE_WEIGHT_DECAY", "MODELS", "SOURCES", "TASKS", "AudioSpec", "BenchmarkSpec", "Block",
    "BudgetSpec", "DataSpec", "DistillSpec", "ExportSpec", "Habits", "ModelSpec", "PruneSpec", "QuantizeSpec", "Recipe",
    "ReportSpec", "TokenizerSpec", "TrainSpec", "Trains",
]  # fmt: skip
TaskName = Literal[
    "image-classification", "text-classification", "timeseries-classification", "audio-classification", "regression",
    "anomaly-detection", "language-modeling",
]  # fmt: skip
TASKS: tuple[str, ...] = get_args(TaskName)


#: How a Hugging Face model is trained where the recipe says nothing (Devlin et al. 2019).
FINE_TUNING = Habits(epochs=3, steps=300, rate_share=0.025, largest_batch=32, optimizer="adamw", rate=5e-5)


class ModelSpec(Trains):
    """A network: what it is, and where its weights come from."""

    usual: ClassVar[Habits] = Habits(epochs=15, steps=1000)

    model: str = Field(
        description="A built-in, `torchvision/NAME`, `timm/NAME`, `hf/DIR` (the folder of a Hugging Face model with "
        "its tokenizer) or `python:module:function`; for a teacher with a student also `keras/FILE`, a .keras or .h5 "
        "file or the folder of a SavedModel, used as it is. Built in for pictures and series: `resnet8`, `resnet9`, "
        "`resnet20`, `ds-cnn`, `mobilenet-v1`, `mobilenet-v2`; for series and text: `text-cnn`, `tcn`, `gru`, `lstm`, "
        "`transformer`; for tables and series: `mlp`, `fc-autoencoder`."
    )
    args: dict[str, Any] = Field(
        default_factory=dict,
        description="Keyword arguments of the model, such as `width`. A `keras/` model takes `input`: "
        "`normalized` (as the student gets it, the default), `unit` (0 to 1) or `bytes` (0 to 255); an `hf/` model "
        "`length`, the tokens of a text (default: data.length, or 128).",
    )
    weights: str | None = Field(
        default=None,
        description="A .safetensors or state_dict file. With weights the model is only trained if `train` is given.",
    )
    output: str | None = Field(
        default=None,
        min_length=1,
        description="Which output is trained and scored, where the network has several: its key, field or position "
        "(`logits`, `0`). The flatbuffer has them all, this one first, under their names.",
    )
    weights_key: str | None = Field(
        default=None,
        min_length=1,
        description="Which set of weights of a checkpoint is taken, where it holds several: its key, dotted "
        "(`state_dict`, `ema.model`), or what stands before its names (`teacher`); `.` is the file's own. Default: "
        "averages over the training (EMA, SWA) where there are any, which the report says.",
    )
    train: TrainSpec | None = Field(
        default=None, description="How it is trained. For a student with `distill`, see there."
    )

    @field_validator("model")
    @classmethod
    def _known_model(cls, value: str) -> str:
        return check_name(value, MODELS, python=True, prefixes=MODEL_PREFIXES, what="model")

    @property
    def habits(self) -> Habits:
        """How it is trained where its `train` leaves that open: gently, where it was trained before."""
        return self.habits_of(self.model, pretrained=self.weights is not None)

    @classmethod
    def habits_of(cls, model: str, *, pretrained: bool) -> Habits:
        """Returns how a model is trained where nobody says how."""
        if model.startswith("hf/"):
            return FINE_TUNING
        return replace(cls.usual, rate_share=PRETRAINED_SHARE) if pretrained else cls.usual

    @classmethod
    def habits_in(cls, data: dict[str, Any]) -> Habits | None:
        """Returns the habits of a block as it is written; None where it is not trained.

        Weights without a `train` block mean: use them as they are. A Keras or Hugging Face model brings its own.
        """
        model, pretrained = str(data.get("model")), data.get("weights") is not None
        if "train" not in data and (pretrained or model.startswith(("keras/", "hf/"))):
            return None
        return cls.habits_of(model, pretrained=pretrained)


class ExportSpec(Block):
    """The flatbuffer's inputs and outputs, and what is written about them."""

    io: Literal["int8", "int16", "uint8", "float32"] | None = Field(
        default=None,
        description="Type of input and output. Default: that of `quantize.activations` (`float32` for `dynamic`), or "
        "`float32` where nothing is quantized.",
    )
    metadata: bool = Field(
        default=True,
        description="Write TFLite metadata into the file, so that mobile libraries find labels and normalisation "
        "there: about 1 KiB and the class names.",
    )
    sparse: Literal["auto", "never"] = Field(
        default="auto",
        description="`auto` stores convolutions' weights without their zeros (TFLite's sparse encoding, expanded when "
        "the model is loaded) where the file gets smaller by it, all of benchmark.runtimes can read it and the "
        "activations are `int8`. `never`: for accelerators without DENSIFY, and for files that are sent compressed.",
    )
    streaming: bool = Field(
        default=False,
        description="Also write `model_step.tflite`: one step of a `gru` or `lstm` over a series, its state handed in "
        "and out as raw integers (LSTM cells and GRU states as float32, unless `quantize.cells` is `int8`), for live "
        "audio and sensors. Its answers are those of model.tflite, to the bit.",
    )


class BenchmarkSpec(Block):
    """How latency is measured."""

    runtimes: tuple[Literal["litert", "tensorflow", "tflite-runtime", "tflite-micro"], ...] = Field(
        default=("litert",),
        min_length=1,
        description="Where the result is tried; the first one sets ratios and budget: `litert` (optimised kernels) | "
        "`tensorflow` (reference kernels) | `tflite-runtime` (older devices) | `tflite-micro` (arena of a "
        "microcontroller).",
    )
    threads: int = Field(default=1, ge=1, le=256, description="Interpreter threads.")
    runs: int = Field(
        default=200, ge=10, le=1_000_000, description="Timed runs per flatbuffer, interleaved, after a warm-up."
    )


class ReportSpec(Block):
    """What the report looks into."""

    analysis: Literal["none", "fast", "full"] = Field(
        default="fast",
        description="Which layers lose what in quantization. `fast`: the worst ones, for half of what the comparison "
        "between file and twin costs | `full`: every one, on 256 samples | `none`: left to `edgecompress analyze`.",
    )


class BudgetSpec(Block):
    """Limits; a missed one ends in exit code 3, with the flatbuffer and the report kept."""

    accuracy_drop_points: float | None = Field(
        default=None,
        ge=0,
        le=100,
        description="Largest loss of test accuracy, in points, against the FP32 teacher "
        "(or the FP32 student where there is no teacher).",
    )
    accuracy: float | None = Field(default=None, gt=1, le=100, description="Smallest test accuracy, in percent.")
    auc: float | None = Field(
        default=None, gt=1, le=100, description="Smallest test AUC, in percent (`anomaly-detection`)."
    )
    mae: float | None = Field(
        default=None,
        ge=0,
        description="Largest mean absolute error on the test split, in the data's units (`regression`).",
    )
    rmse: float | None = Field(
        default=None,
        ge=0,
        description="Largest root mean square error on the test split, in the data's units (`regression`).",
    )
    r2: float | None = Field(
        default=None, le=1, description="Smallest coefficient of determination on the test split (`regression`)."
    )
    perplexity: float | None = Field(
        default=None, ge=1, description="Largest test perplexity per token (`language-modeling`)."
    )
    bits_per_byte: float | None = Field(
        default=None, ge=0, description="Most bits per byte of test text (`language-modeling`)."
    )
    drop_percent: float | None = Field(
        default=None,
        ge=0,
        description="Largest loss of the test AUC, mean absolute error or perplexity against the FP32 teacher (or "
        "student), in percent of it. For classes there is accuracy_drop_points.",
    )
    size_kib: float | None = Field(default=None, gt=0, description="Largest flatbuffer, in KiB.")
    latency_ms: float | None = Field(
        default=None, gt=0, description="Largest p50 latency, in milliseconds, on the first runtime."
    )
    arena_kib: float | None = Field(
        default=None, gt=0, description="Largest tensor arena, in KiB; needs `tflite-micro` in benchmark.runtimes."
    )
    agreement: float | None = Field(
        default=None,
        gt=1,
        le=100,
        description="Smallest share of test samples (of tokens, in a language model), in percent, with the same answer "
        "as the float model; numbers are the same within a tenth of their standard deviation.",
    )


#: Blocks of a recipe in which something is trained.
BLOCKS: dict[str, type[Trains]] = {
    "teacher": ModelSpec, "student": ModelSpec, "distill": DistillSpec, "prune": PruneSpec, "quantize": QuantizeSpec,
}  # fmt: skip


class Recipe(Block):
    """One file: the teacher, the student and what is done to it."""

    version: Literal[1] = Field(description="The recipe format: 1.")
    name: str = Field(
        default="",
        max_length=100,
        pattern=r"^[\w][\w.\- ]*$|^$",
        description="Names the run. Default: the file's stem.",
    )
    task: TaskName = Field(default="image-classification", description="What the model does.")
    seed: int = Field(default=0, ge=0, lt=2**32, description="Seeds splits, weights, augmentation and order.")
    device: Literal["auto", "cpu", "cuda"] = Field(default="auto", description="Where training runs.")
    threads: int | None = Field(default=None, ge=1, le=1024, description="Training threads. Default: all usable cores.")
    data: DataSpec = Field(default_factory=DataSpec, description=str(DataSpec.__doc__))
    train: TrainSpec | None = Field(
        default=None,
        description="Defaults for the `train` of every block. `learning_rate` is that of training from scratch: "
        "pruning takes a fifth of it, a model with `weights` a tenth; QAT a twentieth, where `optimizer` is given too.",
    )
    teacher: ModelSpec | None = Field(
        default=None, description="The FP32 model to learn from, or, without a student, to compress."
    )
    student: ModelSpec | None = Field(
        default=None, description="The small model. Absent: the teacher itself is compressed."
    )
    distill: DistillSpec | None = Field(default=None, description=str(DistillSpec.__doc__))
    prune: PruneSpec | None = Field(default=None, description=str(PruneSpec.__doc__))
    quantize: QuantizeSpec | None = Field(default=None, description=str(QuantizeSpec.__doc__))
    export: ExportSpec = Field(default_factory=ExportSpec, description=str(ExportSpec.__doc__))
    benchmark: BenchmarkSpec = Field(default_factory=BenchmarkSpec, description=str(BenchmarkSpec.__doc__))
    report: ReportSpec = Field(default_factory=ReportSpec, description=str(ReportSpec.__doc__))
    budget: BudgetSpec = Field(default_factory=BudgetSpec, description=str(BudgetSpec.__doc__))
    base_dir: str = Field(
        default="", exclude=True, description="Folder the recipe's relative paths start from; set by the loader."
    )
    locked: dict[str, Any] | None = Field(
        default=None, exclude=True, description="What a lock file says of its run; set by the loader."
    )

    @model_validator(mode="before")
    @classmethod
    def _lay_train(cls, data: Any) -> Any:
        given = data.get("train") if isinstance(data, dict) else None
        if not isinstance(given, dict):
            return data
        try:
            TrainSpec.model_validate_json(json.dumps(given), strict=True)
        except (ValidationError, TypeError):  # told once, where it stands
            return data
        kinds = {name: block for name, block in BLOCKS.items() if isinstance(data.get(name), dict)}
        return {**data, **{name: block.with_defaults(data[name], given) for name, block in kinds.items()}}

    @property
    def compressed(self) -> ModelSpec:
        """The network that becomes the flatbuffer: the student, or the teacher where there is none."""
        model = self.student or self.teacher
        if model is None:  # the loader refuses such a recipe; only code can make one
            raise ValueError("a recipe needs a teacher or a student")
        return model

    @property
    def io(self) -> str:
        """Type of the flatbuffer's input and output."""
        natural = self.quantize.activations if self.quantize else "float32"
        return self.export.io or ("float32" if natural == "dynamic" else natural)

    @property
    def float_norms(self) -> bool:
        """Whether layer norms and the sums they read stay float32 in a model whose activations are integers."""
        return self._stays_float("norms", self.compressed.model.startswith("hf/"))

    @property
    def float_cells(self) -> bool:
        """Whether what LSTMs and GRUs compute between linear layers stays float32 where activations are integers."""
        model = self.compressed.model
        return self._stays_float("cells", model in ("gru", "lstm") or model.startswith("python:"))

    @property
    def float_softmax(self) -> bool:
        """Whether attention is float32 from scores to probabilities where activations are integers."""
        return self._stays_float("softmax", self._may_hold_anything)

    @property
    def float_divisions(self) -> bool:
        """Whether divisions by activations are float32 where activations are integers."""
        return self._stays_float("divisions", self._may_hold_anything)

    @property
    def float_parts(self) -> tuple[str, ...]:
        """The keys of `quantize` by which parts of the network stay float32, where it has such parts."""
        return tuple(key for key in FLOAT_PARTS if getattr(self, f"float_{key}"))

    @property
    def _may_hold_anything(self) -> bool:
        """Whether the compressed network may hold softmax and divisions: built-in ones but the Transformer do not."""
        model = self.compressed.model
        return model == "transformer" or "/" in model or model.startswith("python:")

    def _stays_float(self, key: str, by_default: bool) -> bool:
        """Returns what a key of `quantize` says; by default with INT8, where loss or time was measured to matter."""
        spec = self.quantize
        if spec is None or spec.activations not in ("int8", "int16"):
            return False
        asked = getattr(spec, key)
        return asked == "float32" if asked is not None else by_default and spec.activations == "int8"

    @property
    def may_be_sparse(self) -> bool:
        """Whether weights may be stored in TFLite's sparse encoding: tflite-micro cannot read it."""
        int8 = self.quantize is not None and self.quantize.activations == "int8"
        return (
            int8 and self.export.sparse == "auto" and "tflite-micro" not in self.benchmark.runtimes and self._has_zeros
        )

    @property
    def _has_zeros(self) -> bool:
        """Whether weights may be zero in numbers that matter: pruned one by one here, or before they came here."""
        model = self.compressed
        brought = model.weights is not None or model.model.startswith(("python:", "keras/", "hf/"))
        return brought or (self.prune is not None and self.prune.method == "unstructured")
