"""The recipe: what the user wrote, validated and frozen.

The field descriptions below are the reference: the README's table and the JSON Schema are made from them.
Nothing here imports torch, TensorFlow or NumPy, so a recipe is checked before anything heavy is loaded.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from compress.recipe_names import MODEL_PREFIXES, MODELS, SOURCES, check_name
from compress.recipe_training import BASE_LEARNING_RATE, BASE_WEIGHT_DECAY, Block, Trains, TrainSpec

__all__ = [
    "BASE_LEARNING_RATE", "BASE_WEIGHT_DECAY", "MODELS", "SOURCES", "BenchmarkSpec", "Block", "BudgetSpec", "DataSpec",
    "DistillSpec", "ExportSpec", "ModelSpec", "PruneSpec", "QuantizeSpec", "Recipe", "TrainSpec", "Trains",
]  # fmt: skip

#: Largest side of a picture, in pixels.
MAX_SIDE = 4096


class DataSpec(Block):
    """What the models learn from and are measured on."""

    source: str = Field(
        default="digits",
        description="`digits` | `fashion-mnist` | `cifar10` | `image-folder` | `npz` | `python:module:function`.",
    )
    path: str | None = Field(
        default=None, description="The file or folder it is read from (and downloaded to, with `download: true`)."
    )
    args: dict[str, Any] = Field(default_factory=dict, description="Keyword arguments of a `python:` source.")
    download: bool = Field(default=False, description="Fetch `fashion-mnist` or `cifar10` if it is not there.")
    image_size: int | tuple[int, int] | None = Field(
        default=None, description="Resize pictures to this side, or to [height, width]. Needed where sizes differ."
    )
    channels: Literal[1, 3] | None = Field(
        default=None, description="1 for grey, 3 for RGB (grey pictures are repeated). Default: as the pictures are."
    )
    test: float = Field(
        default=0.2, gt=0, lt=1, description="Share held out for the test, where the source has no test split."
    )
    validation: float = Field(default=0.1, gt=0, lt=1, description="Share of the training data held out to choose by.")
    augment: tuple[Literal["crop", "flip", "shift", "cutout"], ...] = Field(
        default=(),
        description="Random changes to training pictures: `crop` (padded by an eighth of the side and cut out again), "
        "`shift` (by up to a fourteenth of the side), `flip` (left-right), `cutout` (a square of a third of the side).",
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


class ModelSpec(Trains):
    """A network: what it is, and where its weights come from."""

    train_defaults: ClassVar[dict[str, Any]] = {"epochs": 15}

    model: str = Field(
        description="A built-in (`resnet8`, `resnet9`, `resnet20`, `ds-cnn`, `mobilenet-v1`, `mobilenet-v2`), "
        "`torchvision/NAME`, `timm/NAME` or `python:module:function`; for a teacher with a student also `keras/FILE`, "
        "a .keras or .h5 file or the folder of a SavedModel, used as it is."
    )
    args: dict[str, Any] = Field(
        default_factory=dict,
        description="Keyword arguments of the model, such as `width`. A `keras/` model takes `input`: "
        "`normalized` (as the student gets it, the default), `unit` (0 to 1) or `bytes` (0 to 255).",
    )
    weights: str | None = Field(
        default=None,
        description="A .safetensors or state_dict file. With weights the model is only trained if `train` is given.",
    )
    train: TrainSpec | None = Field(
        default=None, description="How it is trained. For a student with `distill`, see there."
    )

    @field_validator("model")
    @classmethod
    def _known_model(cls, value: str) -> str:
        return check_name(value, MODELS, python=True, prefixes=MODEL_PREFIXES, what="model")

    @model_validator(mode="before")
    @classmethod
    def _fill_train(cls, data: Any) -> Any:
        # Weights without a `train` block mean: use them as they are. A Keras model brings its own.
        loaded = isinstance(data, dict) and (
            data.get("weights") is not None or str(data.get("model")).startswith("keras/")
        )
        if loaded and "train" not in data:
            return {**data, "train": None}
        return super()._fill_train(data)  # type: ignore[operator]


class DistillSpec(Trains):
    """Training the student from the teacher (Hinton, Vinyals, Dean 2015)."""

    train_defaults: ClassVar[dict[str, Any]] = {"epochs": 20}

    temperature: float = Field(default=4.0, gt=0, le=100, description="Softens both outputs before they are compared.")
    alpha: float = Field(default=0.7, ge=0, le=1, description="Weight of the soft targets; the labels weigh 1 - alpha.")
    views: int = Field(
        default=8,
        ge=0,
        le=1000,
        description="Augmented views for which the teacher's outputs are stored; 0 runs the teacher at every step.",
    )
    train: TrainSpec = Field(default_factory=TrainSpec, description="How the student is trained.")


class PruneSpec(Trains):
    """Removing weights or channels by importance, with fine-tuning to win the loss back."""

    train_defaults: ClassVar[dict[str, Any]] = {"epochs": 5}
    learning_rate_share: ClassVar[float] = 0.2

    method: Literal["structured", "unstructured"] = Field(
        default="structured",
        description="`structured` removes channels (smaller, faster); `unstructured` sets weights to zero.",
    )
    ratio: float = Field(default=0.5, gt=0, lt=1, description="The share REMOVED, of what `of` names.")
    of: Literal["params", "macs", "weights"] = Field(
        default="macs", description="`params` or `macs` (structured); `weights` (unstructured, its default)."
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
    learn_from_teacher: bool = Field(
        default=True, description="Fine-tune on the teacher's soft targets where there is a teacher."
    )
    train: TrainSpec = Field(
        default_factory=TrainSpec, description="Fine-tuning; the epochs are the total over the steps."
    )

    @model_validator(mode="before")
    @classmethod
    def _of_by_method(cls, data: Any) -> Any:
        if isinstance(data, dict) and data.get("method") == "unstructured":
            return {"of": "weights", "steps": 20, **data}
        return data

    @model_validator(mode="after")
    def _method_fits(self) -> PruneSpec:
        if (self.method == "unstructured") != (self.of == "weights"):
            expected = "`weights`" if self.method == "unstructured" else "`params` or `macs`"
            text = f"method `{self.method}` counts {expected}, not `{self.of}`"
            raise PydanticCustomError("wrong_combination", "{text}", {"text": text, "key": "of"})
        return self


class QuantizeSpec(Trains):
    """INT8: from a calibration set (PTQ) or by training with simulated low precision (QAT)."""

    # With batch norm folded nothing evens out the channels' scales any more: plain SGD at a rate that moves the small
    # ones blows up the large ones, Adam's steps do not depend on them.
    train_defaults: ClassVar[dict[str, Any]] = {
        "epochs": 3, "optimizer": "adam", "weight_decay": 0.0, "warmup": 0.05, "clip_norm": 1.0,
    }  # fmt: skip
    learning_rate_share: ClassVar[float] = 0.05

    mode: Literal["ptq", "qat"] = Field(default="ptq", description="`ptq` calibrates; `qat` calibrates, then trains.")
    weights: Literal["int8", "int4"] = Field(
        default="int8",
        description="Of convolutions and linear layers; depthwise convolutions keep `int8` with `int4` as well.",
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
        description="ptq: points of validation accuracy that may be lost. Repairs follow until it fits: better ranges, "
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

    @field_validator("allow", mode="before")
    @classmethod
    def _as_tuple(cls, value: Any) -> Any:
        # The validator that fills `train` hands on Python's lists, which a strict tuple refuses.
        return tuple(value) if isinstance(value, list) else value

    @property
    def types(self) -> str:
        """What the model is stored and computed in, in words."""
        same = self.weights == self.activations
        return self.weights if same else f"{self.weights} weights, {self.activations} activations"


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


class BudgetSpec(Block):
    """Limits; a missed one ends in exit code 3, with the flatbuffer and the report kept."""

    accuracy_drop_points: float | None = Field(
        default=None,
        ge=0,
        le=100,
        description="Largest loss of test accuracy, in points, against the FP32 teacher "
        "(or the FP32 student where there is no teacher).",
    )
    accuracy: float | None = Field(default=None, ge=0, le=100, description="Smallest test accuracy, in percent.")
    size_kib: float | None = Field(default=None, gt=0, description="Largest flatbuffer, in KiB.")
    latency_ms: float | None = Field(
        default=None, gt=0, description="Largest p50 latency, in milliseconds, on the first runtime."
    )
    arena_kib: float | None = Field(
        default=None, gt=0, description="Largest tensor arena, in KiB; needs `tflite-micro` in benchmark.runtimes."
    )
    agreement: float | None = Field(
        default=None,
        ge=0,
        le=100,
        description="Smallest share of test samples, in percent, with the same answer as the float model.",
    )


class Recipe(Block):
    """One file: the teacher, the student and what is done to it."""

    version: Literal[1] = Field(description="The recipe format: 1.")
    name: str = Field(
        default="",
        max_length=100,
        pattern=r"^[\w][\w.\- ]*$|^$",
        description="Names the run. Default: the file's stem.",
    )
    task: Literal["image-classification"] = Field(default="image-classification", description="What the model does.")
    seed: int = Field(default=0, ge=0, lt=2**32, description="Seeds splits, weights, augmentation and order.")
    device: Literal["auto", "cpu", "cuda"] = Field(default="auto", description="Where training runs.")
    threads: int | None = Field(default=None, ge=1, le=1024, description="Training threads. Default: all cores.")
    data: DataSpec = Field(default_factory=DataSpec, description=str(DataSpec.__doc__))
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
    budget: BudgetSpec = Field(default_factory=BudgetSpec, description=str(BudgetSpec.__doc__))
    base_dir: str = Field(
        default="", exclude=True, description="Folder the recipe's relative paths start from; set by the loader."
    )

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
