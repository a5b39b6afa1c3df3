"""Pictures brought to the size and the channels a recipe asks for."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from edgecompress.data.limits import check_memory
from edgecompress.errors import DataError
from edgecompress.wording import counted

GREY, RGB = 1, 3
#: ITU-R BT.601 luma in 1/65536, which sums up to 65536: the integers Pillow uses.
LUMA = (19595, 38470, 7471)
#: Samples converted at a time, to keep intermediate arrays small.
CHUNK = 1024


def sides(image_size: int | tuple[int, int] | None) -> tuple[int, int] | None:
    """Returns (height, width) of a recipe's `image_size`, None where it has none."""
    return (image_size, image_size) if isinstance(image_size, int) else image_size


def fitted(pictures: NDArray[Any], size: tuple[int, int] | None, channels: int | None, source: str) -> NDArray[Any]:
    """Returns (N, H, W, C) pictures in the size and with the channels asked for; None leaves them.

    The type and the range of the values stay. The whole picture is scaled, not cropped, so [height, width] of
    another shape distorts it.

    Raises:
        DataError: Channels other than 1 and 3 would have to be converted.
    """
    have = pictures.shape[-1]
    if channels is not None and channels != have:
        if have not in (GREY, RGB):
            raise DataError(f"{source}: pictures of {have} channels cannot become {channels}; remove data.channels")
        if channels == GREY:
            pictures = to_grey(pictures)
    pictures = resized(pictures, size)
    if channels == RGB and pictures.shape[-1] == GREY:
        pictures = np.repeat(pictures, RGB, axis=-1)
    return pictures


def check_pictures(count: int, size: tuple[int, int], pixel_bytes: int) -> None:
    """Lets pictures of a size pass that fit into memory together; how large they are, their headers tell honestly.

    Raises:
        DataError: They do not.
    """
    needed = count * size[0] * size[1] * pixel_bytes
    what = f"{counted(count, 'picture')} of {size[0]}x{size[1]} pixels (height x width)"
    check_memory(needed, needed, what, "Set a smaller data.image_size.")


def to_grey(pictures: NDArray[Any]) -> NDArray[Any]:
    """Returns the ITU-R BT.601 luma of RGB pictures, (..., 3) to (..., 1), in the same type."""
    grey = np.empty((*pictures.shape[:-1], 1), pictures.dtype)
    for start in range(0, len(pictures), CHUNK):
        part = slice(start, start + CHUNK)
        if pictures.dtype == np.uint8:
            weighted = pictures[part].astype(np.uint32) @ np.array(LUMA, np.uint32)
            grey[part, ..., 0] = (weighted + 0x8000) >> 16
        else:
            grey[part, ..., 0] = pictures[part] @ (np.array(LUMA) / 65536)
    return grey


def resized(pictures: NDArray[Any], size: tuple[int, int] | None) -> NDArray[Any]:
    """Returns (N, H, W, C) pictures in another size: bilinear, antialiased where they shrink."""
    if size is None or pictures.shape[1:3] == size:
        return pictures
    height, width = size
    check_pictures(len(pictures), size, pictures.shape[-1] * pictures.itemsize)
    result = np.empty((len(pictures), height, width, pictures.shape[-1]), pictures.dtype)
    for number, picture in enumerate(pictures):
        for channel in range(pictures.shape[-1]):
            plane = Image.fromarray(np.ascontiguousarray(picture[..., channel]))
            result[number, ..., channel] = plane.resize((width, height), Image.Resampling.BILINEAR)
    return result
