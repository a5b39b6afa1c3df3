"""What the stages share: the data, the models that earlier stages left, and the teacher to learn from."""

from __future__ import annotations

import importlib.metadata
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import nn

from edgecompress.context import Context
from edgecompress.data.base import Dataset
from edgecompress.data.forms import with_tokens_of
from edgecompress.data.loading import load_dataset
from edgecompress.errors import ModelError
from edgecompress.models.building import BUILT_IN, build_model, published_normalization
from edgecompress.models.count import count
from edgecompress.models.libraries.keras_models import KerasTeacher
from edgecompress.models.weights import load_weights
from edgecompress.pruning.architecture import apply_architecture
from edgecompress.recipe.schema import DistillSpec, Habits, ModelSpec, Recipe, TrainSpec
from edgecompress.sources.border import of_result
from edgecompress.sources.keras import PREFIX
from edgecompress.stages.keras_teacher import require_known_range
from edgecompress.store.code import Reach, code_hashes
from edgecompress.store.files import sha256_json, write_bytes
from edgecompress.store.store import StageResult, Store
from edgecompress.tasks.base import Task
from edgecompress.tasks.making import make_task
from edgecompress.tasks.reordering import Reordering
from edgecompress.tflite.format.convert import check_converter, convert
from edgecompress.tflite.format.flatbuffer import read_model
from edgecompress.training.defaults import Settled, described, settle
from edgecompress.training.evaluate import outputs_of
from edgecompress.training.layout import MOST_SAMPLES, lay_out
from edgecompress.training.loss import Lesson
from edgecompress.training.precision import pick_device, pick_threads
from edgecompress.training.soft_targets import OnlineTeacher, StoredTargets

#: The flatbuffer to ship; no other file of a run has this name.
MODEL = "model.tflite"
WEIGHTS = "weights.safetensors"
ARCHITECTURE = "architecture.json"
CURVE = "curve.json"
#: Of a Keras teacher, in the place of weights: which file it is, and its float32 flatbuffer.
KERAS = "keras.json"
FLOAT = "float.tflite"
#: Soft targets have this many bytes a number, and are computed anew at every step where they would come to more.
TARGET_BYTES, MOST_TARGET_BYTES = 2, 2 * 1024**3
#: What a conversion depends on beside the model.
CONVERTERS = ("litert-torch", "torch")
#: Hashes of flatbuffers that were found to be some.
_READABLE: set[str] = set()
CONVERSION = Reach(frozenset({"edgecompress.tflite.format.convert.convert"}))


@dataclass
class Workbench:
    """One run at work: loads what stages ask for, once.

    Attributes:
        recipe: What the user asked for.
        ctx: Who is told of progress, and what may be run.
        store: Where finished steps lie.
        results: What has been finished, by stage.
        apart: Whether the shipped flatbuffer is run in processes of its own: it may have been changed since.
        rehearsed: Networks that were converted before training, by stage: those that are not trained bring their file.
    """

    recipe: Recipe
    ctx: Context
    store: Store
    results: dict[str, StageResult] = field(default_factory=dict)
    rehearsed: dict[str, StageResult] = field(default_factory=dict)
    apart: bool = False

    @cached_property
    def device(self) -> torch.device:
        """Where training runs; threads are set on the way."""
        torch.set_num_threads(pick_threads(self.recipe.threads))
        return pick_device(self.recipe.device)

    @cached_property
    def dataset(self) -> Dataset:
        """The data; what it has to say goes into the log."""
        published = None
        for spec in (self.recipe.student, self.recipe.teacher):
            published = published or (published_normalization(spec) if spec is not None else None)
        dataset = load_dataset(self.recipe, trust=self.ctx.trust, normalization=published)
        for note in dataset.notes:
            self.ctx.note(note)
        return dataset

    @cached_property
    def task(self) -> Task:
        """The task over the data."""
        return make_task(self.recipe, self.dataset)

    @cached_property
    def teacher_task(self) -> Task:
        """The task over the data as the teacher reads them: text in its own tokens, where it brings any."""
        if self.recipe.teacher is None:
            return self.task
        dataset = with_tokens_of(self.recipe, self.recipe.teacher, self.dataset)
        return self.task if dataset is self.dataset else make_task(self.recipe, dataset)

    def task_of(self, stage: str) -> Task:
        """The task over the data as the model of a stage reads them."""
        return self.teacher_task if stage == "teacher" else self.task

    @cached_property
    def keras_teacher(self) -> KerasTeacher:
        """The Keras model that the recipe's teacher names, loaded once.

        Raises:
            ModelError: It cannot be used, or does not fit the data.
            UsageError: It holds code that is not trusted.
        """
        spec, dataset = self.spec_of("teacher"), self.dataset
        torch.set_num_threads(pick_threads(self.recipe.threads))  # TensorFlow takes as many
        require_known_range(spec, dataset)
        model = build_model(
            spec,
            dataset.input_shape,
            dataset.num_classes,
            trust=self.ctx.trust,
            base_dir=Path(self.recipe.base_dir),
            seed=self.recipe.seed,
            normalization=dataset.normalization,
        )
        assert isinstance(model, KerasTeacher)  # noqa: S101 - its name begins with keras/
        return model

    def build(
        self, spec: ModelSpec, stage: str | None = None, ctx: Context | None = None, *, seed: int | None = None
    ) -> nn.Module:
        """Returns a model as the recipe describes it, with its weights where it names any.

        Args:
            spec: The recipe's block.
            stage: Whose model it is, where the data of a teacher may differ.
            ctx: Who is told how weights were made to fit; a model that is built to be looked at needs no word.
            seed: Of its random weights, where it is not the recipe's.
        """
        data = self.dataset if stage is None else self.task_of(stage).dataset
        if spec.model.startswith(PREFIX):
            return self.keras_teacher
        distilled = self.recipe.distill is not None and spec is self.recipe.student
        return build_model(
            spec,
            data.input_shape,
            data.num_classes,
            trust=self.ctx.trust,
            base_dir=Path(self.recipe.base_dir),
            seed=self.recipe.seed if seed is None else seed,
            fine_tune=distilled or spec.train is not None,
            ends=data.ends,
            ctx=ctx,
        )

    def spec_of(self, stage: str) -> ModelSpec:
        """Returns the recipe's block behind a stage's model."""
        spec = self.recipe.teacher if stage == "teacher" else self.recipe.compressed
        if spec is None:
            raise ModelError(f"the recipe has no model for stage {stage}")
        return spec

    def load(self, stage: str) -> nn.Module:
        """Returns the model a finished stage left, on the CPU, in evaluation mode."""
        result = self.results[stage]
        if KERAS in result.artifacts:
            with of_result(result):
                used = json.loads(result.path(KERAS).read_text())["sha256"]
            if used != self.keras_teacher.sha256:
                raise ModelError(f"model {self.spec_of(stage).model} has changed while it was used. Run again.")
            return self.keras_teacher
        model = self.build(self.spec_of(stage).model_copy(update={"weights": None}), stage)
        with of_result(result):
            if ARCHITECTURE in result.artifacts:
                apply_architecture(model, json.loads(result.path(ARCHITECTURE).read_text()))
            load_weights(model, result.path(WEIGHTS))
        return model.eval()

    def laid_out(self, model: nn.Module, stage: str) -> nn.Module:
        """Returns a stage's model on the device where training runs, its numbers in memory as suits it."""
        task, built_in = self.task_of(stage), self.spec_of(stage).model in BUILT_IN
        data = task.dataset
        splits = [split.inputs for split in (data.train, data.validation, data.test) if len(split)]
        raw = splits[0] if splits else data.calibration
        if raw is None:
            return model.to(self.device)
        inputs = task.inputs(raw[:MOST_SAMPLES])
        return lay_out(model, inputs, self.device, input_shape=data.value_shape, built_in=built_in)

    def training(self, spec: TrainSpec, habits: Habits, model: nn.Module, stage: str) -> Settled:
        """Returns how a stage trains a model, with nothing left open, and tells it."""
        samples = len(self.task_of(stage).dataset.train)
        settled = settle(spec, model, samples, habits)
        words = described(settled, samples)
        self.ctx.note(f"{stage}: {words}")
        return settled

    def lesson(self, *, learn: bool) -> Lesson:
        """Returns what a stage learns from: the teacher and the labels, or the labels alone."""
        if not learn or "teacher" not in self.results:
            return Lesson()
        spec = self.recipe.distill or DistillSpec()
        if spec.alpha == 0:
            return Lesson()
        # Without augmentation all views are the same samples.
        views = spec.views if self.recipe.data.augment else min(spec.views, 1)
        size = TARGET_BYTES * views * len(self.dataset.train) * math.prod(self.dataset.outputs)
        # A teacher with tokens of its own cannot read the student's batches.
        online = (views == 0 or size > MOST_TARGET_BYTES) and self.teacher_task is self.task
        if online and views:
            self.ctx.note(f"soft targets of {size >> 20:,} MiB are not stored: the teacher runs at every step")
        if online:
            return Lesson(
                OnlineTeacher(self.laid_out(self.load("teacher"), "teacher"), self.device, self.dataset.value_shape),
                spec.temperature,
                spec.alpha,
            )
        teacher = self.results["teacher"]
        kept = teacher.artifacts.get(WEIGHTS) or teacher.artifacts[KERAS]
        stored = StoredTargets(
            self.store,
            self.ctx,
            self.teacher_task,
            views=max(views, 1),
            teacher_fingerprint=f"{teacher.fingerprint} {kept.sha256}",
            teacher=lambda: self.laid_out(self.load("teacher"), "teacher"),
            device=self.device,
        )
        return Lesson(stored, spec.temperature, spec.alpha)

    def float_flatbuffer(self, stage: str) -> Path:
        """Returns the float32 flatbuffer of a finished stage's model; it is converted once.

        Raises:
            StaleInputError: It came out otherwise than the one that other stages of this run were made from.
        """
        if FLOAT in self.results[stage].artifacts:
            return flatbuffer_of(self.results[stage], FLOAT)
        fingerprint = sha256_json(
            {
                "model": self.results[stage].fingerprint,
                # The content too: a model made again need not be the same, on a GPU or another number of cores.
                "artifacts": {name: one.sha256 for name, one in self.results[stage].artifacts.items()},
                "libraries": {name: importlib.metadata.version(name) for name in CONVERTERS},
                "code": code_hashes(CONVERSION),
            }
        )

        def make(work: Path) -> dict[str, Any]:
            rehearsed = self.rehearsed.get(stage)
            if rehearsed is not None and FLOAT in rehearsed.artifacts and self._as_loaded(stage):
                write_bytes(work / FLOAT, flatbuffer_of(rehearsed, FLOAT).read_bytes())
                return {}
            check_converter()
            self.ctx.note(f"converting the {stage} model to a flatbuffer")
            data = self.task_of(stage).dataset
            convert(self.load(stage), data.input_shape, work / FLOAT, data.input_dtype)
            return {}

        result = self.store.once("flatbuffer", fingerprint, make, self.ctx.note)
        path = flatbuffer_of(result, FLOAT)
        self.ctx.use(result.name, result.content)
        return path

    def _as_loaded(self, stage: str) -> bool:
        """Returns whether a stage left a model with the very weights that the recipe names."""
        return self.results[stage].metrics.get("trained") is False


def flatbuffer_of(result: StageResult, name: str) -> Path:
    """Returns where a flatbuffer that a finished step left lies; it is one, and nobody has to ask again.

    Raises:
        ResultError: It is none.
    """
    path = result.path(name)
    if result.artifacts[name].sha256 not in _READABLE:
        with of_result(result):
            read_model(path)
        _READABLE.add(result.artifacts[name].sha256)
    return path


def labels_of(result: StageResult, name: str) -> list[str]:
    """Returns the layers' names that a finished step left.

    Raises:
        ResultError: They are none.
    """
    with of_result(result):
        labels = json.loads(result.path(name).read_text())
        if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
            raise ModelError(f"{name} is no list of layers")
    return labels


def validation_figures(
    bench: Workbench, model: nn.Module, prefix: str = "validation_", stage: str = ""
) -> dict[str, float]:
    """Returns the task's figures on the validation split, as the stage's model reads it, empty where there is none."""
    task = bench.task_of(stage)
    split = task.dataset.validation
    if not len(split):
        return {}
    figures = task.metrics(outputs_of(model, task, split.inputs, bench.device), split)
    return {f"{prefix}{name}": value for name, value in figures.items()}


def reordering_document(found: Reordering, names: Sequence[str]) -> dict[str, Any]:
    """Returns an order of the classes by their names, plain JSON values."""
    moved = [[names[number], names[answer]] for number, answer in sorted(found.moved.items())]
    return {"accuracy": found.accuracy, "reordered": found.reordered, "moved": moved}


def model_figures(bench: Workbench, model: nn.Module, stage: str = "") -> dict[str, Any]:
    """Returns parameters, non-zero parameters and MACs of a stage's model."""
    data = bench.task_of(stage).dataset
    counts = count(model, data.input_shape, data.input_dtype)
    return {"params": counts.params, "nonzero_params": counts.nonzero_params, "macs": counts.macs}
