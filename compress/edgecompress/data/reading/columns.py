"""From a table's columns to samples, as the task needs them: text, series or features, and what is to be answered."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecompress.data.base import Split
from edgecompress.data.labels import anomaly_numbers, check_count, check_spellings, describe_classes
from edgecompress.data.offsets import Offsets, targets_of
from edgecompress.data.raw import RawData, RawKind, listing
from edgecompress.data.reading.cells import LARGEST, array_of, exact_of, label_of, number_of, sequence_of, text_of
from edgecompress.data.reading.folders import normal
from edgecompress.data.reading.table import MOST_BAD, Table, short, shown
from edgecompress.errors import DataError
from edgecompress.recipe.schema import Recipe
from edgecompress.wording import counted, verb

TEXT_TASKS = ("text-classification", "language-modeling")
#: Tasks whose answers are classes by name.
CLASS_TASKS = ("text-classification", "timeseries-classification")
#: The share of cells that fail from which on the column is the mistake, not the rows.
WRONG_COLUMN = 0.5
#: Names of columns that number rows: what pandas writes for an index, and what people call one.
INDEX = re.compile(
    r"|unnamed: \d+([._]\d+)*|index|idx|row|level_0|#|((row|sample|record|line)[_ ]?)?(id|index|no|nr|num|number)\.?",
    re.IGNORECASE,
)
#: Names longer than this stay objects.
WIDE = 32
#: Longer cells are looked at one by one: in an array of texts each would take as much memory as the longest.
LONGEST_NUMBER = 64
#: Fewer rows may count by chance.
FEWEST_ROWS = 10
#: The share of steps by one in an index that begins again.
MOSTLY = 0.9
#: Whole numbers from here on have more digits than float64.
EXACT = 2.0**53
#: Axes of a sample: a row of features, a series of them.
ROW, SERIES = 1, 2


def usual_names(recipe: Recipe) -> list[str]:
    """Returns the columns that a recipe names, and what columns are called where it names none."""
    data = recipe.data
    return [
        *(normal(name) for name in (data.text, data.label, data.split_by) if name is not None),
        *map(normal, data.features or ()),
        *(["text"] if data.text is None else []),
        *(["label"] if data.label is None else []),
    ]


def raw_data_of(recipe: Recipe, tables: dict[str, Table]) -> RawData:
    """Returns the samples in tables (`train` and, if there is one, `test`).

    Raises:
        DataError: A column is missing, rows cannot be used, or there is one class only.
    """
    task, origin = recipe.task, str(tables["train"].path)
    as_text = task in TEXT_TASKS or (task == "regression" and recipe.data.text is not None)
    notes: list[str] = []
    inputs: dict[str, NDArray[Any]] = {}
    answers: dict[str, list[Any] | None] = {}
    groups: dict[str, NDArray[Any] | None] = {}
    chosen: tuple[str, ...] | None = None
    offsets: Offsets | None = None
    for part, table in tables.items():
        if not table.lines:
            table.check()  # says why
        label = _label_column(recipe, table, part, has_test="test" in tables)
        group = recipe.data.split_by and table.column("split_by", recipe.data.split_by, default="")
        groups[part] = _groups(table, group) if group else None
        answers[part] = _answers(table, label, numbers=task == "regression")
        if as_text:
            inputs[part] = _texts(recipe, table, notes)
        else:
            chosen = chosen or _features(recipe, table, tuple(name for name in (label, group) if name))
            offsets = offsets or Offsets(str(table.path), chosen, common=task == "timeseries-classification")
            inputs[part] = _values(recipe, table, chosen, offsets)
        table.check()
        notes += table.notes
    kind: RawKind = "text" if as_text else "series" if _is_series(inputs["train"], task) else "features"
    if kind == "series":
        inputs = {part: one[..., np.newaxis] if one.ndim == ROW + 1 else one for part, one in inputs.items()}
    notes += offsets.notes if offsets is not None else ()
    subtracted = offsets.subtracted if offsets is not None else ()
    labels, names = _labels(task, answers, {part: len(one) for part, one in inputs.items()}, origin)
    targets = (_label_column(recipe, tables["train"], "train", has_test=False) or "",) if task == "regression" else ()
    if task == "regression":
        labels, more = targets_of(labels, targets, origin)
        notes += more
    splits = {part: Split(inputs[part], labels[part], groups[part]) for part in tables}
    if task in CLASS_TASKS:
        notes += describe_classes(labels, names, origin)
    return RawData(
        splits["train"],
        splits.get("test"),
        names,
        notes=tuple(notes),
        kind=kind,
        target_names=targets,
        subtracted=subtracted,
    )


def _label_column(recipe: Recipe, table: Table, part: str, *, has_test: bool) -> str | None:
    """Returns the column of the answers, None where there is none and none is needed."""
    if recipe.task == "language-modeling":
        return None
    try:
        return table.column("label", recipe.data.label, default="label", marked=table.label)
    except DataError:
        if recipe.task == "anomaly-detection" and part == "train" and has_test:
            return None  # all of it is normal
        raise


def _groups(table: Table, column: str) -> NDArray[Any]:
    """Returns the names of the groups; rows without one are blamed."""
    found = []
    for row, value in enumerate(table.columns[column]):
        name, wrong = label_of(value)
        if wrong:
            table.blame(row, f"the group {wrong}")
        found.append(name)
    # As an array of texts each would take as much memory as the longest.
    return np.array(found, object if max(map(len, found), default=0) > WIDE else str)


def _answers(table: Table, column: str | None, *, numbers: bool) -> list[Any] | None:
    """Returns class names, or numbers to predict; rows without one are blamed."""
    if column is None:
        return None
    found = []
    for row, value in enumerate(table.columns[column]):
        answer, wrong = number_of(value) if numbers else label_of(value)
        if wrong:
            table.blame(row, f"`{column}` {wrong}")
        found.append(exact_of(value) if numbers and not wrong else answer)
    return found


def _texts(recipe: Recipe, table: Table, notes: list[str]) -> NDArray[Any]:
    column = table.column("text", recipe.data.text, default="text", marked=table.text)
    texts = np.empty(len(table), object)
    for row, value in enumerate(table.columns[column]):
        texts[row], wrong = text_of(value)
        if wrong:
            table.blame(row, f"`{column}` {wrong}")
    empty = [row for row, text in enumerate(texts) if not text.strip()]
    if empty:
        count = len(empty)
        notes.append(
            f"{table.path}: {counted(count, 'text')} {verb(count, 'is', 'are')} empty, the first in line "
            f"{table.lines[empty[0]]}: nothing but padding reaches the network."
        )
    return texts


def _features(recipe: Recipe, table: Table, others: tuple[str, ...]) -> tuple[str, ...]:
    """Returns the columns of numbers: those the recipe names, else all that serve no other purpose."""
    if recipe.data.features is not None:
        return tuple(table.column("features", name, default="") for name in recipe.data.features)
    rest = tuple(name for name in table.names if name not in others and name not in table.left_out)
    if not rest:
        raise DataError(f"{table.path}: no {table.noun} is left for features beside {', '.join(others)}.")
    steps = recipe.task == "timeseries-classification"  # of a series, only what is called an index is none
    counting = [
        name
        for name in rest
        if not (steps and INDEX.fullmatch(name) is None) and _counts_rows(name, table.columns[name])
    ]
    if not counting:
        return rest
    named = listing(f"`{short(name)}`" if name else "the one without a name" for name in counting)
    what = (
        f"{table.path}: the {verb(len(counting), f'{table.noun} numbers', f'{table.noun}s number')} the rows ({named})"
    )
    if len(counting) == len(rest):
        table.notes.append(f"{what}, but there is nothing else to learn from.")
        return rest
    left = verb(len(counting), "it is no feature and was", "they are no features and were")
    table.notes.append(f"{what}: {left} left out. If that is wrong, name all features in data.features.")
    numbering = set(counting)
    return tuple(name for name in rest if name not in numbering)


def _counts_rows(name: str, cells: list[Any]) -> bool:
    """Returns whether a column only numbers the rows: it counts up by one, or is an index by its name and order.

    Where rows were sorted before, their number tells the answer, and means nothing on a device.
    """
    named = INDEX.fullmatch(name) is not None
    first = _numbers(cells[:FEWEST_ROWS]) if len(cells) >= FEWEST_ROWS else None
    if first is None or not (named or (np.diff(first) == 1).all()):
        return False
    values = _numbers(cells)
    if values is None or (values != np.round(values)).any():
        return False
    ones = np.diff(values) == 1
    if not named:
        return bool(ones.all())
    # Rows that were shuffled after they were numbered, and files put together that begin again.
    return len(np.unique(values)) == len(values) or float(ones.mean()) > MOSTLY


def _values(recipe: Recipe, table: Table, names: Sequence[str], offsets: Offsets) -> NDArray[Any]:
    """Returns (N, features) float32, or what lists of one key hold: (N, ...) or (N,) objects of (steps, features)."""
    columns = [table.columns[table.column("features", name, default="")] for name in names]
    if len(columns) == 1 and any(isinstance(value, list) for value in columns[0]):
        return _sequences(table, names[0], columns[0], offsets)
    found: list[NDArray[Any]] = []
    for name, cells in zip(names, columns, strict=True):
        fast = _numbers(cells)
        if fast is not None:
            exact = bool((np.abs(fast) < EXACT).all())
            found.append(fast if exact else array_of([exact_of(cell) for cell in cells]))
            continue
        wrong, count = {}, 0
        column = np.zeros(len(cells))
        found.append(column)
        for row, value in enumerate(cells):
            column[row], problem = number_of(value)
            count += bool(problem)
            if problem and count <= MOST_BAD:
                wrong[row] = problem
        if count > WRONG_COLUMN * len(cells) and recipe.data.features is None:
            row = next(iter(wrong))
            raise DataError(
                f"{table.path}:{table.lines[row]}: {table.noun} `{short(name)}` {wrong[row]}. If it is no feature, "
                "name those that are in data.features."
            )
        for row, problem in wrong.items():
            table.blame(row, f"`{short(name)}` {problem}")
    if table.bad:  # nothing comes of it
        return np.zeros((len(table), len(found)), np.float32)
    return offsets.columns(found)


def _numbers(cells: list[Any]) -> NDArray[np.float64] | None:
    """Returns cells as numbers, None where one of them is none."""
    if not set(map(type, cells)) <= {str, int, float}:
        return None
    written = [cell for cell in cells if isinstance(cell, str)]
    if max(map(len, written), default=0) > LONGEST_NUMBER or "_" in "".join(written):
        return None  # NumPy reads 1_000 as Python does
    try:
        values: NDArray[np.float64] = np.array(cells).astype(np.float64)
    except (ValueError, OverflowError):
        return None
    return values if (np.abs(values) <= LARGEST).all() else None


def _sequences(table: Table, name: str, cells: list[Any], offsets: Offsets) -> NDArray[Any]:
    """Returns lists of numbers or of rows, in one array where all are of one shape."""
    found: list[NDArray[Any] | None] = []
    form: tuple[int, ...] | None = None
    for row, value in enumerate(cells):
        one, wrong = sequence_of(value)
        if one is not None:
            form = form if form is not None else (one.ndim, *one.shape[1:])
            if (one.ndim, *one.shape[1:]) != form:
                wrong = f"holds {_form(one.ndim, one.shape[1:])}, the first row {_form(form[0], form[1:])}"
        if wrong:
            table.blame(row, f"`{name}` {wrong}")
        found.append(one)
    table.check()
    arrays = offsets.series([one for one in found if one is not None])
    if len({len(one) for one in arrays}) == 1:
        return np.stack(arrays)
    result = np.empty(len(arrays), object)
    result[:] = [one if one.ndim == SERIES else one[:, np.newaxis] for one in arrays]
    return result


def _form(axes: int, rest: tuple[int, ...]) -> str:
    return "plain numbers" if axes == ROW else f"rows of {counted(rest[0], 'number')}"


def _is_series(inputs: NDArray[Any], task: str) -> bool:
    return task == "timeseries-classification" or inputs.ndim > ROW + 1 or inputs.dtype == object


def _labels(
    task: str, answers: dict[str, list[Any] | None], sizes: dict[str, int], origin: str
) -> tuple[dict[str, NDArray[Any]], tuple[str, ...]]:
    """Returns the labels by part, and the names of the classes."""
    if task == "regression":
        return {part: array_of(given or []).reshape(-1, 1) for part, given in answers.items()}, ()
    check_count(len({name for given in answers.values() for name in given or ()}), origin)
    check_spellings({part: given for part, given in answers.items() if given is not None}, origin)
    if task == "anomaly-detection":
        return anomaly_numbers(answers, sizes, origin)
    if task == "language-modeling":
        return {part: np.zeros(size, np.int64) for part, size in sizes.items()}, ()
    names = sorted({name for given in answers.values() for name in given or ()}, key=_order)
    if len(names) < 2:  # noqa: PLR2004 - a choice
        raise DataError(f"{origin}: one class only ({shown(names[0])}); a classifier needs two or more.")
    numbers = {name: number for number, name in enumerate(names)}
    return {part: np.array([numbers[one] for one in given or ()], np.int64) for part, given in answers.items()}, tuple(
        names
    )


def _order(name: str) -> tuple[int, float, str]:
    """Sorts numbers by value and before words."""
    return (0, int(name), name) if name.isdecimal() else (1, 0, name)
