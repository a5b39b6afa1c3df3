"""What is written about a flatbuffer: from pixels or values of the data to its input, and what its outputs mean."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from edgecompress.data.base import Dataset, Normalization, Split
from edgecompress.recipe.schema import Recipe
from edgecompress.stages import export
from edgecompress.stages.exporting.notes import ends_in_probabilities, model_notes, raw_pixel_steps
from edgecompress.store.files import sha256_file
from edgecompress.tflite.format.finish import finish
from edgecompress.tflite.format.flatbuffer import read_model
from edgecompress.tflite.format.metadata import ModelNotes, TensorNotes
from edgecompress.tflite.format.metadata_reader import labels_of, read_files, read_notes
from edgecompress.tflite.format.packing import pack
from tests.unit.converted_net import INPUT_SHAPE, Converted
from tests.unit.made_flatbuffer import Op, int8, int8_classifier, make_model

EMPTY = Split(np.zeros((0, 6, 6, 2), np.uint8), np.zeros(0, np.int64))
NAMES = ("a", "b", "c", "d", "e")


def recipe(io: str = "int8", **more: Any) -> Recipe:
    return Recipe.model_validate(
        {"version": 1, "teacher": {"model": "resnet8"}, "quantize": {}, "export": {"io": io}, **more}
    )


def dataset(
    shape: tuple[int, ...], value_scale: float, mean: tuple[float, ...], std: tuple[float, ...], names: Any = NAMES
) -> Dataset:
    return Dataset("made", EMPTY, EMPTY, EMPTY, names, shape, Normalization(value_scale, mean, std, "made up"))


def notes(io: str, data: Dataset, model: Any = None) -> ModelNotes:
    return model_notes(recipe(io), data, model or make_model(*int8_classifier()))


def test_an_rgb_picture_is_prepared_from_pixels() -> None:
    data = dataset((3, 20, 30), 1 / 255, (0.5, 0.4, 0.2), (0.2, 0.25, 0.1))
    (given,) = notes("float32", data).inputs
    assert (given.content, given.color_space) == ("image", "RGB")
    assert "30x20" in given.description
    assert given.mean == pytest.approx((127.5, 102.0, 51.0))
    assert given.std == pytest.approx((51.0, 63.75, 25.5))
    assert given.least == pytest.approx((-2.5, -1.6, -2.0))
    assert given.greatest == pytest.approx((2.5, 2.4, 8.0))
    pixels = np.array([[0, 17, 255]])
    np.testing.assert_allclose(
        (pixels - np.array(given.mean)) / np.array(given.std),
        (pixels / 255 - np.array(data.normalization.mean)) / np.array(data.normalization.std),
    )


def test_a_grey_picture_of_other_values_is_prepared_from_pixels_all_the_same() -> None:
    """The digits count from 0 to 16; a library reads 255 where they have 16."""
    data = dataset((1, 8, 8), 1 / 16, (0.25,), (0.5,))
    (given,) = notes("uint8", data).inputs
    assert (given.content, given.color_space) == ("image", "GRAYSCALE")
    assert (given.mean, given.std) == ((63.75,), (127.5,))
    assert (given.least, given.greatest) == ((0.0,), (255.0,))
    assert (255 - given.mean[0]) / given.std[0] == (16 * data.normalization.value_scale - 0.25) / 0.5


@pytest.mark.parametrize(
    ("shape", "value_scale", "why"),
    [
        ((2, 6, 6), 1 / 255, "two channels are no colour space"),
        ((3, 6, 6), 1.0, "float values have no known white"),
        ((6, 50), 1 / 255, "a series has no height and width"),
    ],
)
def test_what_is_no_picture_keeps_the_units_of_the_data(shape: tuple[int, ...], value_scale: float, why: str) -> None:
    channels = shape[0]
    data = dataset(shape, value_scale, (3.0,) * channels, (2.0,) * channels)
    (given,) = notes("int8", data).inputs
    assert (given.content, given.color_space) == ("feature", ""), why
    assert given.mean == pytest.approx((3.0 / value_scale,) * channels)
    assert given.std == pytest.approx((2.0 / value_scale,) * channels)
    assert (given.least, given.greatest) == ((-128.0,), (127.0,))
    assert notes("float32", data).inputs[0].least == ()


def test_classes_are_named_where_the_output_has_one_score_for_each() -> None:
    data = dataset((3, 6, 6), 1 / 255, (0.5,) * 3, (0.5,) * 3)
    (answer,) = notes("int8", data).outputs
    assert (answer.name, answer.content) == ("logits", "feature")
    assert [(file.name, file.kind) for file in answer.files] == [("labels.txt", "axis labels")]
    assert answer.least_score is not None
    assert answer.least_score < -1e38
    (answer,) = notes("int8", dataset((3, 6, 6), 1 / 255, (0.5,) * 3, (0.5,) * 3, names=("a", "b"))).outputs
    assert (answer.name, answer.files, answer.least_score) == ("output", (), None)


@pytest.mark.parametrize("op", ["SOFTMAX", "LOGISTIC"])
def test_probabilities_are_called_so_also_behind_a_conversion(op: str) -> None:
    tensors, ops = int8_classifier()
    tensors += [int8(1, 5, name="p"), int8(1, 5, name="out")]
    model = make_model(tensors, [*ops, Op(op, (11,), (12,)), Op("QUANTIZE", (12,), (13,))])
    assert ends_in_probabilities(model)
    data = dataset((3, 6, 6), 1 / 255, (0.5,) * 3, (0.5,) * 3)
    (answer,) = notes("float32", data, model).outputs
    assert (answer.name, answer.least, answer.greatest) == ("probability", (0.0,), (1.0,))
    assert answer.least_score is None
    assert not ends_in_probabilities(make_model(*int8_classifier()))
    assert not ends_in_probabilities(make_model([int8(1, 4)], [], outputs=(0,)))


def test_raw_pixels_fit_a_grey_uint8_input_but_not_channels_that_differ() -> None:
    tensors, ops = int8_classifier()
    tensors[0] = int8(1, 6, 6, 2, name="input", scale=1 / 255 / 0.25, zero_point=-128 + 64)
    tensors[11] = int8(1, 5, name="logits")
    content, _ = finish(make_model(tensors, ops), ["a", "b", "c", "d"], "uint8")
    assert raw_pixel_steps(content, TensorNotes(mean=(64.0,), std=(63.75,))) == 0
    assert raw_pixel_steps(content, TensorNotes(mean=(64.0, 32.0), std=(63.75, 63.75))) == 32


def test_a_float_recipe_says_so() -> None:
    data = dataset((3, 6, 6), 1 / 255, (0.5,) * 3, (0.5,) * 3)
    asked = Recipe.model_validate({"version": 1, "teacher": {"model": "resnet8"}})
    told = model_notes(asked, data, make_model(*int8_classifier()))
    assert "float32" in told.description
    assert told.name == "resnet8"
    assert read_notes(read_model(pack(make_model(*int8_classifier())))) is None


def exported(work: Path, converted: Converted, int8_file: Path, asked: Recipe) -> tuple[dict[str, Any], list[str]]:
    """Runs the stage on the small network of the tests; gives its figures and warnings."""
    labels = [f"layer{k}" for k in range(len(read_model(int8_file).subgraphs[0].operators))]
    (work / "labels.json").write_text(json.dumps(labels))
    files = {"quantized.tflite": int8_file, "labels.json": work / "labels.json"}
    artifacts = {name: SimpleNamespace(sha256=sha256_file(path)) for name, path in files.items()}
    warnings: list[str] = []
    bench: Any = SimpleNamespace(
        recipe=asked,
        dataset=dataset(INPUT_SHAPE, 1 / 255, (0.5, 0.4, 0.3), (0.25, 0.2, 0.3)),
        results={"quantize": SimpleNamespace(path=files.__getitem__, artifacts=artifacts)},
        float_flatbuffer=lambda stage: converted.floating,
        load=lambda stage: converted.module,
        ctx=SimpleNamespace(warn=warnings.append),
    )
    (work / "out").mkdir()
    return export.run(bench, work / "out"), warnings


def test_the_stage_writes_the_metadata_and_counts_it(tmp_path: Path, converted: Converted, int8_file: Path) -> None:
    figures, warnings = exported(tmp_path, converted, int8_file, recipe())
    content = (tmp_path / "out" / "model.tflite").read_bytes()
    told = read_notes(read_model(content))
    assert told is not None
    assert labels_of(told, read_files(content)) == list(NAMES)
    shipped, teacher = figures["flatbuffers"]["quantized"], figures["flatbuffers"]["teacher"]
    assert (shipped["size_bytes"], shipped["file"]) == (len(content), "model.tflite")
    assert shipped["metadata_bytes"] > 500 > teacher["metadata_bytes"]
    assert shipped["overhead_bytes"] <= shipped["overhead_allowance_bytes"]
    assert warnings == []


def test_the_recipe_can_leave_it_out(tmp_path: Path, converted: Converted, int8_file: Path) -> None:
    asked = recipe().model_copy(update={"export": recipe().export.model_copy(update={"metadata": False})})
    figures, _ = exported(tmp_path, converted, int8_file, asked)
    content = (tmp_path / "out" / "model.tflite").read_bytes()
    assert b"TFLITE_METADATA" not in content
    assert read_files(content) == {}
    assert figures["flatbuffers"]["quantized"]["metadata_bytes"] < 50


def test_uint8_pictures_whose_channels_differ_are_warned_of(
    tmp_path: Path, converted: Converted, int8_file: Path
) -> None:
    _, warnings = exported(tmp_path, converted, int8_file, recipe("uint8"))
    assert len(warnings) == 1
    assert "Use export.io: float32" in warnings[0]
