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
from edgecompress.store.reading import read_into_memory

PCM, FLOAT, EXTENSIBLE = 1, 3, 0xFFFE
#: Other format tags that are met.
COMPRESSED = {2: "ADPCM", 6: "A-law", 7: "mu-law", 17: "IMA ADPCM", 49: "GSM 6.10", 80: "MPEG", 85: "MP3"}
#: Writers that cannot seek back (into a pipe) put the largest length there is where it belongs, signed or unsigned,
#: some less a header or a block: nobody has two gigabytes of samples in a recording to learn from. Others leave 0.
ENDLESS = 0x7FFF0000
#: Longer files have their lengths in a chunk of its own (RF64, EBU Tech 3306): of the file, then of the samples.
LONG_LENGTHS = b"ds64"
FULL = 0xFFFFFFFF
#: Chunks by which a writer can be told that does not begin them at even places.
CHUNKS = (b"fmt ", b"data", b"fact", b"LIST", b"bext", b"cue ", b"smpl", b"inst", b"id3 ", b"JUNK", b"PEAK")
#: How other files begin that are called .wav.
OTHERS = {
    b"ID3": "MP3", b"\xff\xfb": "MP3", b"\xff\xf3": "MP3", b"fLaC": "FLAC", b"OggS": "Ogg", b"FORM": "AIFF",
    b"RIFX": "RIFX (big-endian)", b"riff": "Wave64", b"\x1f\x8b": "gzip", b"caff": "CAF", b"#!AMR": "AMR",
}  # fmt: skip
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
        open_end: Whether its header does not say how long it is: all up to the file's end are samples then.
    """

    samples: NDArray[np.float32]
    rate: int
    channels: int
    open_end: bool = False


def read_wav(path: Path) -> Recording:
    """Returns a file's samples.

    Raises:
        DataError: It is no WAV file, is compressed, cut short or empty.
    """
    try:
        content = read_into_memory(path)
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}") from error
    if not content:
        raise DataError(f"{path}: an empty file. Replace or remove it.")
    if content[:4] not in (b"RIFF", b"RF64", b"BW64") or content[8:12] != b"WAVE":
        other = next((f" but {name}" for start, name in OTHERS.items() if content.startswith(start)), "")
        raise DataError(f"{path}: not a WAV file{other}. {_converting(path)}")
    form, data, open_end = _chunks(path, content)
    tag, channels, rate, _, _, bits = struct.unpack_from("<HHIIHH", form)
    if tag == EXTENSIBLE and len(form) >= EXTENSIBLE_BYTES:
        (tag,) = struct.unpack_from("<H", form, EXTENSIBLE_BYTES - 2)
    kind = {(PCM, 8): "u1", (PCM, 16): "<i2", (PCM, 24): "i3", (PCM, 32): "<i4", (FLOAT, 32): "<f4", (FLOAT, 64): "<f8"}
    if (tag, bits) not in kind:
        name = COMPRESSED.get(tag, f"of format {tag}") if tag not in (PCM, FLOAT) else f"of {bits} bits"
        raise DataError(
            f"{path}: {name}. Expected uncompressed samples (8, 16, 24 or 32 bits, or float). {_converting(path)}"
        )
    if not SLOWEST <= rate <= FASTEST or not channels:
        raise DataError(f"{path}: its header says {rate} Hz and {channels} channels. Is the file whole?")
    width = bits // 8 * channels
    values = _values(data[: len(data) // width * width], kind[tag, bits]).reshape(-1, channels)
    if not len(values):
        raise DataError(f"{path}: holds no samples (length 0). Remove it.")
    if not np.isfinite(values).all():
        raise DataError(f"{path}: holds values that are not finite. Replace or remove it.")
    return Recording(values.mean(1, dtype=np.float32), rate, channels, open_end)


def _converting(path: Path) -> str:
    return f"Convert it, for example: ffmpeg -i {path.name} -c:a pcm_s16le out.wav, and put out.wav in its place."


def _chunks(path: Path, content: bytes) -> tuple[bytes, bytes, bool]:
    """Returns the chunks that hold the format and the samples, and whether the length of these is not known."""
    form, place, long = b"", 12, 0
    while place + 8 <= len(content):
        name, size = struct.unpack_from("<4sI", content, place)
        start = place + 8
        if name == b"fmt ":
            form = content[start : start + size]
        elif name == LONG_LENGTHS and size >= 16 and start + 16 <= len(content):  # noqa: PLR2004 - two lengths
            (long,) = struct.unpack_from("<Q", content, start + 8)
        elif name == b"data":
            if len(form) < FMT_BYTES:
                raise DataError(f"{path}: a WAV file whose format is missing. Is the file whole?")
            there = len(content) - start
            size = long if size == FULL and long else size
            if size >= ENDLESS or (size == 0 and there and not _is_whole(content)):
                return form, content[start:], True
            if size > there:
                raise DataError(f"{path}: truncated: its header says {size:,} bytes of samples, {there:,} are there.")
            return form, content[start : start + size], False
        place = start + size
        if size % 2 and content[place : place + 4] not in CHUNKS:  # chunks begin at even places, or should
            place += 1
    raise DataError(f"{path}: a WAV file without samples. Is the file whole?")


def _is_whole(content: bytes) -> bool:
    """Returns whether the length that a file's header has for all of it is right: then it is true of its parts too."""
    (size,) = struct.unpack_from("<I", content, 4)
    return bool(0 <= len(content) - 8 - size <= 1)


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
