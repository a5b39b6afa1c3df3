"""The front end of audio: frames of features from a waveform, by figures that a device can repeat.

`describe` turns a recipe's `audio` block into plain figures; `features` needs nothing but these. Steps, for a waveform
x of `samples` values from -1 to 1 at `sample_rate`:

1. frame t is x[t * hop_samples : t * hop_samples + window_samples], for t = 0 .. frames - 1, without padding;
2. times the window 0.5 - 0.5 cos(2 pi n / window_samples), n = 0 .. window_samples - 1 (Hann, periodic);
3. padded with zeros to fft_size; power |FFT|^2 at the fft_size / 2 + 1 frequencies k sample_rate / fft_size;
4. triangular bands whose corners are evenly spaced on the scale mel(f) = 2595 log10(1 + f / 700) (O'Shaughnessy 1987,
   as in HTK) from low_hz to high_hz: band b rises from corner b to 1 at corner b + 1 and falls to 0 at corner b + 2,
   linear in f;
5. the natural logarithm of the energy in a band plus log_offset: `log-mel`;
6. for `mfcc`, the first `coefficients` of the orthonormal DCT-II over the bands (Davis, Mermelstein 1980).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecompress.errors import DataError
from edgecompress.recipe.data import MAX_LENGTH
from edgecompress.recipe.schema import AudioSpec

LOWEST_HZ = 20.0
LOG_OFFSET = 1e-6
#: Largest part of the ratio of two rates, in lowest terms: the filter between them has twenty times as many taps.
STEEPEST = 100_000
#: Frequencies times bands, twice.
LARGEST_FILTERS = 2**24
#: Values of all spectra that are computed at once.
AT_ONCE = 2**22


def describe(spec: AudioSpec) -> dict[str, Any]:
    """Returns all figures of the front end, plain JSON values.

    Raises:
        DataError: No frame fits into a sample, or a band would hold no frequency.
    """
    window, hop = round(spec.window_ms * spec.sample_rate / 1000), round(spec.hop_ms * spec.sample_rate / 1000)
    samples = round(spec.seconds * spec.sample_rate)
    if min(window, hop) < 1 or samples < window:
        raise DataError(
            f"data.audio: a window of {window} samples every {hop}, in {samples} samples at {spec.sample_rate} Hz: no "
            "frame fits. Set window_ms, hop_ms and seconds so that one does."
        )
    if (frames := 1 + (samples - window) // hop) > MAX_LENGTH:
        raise DataError(
            f"data.audio: a sample of {spec.seconds:g} s with a frame every {spec.hop_ms:g} ms has {frames:,} frames; "
            f"at most {MAX_LENGTH:,} are read. Set a shorter seconds or a longer hop_ms."
        )
    fft_size = 1 << (window - 1).bit_length()
    if fft_size * spec.bands > LARGEST_FILTERS:
        raise DataError(
            f"data.audio: {spec.bands} bands of an FFT of {fft_size:,} samples take more memory than a front end may "
            "have. Use a shorter window_ms, or fewer bands."
        )
    result: dict[str, Any] = {
        "features": spec.features,
        "sample_rate": spec.sample_rate,
        "seconds": spec.seconds,
        "samples": samples,
        "channels": "mean of all",
        "range": [-1.0, 1.0],
        "window": "hann, periodic",
        "window_ms": spec.window_ms,
        "window_samples": window,
        "hop_ms": spec.hop_ms,
        "hop_samples": hop,
        "frames": frames,
        "fft_size": max(fft_size, 2),
        "spectrum": "power",
        "bands": spec.bands,
        "mel_scale": "2595 log10(1 + hz / 700)",
        "low_hz": LOWEST_HZ,
        "high_hz": spec.sample_rate / 2,
        "log": "natural",
        "log_offset": LOG_OFFSET,
    }
    if spec.features == "mfcc":
        if spec.coefficients > spec.bands:
            raise DataError(
                f"data.audio.coefficients: {spec.coefficients} of {spec.bands} bands: there are no more than bands."
            )
        result |= {"dct": "type II, orthonormal", "coefficients": spec.coefficients}
    empty = np.flatnonzero(mel_filters(result).max(0) == 0)
    if len(empty):
        raise DataError(
            f"data.audio.bands: with {spec.bands} bands and an FFT of {result['fft_size']} samples, {len(empty)} bands "
            f"hold no frequency (the first is {empty[0]}). Use fewer bands or a longer window."
        )
    return result


def shape(description: Mapping[str, Any]) -> tuple[int, int]:
    """Returns (frames, features) of a sample."""
    return description["frames"], description.get("coefficients", description["bands"])


def fitted(waveform: NDArray[np.float32], rate: int, description: Mapping[str, Any]) -> NDArray[np.float32]:
    """Returns a waveform at the front end's rate and of its length: the end cut off, or silence added there."""
    wanted, samples = description["sample_rate"], description["samples"]
    if rate != wanted:
        divisor = int(np.gcd(rate, wanted))
        if max(rate, wanted) // divisor > STEEPEST:
            raise DataError(
                f"{rate:,} Hz cannot be resampled to {wanted:,} Hz: they have no common measure. Resample it, "
                f"for example: ffmpeg -i IN.wav -ar {wanted} OUT.wav"
            )
        from scipy.signal import resample_poly

        # No more than is needed, and what the filter sees beyond it.
        needed = waveform[: -(-samples * rate // wanted) + 64 * (1 + rate // wanted)]
        waveform = resample_poly(needed, wanted // divisor, rate // divisor).astype(np.float32)
    cut = waveform[:samples]
    return np.pad(cut, (0, samples - len(cut)))


def features(waveforms: NDArray[np.float32], description: Mapping[str, Any]) -> NDArray[np.float32]:
    """Returns (N, frames, features) for waveforms (N, samples); see the steps at the top."""
    window, hop, size = (description[key] for key in ("window_samples", "hop_samples", "fft_size"))
    frames = np.lib.stride_tricks.sliding_window_view(waveforms, window, axis=1)[:, ::hop][:, : description["frames"]]
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(window) / window)
    filters = mel_filters(description)
    some = max(AT_ONCE // size, 1)
    energy = [
        np.square(np.abs(np.fft.rfft(frames[:, start : start + some] * hann, size, axis=2))) @ filters
        for start in range(0, frames.shape[1], some)
    ]
    logs = np.log(np.concatenate(energy, axis=1) + description["log_offset"])
    if description["features"] == "mfcc":
        logs = logs @ dct(description["bands"], description["coefficients"])
    result: NDArray[np.float32] = logs.astype(np.float32)
    return result


def mel_filters(description: Mapping[str, Any]) -> NDArray[np.float64]:
    """Returns the weight of every frequency in every band, (fft_size / 2 + 1, bands)."""
    size, bands = description["fft_size"], description["bands"]
    low, high = (2595 * np.log10(1 + description[key] / 700) for key in ("low_hz", "high_hz"))
    corners = 700 * (10 ** (np.linspace(low, high, bands + 2) / 2595) - 1)
    frequencies = np.arange(size // 2 + 1)[:, np.newaxis] * description["sample_rate"] / size
    rising = (frequencies - corners[:-2]) / (corners[1:-1] - corners[:-2])
    falling = (corners[2:] - frequencies) / (corners[2:] - corners[1:-1])
    triangles: NDArray[np.float64] = np.maximum(0.0, np.minimum(rising, falling))
    return triangles


def dct(inputs: int, outputs: int) -> NDArray[np.float64]:
    """Returns the orthonormal DCT-II as a matrix, (inputs, outputs)."""
    angles = np.pi / inputs * np.outer(np.arange(inputs) + 0.5, np.arange(outputs))
    matrix: NDArray[np.float64] = np.cos(angles) * np.sqrt(2 / inputs)
    matrix[:, 0] /= np.sqrt(2)
    return matrix
