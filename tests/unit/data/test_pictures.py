"""Size and channels of arrays of pictures."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from edgecompress.data.pictures import fitted, to_grey
from edgecompress.errors import DataError

RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (3, 8, 6, 3)).astype(np.uint8)


def test_grey_is_the_luma_of_itu_r_601() -> None:
    grey = to_grey(RGB)
    assert grey.shape == (3, 8, 6, 1)
    assert grey.dtype == np.uint8
    for picture, own in zip(RGB, grey, strict=True):
        assert (own[..., 0] == np.asarray(Image.fromarray(picture).convert("L"))).all()
    exact = 0.299 * RGB[..., 0] + 0.587 * RGB[..., 1] + 0.114 * RGB[..., 2]
    assert np.abs(grey[..., 0] - exact).max() <= 0.51
    floats = to_grey(RGB.astype(np.float32))
    assert floats.dtype == np.float32
    assert np.abs(floats[..., 0] - exact).max() < 0.01


def test_grey_repeated_and_back_is_the_same() -> None:
    grey = RGB[..., :1]
    colour = fitted(grey, None, 3, "mine")
    assert colour.shape == RGB.shape
    assert (colour == grey).all()
    assert (fitted(colour, None, 1, "mine") == grey).all()


def test_nothing_asked_for_changes_nothing() -> None:
    assert fitted(RGB, None, None, "mine") is RGB
    assert fitted(RGB, (8, 6), 3, "mine") is RGB


def test_bytes_are_scaled_as_pillow_scales_them() -> None:
    scaled = fitted(RGB, (4, 9), None, "mine")
    assert scaled.shape == (3, 4, 9, 3)
    expected = Image.fromarray(RGB[1]).resize((9, 4), Image.Resampling.BILINEAR)
    assert (scaled[1] == np.asarray(expected)).all()


def test_shrinking_averages_instead_of_skipping() -> None:
    checkers = np.indices((64, 64)).sum(0) % 2
    floats = checkers.astype(np.float32)[np.newaxis, ..., np.newaxis]
    small = fitted(floats, (8, 8), None, "mine")
    assert small.dtype == np.float32
    assert np.abs(small - 0.5).max() < 0.05


def test_the_kind_of_four_channels_cannot_be_guessed() -> None:
    with pytest.raises(DataError, match=r"mine: pictures of 4 channels cannot become 1; remove data.channels"):
        fitted(np.zeros((1, 2, 2, 4), np.uint8), None, 1, "mine")
    assert fitted(np.zeros((1, 2, 2, 4), np.uint8), (3, 3), None, "mine").shape == (1, 3, 3, 4)
