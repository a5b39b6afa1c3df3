"""WAV files as float32 samples: PCM of 8 to 32 bits and floats, of any rate.

The standard library's `wave` reads neither floats nor the extensible format that 24-bit recorders write. The format:
https://www.mmsp.ece.mcgill.ca/Documents/AudioFormats/WAVE/WAVE.html
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgecompress.errors import DataError

PCM, FLOAT, EXTENSIBLE = 1, 3, 0xFFFE
#: Other format tags that are met.
COMPRESSED = {2: "ADPCM", 6: "A-law", 7: "mu-law", 17: "IMA ADPCM", 49: "GSM 6.10", 80: "MPEG", 85: "MP3"}
#: What writers that cannot seek back put where the length belongs.
UNKNOWN_LENGTH = 0xFFFFFFFF
FMT_BYTES, EXTENSIBLE_BYTES = 16, 26
SLOWEST, FASTEST = 100, 1_000_000
INT24 = 3


@dataclass(frozen=True)
class Recording:
    """What a file holds.

    Attributes:
        samples: (N,) float32 from -1 to 1 (floats as they are), the mean of the channels.
        rate: In hertz.
        channels: How many there were.
    """

    samples: NDArray[np.float32]
    rate: int
    channels: int


def read_wav(path: Path) -> Recording:
    """Returns a file's samples.

    Raises:
        DataError: It is no WAV file, is compressed, cut short or empty.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}") from error
    if content[:4] not in (b"RIFF", b"RF64") or content[8:12] != b"WAVE":
        raise DataError(f"{path}: not a WAV file. Convert it, for example: ffmpeg -i {path.name} {path.stem}.wav")
    form, data = _chunks(path, content)
    tag, channels, rate, _, _, bits = struct.unpack_from("<HHIIHH", form)
    if tag == EXTENSIBLE and len(form) >= EXTENSIBLE_BYTES:
        (tag,) = struct.unpack_from("<H", form, EXTENSIBLE_BYTES - 2)
    kind = {(PCM, 8): "u1", (PCM, 16): "<i2", (PCM, 24): "i3", (PCM, 32): "<i4", (FLOAT, 32): "<f4", (FLOAT, 64): "<f8"}
    if (tag, bits) not in kind:
        name = COMPRESSED.get(tag, f"of format {tag}") if tag not in (PCM, FLOAT) else f"of {bits} bits"
        raise DataError(
            f"{path}: {name}. Expected uncompressed samples (8, 16, 24 or 32 bits, or float); convert it, for example: "
            f"ffmpeg -i {path.name} -c:a pcm_s16le out.wav"
        )
    if not SLOWEST <= rate <= FASTEST or not channels:
        raise DataError(f"{path}: its header says {rate} Hz and {channels} channels. Is the file whole?")
    width = bits // 8 * channels
    values = _values(data[: len(data) // width * width], kind[tag, bits]).reshape(-1, channels)
    if not len(values):
        raise DataError(f"{path}: holds no samples (length 0). Remove it.")
    if not np.isfinite(values).all():
        raise DataError(f"{path}: holds values that are not finite. Replace or remove it.")
    return Recording(values.mean(1, dtype=np.float32), rate, channels)


def _chunks(path: Path, content: bytes) -> tuple[bytes, bytes]:
    """Returns the chunks that hold the format and the samples."""
    form, place = b"", 12
    while place + 8 <= len(content):
        name, size = struct.unpack_from("<4sI", content, place)
        start = place + 8
        if name == b"fmt ":
            form = content[start : start + size]
        elif name == b"data":
            if len(form) < FMT_BYTES:
                raise DataError(f"{path}: a WAV file whose format is missing. Is the file whole?")
            there = len(content) - start
            if size > there and size != UNKNOWN_LENGTH:
                raise DataError(f"{path}: truncated: its header says {size:,} bytes of samples, {there:,} are there.")
            return form, content[start : start + size]
        place = start + size + size % 2
    raise DataError(f"{path}: a WAV file without samples. Is the file whole?")


def _values(data: bytes, kind: str) -> NDArray[np.float32]:
    """Returns interleaved samples, integers scaled to -1 to 1."""
    if kind == "u1":
        return ((np.frombuffer(data, np.uint8) - 128.0) / 128).astype(np.float32)
    if kind == "i3":
        # The three bytes of a sample become the upper ones of four.
        wide = np.zeros((len(data) // INT24, 4), np.uint8)
        wide[:, 1:] = np.frombuffer(data, np.uint8).reshape(-1, INT24)
        return (wide.view("<i4")[:, 0] / 2**31).astype(np.float32)
    values = np.frombuffer(data, kind)
    if kind.startswith("<f"):
        return values.astype(np.float32)
    return (values / 2.0 ** (8 * values.itemsize - 1)).astype(np.float32)
