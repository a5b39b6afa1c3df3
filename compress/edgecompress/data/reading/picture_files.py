"""Picture files, decoded by Pillow into one array."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from edgecompress.data.pictures import GREY, RGB
from edgecompress.errors import DataError

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm"})
#: What such files are; others (EPS, which a program of its own would run) are not tried, whatever a file is called.
FORMATS = ("PNG", "JPEG", "BMP", "DIB", "GIF", "WEBP", "TIFF", "PPM")
GREY_MODES = frozenset({"1", "L", "LA", "La", "I", "I;16", "I;16B", "I;16L", "I;16N"})
FLOAT_MODE = "F"
#: EXIF's tag for how a camera was held, and its values that exchange width and height.
ORIENTATION, TURNED = 0x0112, (5, 6, 7, 8)
OPAQUE = 255
LARGEST_16_BIT = 65535


@dataclass(frozen=True)
class Header:
    """What a file's first bytes tell.

    Attributes:
        size: (height, width), the right way up.
        channels: 1 or 3.
    """

    size: tuple[int, int]
    channels: int


def read_header(path: Path) -> Header:
    """Returns a picture's size and channels; its pixels are not decoded.

    Raises:
        DataError: It is no picture, broken, too large, or of a kind that has no 8-bit form.
    """
    with _opened(path) as image:
        if image.mode == FLOAT_MODE:
            raise DataError(f"{path}: a picture of floating-point values. Expected 8 or 16 bits per channel.")
        width, height = image.size
        turned = image.getexif().get(ORIENTATION) in TURNED
        size = (width, height) if turned else (height, width)
        return Header(size, GREY if image.mode in GREY_MODES else RGB)


def common_form(
    files: Sequence[Path], size: tuple[int, int] | None, channels: int | None
) -> tuple[tuple[int, int], int]:
    """Returns ((height, width), channels) for all files: as asked for, else as they are; grey among colours is RGB.

    Raises:
        DataError: Sizes differ and none was asked for.
    """
    headers = [read_header(path) for path in files]
    if size is None:
        for path, header in zip(files, headers, strict=True):
            if header.size != headers[0].size:
                raise DataError(
                    f"pictures differ in size: {files[0]} is {_by(headers[0].size)}, {path} is {_by(header.size)} "
                    "(height x width). Set data.image_size to bring all to one."
                )
        size = headers[0].size
    return size, channels or max(header.channels for header in headers)


def read_pictures(files: Sequence[Path], size: tuple[int, int], channels: int, seen: Counter[str]) -> NDArray[np.uint8]:
    """Returns (N, height, width, channels) uint8.

    EXIF's orientation is applied, transparency blended over white, 16 bits become 8; grey is the ITU-R BT.601 luma.
    The whole picture is scaled to `size` (bilinear, antialiased), not cropped.

    Args:
        files: In the order of the result.
        size: (height, width).
        channels: 1 or 3.
        seen: Counts what had to be changed, for a note.

    Raises:
        DataError: One cannot be decoded; the message names it.
    """
    pictures = np.empty((len(files), *size, channels), np.uint8)
    for number, path in enumerate(files):
        with _opened(path) as image:
            plane = _upright_8_bit(image, path, seen).convert("L" if channels == GREY else "RGB")
            if plane.size != size[::-1]:
                plane = plane.resize(size[::-1], Image.Resampling.BILINEAR)
            pictures[number] = np.asarray(plane).reshape(*size, channels)
    return pictures


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """Opens a picture, and turns everything that goes wrong while it is used into a DataError that names it."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # odd metadata is no reason to stop
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path, formats=FORMATS) as image:
                yield image
    except DataError:
        raise
    except UnidentifiedImageError as error:
        raise DataError(f"{path}: not a picture Pillow can read, or broken. Replace or remove it.") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise DataError(f"{path}: too many pixels to be safe to decode ({error}). Scale it down.") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error}). Replace or remove it.") from error
    except Exception as error:  # decoders of broken files fail in any way
        raise DataError(f"{path}: broken picture ({type(error).__name__}: {error}). Replace or remove it.") from error


def _upright_8_bit(image: Image.Image, path: Path, seen: Counter[str]) -> Image.Image:
    """Returns the picture the right way up, opaque, in 8 bits per channel."""
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):
        values: NDArray[Any] = np.asarray(image).astype(np.int64)
        if values.min() < 0 or values.max() > LARGEST_16_BIT:
            raise DataError(f"{path}: values from {values.min()} to {values.max()}. Expected 8 or 16 bits per channel.")
        seen["of 16 bits {} brought to 8"] += 1
        return Image.fromarray(((values * OPAQUE + LARGEST_16_BIT // 2) // LARGEST_16_BIT).astype(np.uint8))
    if image.has_transparency_data:
        layered = image.convert("RGBA")
        if np.asarray(layered)[..., 3].min() < OPAQUE:
            seen["with transparency {} blended over white"] += 1
        white = Image.new("RGBA", layered.size, "white")
        return Image.alpha_composite(white, layered).convert("RGB")
    return image


def _by(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"
