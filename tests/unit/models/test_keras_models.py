"""Keras models as teachers: logits from any head, inputs as the model takes them, and what is refused."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from edgecompress.data.base import Normalization
from edgecompress.errors import ExitCode, ModelError, UsageError
from edgecompress.models.building import build_model
from edgecompress.models.libraries import keras_loading
from edgecompress.models.libraries.keras_models import KerasTeacher
from edgecompress.recipe.schema import ModelSpec
from edgecompress.tflite.runtime.runtimes import RUNTIMES
from tests.shared.processes import HUNG_S, unmeasured

SHAPE, CLASSES = (3, 8, 6), 4
SCALE = Normalization(1 / 255, (0.5, 0.4, 0.3), (0.2, 0.25, 0.3), "made up")
RNG = np.random.default_rng(0)
BYTES = RNG.integers(0, 256, (5, 8, 6, 3)).astype(np.float32)
UNIT = BYTES / 255
NORMALIZED = (UNIT - np.float32(SCALE.mean)) / np.float32(SCALE.std)
Build = Callable[..., KerasTeacher]


@pytest.fixture(scope="module")
def keras() -> Any:
    """Keras, as edgecompress starts it."""
    keras_loading.require_tensorflow("keras/test")
    return importlib.import_module("keras")


@pytest.fixture
def build(tmp_path: Path) -> Build:
    """Builds the teacher in a file in tmp_path."""

    def make(name: str, shape: tuple[int, ...] = SHAPE, classes: int = CLASSES, **options: Any) -> KerasTeacher:
        spec = ModelSpec(model=f"keras/{name}", args={"input": options.pop("input")} if "input" in options else {})
        given = {"trust": False, "base_dir": tmp_path, "seed": 0, "normalization": SCALE, **options}
        model = build_model(spec, shape, classes, **given)
        assert isinstance(model, KerasTeacher)
        return model

    return make


def net(keras: Any, *head: Any, before: tuple[Any, ...] = (), **options: Any) -> Any:
    """Returns a convolutional network; with the same seed it has the same weights, whatever its head."""
    keras.utils.set_random_seed(1)
    layers = keras.layers
    inputs = keras.Input(**{"shape": (8, 6, 3), **options})
    x = inputs
    for layer in before:
        x = layer(x)
    x = layers.Conv2D(5, 3, padding="same")(x)
    x = layers.BatchNormalization()(x)
    x = layers.Flatten()(layers.ReLU()(x))
    x = layers.Dense(CLASSES, name="scores", activation=head[0] if head and isinstance(head[0], str) else None)(x)
    for layer in head:
        x = x if isinstance(layer, str) else layer(x)
    return keras.Model(inputs, x)


def pictures(values: np.ndarray[Any, Any] = NORMALIZED) -> torch.Tensor:
    return torch.from_numpy(values).permute(0, 3, 1, 2)


@pytest.mark.parametrize(("file", "trust"), [("net.keras", False), ("net.h5", False), ("net", True)])
def test_every_format_answers_as_the_model_does(
    keras: Any, build: Build, tmp_path: Path, file: str, trust: bool
) -> None:
    model = net(keras)
    if file == "net":
        model.export(tmp_path / file, verbose=False)
    else:
        model.save(tmp_path / file)
    teacher = build(file, trust=trust)
    expected = model.predict(NORMALIZED, verbose=0)
    answers = teacher(pictures())
    assert answers.dtype == torch.float32
    assert not answers.requires_grad
    np.testing.assert_allclose(answers.numpy(), expected, atol=1e-5)
    assert teacher.outputs == "the model's outputs as they are"
    # The moving mean and variance are no parameters: torch does not count them either.
    assert teacher.params == 5 * (27 + 1) + 5 * 2 + 240 * CLASSES + CLASSES
    assert teacher.nonzero_params == teacher.params - 5 - 5 - CLASSES  # biases and beta begin at 0
    assert list(teacher.parameters()) == []


def test_frozen_layers_count_as_parameters(keras: Any, build: Build, tmp_path: Path) -> None:
    model = net(keras)
    model.trainable = False
    model.save(tmp_path / "frozen.keras")
    assert build("frozen.keras").params == 5 * 28 + 5 * 2 + 240 * CLASSES + CLASSES


@pytest.mark.parametrize(
    ("file", "head"),
    [("net", "activation"), *(("net.keras", head) for head in ("activation", "layer", "nested", "rescaled"))],
)
def test_a_softmax_gives_the_soft_targets_of_its_logits(
    keras: Any, build: Build, tmp_path: Path, head: str, file: str
) -> None:
    layers = keras.layers
    heads: dict[str, tuple[Any, ...]] = {
        "activation": ("softmax",),
        "layer": (layers.Softmax(),),
        "nested": (keras.Sequential([keras.Input((CLASSES,)), layers.Activation("softmax")]),),
        # Behind another operator the softmax is not seen: only the outputs tell that they are probabilities.
        "rescaled": ("softmax", layers.Rescaling(1.0)),
    }
    plain = net(keras)
    plain.save(tmp_path / "plain.keras")
    model = net(keras, *heads[head])
    if file == "net":
        model.export(tmp_path / file, verbose=False)
    else:
        model.save(tmp_path / file)
    teacher = build(file, trust=True)
    assert teacher.outputs == (
        "logarithms of the model's probabilities"
        if head == "rescaled"
        else "logits, taken from before the model's softmax"
    )
    for temperature in (1, 4, 20):
        soft = torch.softmax(teacher(pictures()) / temperature, 1)
        expected = torch.softmax(build("plain.keras")(pictures()) / temperature, 1)
        torch.testing.assert_close(soft, expected, atol=1e-5, rtol=1e-4)
    if head != "rescaled":  # logarithms lack the constant
        torch.testing.assert_close(teacher(pictures()), build("plain.keras")(pictures()), atol=1e-5, rtol=1e-4)


def test_probabilities_of_zero_have_a_logarithm(keras: Any, build: Build, tmp_path: Path) -> None:
    model = net(keras, "softmax", keras.layers.Rescaling(1.0))
    kernel, bias = model.get_layer("scores").get_weights()
    model.get_layer("scores").set_weights([kernel, bias + np.array([0, 500, 0, 0])])
    model.save(tmp_path / "sure.keras")
    answers = build("sure.keras")(pictures())
    assert torch.isfinite(answers).all()
    assert answers.argmax(1).tolist() == [1] * 5


def test_a_sigmoid_is_looked_behind_too(keras: Any, build: Build, tmp_path: Path) -> None:
    net(keras, "sigmoid").save(tmp_path / "net.keras")
    teacher = build("net.keras")
    assert teacher.outputs == "logits, taken from before the model's sigmoid"
    np.testing.assert_allclose(teacher(pictures()).numpy(), net(keras).predict(NORMALIZED, verbose=0), atol=1e-5)


@pytest.mark.parametrize(("kind", "values"), [("normalized", NORMALIZED), ("unit", UNIT), ("bytes", BYTES)])
def test_the_input_is_what_the_recipe_says(
    keras: Any, build: Build, tmp_path: Path, kind: str, values: np.ndarray[Any, Any]
) -> None:
    model = net(keras, before=(keras.layers.Rescaling(1 / 255),) if kind == "bytes" else ())
    model.save(tmp_path / "net.keras")
    expected = model.predict(values, verbose=0)
    np.testing.assert_allclose(build("net.keras", input=kind)(pictures()).numpy(), expected, atol=1e-4)


def test_whole_numbers_are_handed_over_exactly(keras: Any, build: Build, tmp_path: Path) -> None:
    model = net(keras, before=(keras.layers.Rescaling(1 / 255),), dtype="uint8")
    model.save(tmp_path / "net.keras")
    expected = model.predict(BYTES.astype(np.uint8), verbose=0)
    np.testing.assert_allclose(build("net.keras", input="bytes")(pictures()).numpy(), expected, atol=1e-6)
    with pytest.raises(ModelError, match=r"takes whole numbers \(uint8\).*args: {input: bytes}"):
        build("net.keras", input="unit")


def test_grey_pictures_may_lack_their_channel(keras: Any, build: Build, tmp_path: Path) -> None:
    inputs = keras.Input((8, 6))
    model = keras.Model(inputs, keras.layers.Dense(CLASSES)(keras.layers.Flatten()(inputs)))
    model.save(tmp_path / "grey.keras")
    grey = NORMALIZED[..., :1]
    teacher = build("grey.keras", (1, 8, 6), normalization=Normalization(1.0, (0.0,), (1.0,), ""))
    np.testing.assert_allclose(teacher(pictures(grey)).numpy(), model.predict(grey[..., 0], verbose=0), atol=1e-5)


@pytest.mark.parametrize("options", [{"shape": (None, None, 3)}, {"batch_shape": (1, 8, 6, 3)}])
def test_open_sizes_and_batches_of_one_are_accepted(
    keras: Any, build: Build, tmp_path: Path, options: dict[str, Any]
) -> None:
    layers = keras.layers
    inputs = keras.Input(**options)
    pooled = layers.GlobalAveragePooling2D()(layers.Conv2D(5, 3)(inputs))
    model = keras.Model(inputs, layers.Dense(CLASSES)(pooled))
    model.save(tmp_path / "net.keras")
    expected = np.concatenate([model(NORMALIZED[i : i + 1]).numpy() for i in range(5)])
    np.testing.assert_allclose(build("net.keras")(pictures()).numpy(), expected, atol=1e-5)


@pytest.mark.parametrize("file", ["net.keras", "net"])
def test_the_flatbuffer_computes_the_whole_model(keras: Any, build: Build, tmp_path: Path, file: str) -> None:
    model = net(keras, "softmax")
    if file == "net":
        model.export(tmp_path / file, verbose=False)
    else:
        model.save(tmp_path / file)
    path = tmp_path / "float.tflite"
    path.write_bytes(build(file, trust=True).flatbuffer())
    session = RUNTIMES["litert"].session(path)
    assert session.input.shape == (1, 8, 6, 3)
    assert session.input.dtype == session.output.dtype == np.float32
    np.testing.assert_allclose(session.run(NORMALIZED), model.predict(NORMALIZED, verbose=0), atol=1e-5)


def save_program(path: Path, compute: Callable[[Any], Any], **signatures: Any) -> None:
    """Writes a SavedModel that Keras had no part in."""
    import tensorflow as tf

    spec = tf.TensorSpec((None, 8, 6, 3), tf.float32, name="pictures")
    module = tf.Module()
    module.compute = tf.function(compute, input_signature=[spec])
    with keras_loading.calm():
        tf.saved_model.save(module, str(path), signatures=signatures or {"serve_me": module.compute})


def test_a_program_without_variables_is_counted_by_its_constants(keras: Any, build: Build, tmp_path: Path) -> None:
    import tensorflow as tf

    kernel = RNG.normal(size=(144, CLASSES)).astype(np.float32)
    kernel[0] = 0
    save_program(tmp_path / "program", lambda x: tf.reshape(x, (-1, 144)) @ tf.constant(kernel))
    teacher = build("program", trust=True)
    assert (teacher.params, teacher.nonzero_params) == (144 * CLASSES, 143 * CLASSES)
    np.testing.assert_allclose(teacher(pictures()).numpy(), NORMALIZED.reshape(5, 144) @ kernel, rtol=1e-4, atol=1e-4)


def test_what_tflite_cannot_express_is_explained(keras: Any, build: Build, tmp_path: Path) -> None:
    import tensorflow as tf

    save_program(tmp_path / "odd", lambda x: tf.math.betainc(0.5, 0.5, tf.sigmoid(tf.reshape(x, (-1, 144))[:, :4])))
    with pytest.raises(ModelError, match=r"keras/odd could not be converted to a flatbuffer: .*TFLite counterpart"):
        build("odd", trust=True).flatbuffer()


def two_ends(keras: Any, which: str) -> Any:
    one, two = keras.Input((8, 6, 3)), keras.Input((8, 6, 3))
    flat = keras.layers.Flatten()(one if which == "outputs" else keras.layers.Add()([one, two]))
    answers = [keras.layers.Dense(CLASSES)(flat) for _ in range(2 if which == "outputs" else 1)]
    return keras.Model(one if which == "outputs" else [one, two], answers)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda k: two_ends(k, "inputs"), "has 2 inputs and 1 output; expected one of each"),
        (lambda k: two_ends(k, "outputs"), "has 1 input and 2 outputs"),
        (lambda k: net(k, shape=(8, 7, 3)), "takes inputs of 8 x 7 x 3, but the data gives pictures of 8 x 6 x 3"),
        (lambda k: net(k, shape=(8, 6, 1)), r"takes inputs of 8 x 6 x 1.*Set data\.image_size and data\.channels"),
        (lambda k: net(k, k.layers.Dense(7)), "answers with 7 numbers a picture, but the data has 4 classes"),
        (lambda k: net(k, k.layers.Reshape((2, 2))), "answers with 2 x 2 numbers a picture"),
        (lambda k: net(k, shape=None, batch_shape=(32, 8, 6, 3)), "takes 32 pictures at a time"),
    ],
)
def test_a_model_that_does_not_fit_is_explained(
    keras: Any, build: Build, tmp_path: Path, make: Callable[[Any], Any], message: str
) -> None:
    make(keras).save(tmp_path / "net.keras")
    with pytest.raises(ModelError, match=message) as caught:
        build("net.keras")
    assert caught.value.exit_code == ExitCode.RESOURCE


def test_a_model_of_text_is_no_model_of_pictures(keras: Any, build: Build, tmp_path: Path) -> None:
    net(keras).save(tmp_path / "net.keras")
    with pytest.raises(ModelError, match=r"takes pictures .* not samples of shape"):
        build("net.keras", (16,))


def test_a_lambda_is_only_loaded_where_it_is_trusted(keras: Any, build: Build, tmp_path: Path) -> None:
    mark = str(tmp_path / "ran")

    def harm(x: Any) -> Any:
        open(mark, "w").close()  # noqa: PTH123 - a closure must not need imports
        return x

    harm.__name__ = "<lambda>"  # so that Keras writes its code into the file
    model = net(keras, keras.layers.Lambda(harm, output_shape=(CLASSES,), name="sneaky"))
    model.save(tmp_path / "net.keras")
    model.save(tmp_path / "net.h5")
    Path(mark).unlink(missing_ok=True)
    for file in ("net.keras", "net.h5"):
        with pytest.raises(UsageError, match=rf"runs code from .*{file}: Lambda layer `sneaky`; allow it with --trust"):
            build(file)
        assert not Path(mark).exists()
    np.testing.assert_allclose(
        build("net.keras", trust=True)(pictures()).numpy(), net(keras).predict(NORMALIZED, verbose=0), atol=1e-5
    )
    assert Path(mark).exists()


def test_a_saved_model_is_a_program(keras: Any, build: Build, tmp_path: Path) -> None:
    net(keras).export(tmp_path / "net", verbose=False)
    with pytest.raises(UsageError, match=r"a SavedModel is a TensorFlow program.*EDGECOMPRESS_TRUST=1") as caught:
        build("net")
    assert caught.value.exit_code == ExitCode.RECIPE


def test_of_several_signatures_the_usual_one_is_taken(keras: Any, build: Build, tmp_path: Path) -> None:
    import tensorflow as tf

    spec = tf.TensorSpec((None, 8, 6, 3), tf.float32)
    one = tf.function(lambda x: tf.reshape(x, (-1, 144))[:, :4], input_signature=[spec])
    two = tf.function(lambda x: tf.reshape(x, (-1, 144))[:, 4:8], input_signature=[spec])
    save_program(tmp_path / "usual", one, other=two, serving_default=one)
    np.testing.assert_allclose(build("usual", trust=True)(pictures()).numpy(), NORMALIZED.reshape(5, 144)[:, :4])
    save_program(tmp_path / "unclear", one, first=one, second=two)
    with pytest.raises(ModelError, match=r"has 2 signatures \(.*\); expected `serving_default`"):
        build("unclear", trust=True)


def test_text_as_input_is_refused(keras: Any, build: Build, tmp_path: Path) -> None:
    import tensorflow as tf

    decode = tf.function(
        lambda x: tf.strings.to_number(x)[:, 0, 0, :1] * tf.ones((1, CLASSES)),
        input_signature=[tf.TensorSpec((None, 8, 6, 3), tf.string)],
    )
    save_program(tmp_path / "text", lambda x: x, serving_default=decode)
    with pytest.raises(ModelError, match="takes string; expected numbers"):
        build("text", trust=True)


def test_classes_of_others_cannot_be_loaded(keras: Any, build: Build, tmp_path: Path) -> None:
    @keras.saving.register_keras_serializable("ours")
    class Doubling(keras.layers.Layer):  # type: ignore[misc, name-defined]
        def call(self, x: Any) -> Any:
            return 2 * x

    model = net(keras, Doubling())
    for file in ("net.keras", "net.h5"):
        model.save(tmp_path / file)
        with pytest.raises(ModelError, match=r"Doubling is not Keras's own.*model\.export"):
            build(file, trust=True)


def test_a_file_that_keras_cannot_read_is_blamed(keras: Any, build: Build, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "net.keras", "w") as archive:
        archive.writestr("config.json", '{"module": "keras", "class_name": "Sequential", "config": {}}')
    with pytest.raises(ModelError, match=r"model keras/net\.keras: Keras 3.* cannot read .*net\.keras: "):
        build("net.keras")
    (tmp_path / "program").mkdir()
    (tmp_path / "program" / "saved_model.pb").write_bytes(b"nothing")
    with pytest.raises(ModelError, match=r"TensorFlow 2.* cannot read .*program: "):
        build("program", trust=True)


def test_an_untouched_sequence_has_no_input(keras: Any, build: Build, tmp_path: Path) -> None:
    keras.Sequential([keras.layers.Flatten()]).save(tmp_path / "net.keras")
    with pytest.raises(ModelError, match="has 0 inputs and 0 outputs"):
        build("net.keras")


def test_arguments_are_checked_for_who_builds_without_a_recipe(keras: Any, build: Build, tmp_path: Path) -> None:
    net(keras).save(tmp_path / "net.keras")
    with pytest.raises(ModelError, match=r"one of normalized, unit, bytes; found {'input': 'pixels'}"):
        build("net.keras", input="pixels")
    with pytest.raises(ModelError, match="needs the normalisation of the data"):
        build("net.keras", input="unit", normalization=None)


def test_without_tensorflow_the_message_says_how_to_get_it(
    keras: Any, build: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    net(keras).save(tmp_path / "net.keras")
    with monkeypatch.context() as patch:
        patch.setattr(importlib.util, "find_spec", lambda name: None)
        with pytest.raises(ModelError, match=r"needs TensorFlow.*pip install"):
            build("net.keras")
    monkeypatch.setattr(keras.backend, "backend", lambda: "torch")
    with pytest.raises(ModelError, match="here it runs on torch: unset KERAS_BACKEND"):
        build("net.keras")


def test_a_tensorflow_that_does_not_start_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "keras", None)
    with pytest.raises(ModelError, match="keras/test: cannot be loaded: TensorFlow does not start: ModuleNotFound"):
        keras_loading.require_tensorflow("keras/test")


def test_keras_is_started_on_tensorflow_and_quietly() -> None:
    program = (
        "from edgecompress.models.libraries.keras_loading import require_tensorflow as start; start('keras/test'); "
        "import keras; print(keras.backend.backend())"
    )
    environment = {**unmeasured(os.environ), "KERAS_BACKEND": "torch"}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True, timeout=HUNG_S
    )
    assert (done.stdout, done.stderr) == ("tensorflow\n", "")
