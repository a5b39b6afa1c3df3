"""Augmentation is a function of (seed, view, position) and of nothing else."""

from __future__ import annotations

import numpy as np
import pytest

from edgecompress.tasks.augment import augment, holes, uniform

INDEX = np.arange(400)


def pictures(count: int = 400, side: int = 16) -> np.ndarray:
    return np.random.default_rng(0).integers(1, 256, (count, side, side, 1), dtype=np.uint8)


def test_uniform_numbers_are_uniform_and_independent() -> None:
    index = np.arange(20_000)
    a, b = uniform(0, 0, "flip", index), uniform(0, 1, "flip", index)
    assert 0.0 <= a.min() < 0.001
    assert 0.999 < a.max() < 1.0
    counts = np.histogram(a, 20, (0, 1))[0]
    assert ((counts - 1000) ** 2 / 1000).sum() < 43.8  # chi-squared, 19 degrees of freedom, p = 0.001
    assert abs(np.corrcoef(a, b)[0, 1]) < 0.03
    assert abs(np.corrcoef(a[:-1], a[1:])[0, 1]) < 0.03


@pytest.mark.parametrize("changes", [("crop",), ("shift",), ("flip",), ("crop", "flip"), ("shift", "flip", "crop")])
def test_a_picture_changes_the_same_way_in_any_batch(changes: tuple[str, ...]) -> None:
    x = pictures()
    whole = augment(x, INDEX, changes=changes, seed=3, view=5)
    shuffled = np.random.default_rng(1).permutation(INDEX)[:50]
    assert np.array_equal(augment(x[shuffled], shuffled, changes=changes, seed=3, view=5), whole[shuffled])


@pytest.mark.parametrize("change", ["crop", "shift", "flip"])
def test_views_and_seeds_differ(change: str) -> None:
    x = pictures()
    first = augment(x, INDEX, changes=(change,), seed=0, view=0)
    assert not np.array_equal(first, augment(x, INDEX, changes=(change,), seed=0, view=1))
    assert not np.array_equal(first, augment(x, INDEX, changes=(change,), seed=1, view=0))


def test_flip_mirrors_half_of_the_pictures_and_nothing_else() -> None:
    x = pictures()
    changed = augment(x, INDEX, changes=("flip",), seed=0, view=0)
    mirrored = np.array([np.array_equal(a, b[:, ::-1]) for a, b in zip(changed, x, strict=True)])
    same = np.array([np.array_equal(a, b) for a, b in zip(changed, x, strict=True)])
    assert (mirrored ^ same).all()
    assert 150 < mirrored.sum() < 250


def test_crop_moves_by_an_eighth_at_most_and_pads_with_black() -> None:
    x = pictures()
    changed = augment(x, INDEX, changes=("crop",), seed=0, view=0)
    padded = np.pad(x, ((0, 0), (2, 2), (2, 2), (0, 0)))
    seen = set()
    for picture, source in zip(changed, padded, strict=True):
        fits = [(i, j) for i in range(5) for j in range(5) if np.array_equal(picture, source[i : i + 16, j : j + 16])]
        assert len(fits) == 1
        seen.add(fits[0])
    assert len(seen) == 25


def test_shift_repeats_the_edge() -> None:
    x = pictures()
    changed = augment(x, INDEX, changes=("shift",), seed=0, view=0)
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="edge")
    for picture, source in zip(changed, padded, strict=True):
        assert any(np.array_equal(picture, source[i : i + 16, j : j + 16]) for i in range(3) for j in range(3))


def test_without_changes_the_pictures_are_as_they_were() -> None:
    x = pictures()
    assert augment(x, INDEX, changes=(), seed=0, view=0) is x
    assert augment(x, INDEX, changes=("cutout",), seed=0, view=0) is x


def test_cutout_hides_one_square() -> None:
    hidden = holes((12, 12), INDEX, seed=0, view=0)
    assert hidden.shape == (400, 12, 12)
    sizes = hidden.sum((1, 2))
    assert sizes.max() == 16  # a third of the side, squared
    assert (sizes > 0).all()
    for mask in hidden[:50]:
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        assert mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].all()
    assert hidden.any(0).all()  # everywhere now and then
