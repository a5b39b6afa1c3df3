"""Picture files, decoded by Pillow into one array."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from edgecompress.data.pictures import GREY, RGB
from edgecompress.data.reading.broken import Broken
from edgecompress.data.reading.grey_levels import WHITE_16, Levels, used_levels
from edgecompress.errors import DataError
from edgecompress.sources.border import at_border, described
from edgecompress.store.reading import open_regular, read_into_memory

SUFFIXES = frozenset({
    ".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".pjpeg", ".pjp", ".bmp", ".dib", ".gif", ".webp", ".tif",
    ".tiff", ".ppm", ".pgm", ".pbm", ".pnm",
})  # fmt: skip
#: What such files are; others (EPS, which a program of its own would run) are not tried, whatever a file is called.
FORMATS = ("PNG", "JPEG", "BMP", "DIB", "GIF", "WEBP", "TIFF", "PPM")
GREY_MODES = frozenset({"1", "L", "LA", "La", "I", "I;16", "I;16B", "I;16L", "I;16N"})
FLOAT_MODE = "F"
#: EXIF's tag for how a camera was held, and its values that exchange width and height.
ORIENTATION, TURNED = 0x0112, (5, 6, 7, 8)
OPAQUE = 255
#: How a scan of a progressive JPEG begins; each brings all of the picture nearer to what it is. Ten are usual.
SCAN, MOST_SCANS = b"\xff\xda", 200
#: Colour pictures of 16 bits a channel come with their upper 8 bits alone; below this, most of what they hold is lost.
DIM = 64


@dataclass(frozen=True)
class Header:
    """What a file's first bytes tell.

    Attributes:
        size: (height, width), the right way up.
        channels: 1 or 3.
        deep: Whether it is grey, of 16 bits.
    """

    size: tuple[int, int]
    channels: int
    deep: bool


def read_header(path: Path) -> Header:
    """Returns a picture's size and channels; its pixels are not decoded.

    Raises:
        DataError: It is no picture, broken, too large, or of a kind that has no 8-bit form.
    """
    with _opened(path) as image:
        if image.mode == FLOAT_MODE:
            raise DataError(f"{path}: a picture of floating-point values. Expected 8 or 16 bits per channel.")
        if image.info.get("progressive") and (scans := read_into_memory(path).count(SCAN)) > MOST_SCANS:
            raise DataError(f"{path}: a JPEG of {scans:,} scans, each of which takes time. Save it again.")
        width, height = image.size
        turned = image.getexif().get(ORIENTATION) in TURNED
        size = (width, height) if turned else (height, width)
        return Header(size, GREY if image.mode in GREY_MODES else RGB, image.mode.startswith("I"))


def read_headers(files: Sequence[Path], broken: Broken) -> dict[Path, Header]:
    """Returns what the files' first bytes tell, of those that can be read."""
    headers = {}
    for path in files:
        try:
            headers[path] = read_header(path)
        except DataError as error:
            broken.add(path, str(error))
    return headers


def common_form(
    headers: Mapping[Path, Header], size: tuple[int, int] | None, channels: int | None
) -> tuple[tuple[int, int], int]:
    """Returns ((height, width), channels) for all files: as asked for, else as they are; grey among colours is RGB.

    Raises:
        DataError: Sizes differ and none was asked for.
    """
    if size is None:
        first, size = next((path, header.size) for path, header in headers.items())
        for path, header in headers.items():
            if header.size != size:
                raise DataError(
                    f"pictures differ in size: {first} is {_by(size)}, {path} is {_by(header.size)} "
                    "(height x width). Set data.image_size to bring all to one."
                )
    return size, channels or max(header.channels for header in headers.values())


def levels_of(files: Sequence[Path], headers: Mapping[Path, Header], broken: Broken) -> Levels:
    """Returns the values that the grey pictures of 16 bits among some files use."""

    def values() -> Iterator[NDArray[Any]]:
        for path in files:
            if path in headers and headers[path].deep:
                try:
                    with _opened(path) as image:
                        yield _deep_values(image, path)
                except DataError as error:
                    broken.add(path, str(error))

    return used_levels(values())


def read_pictures(
    files: Sequence[Path], form: tuple[tuple[int, int], int], levels: Levels, seen: Counter[str], broken: Broken
) -> NDArray[np.uint8]:
    """Returns (N, height, width, channels) uint8; broken ones are zeros.

    EXIF's orientation is applied, transparency blended over white, 16 bits become 8; grey is the ITU-R BT.601 luma.
    The whole picture is scaled to its size (bilinear, antialiased), not cropped.

    Args:
        files: In the order of the result.
        form: ((height, width), channels), channels 1 or 3.
        levels: Which 16-bit values become black and white.
        seen: Counts what had to be changed, for a note.
        broken: Takes those that cannot be decoded; those that it has are not tried.
    """
    size, channels = form
    pictures = np.zeros((len(files), *size, channels), np.uint8)
    for number, path in enumerate(files):
        if path in broken.files:
            continue
        try:
            with _opened(path) as image:
                plane = _upright_8_bit(image, path, levels, seen).convert("L" if channels == GREY else "RGB")
                if plane.size != size[::-1]:
                    plane = plane.resize(size[::-1], Image.Resampling.BILINEAR)
                pictures[number] = np.asarray(plane).reshape(*size, channels)
        except DataError as error:
            broken.add(path, str(error))
    return pictures


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """Opens a picture, and turns everything that goes wrong while it is used into a DataError that names it."""
    with at_border(lambda error: _broken(error, path)), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # odd metadata is no reason to stop
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        with open_regular(path) as stream, Image.open(stream, formats=FORMATS) as image:
            yield image


def _broken(error: BaseException, path: Path) -> DataError:
    """Returns the error for a picture that cannot be used."""
    match error:
        case UnidentifiedImageError():
            return DataError(f"{path}: not a picture Pillow can read, or broken. Replace or remove it.")
        case Image.DecompressionBombError() | Image.DecompressionBombWarning():
            return DataError(f"{path}: too many pixels to be safe to decode ({error}). Scale it down.")
        case OSError():
            return DataError(f"{path}: cannot be read ({error.strerror or error}). Replace or remove it.")
    return DataError(f"{path}: broken picture ({described(error)}). Replace or remove it.")


def _upright_8_bit(image: Image.Image, path: Path, levels: Levels, seen: Counter[str]) -> Image.Image:
    """Returns the picture the right way up, opaque, in 8 bits per channel."""
    if getattr(image, "is_animated", False):
        seen["with more than one frame {} read by the first"] += 1
    wide = ";16" in str(getattr(image, "tile", ())[:1]) and not image.mode.startswith(
        "I"
    )  # what the decoder is told of the file
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):
        seen[levels.change] += 1
        return Image.fromarray(levels.to_8_bits(_deep_values(image, path)))
    if image.mode == "CMYK":
        seen["in CMYK {} turned into RGB, without a colour profile"] += 1
    if wide:
        dim = int(np.asarray(image)[..., :RGB].max()) < DIM
        lost = f", in which none is above {DIM - 1} of 255: bring them to 8 bits by the values they use" if dim else ""
        seen[f"of 16 bits a channel {{}} read by the upper 8 bits{lost}"] += 1
    if image.has_transparency_data:
        layered = image.convert("RGBA")
        if np.asarray(layered)[..., 3].min() < OPAQUE:
            seen["with transparency {} blended over white"] += 1
        white = Image.new("RGBA", layered.size, "white")
        return Image.alpha_composite(white, layered).convert("RGB")
    return image


def _deep_values(image: Image.Image, path: Path) -> NDArray[Any]:
    """Returns the values of a grey picture of more than 8 bits."""
    values: NDArray[Any] = np.asarray(image).astype(np.int64)
    if values.min() < 0 or values.max() > WHITE_16:
        raise DataError(f"{path}: values from {values.min()} to {values.max()}. Expected 8 or 16 bits per channel.")
    return values


def _by(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"
