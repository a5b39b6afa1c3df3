"""Numbers that lie far from zero and close together, such as times since 1970: counted from one of them.

float32 has steps of 128 at 1.7e9. What differs by less would be one number, and nothing would look wrong.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: A step of the type may be this share of the values' spread.
COARSE = 1e-3
#: Below this, values would have to lie closer together than anything measured does.
SMALL = 1000.0
#: As many values tell where all of them lie.
SAMPLE = 1_000_000
#: Columns named one by one.
NAMED = 5


class Offsets:
    """What is subtracted from each feature: decided by the first array, the same for all others.

    Attributes:
        notes: What was subtracted, in sentences.
    """

    def __init__(self, where: str, names: Sequence[str] = (), *, common: bool = False) -> None:
        """Begins with nothing to subtract.

        Args:
            where: The file or array, for the notes.
            names: Of the features, where they have any.
            common: Whether all values are of one kind, such as the steps of a series.
        """
        self.notes: list[str] = []
        self._where, self._names, self._common = where, tuple(names), common
        self._bases: list[int] | None = None

    @property
    def subtracted(self) -> tuple[int, ...]:
        """What is subtracted, by feature; one number where all values are of one kind; empty where nothing is."""
        return tuple(self._bases or ()) if any(self._bases or ()) else ()

    def learn(self, rows: NDArray[Any]) -> None:
        """Decides what is subtracted by (..., features) values, unless that is decided."""
        if self._bases is None:
            self._decide([rows.ravel()] if self._common else list(rows.reshape(-1, rows.shape[-1]).T))

    def _decide(self, columns: list[NDArray[Any]]) -> None:
        self._bases = [_base(column) if is_coarse(column, np.float32) else 0 for column in columns]
        rounded = [place for place, column in enumerate(columns) if was_rounded(column)]
        self.notes += [_rounded(self._where, self._name(place)) for place in rounded[:NAMED]]
        shifted = [place for place, base in enumerate(self._bases) if base]
        for place in shifted[:NAMED]:
            name = self._name(place)
            base = self._bases[place]
            step = float(np.spacing(np.float32(abs(base))))
            self.notes.append(
                f"{self._where}: {name}: numbers near {base:.6g}, where float32 has steps of {step:g}: {base} was "
                "subtracted before anything else. A device has to do the same."
            )
        if len(shifted) > NAMED:
            self.notes.append(f"{self._where}: the same was done to {len(shifted) - NAMED:,} more columns.")

    def _name(self, place: int) -> str:
        if self._common:
            return "values"
        return f"`{self._names[place]}`" if place < len(self._names) else f"feature {place}"

    def shifted(self, array: NDArray[Any]) -> NDArray[Any]:
        """Returns (..., features) values counted from what is subtracted; as they are where nothing is."""
        self.learn(array)
        if not any(self._bases or ()):
            return array
        if self._common:
            return counted_from(array, (self._bases or [0])[0])
        columns = zip(np.moveaxis(array, -1, 0), self._bases or (), strict=True)
        return np.stack([counted_from(column, base) for column, base in columns], axis=-1)

    def columns(self, columns: list[NDArray[Any]]) -> NDArray[np.float32]:
        """Returns (N, features) of columns, which may be of several types."""
        if self._common:
            kinds = {column.dtype for column in columns}
            same = columns if len(kinds) == 1 else [column.astype(np.float64) for column in columns]
            self.learn(np.stack(same, axis=1))
            alone = [place for place, column in enumerate(columns) if is_coarse(column, np.float32)]
            if alone and not self.subtracted and not self.notes:
                self.notes.append(
                    f"{self._where}: column {alone[0] + 1} holds numbers that float32 cannot tell apart, and others do "
                    "not: are all of them steps of one series?"
                )
            return self.shifted(np.stack(same, axis=1)).astype(np.float32)
        if self._bases is None:
            self._decide(columns)
        shifted = (
            counted_from(one, base) if base else one for one, base in zip(columns, self._bases or (), strict=True)
        )
        return np.stack([one.astype(np.float32) for one in shifted], axis=1)

    def series(self, pieces: list[NDArray[Any]]) -> list[NDArray[np.float32]]:
        """Returns series of (steps,) or (steps, features), each counted from what all of them decide together."""
        rows = [piece if piece.ndim > 1 else piece[:, np.newaxis] for piece in pieces]
        kinds = {piece.dtype for piece in rows}
        if rows:
            self.learn(np.concatenate(rows if len(kinds) == 1 else [row.astype(np.float64) for row in rows]))
        shifted = (self.shifted(row).astype(np.float32) for row in rows)
        return [one.reshape(piece.shape) for one, piece in zip(shifted, pieces, strict=True)]


def targets_of(
    labels: Mapping[str, NDArray[Any]], names: Sequence[str], where: str
) -> tuple[dict[str, NDArray[np.float64]], list[str]]:
    """Returns numbers to predict as float64, and notes on those that float32 could not tell apart.

    Networks predict them less their mean, so float64 is enough but for integers of more than 15 digits: these are
    counted from one of them.

    Args:
        labels: (N, targets) by part.
        names: Of the targets.
        where: The file or array.
    """
    first = next(iter(labels.values()))
    bases: list[int] = [0] * first.shape[1]
    notes = []
    for place, column in enumerate(first.T):
        name = names[place] if place < len(names) else "y"
        if len(column) > 1 and (column == column[0]).all():
            notes.append(f"{where}: `{name}` is {column[0]:.6g} everywhere in train: there is nothing to learn.")
        if is_coarse(column, np.float64):
            bases[place] = _base(column)
            notes.append(
                f"{where}: `{name}` has more digits than floating-point numbers: it is counted from {bases[place]}, in "
                "all figures and on a device."
            )
        elif was_rounded(column):
            notes.append(_rounded(where, f"`{name}`"))
        elif is_coarse(column, np.float32):
            base = _base(column)
            step = float(np.spacing(np.float32(abs(base))))
            notes.append(
                f"{where}: `{name}`: numbers near {base:.6g}, where float32 has steps of {step:g}: it is learnt and "
                "scored as float64, counted from its mean."
            )
    split = {
        part: np.stack([counted_from(column, base) for column, base in zip(one.T, bases, strict=True)], axis=1)
        for part, one in labels.items()
    }
    return split, notes


def is_coarse(values: NDArray[Any], kind: type[np.float32 | np.float64]) -> bool:
    """Returns whether the steps of a floating-point type are coarse beside how far apart values lie."""
    if values.dtype.kind not in "iuf" or (
        values.dtype.kind == "f" and values.dtype.itemsize <= np.dtype(kind).itemsize
    ):
        return False  # what comes in the type itself loses nothing
    return _far(values, kind)


def was_rounded(values: NDArray[Any]) -> bool:
    """Returns whether values came in a type of floating-point numbers whose steps are coarse beside their spread."""
    return (
        values.dtype.kind == "f" and values.dtype.itemsize < np.dtype(np.float64).itemsize and _far(values, np.float32)
    )


def _rounded(where: str, name: str) -> str:
    return (
        f"{where}: {name}: so large that float32 has coarse steps there, and given as float32: what was finer is lost "
        "already. Save them as float64 or integers, or subtract a number of their size first."
    )


def _far(values: NDArray[Any], kind: type[np.float32 | np.float64]) -> bool:
    """Returns whether a type's steps are coarse for values: where they lie, beside how far apart."""
    if not values.size or float(np.abs(values[[values.argmin(), values.argmax()]].astype(np.float64)).max()) < SMALL:
        return False
    known = _some(values)
    if not known.size:
        return False
    base = _base(known)
    away = np.abs(counted_from(known, base))
    spread = float(np.median(away)) or float(away.max())
    limit = float(np.finfo(kind).max)
    return spread > 0 and abs(base) <= limit and float(np.spacing(kind(abs(base)))) > COARSE * spread


def counted_from(values: NDArray[Any], base: float) -> NDArray[np.float64]:
    """Returns values less a base, exactly: integers of 64 bits have more digits than float64."""
    if values.dtype.kind in "iu":
        # Modulo 2**64, in which the difference of any two of them that are not half the range apart is right.
        whole = np.uint64(int(base) % 2**64)
        return (
            (values.astype(np.int64 if values.dtype.kind == "i" else np.uint64).view(np.uint64) - whole)
            .view(np.int64)
            .astype(np.float64)
        )
    return values.astype(np.float64) - base


def _some(values: NDArray[Any]) -> NDArray[Any]:
    """Returns up to a million of the values that are finite."""
    some = values[:: max(len(values) // SAMPLE, 1)]
    return some[np.isfinite(some)] if some.dtype.kind == "f" else some


def _base(values: NDArray[Any]) -> int:
    """Returns the value in the middle, a whole number."""
    known = _some(values)
    middle = np.partition(known, len(known) // 2)[len(known) // 2]
    return int(middle) if values.dtype.kind in "iu" else int(np.round(middle))
