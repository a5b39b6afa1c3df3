"""Arrays of numbers for series and tables, of one length or of several."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecompress.data.offsets import Offsets
from edgecompress.data.raw import listing
from edgecompress.data.reading.arrays import as_array, as_float
from edgecompress.errors import DataError
from edgecompress.wording import counted

#: Axes of an array of tables and of series.
TABLE, SERIES = 2, 3


def read_series(
    value: Any, where: str, expected: str, lengths: Any = None, offsets: Offsets | None = None
) -> NDArray[Any]:
    """Returns (N, features) or (N, steps, features) float32; (N,) objects of (steps, features) where lengths differ.

    Args:
        value: An array, or a list of arrays of (steps,) or (steps, features).
        where: Its name, for messages.
        expected: What it should be, for messages.
        lengths: (N,) how many steps of each series count; the rest is padding.
        offsets: What is subtracted from values that float32 could not tell apart; None: nothing.

    Raises:
        DataError: It is something else, a series has no steps, or values are not finite.
    """
    offsets = offsets or Offsets(where)
    if isinstance(value, (list, tuple)) or (isinstance(value, np.ndarray) and value.dtype == object):
        pieces = [as_array(one, f"{where}[{place}]", expected) for place, one in enumerate(value)]
        if len({piece.shape for piece in pieces}) > 1 or (pieces and pieces[0].ndim == TABLE and not pieces[0].size):
            return _ragged(pieces, where, expected, offsets)
        value = pieces
    array = as_array(value, where, expected)
    if array.dtype.kind not in "iubf" or array.ndim not in (TABLE, SERIES):
        raise DataError(f"{where} has shape {array.shape}, type {array.dtype}: expected {expected}")
    if not array.size:
        raise DataError(f"{where} is empty, shape {array.shape}: expected {expected}")
    if lengths is None:
        return as_float(offsets.shifted(array), where)
    return _cut(array, as_array(lengths, f"the lengths of {where}", expected), where, offsets)


def _ragged(pieces: list[NDArray[Any]], where: str, expected: str, offsets: Offsets) -> NDArray[Any]:
    result = np.empty(len(pieces), object)
    for place, piece in enumerate(pieces):
        if piece.dtype.kind not in "iubf" or piece.ndim not in (TABLE - 1, SERIES - 1):
            raise DataError(f"{where}[{place}] has shape {piece.shape}, type {piece.dtype}: expected {expected}")
        result[place] = piece if piece.ndim == SERIES - 1 else piece[:, np.newaxis]
    _check_steps([len(one) for one in result], where)
    odd = [place for place, one in enumerate(result) if one.shape[1] != result[0].shape[1]]
    if odd:
        found, first = result[odd[0]].shape[1], result[0].shape[1]
        raise DataError(f"{where}[{odd[0]}] has {counted(found, 'feature')}, {where}[0] {first}: they must be the same")
    return _float_series(list(result), where, offsets)


def _float_series(pieces: list[NDArray[Any]], where: str, offsets: Offsets) -> NDArray[Any]:
    """Returns (N,) objects of (steps, features) float32."""
    checked = [as_float(piece, f"{where}[{place}]") for place, piece in enumerate(pieces)]
    shifted = offsets.series(pieces)
    result = np.empty(len(pieces), object)
    result[:] = shifted if offsets.notes else checked
    return result


def _cut(array: NDArray[Any], lengths: NDArray[Any], where: str, offsets: Offsets) -> NDArray[Any]:
    """Returns series without their padding, which may hold anything."""
    if lengths.shape != (len(array),) or lengths.dtype.kind not in "iu":
        raise DataError(
            f"the lengths of {where} have shape {lengths.shape}, type {lengths.dtype}: expected one whole number per "
            f"series, ({len(array)},)"
        )
    series = array if array.ndim == SERIES else array[..., np.newaxis]
    if len(lengths) and int(lengths.max()) > series.shape[1]:
        place = int(lengths.argmax())
        raise DataError(f"{where}[{place}] has the length {lengths[place]}, but there are {series.shape[1]} steps only")
    _check_steps(lengths.tolist(), where)
    return _float_series([one[:steps] for one, steps in zip(series, lengths, strict=True)], where, offsets)


def _check_steps(lengths: list[int], where: str) -> None:
    empty = [place for place, steps in enumerate(lengths) if steps < 1]
    if empty:
        raise DataError(
            f"{where}: {counted(len(empty), 'series', 'series')} without a step (length 0), at [{listing(empty)}]: "
            "there is nothing to learn from them. Remove them."
        )
