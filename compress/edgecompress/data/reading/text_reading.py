"""Text files as text: UTF-8, or a message that says where it is not."""

from __future__ import annotations

from pathlib import Path

from edgecompress.errors import DataError
from edgecompress.sources.archives import read_unpacked

#: What files in UTF-16 begin with.
UTF_16_MARKS = (b"\xff\xfe", b"\xfe\xff")


def read_text(path: Path) -> str:
    """Returns a file's text as it is, without a byte order mark; a gzipped file is unpacked.

    Raises:
        DataError: It cannot be read, or is not UTF-8; the message names the line.
    """
    content = read_unpacked(path, DataError)
    if content.startswith(UTF_16_MARKS):
        raise DataError(f"{path}: UTF-16 text. Expected UTF-8: iconv -f UTF-16 -t UTF-8 {path.name}")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        value = content[error.start]
        raise DataError(
            f"{path}:{line}: not UTF-8 text (byte 0x{value:02x}). Expected UTF-8; convert it, for example: "
            f"iconv -f ISO-8859-1 -t UTF-8 {path.name}"
        ) from error


def is_writable_text(text: str) -> bool:
    """Returns whether text can be written as UTF-8; half a surrogate pair, which JSON can hold, cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
