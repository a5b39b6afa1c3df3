"""A Keras model teaches a torch student: from its file to the INT8 flatbuffer and the report."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from sklearn.datasets import load_digits

from edgecompress.context import Context
from edgecompress.data.loading import load_dataset
from edgecompress.errors import ExitCode, ModelError, UsageError
from edgecompress.models.libraries.keras_loading import require_tensorflow
from edgecompress.pipeline.run import Outcome, run_pipeline
from edgecompress.recipe.reading.load import load_recipe
from edgecompress.stages.before.sizes import predict_sizes
from edgecompress.stages.table import Workbench
from edgecompress.store.store import Store
from edgecompress.tflite.runtime.runtimes import RUNTIMES

TRAIN = {"epochs": 4, "batch_size": 32, "learning_rate": 0.05}
RECIPE: dict[str, Any] = {
    "version": 1,
    "threads": 1,
    "data": {"source": "digits", "augment": ["shift"]},
    "teacher": {"model": "keras/teacher.keras", "args": {"input": "unit"}},
    "student": {"model": "resnet8", "args": {"width": 8, "stages": 2}},
    "distill": {"alpha": 1.0, "views": 2, "train": TRAIN},  # the labels are not looked at
    "quantize": {"mode": "ptq", "calibration_samples": 64},
    "benchmark": {"runs": 10},
}


@pytest.fixture(scope="module")
def trained() -> Any:
    """A small Keras model that has learnt the digits, values from 0 to 1, and ends in a softmax."""
    require_tensorflow("keras/test")
    import keras

    keras.utils.set_random_seed(0)
    digits = load_digits()
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            layers.Conv2D(16, 3, activation="relu"),
            layers.Flatten(),
            layers.Dense(10, activation="softmax"),
        ]
    )
    model.compile(loss="sparse_categorical_crossentropy", optimizer=keras.optimizers.Adam(0.01))
    model.fit(digits.images[..., np.newaxis] / 16, digits.target, epochs=4, verbose=0)
    return model


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory, trained: Any) -> Path:
    """Its file, written once: the time is part of it."""
    path = tmp_path_factory.mktemp("saved") / "teacher.keras"
    trained.save(path)
    return path


@pytest.fixture
def school(tmp_path: Path, saved: Path) -> Path:
    """A folder with the model and a recipe in it."""
    shutil.copy(saved, tmp_path)
    (tmp_path / "keras.yaml").write_text(yaml.safe_dump(RECIPE))
    return tmp_path


@pytest.fixture
def teach(school: Path, shared_store: Store) -> Callable[..., Outcome]:
    def run(*overrides: str, output: str = "run", **options: Any) -> Outcome:
        recipe = load_recipe(school / "keras.yaml", overrides)
        return run_pipeline(recipe, output=school / output, store=shared_store, **options)

    return run


def test_a_keras_teacher_is_scored_measured_and_learnt_from(
    teach: Callable[..., Outcome], school: Path, trained: Any
) -> None:
    outcome = teach()
    assert outcome.exit_code == ExitCode.DONE
    report = json.loads((school / "run" / "report.json").read_text())
    teacher, student, result = report["models"]
    assert teacher["model"] == "keras/teacher.keras"
    assert teacher["label"] == "Teacher keras/teacher.keras"

    data = load_dataset(load_recipe(school / "keras.yaml"), trust=False)
    for split, key in ((data.test, "accuracy"), (data.validation, "validation_accuracy")):
        answers = trained.predict(split.inputs / 16, verbose=0).argmax(1)
        assert teacher[key] == pytest.approx(100 * np.mean(answers == split.labels))
    assert teacher["accuracy"] > 90
    assert teacher["params"] == trained.count_params()
    assert teacher["macs"] == 6 * 6 * 16 * 9 + 576 * 10
    assert teacher["latency"]["litert"]["p50_ms"] > 0
    assert teacher["flatbuffer"]["dtype"] == "float32"
    assert teacher["flatbuffer"]["size_bytes"] > 4 * teacher["params"]

    against = report["ratios"]["against_teacher"]
    assert against["size"] == pytest.approx(
        teacher["flatbuffer"]["size_bytes"] / result["flatbuffer"]["size_bytes"], rel=1e-3
    )
    assert against["macs"] == pytest.approx(teacher["macs"] / result["macs"])
    assert result["flatbuffer"]["dtype"] == "int8"
    assert student["accuracy"] > 90
    assert report["verification"]["passed"] is True
    assert report["distillation"]["stages"] == ["distill"]
    assert report["distillation"]["teacher_outputs"] == "logits, taken from before the model's softmax"
    assert "logits, taken from before the model&#x27;s softmax" in (school / "run" / "report.html").read_text()


def test_the_teachers_flatbuffer_answers_as_the_model(
    teach: Callable[..., Outcome], school: Path, trained: Any, shared_store: Store
) -> None:
    outcome = teach()
    exported = next(step for step in outcome.plan.steps if step.stage == "export")
    session = RUNTIMES["litert"].session(shared_store.folder("export", exported.fingerprint) / "teacher.tflite")
    samples = (load_digits().images[:50, ..., np.newaxis] / 16).astype(np.float32)
    np.testing.assert_allclose(session.run(samples), trained.predict(samples, verbose=0), atol=1e-5)


def test_another_file_is_another_teacher(teach: Callable[..., Outcome], school: Path, trained: Any) -> None:
    teach(until="teacher")
    assert teach(until="teacher").plan.cached
    kept = trained.get_weights()
    try:
        trained.set_weights([*kept[:-1], kept[-1] + 1])
        trained.save(school / "teacher.keras")
    finally:
        trained.set_weights(kept)
    assert not teach(until="teacher").plan.cached


def test_a_saved_model_teaches_online_where_it_is_trusted(
    teach: Callable[..., Outcome], school: Path, trained: Any
) -> None:
    trained.export(school / "folder", verbose=False)
    changes = ("teacher.model=keras/folder", "distill.views=0", "distill.train.epochs=1")
    with pytest.raises(UsageError, match=r"a SavedModel is a TensorFlow program"):
        teach(*changes)
    teach(*changes, output="online", trust=True)
    report = json.loads((school / "online" / "report.json").read_text())
    teacher = report["models"][0]
    assert teacher["accuracy"] > 90
    assert teacher["params"] == trained.count_params()
    assert report["distillation"]["teacher_outputs"] == "logits, taken from before the model's softmax"
    assert report["curves"]["distill"]


def test_sizes_are_known_before_anything_is_trained(school: Path, shared_store: Store, trained: Any) -> None:
    teacher, _student = predict_sizes(load_recipe(school / "keras.yaml"), Context(), shared_store)
    assert teacher["params"] == trained.count_params()
    assert teacher["float_bytes"] > 4 * teacher["params"]
    matrices = 16 * 9 + 576 * 10
    assert teacher["int8_bytes"] == teacher["float_bytes"] - 3 * matrices


def test_a_file_that_changes_while_it_is_used_is_noticed(
    teach: Callable[..., Outcome], school: Path, shared_store: Store, trained: Any
) -> None:
    plan = teach(until="teacher").plan
    done, _ = shared_store.load("teacher", plan.steps[0].fingerprint)
    assert done is not None
    trained.export(school / "folder", verbose=False)
    recipe = load_recipe(school / "keras.yaml", ["teacher.model=keras/folder"])
    bench = Workbench(recipe, Context(recipe.seed, trust=True), shared_store, {"teacher": done})
    with pytest.raises(ModelError, match="has changed while it was used"):
        bench.load("teacher")


@pytest.mark.parametrize("kind", ["unit", "bytes"])
def test_values_of_no_known_range_cannot_be_handed_over(teach: Callable[..., Outcome], school: Path, kind: str) -> None:
    digits = load_digits()
    x, y = digits.images.astype(np.float32)[..., np.newaxis], digits.target
    np.savez(school / "real.npz", x_train=x[:1500], y_train=y[:1500], x_test=x[1500:], y_test=y[1500:])
    changes = ("data.source=npz", "data.path=real.npz", f"teacher.args.input={kind}")
    with pytest.raises(ModelError, match=rf"`input: {kind}` needs values from 0 to 1, or bytes.*go from 0 to 16"):
        teach(*changes)
