"""What stages get: splits in the right order, figures of the train split alone, honest notes."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgecompress.data.base import Normalization
from edgecompress.data.loading import SOURCES, fingerprint, load_dataset
from edgecompress.recipe.names import SOURCES as NAMES

PUBLISHED = Normalization(1 / 255, (0.5, 0.4, 0.3), (0.2, 0.2, 0.2), "as published")


def save(arrays: dict[str, Any], recipe) -> None:
    np.savez(f"{recipe.base_dir}/data.npz", **arrays)


def npz(recipe_of, arrays: dict[str, Any], normalization: Normalization | None = None, **data: Any):
    recipe = recipe_of("npz", path="data.npz", **data)
    save(arrays, recipe)
    return load_dataset(recipe, trust=False, normalization=normalization)


def test_every_source_a_recipe_may_name_is_in_the_table() -> None:
    assert tuple(sorted(SOURCES)) == tuple(sorted(NAMES))


@pytest.mark.slow
def test_digits_are_split_three_ways(recipe_of) -> None:
    data = load_dataset(recipe_of("digits"), trust=False)
    assert (len(data.train), len(data.validation), len(data.test)) == (1294, 144, 359)
    assert data.train.inputs.shape[1:] == (8, 8, 1)
    assert data.train.inputs.dtype == np.uint8
    assert data.train.labels.dtype == np.int64
    assert data.input_shape == (1, 8, 8)
    assert data.class_names == tuple("0123456789")
    assert data.normalization.value_scale == 1 / 16
    every = np.concatenate([part.inputs for part in (data.train, data.validation, data.test)])
    from sklearn.datasets import load_digits

    assert sorted(x.tobytes() for x in every) == sorted(x.tobytes() for x in load_digits().images.astype(np.uint8))


@pytest.mark.slow
def test_the_seed_decides_which_digits_are_tested(recipe_of) -> None:
    tests = [load_dataset(recipe_of("digits", seed=seed), trust=False).test for seed in range(5)]
    again = load_dataset(recipe_of("digits", seed=0), trust=False).test
    assert (again.inputs == tests[0].inputs).all()
    assert (again.labels == tests[0].labels).all()
    assert len({test.inputs.tobytes() for test in tests}) == 5


@pytest.mark.slow
def test_what_is_trained_on_does_not_depend_on_how_much_is_tested(recipe_of) -> None:
    whole, few = (load_dataset(recipe_of("digits", **kw), trust=False) for kw in ({}, {"test_samples": 50}))
    assert len(few.test) == 50
    assert (whole.train.inputs == few.train.inputs).all()


def test_normalisation_is_that_of_the_final_train_split(recipe_of, arrays) -> None:
    data = npz(recipe_of, arrays, train_samples=20, validation=0.3)
    assert (len(data.train), len(data.validation), len(data.test)) == (14, 6, 12)
    pixels = [pixel for picture in data.train.inputs.tolist() for row in picture for pixel in row]
    for channel in range(3):
        column = [pixel[channel] / 255 for pixel in pixels]
        mean = sum(column) / len(column)
        spread = (sum((value - mean) ** 2 for value in column) / len(column)) ** 0.5
        assert data.normalization.mean[channel] == pytest.approx(mean, rel=1e-12)
        assert data.normalization.std[channel] == pytest.approx(spread, rel=1e-12)
    assert "train split" in data.normalization.origin


def test_a_published_normalisation_is_used_where_the_channels_fit(recipe_of, arrays) -> None:
    assert npz(recipe_of, arrays, PUBLISHED).normalization == PUBLISHED
    grey = npz(recipe_of, arrays, PUBLISHED, channels=1)
    assert grey.normalization.origin != PUBLISHED.origin
    assert len(grey.normalization.mean) == 1


def test_a_published_normalisation_meets_values_on_another_scale(recipe_of, arrays) -> None:
    floats = {key: array.astype(np.float32) if key[0] == "x" else array for key, array in arrays.items()}
    data = npz(recipe_of, floats, PUBLISHED)
    assert data.normalization.value_scale == 1.0
    assert "values from 0 to 1" in data.notes[-1]
    unit = {key: array / 255 if key[0] == "x" else array for key, array in floats.items()}
    assert npz(recipe_of, unit, PUBLISHED).notes == ()


def test_a_constant_channel_gets_a_spread_of_one(recipe_of, arrays) -> None:
    arrays["x_train"][..., 1] = 7
    data = npz(recipe_of, arrays)
    assert data.normalization.std[1] == 1.0
    assert data.normalization.std[0] != 1.0
    assert data.notes == ("Channel 1 has the same value everywhere: its standard deviation is taken as 1.",)


def test_without_a_train_split_the_calibration_set_gives_the_figures(recipe_of, arrays) -> None:
    given = {"x_test": arrays["x_test"], "y_test": arrays["y_test"], "x_calibration": arrays["x_train"]}
    data = npz(recipe_of, given)
    assert (len(data.train), len(data.validation), len(data.test)) == (0, 0, 12)
    assert data.train.inputs.shape == (0, 6, 5, 3)
    assert data.normalization.mean[0] == pytest.approx(arrays["x_train"][..., 0].mean() / 255)
    assert "calibration set" in data.normalization.origin
    alone = npz(recipe_of, {key: given[key] for key in ("x_test", "y_test")})
    assert alone.normalization.mean == (0, 0, 0)
    assert alone.normalization.origin.startswith("none")


def test_more_samples_than_there_are_is_a_note(recipe_of, arrays) -> None:
    data = npz(recipe_of, arrays, train_samples=1000, test_samples=12)
    assert len(data.train) == 27
    assert data.notes == ("data.train_samples asks for 1,000 samples; all 30 of the source are used.",)


def test_a_class_of_one_sample_stays_in_train(recipe_of, arrays) -> None:
    arrays["y_train"][0] = 3
    arrays["class_names"] = np.array(["a", "b", "c", "rare"])
    data = npz(recipe_of, {key: arrays[key] for key in ("x_train", "y_train", "class_names")})
    assert (data.train.labels == 3).sum() == 1
    assert "One sample only of class `rare`: it stays in train, and the test split has none." in data.notes


def test_all_pictures_of_a_dataset_are_resized(recipe_of, arrays) -> None:
    arrays["x_calibration"] = arrays["x_test"]
    data = npz(recipe_of, arrays, image_size=[9, 8], channels=1)
    assert data.input_shape == (1, 9, 8)
    assert data.calibration is not None
    for inputs in (data.train.inputs, data.validation.inputs, data.test.inputs, data.calibration):
        assert inputs.shape[1:] == (9, 8, 1)
        assert inputs.dtype == np.uint8


@pytest.mark.slow
def test_fingerprints_import_nothing_heavy() -> None:
    code = (
        "import sys; from edgecompress.data.loading import fingerprint; from edgecompress.recipe.schema import Recipe; "
        "fingerprint(Recipe(version=1, student={'model': 'resnet8'}), trust=False); "
        "print([name for name in ('torch', 'sklearn', 'torchvision', 'tensorflow') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_place_of_data_does_not_count(recipe_of, arrays, tmp_path: Path) -> None:
    recipe = recipe_of("npz", path="data.npz")
    save(arrays, recipe)
    before = fingerprint(recipe, trust=False)
    shutil.copy(tmp_path / "data.npz", tmp_path / "elsewhere.npz")
    assert fingerprint(recipe_of("npz", path="elsewhere.npz"), trust=False) == before
    arrays["x_train"][0, 0, 0, 0] ^= 1
    save(arrays, recipe)
    assert fingerprint(recipe, trust=False) != before
