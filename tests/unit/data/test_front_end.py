"""Features of audio against independent formulas: scipy's spectrum and cosine transform, bands written out."""

from __future__ import annotations

import json

import numpy as np
import pytest

from edgecompress.data.front_end import dct, describe, features, fitted, mel_filters, shape
from edgecompress.errors import DataError
from edgecompress.recipe.schema import AudioSpec


def waveforms(samples: int, count: int = 3) -> np.ndarray:
    return np.random.default_rng(0).uniform(-1, 1, (count, samples)).astype(np.float32)


def band_by_hand(description: dict, band: int) -> np.ndarray:
    """One triangle, written as in HTK's book: corners on the mel scale, sides straight in hertz."""
    low, high = (1127.0 * np.log(1 + hz / 700) for hz in (description["low_hz"], description["high_hz"]))
    step = (high - low) / (description["bands"] + 1)
    left, top, right = (700 * (np.exp((low + (band + k) * step) / 1127.0) - 1) for k in range(3))
    weights = []
    for k in range(description["fft_size"] // 2 + 1):
        hz = k * description["sample_rate"] / description["fft_size"]
        if left < hz <= top:
            weights.append((hz - left) / (top - left))
        else:
            weights.append((right - hz) / (right - top) if top < hz < right else 0.0)
    return np.array(weights)


@pytest.mark.parametrize(
    "spec", [{}, {"sample_rate": 8000, "window_ms": 25, "hop_ms": 10, "bands": 20, "seconds": 0.5}]
)
def test_log_mel_is_the_formula(spec) -> None:
    import scipy.signal  # seconds, which not every session that collects these tests should spend

    description = describe(AudioSpec(**spec))
    x = waveforms(description["samples"])
    found = features(x, description)
    assert found.shape == (3, *shape(description))
    assert found.dtype == np.float32
    window, hop = description["window_samples"], description["hop_samples"]
    hann = scipy.signal.windows.hann(window, sym=False)
    _, _, magnitude = scipy.signal.spectrogram(
        x.astype(np.float64), window=hann, nperseg=window, noverlap=window - hop, nfft=description["fft_size"],
        detrend=False, scaling="spectrum", mode="magnitude",
    )  # fmt: skip
    power = (magnitude * hann.sum()) ** 2  # (N, frequencies, frames)
    bands = np.stack([band_by_hand(description, band) for band in range(description["bands"])])
    expected = np.log(np.einsum("bf,nft->ntb", bands, power) + 1e-6)
    assert found == pytest.approx(expected, abs=1e-5)


def test_mfcc_is_the_cosine_transform_of_log_mel() -> None:
    import scipy.fft

    spec = {"bands": 32, "coefficients": 13}
    description = describe(AudioSpec(features="mfcc", **spec))
    x = waveforms(description["samples"])
    logs = features(x, describe(AudioSpec(bands=32))).astype(np.float64)
    expected = scipy.fft.dct(logs, type=2, norm="ortho", axis=2)[..., :13]
    assert features(x, description) == pytest.approx(expected, abs=1e-4)
    assert dct(32, 32) @ dct(32, 32).T == pytest.approx(np.eye(32), abs=1e-12)


def test_the_figures_alone_say_how_it_is_done() -> None:
    description = describe(AudioSpec())
    assert json.loads(json.dumps(description)) == description
    x = waveforms(description["samples"])
    assert (features(x, json.loads(json.dumps(description))) == features(x, description)).all()
    assert (description["frames"], description["fft_size"], description["window_samples"]) == (49, 512, 480)
    assert "coefficients" not in description
    assert description["high_hz"] == 8000


def test_a_tone_is_loudest_in_its_band() -> None:
    description = describe(AudioSpec())
    for hz in (300, 1000, 4000):
        tone = np.sin(2 * np.pi * hz * np.arange(16_000) / 16_000).astype(np.float32)
        band = int(features(tone[np.newaxis], description)[0].mean(0).argmax())
        corners = [(k * 16_000 / 512) for k in np.flatnonzero(mel_filters(description)[:, band])]
        assert corners[0] - 32 <= hz <= corners[-1] + 32


def test_silence_is_the_offset_and_nothing_worse() -> None:
    description = describe(AudioSpec())
    assert features(np.zeros((1, 16_000), np.float32), description) == pytest.approx(np.log(1e-6))


@pytest.mark.parametrize("rate", [8000, 11_025, 22_050, 44_100, 48_000, 16_001])
def test_any_rate_is_resampled_without_a_shift(rate: int) -> None:
    description = describe(AudioSpec())
    time = np.arange(round(1.3 * rate)) / rate
    found = fitted(np.sin(2 * np.pi * 440 * time).astype(np.float32), rate, description)
    expected = np.sin(2 * np.pi * 440 * np.arange(16_000) / 16_000)
    assert found.shape == (16_000,)
    assert np.abs(found - expected)[200:].max() < 0.01


def test_recordings_are_cut_and_padded_at_their_end() -> None:
    description = describe(AudioSpec(seconds=0.5))
    x = waveforms(20_000, 1)[0]
    assert (fitted(x, 16_000, description) == x[:8000]).all()
    short = fitted(x[:3000], 16_000, description)
    assert (short[:3000] == x[:3000]).all()
    assert not short[3000:].any()


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"seconds": 0.02}, "a window of 480 samples every 320, in 320 samples at 16000 Hz: no frame fits"),
        ({"hop_ms": 0.01}, "a window of 480 samples every 0"),
        ({"bands": 256}, r"with 256 bands and an FFT of 512 samples, \d+ bands hold no frequency"),
        ({"features": "mfcc", "coefficients": 41}, "41 of 40 bands"),
    ],
)
def test_a_front_end_that_cannot_be_is_explained(spec, message: str) -> None:
    with pytest.raises(DataError, match=message):
        describe(AudioSpec(**spec))
