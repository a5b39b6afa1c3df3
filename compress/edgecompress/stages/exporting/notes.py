"""What the metadata of a flatbuffer tells: how to prepare its input, how to read its output."""

from __future__ import annotations

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edgecompress.data.base import Dataset
from edgecompress.recipe.schema import Recipe
from edgecompress.stages.exporting.text_notes import FRONT_END_FILE, input_files, rules_of, target_formulas
from edgecompress.tflite.format.flatbuffer import read_model
from edgecompress.tflite.format.metadata import (
    AXIS_LABELS,
    LABELS_FILE,
    AssociatedFile,
    ModelNotes,
    TensorNotes,
    label_lines,
)
from edgecompress.tflite.format.views import graph_views, text
from edgecompress.version import __version__

#: Largest value of a pixel; the normalisation in the metadata is for pixels, whatever the training data counts in.
PIXEL = 255
#: Channels of a picture -> what the metadata calls it.
COLOR_SPACES = {1: "GRAYSCALE", 3: "RGB"}
PICTURE_AXES = 3
#: Readers drop scores below 0 unless they are told otherwise: logits may all be negative.
LEAST_SCORE = float(np.finfo(np.float32).min)
RANGES = {"int8": (-128.0, 127.0), "uint8": (0.0, 255.0), "int16": (-32768.0, 32767.0)}
#: Tasks whose outputs are numbers that stand for themselves.
NUMBERS = frozenset({"regression", "anomaly-detection"})
#: Operators that hand on what an earlier one computed, and those that end in probabilities.
PASSING = frozenset({"QUANTIZE", "DEQUANTIZE", "RESHAPE"})
PROBABILITIES = frozenset({"SOFTMAX", "LOGISTIC"})


def metadata_of(
    recipe: Recipe, dataset: Dataset, model: schema.ModelT
) -> tuple[ModelNotes | None, dict[str, bytes] | None]:
    """Returns the notes and files that go into the flatbuffer, None where the recipe wants none."""
    if not recipe.export.metadata:
        return None, None
    notes = model_notes(recipe, dataset, model)
    files = input_files(dataset)[1]
    if notes.outputs[0].files:
        files[LABELS_FILE] = label_lines(dataset.class_names)
    return notes, files or None


def model_notes(recipe: Recipe, dataset: Dataset, model: schema.ModelT) -> ModelNotes:
    """Returns what the metadata tells of the flatbuffer: the task, how to prepare its input, how to read its output."""
    types = recipe.quantize.types if recipe.quantize is not None else "float32"
    return ModelNotes(
        name=recipe.compressed.model,
        description=f"{recipe.task}, {types}, made by edgecompress {__version__}",
        inputs=(_input_notes(recipe, dataset),),
        outputs=(_output_notes(recipe, dataset, model), *_other_notes(model)),
    )


def _input_notes(recipe: Recipe, dataset: Dataset) -> TensorNotes:
    """Returns how the input is prepared: from pixels where it is a picture, else from values as the data has them."""
    normalization, shape = dataset.normalization, dataset.input_shape
    files = input_files(dataset)[0]
    if dataset.vocabulary is not None:
        rules = rules_of(dataset.vocabulary.document())
        told = f"{shape[0]} token numbers, 0 in front of shorter texts: {rules}"
        return TensorNotes(name="tokens", description=told, content="feature", files=files)
    picture = (
        dataset.kind == "pictures"
        and len(shape) == PICTURE_AXES
        and shape[0] in COLOR_SPACES
        and normalization.value_scale < 1  # values have a known top, which is white
    )
    value_scale = 1 / PIXEL if picture else normalization.value_scale
    mean = tuple(value / value_scale for value in normalization.mean)
    std = tuple(value / value_scale for value in normalization.std)
    ends = "" if normalization.clip is None else f", ended at {-normalization.clip:g} and {normalization.clip:g}"
    first = f"(value - {', '.join(map(str, normalization.subtracted))})" if normalization.subtracted else "value"
    prepared = f"({first} - mean) / std{ends}{'' if recipe.io == 'float32' else ', then quantized'}"
    least: tuple[float, ...] = ()
    greatest: tuple[float, ...] = ()
    if recipe.io in RANGES:
        least, greatest = ((limit,) for limit in RANGES[recipe.io])
    elif picture:
        least = tuple(-m / s for m, s in zip(mean, std, strict=True))
        greatest = tuple((PIXEL - m) / s for m, s in zip(mean, std, strict=True))
    kind = f"picture of {shape[2]}x{shape[1]}, values 0 to {PIXEL}" if picture else "values as the data has them"
    if dataset.front_end is not None:
        kind = f"{shape[0]} frames of {shape[1]} values, made of a waveform as {FRONT_END_FILE} says"
    return TensorNotes(
        name="image" if picture else "input",
        description=f"{kind}: {prepared}",
        content="image" if picture else "feature",
        color_space=COLOR_SPACES[shape[0]] if picture else "",
        mean=mean,
        std=std,
        least=least,
        greatest=greatest,
        files=files,
    )


def _output_notes(recipe: Recipe, dataset: Dataset, model: schema.ModelT) -> TensorNotes:
    probabilities = ends_in_probabilities(model)
    graph = graph_views(model)[0]
    if recipe.task in NUMBERS:
        return _number_notes(recipe, dataset)
    if recipe.task == "language-modeling":
        text = "a score per token of the vocabulary for what follows each place of the input"
        return TensorNotes(name="logits", description=text, content="feature")
    labelled = bool(dataset.class_names) and graph.tensors[graph.outputs[0]].shape[-1:] == (len(dataset.class_names),)
    least, greatest = RANGES.get(recipe.io, (0.0, 1.0) if probabilities else (None, None))
    return TensorNotes(
        name="probability" if probabilities else "logits" if labelled else "output",
        description="one score per class, in the order of the labels" if labelled else "",
        content="feature",
        least=() if least is None else (least,),
        greatest=() if greatest is None else (greatest,),
        least_score=None if probabilities or not labelled else LEAST_SCORE,
        files=(AssociatedFile(LABELS_FILE, AXIS_LABELS),) if labelled else (),
    )


def _other_notes(model: schema.ModelT) -> list[TensorNotes]:
    """Returns the notes of outputs beside the first: what a network of one input gives beside its answer."""
    graph = graph_views(model)[0]
    if len(graph.inputs) > 1:
        return []
    names = {int(entry.tensorIndex): entry.name for one in model.signatureDefs or [] for entry in one.outputs}
    return [TensorNotes(text(names.get(n, b"output")), "beside what is scored", "feature") for n in graph.outputs[1:]]


def _number_notes(recipe: Recipe, dataset: Dataset) -> TensorNotes:
    least, greatest = RANGES.get(recipe.io, (None, None))
    text = "the input given back, normalised; the mean square of the difference is the score of an anomaly"
    if recipe.task == "regression":
        text = "; ".join(target_formulas(dataset))
    return TensorNotes(
        name="prediction" if recipe.task == "regression" else "reconstruction",
        description=text,
        content="feature",
        least=() if least is None else (least,),
        greatest=() if greatest is None else (greatest,),
    )


def raw_pixel_steps(content: bytes, notes: TensorNotes) -> int:
    """Returns by how many steps at most a pixel, fed as it is, is off from what the uint8 input takes for it."""
    graph = graph_views(read_model(content))[0]
    given = graph.tensors[graph.inputs[0]]
    pixels = np.arange(PIXEL + 1)[:, np.newaxis]
    exact = (pixels - np.array(notes.mean)) / np.array(notes.std) / given.scale[0] + given.zero_point[0]
    return int(np.abs(np.clip(np.rint(exact), 0, PIXEL) - pixels).max())


def ends_in_probabilities(model: schema.ModelT) -> bool:
    """Returns whether the output is that of a softmax or a sigmoid."""
    graph = graph_views(model)[0]
    makers = {number: op for op in graph.ops for number in op.outputs}
    op = makers.get(graph.outputs[0])
    while op is not None and op.op in PASSING:
        op = makers.get(op.inputs[0])
    return op is not None and op.op in PROBABILITIES
