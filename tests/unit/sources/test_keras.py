"""Keras models as files: which format they have, what in them is code, and what their hash covers."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import h5py
import pytest

from edgecompress.errors import ModelError, UsageError
from edgecompress.pipeline.plan import make_plan
from edgecompress.recipe.schema import Recipe
from edgecompress.sources import hdf5 as hdf5_module
from edgecompress.sources.keras import keras_source
from edgecompress.store.seals import KEY
from edgecompress.store.store import Store

DENSE = {"module": "keras.layers", "class_name": "Dense", "config": {"name": "dense"}, "registered_name": None}
ADAM = {"module": "elsewhere", "class_name": "MyAdam", "config": {}, "registered_name": "mine>MyAdam"}


def function(module: str, name: str) -> dict[str, Any]:
    found = {"module": module, "class_name": "function", "config": name, "registered_name": name}
    return {**DENSE, "config": {"activation": found}}


def archive(path: Path, *layers: Any, **more: Any) -> Path:
    config = {"module": "keras", "class_name": "Sequential", "config": {"layers": [DENSE, *layers]}, **more}
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("config.json", json.dumps(config))
    return path


def hdf5(path: Path, config: Any) -> Path:
    with h5py.File(path, "w") as file:
        if config is not None:
            file.attrs["model_config"] = config
    return path


def program(folder: Path) -> Path:
    (folder / "variables").mkdir(parents=True)
    (folder / "saved_model.pb").write_bytes(b"graph")
    (folder / "variables" / "variables.index").write_bytes(b"index")
    return folder


def test_formats_are_told_apart(tmp_path: Path) -> None:
    archive(tmp_path / "a.keras")
    hdf5(tmp_path / "b.h5", "{}")
    program(tmp_path / "folder" / "c")
    kinds = {name: keras_source(f"keras/{name}", tmp_path).kind for name in ("a.keras", "b.h5", "folder/c")}
    assert kinds == {"a.keras": "keras", "b.h5": "h5", "folder/c": "saved-model"}
    assert keras_source(f"keras/{tmp_path}/a.keras", Path("elsewhere")).path == tmp_path / "a.keras"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("none.keras", r"there is no .*none\.keras\. Paths start from the recipe's folder\. Give a \.keras file"),
        ("damaged.keras", r"damaged\.keras is damaged, or no Keras model"),
        ("damaged.h5", r"damaged\.h5 is damaged, or no Keras model"),
        ("archive.zip", r"archive\.zip is damaged, or no Keras model"),
        ("pictures", r"the folder .*pictures is no SavedModel: saved_model\.pb is missing"),
        ("damaged.h5/inside.h5", r"Not a directory"),
    ],
)
def test_what_is_no_model_is_refused(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "damaged.keras").write_bytes(b"PK\x03\x04 and no more")
    (tmp_path / "damaged.h5").write_bytes(b"x")
    archive(tmp_path / "archive.zip")
    (tmp_path / "pictures").mkdir()
    with pytest.raises(ModelError, match=message):
        keras_source(f"keras/{name}", tmp_path)


def test_layers_of_keras_need_no_trust(tmp_path: Path) -> None:
    initializer = {"module": "keras.initializers", "class_name": "Zeros", "config": {}, "registered_name": None}
    relu = {"module": "builtins", "class_name": "function", "config": "relu", "registered_name": "function"}
    layer = {**DENSE, "config": {"name": "b", "activation": relu, "kernel_initializer": initializer}}
    archive(tmp_path / "a.keras", layer, compile_config={"optimizer": ADAM})
    hdf5(tmp_path / "b.h5", json.dumps({"class_name": "Sequential", "config": {"layers": [DENSE]}}).encode())
    for name in ("a.keras", "b.h5"):
        assert keras_source(f"keras/{name}", tmp_path).require_trust(False) is False


@pytest.mark.parametrize(
    "layer",
    [
        {"class_name": "keras.src.layers.core.dense.Dense", "config": {}},
        {**DENSE, "module": "keras.src.layers.core.dense", "registered_name": "Dense"},
        {**DENSE, "class_name": "layers.Dense", "module": "keras"},
        function("keras.activations", "relu"),
        function("keras.src.ops.nn", "gelu"),
        {**DENSE, "class_name": "StringLookup", "config": {"vocabulary": ["a", "b"]}},
    ],
)
def test_layers_of_keras_need_no_trust_however_they_are_spelled(tmp_path: Path, layer: dict[str, Any]) -> None:
    assert keras_source(f"keras/{archive(tmp_path / 'a.keras', layer)}", tmp_path).require_trust(False) is False


def test_a_vocabulary_in_another_file_is_not_read(tmp_path: Path) -> None:
    layer = {**DENSE, "class_name": "StringLookup", "config": {"name": "words", "vocabulary": "/etc/passwd"}}
    source = keras_source(f"keras/{archive(tmp_path / 'a.keras', layer)}", tmp_path)
    with pytest.raises(ModelError, match=r"StringLookup layer `words` takes its vocabulary from another file"):
        source.require_trust(True)


def test_damage_of_any_kind_is_told_and_depth_is_no_matter(tmp_path: Path) -> None:
    config = "[" * 5000 + "]" * 5000
    with zipfile.ZipFile(tmp_path / "deep.keras", "w") as file:
        file.writestr("config.json", config)
    with pytest.raises(ModelError, match=r"deep\.keras is damaged .RecursionError"):
        keras_source("keras/deep.keras", tmp_path).require_trust(False)
    nested: Any = {"class_name": "Lambda", "config": {}}
    for _ in range(300):
        nested = {"class_name": "Sequential", "config": {"layers": [nested]}}
    with pytest.raises(UsageError, match="Lambda layer"):
        keras_source(f"keras/{archive(tmp_path / 'a.keras', nested)}", tmp_path).require_trust(False)
    with zipfile.ZipFile(tmp_path / "b.keras", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("config.json", json.dumps({"a": list(range(999))}))
    content = bytearray((tmp_path / "b.keras").read_bytes())
    content[60:90] = b"\xff" * 30  # zlib's own error, which is no ValueError
    (tmp_path / "b.keras").write_bytes(content)
    with pytest.raises(ModelError, match=r"b\.keras is damaged .error: Error"):
        keras_source("keras/b.keras", tmp_path).require_trust(False)


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        ({"class_name": "Lambda", "config": {"name": "l1", "function": ["code", None, None]}}, "Lambda layer `l1`"),
        ({"class_name": "TFSMLayer", "config": {}}, "TFSMLayer layer"),
        ({**DENSE, "config": {"activation": {"class_name": "__lambda__", "config": {}}}}, "a Python lambda"),
        ({"class_name": "keras.src.layers.core.lambda_layer.Lambda", "config": {}}, r"keras\.src\..*Lambda layer"),
        ({"class_name": "layers.Lambda", "module": "keras", "config": {}}, r"layers\.Lambda layer"),
        ({**DENSE, "registered_name": "keras.layers.Lambda"}, "Dense layer `dense`"),
        ({"class_name": "keras.layers.TFSMLayer", "config": {}}, r"keras\.layers\.TFSMLayer layer"),
        (function("keras.utils", "get_file"), r"the function keras\.utils\.get_file"),
        (
            function("keras", "config.enable_unsafe_deserialization"),
            r"the function keras\.config\.enable_unsafe_deserialization",
        ),
        (
            function("keras.src.saving.saving_api", "load_model"),
            r"the function keras\.src\.saving\.saving_api\.load_model",
        ),
    ],
)
def test_code_needs_trust_and_is_named(tmp_path: Path, layer: dict[str, Any], words: str) -> None:
    source = keras_source(f"keras/{archive(tmp_path / 'a.keras', layer)}", tmp_path)
    with pytest.raises(UsageError, match=rf"runs code from .*a\.keras: {words}; allow it with --trust"):
        source.require_trust(False)
    assert source.require_trust(True) is True


@pytest.mark.parametrize(
    "layer",
    [
        {"module": "mine", "class_name": "Own", "config": {}},
        {"class_name": "mine>Own"},
        {"class_name": "mine.layers.Own"},
        {"module": "builtins", "class_name": "os.Own"},
        {"module": "keras.layers", "class_name": "Own", "registered_name": "mine>Own"},
        {"module": None, "class_name": "Own", "registered_name": "Own"},
    ],
)
def test_foreign_classes_are_refused_with_or_without_trust(tmp_path: Path, layer: dict[str, Any]) -> None:
    source = keras_source(f"keras/{archive(tmp_path / 'a.keras', layer)}", tmp_path)
    for trust in (True, False):
        with pytest.raises(ModelError, match=r"Own is not Keras's own, and the code is not in the file"):
            source.require_trust(trust)


def test_files_without_a_readable_model_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hdf5(tmp_path / "weights.h5", None)
    hdf5(tmp_path / "odd.h5", "{not json")
    with zipfile.ZipFile(tmp_path / "empty.keras", "w") as file:
        file.writestr("metadata.json", "{}")
    for name, message in (
        ("weights.h5", "holds weights only, no model"),
        ("odd.h5", "is damaged .JSONDecodeError"),
        ("empty.keras", "holds no model"),
    ):
        with pytest.raises(ModelError, match=message):
            keras_source(f"keras/{name}", tmp_path).require_trust(True)
    archive(tmp_path / "bomb.keras")
    monkeypatch.setattr("edgecompress.sources.keras._LARGEST_CONFIG", 10)
    with pytest.raises(ModelError, match="too large to be one"):
        keras_source("keras/bomb.keras", tmp_path).require_trust(True)


def recipe(folder: Path, file: str) -> Recipe:
    blocks = {"version": 1, "teacher": {"model": f"keras/{file}"}, "student": {"model": "resnet8"}, "distill": {}}
    return Recipe.model_validate(blocks).model_copy(update={"base_dir": str(folder)})


@pytest.mark.parametrize("file", ["a.keras", "program"])
def test_a_changed_file_makes_everything_after_it_again(tmp_path: Path, file: str) -> None:
    archive(tmp_path / "a.keras")
    program(tmp_path / "program")

    def prints() -> dict[str, str]:
        plan = make_plan(recipe(tmp_path, file), Store(tmp_path / "store"))
        return {step.stage: step.fingerprint for step in plan.steps}

    before = prints()
    assert prints() == before
    if file == "a.keras":
        archive(tmp_path / "a.keras", DENSE)
    else:
        (tmp_path / "program" / "variables" / "variables.index").write_bytes(b"other")
    assert all(before[stage] != print_ for stage, print_ in prints().items())


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    source = keras_source(f"keras/{archive(tmp_path / 'a.keras')}", tmp_path)
    source.path.unlink()
    with pytest.raises(ModelError, match=r"a\.keras: No such file"):
        _ = source.sha256


def test_a_keras_teacher_is_not_trained_unless_asked() -> None:
    teacher = recipe(Path(), "a.keras").teacher
    assert teacher is not None
    assert teacher.train is None


@pytest.mark.parametrize("kind", ["link", "storage", "virtual"])
def test_an_hdf5_file_that_sends_its_reader_elsewhere_is_refused(tmp_path: Path, kind: str) -> None:
    hdf5(tmp_path / "other.h5", "{}")
    (tmp_path / "raw").write_bytes(bytes(80))
    config = json.dumps({"class_name": "Sequential", "config": {"layers": [DENSE]}})
    with h5py.File(hdf5(tmp_path / "a.h5", config), "a") as file:
        weights = file.create_group("model_weights")
        if kind == "link":
            weights["dense"] = h5py.ExternalLink("other.h5", "/")
        elif kind == "storage":
            weights.create_dataset("kernel", (10,), "f8", external=[(str(tmp_path / "raw"), 0, 80)])
        else:
            layout = h5py.VirtualLayout((10,), "f8")
            layout[:] = h5py.VirtualSource(str(tmp_path / "other.h5"), "kernel", (10,))
            weights.create_virtual_dataset("kernel", layout)
    with pytest.raises(ModelError, match=r"a\.h5 is damaged .ValueError: .*another file"):
        keras_source("keras/a.h5", tmp_path).require_trust(False)


@pytest.mark.slow
@pytest.mark.parametrize(("does", "message"), [("while True: pass", "did not end within 1 s"), ("1", "ended with -9")])
def test_what_the_library_does_not_survive_is_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, does: str, message: str
) -> None:
    program = f"import os, signal\nsignal.alarm(1)\n{does}\nos.kill(os.getpid(), signal.SIGKILL)"
    monkeypatch.setattr("edgecompress.sources.hdf5._PROGRAM", program)
    monkeypatch.setattr("edgecompress.sources.hdf5.LIMIT_S", 1)
    hdf5(tmp_path / "a.h5", "{}")
    with pytest.raises(ModelError, match=rf"a\.h5 is damaged .ValueError: reading it {message}"):
        keras_source("keras/a.h5", tmp_path).require_trust(False)


def test_who_reads_hdf5_does_not_inherit_the_key_and_ends_with_us(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(KEY, "secret")
    program = (
        "import json, os, sys\nfrom edgecompress.processes.lifeline import end_with\n"
        "end_with(int(sys.argv[4]))\nprint(json.dumps({'config': ' '.join(os.environ)}))"
    )
    assert "end_with(int(sys.argv[4]))" in hdf5_module._PROGRAM
    monkeypatch.setattr(hdf5_module, "_PROGRAM", program)
    names = hdf5_module.config_of_hdf5(hdf5(tmp_path / "a.h5", "{}"))
    assert names is not None
    assert "PATH" in names.split()
    assert KEY not in names.split()
