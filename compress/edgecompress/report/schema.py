"""What a report is made from, and its version.

Everything here holds plain values: the stages' figures go in as they are in the store, so a report can be written again
from finished stages without loading a model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

#: Raised when a key of report.json is removed or changes its meaning; new keys do not raise it.
SCHEMA_VERSION = 1
REPORT = "report.json"
MARKDOWN = "report.md"
HTML = "report.html"
PICTURE = "report.png"


@dataclass(frozen=True)
class FlatbufferSummary:
    """A flatbuffer file.

    Attributes:
        file: Its name.
        size_bytes: Its size.
        gzip_bytes: Its size after gzip -9, beyond 4 MiB -6.
        dtype: Type of its weights and activations: `float32` or `int8`.
        metadata_bytes: Bytes of its metadata, with the labels; part of the size. None where it was not counted.
        overhead_bytes: Bytes beside weights, biases, scales, one zero vector per length, and metadata.
        overhead_allowance_bytes: What the overhead may come to for its operators and tensors.
        parts: Where its bytes go; they add up to its size.
        zstd_bytes: Its size after zstd -19, beyond 4 MiB -3. None where it was not weighed.
        sparse: tensors, expanded_bytes, dense_size_bytes, dense_gzip_bytes, dense_zstd_bytes; None where all weights
            are stored with their zeros.
    """

    file: str
    size_bytes: int
    gzip_bytes: int
    dtype: str
    metadata_bytes: int | None = None
    overhead_bytes: int | None = None
    overhead_allowance_bytes: int | None = None
    parts: Mapping[str, int] = field(default_factory=dict)
    zstd_bytes: int | None = None
    sparse: Mapping[str, int] | None = None


@dataclass(frozen=True)
class LatencySummary:
    """Latency of one flatbuffer on one runtime, in milliseconds."""

    p50_ms: float
    p95_ms: float


@dataclass(frozen=True)
class ModelRow:
    """One model of the run, from the teacher to the result.

    Attributes:
        key: `teacher`, `student`, `pruned` or `quantized`; the last row is the result, whatever its type.
        model: What the recipe calls it, such as `resnet8`.
        params: Parameters.
        nonzero_params: Parameters that are not zero.
        macs: Multiply-accumulates for one sample.
        flatbuffer: The model as a flatbuffer.
        accuracy: On the test split, in percent.
        macro_f1: On the test split, in percent.
        validation_accuracy: In percent.
        agreement_with_reference: Share of test samples with the same answer as the first model of the run, in percent.
        agreement_with_float: Share of test samples with the same answer as the float model, in percent.
        latency: Runtime -> latency.
        metrics: All figures of the task on the test split, by name (see `edgecompress.figures`).
        validation_metrics: The same on the validation split.
    """

    key: str
    model: str
    params: int
    nonzero_params: int
    macs: int
    flatbuffer: FlatbufferSummary
    accuracy: float | None = None
    macro_f1: float | None = None
    validation_accuracy: float | None = None
    agreement_with_reference: float | None = None
    agreement_with_float: float | None = None
    latency: Mapping[str, LatencySummary] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    validation_metrics: Mapping[str, float] = field(default_factory=dict)

    @property
    def figures(self) -> dict[str, float]:
        """All figures on the test split, by name."""
        known = {"accuracy": self.accuracy, "macro_f1": self.macro_f1}
        return {**{key: value for key, value in known.items() if value is not None}, **self.metrics}


@dataclass(frozen=True)
class StepSummary:
    """One stage of the run.

    Attributes:
        stage: Its name.
        status: `ran` or `cached`.
        seconds: How long it took when it ran.
        fingerprint: Names its result in the store.
        warnings: Plain sentences.
        kept_code: Rooms of the program whose code is another than the one that made the result (`--keep-cache`).
        curve: One entry per epoch: epoch, loss, learning_rate, validation_accuracy (or another figure's).
    """

    stage: str
    status: str
    seconds: float
    fingerprint: str
    warnings: tuple[str, ...] = ()
    curve: tuple[Mapping[str, Any], ...] = ()
    kept_code: tuple[str, ...] = ()


@dataclass(frozen=True)
class DataSummary:
    """The data.

    Attributes:
        source: The source's name.
        train: Number of training samples.
        validation: Number of validation samples.
        test: Number of test samples.
        classes: Names of the classes, in the order of the outputs.
        input_shape: One sample as the source network sees it, (C, H, W) for pictures.
        value_scale: x = ((value - subtracted) * value_scale - mean) / std, per channel.
        mean: One number per channel.
        std: One number per channel.
        origin: Where mean and std are from, in words.
        clip: Where normalised values end, both ways; None: nowhere.
        subtracted: From values that are too large for float32, one number per channel or one for all; empty: nothing.
        levels: Of grey pictures of 16 bits: the values that became 0 and 255 first; empty: there are none.
        sha256: Hash of the data's content.
        notes: Plain sentences.
        kind: What the inputs are: `pictures`, `series`, `features` or `tokens`.
        front_end: Of audio: how frames are made of a waveform.
        vocabulary: Of text: kind, size and rules.
        targets: Of a regression: name, mean and std of each number; networks predict (value - mean) / std.
    """

    source: str
    train: int
    validation: int
    test: int
    classes: tuple[str, ...]
    input_shape: tuple[int, ...]
    value_scale: float
    mean: tuple[float, ...]
    std: tuple[float, ...]
    origin: str
    sha256: str
    notes: tuple[str, ...] = ()
    kind: str = "pictures"
    front_end: Mapping[str, Any] | None = None
    vocabulary: Mapping[str, Any] | None = None
    clip: float | None = None
    subtracted: tuple[int, ...] = ()
    levels: tuple[int, ...] = ()
    targets: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True)
class TensorSummary:
    """The shipped flatbuffer's input or output, as the file itself has it.

    Attributes:
        dtype: `int8`, `uint8` or `float32`.
        shape: With the batch axis first; pictures are (1, H, W, C).
        scale: real = (value - zero_point) * scale; None for float32.
        zero_point: See `scale`.
    """

    dtype: str
    shape: tuple[int, ...]
    scale: float | None = None
    zero_point: int | None = None


@dataclass(frozen=True)
class BenchmarkSummary:
    """How latency was measured; the first runtime is the one that ratios and the budget use."""

    runtimes: tuple[str, ...]
    threads: int
    runs: int


@dataclass(frozen=True)
class VerificationSummary:
    """Whether the shipped flatbuffer is what it was meant to be.

    Attributes:
        passed: Whether it may be shipped.
        census: `ops`: name -> {count, dtypes}; `tensors`: dtype -> count; `not_int8`: list of {op, layer, dtype, why}.
        reasons: Why not, in sentences.
        twin: samples, same, clear, clear_same (percent), max_steps, mean_steps, p999_steps, accuracy of the twin; None
            where nothing was quantized.
        first_differing_layer: Its name, None where all layers agree.
        layers: One entry per operator: index, layer, op, max_steps, mean_steps, outlier_share, weights_differ, differs.
    """

    passed: bool
    census: Mapping[str, Any]
    reasons: tuple[str, ...] = ()
    twin: Mapping[str, Any] | None = None
    first_differing_layer: str | None = None
    layers: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True)
class ReportInputs:
    """Everything a report is made from, beside the recipe.

    Attributes:
        created_at: ISO 8601, UTC.
        data: The data.
        models: In order, the result last.
        steps: The stages in order.
        benchmark: How latency was measured.
        input: The shipped flatbuffer's input.
        output: Its output.
        environment: python, platform, cpu, cores, versions: {library: version}.
        files: File name -> sha256, of the files in the run's folder that must not change.
        verification: Of the flatbuffer; None where it was not done.
        sparsity: masked_weights, prunable_weights, zeros_in_file, weights_in_file, share (0 to 1); None where nothing
            was masked.
        streaming: The model of one step: file, size_bytes, states, state_values, samples, equal (percent),
            max_difference; None where there is none.
        pruning: The prune stage's figures: method, of, asked, removed_params, removed_macs, widths (layer to [before,
            after]).
        distillation: temperature, alpha, views, and what else is worth telling.
        quantization: The quantize stage's figures: mode, calibration_samples.
        analysis: Which layer loses what: split, samples, score, float_score, noise_points, tried, layers; None where
            nothing was quantized.
        evidence: What the verdict is made from beside budget and verification; None where it was not gathered.
        runtimes: One entry per runtime beside LiteRT: runtime, runs, reason, samples, same_answer, bit_exact (percent,
            against LiteRT), max_steps, arena_bytes, activation_bytes, persistent_bytes, flash_bytes.
        plots: What the task plots: confusion_matrix (row: the label, column: the answer), class_names,
            per_class_accuracy; predictions; roc and scores; sample.
    """

    created_at: str
    data: DataSummary
    models: tuple[ModelRow, ...]
    steps: tuple[StepSummary, ...]
    benchmark: BenchmarkSummary
    input: TensorSummary
    output: TensorSummary
    environment: Mapping[str, Any]
    files: Mapping[str, str]
    verification: VerificationSummary | None = None
    sparsity: Mapping[str, Any] | None = None
    streaming: Mapping[str, Any] | None = None
    pruning: Mapping[str, Any] | None = None
    distillation: Mapping[str, Any] | None = None
    quantization: Mapping[str, Any] | None = None
    analysis: Mapping[str, Any] | None = None
    evidence: Mapping[str, Any] | None = None
    runtimes: tuple[Mapping[str, Any], ...] = ()
    plots: Mapping[str, Any] = field(default_factory=dict)
