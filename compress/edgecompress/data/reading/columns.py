"""From a table's columns to samples, as the task needs them: text, series or features, and what is to be answered."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecompress.data.base import Split
from edgecompress.data.labels import anomaly_numbers, describe_classes
from edgecompress.data.raw import RawData, RawKind
from edgecompress.data.reading.cells import label_of, number_of, sequence_of, text_of
from edgecompress.data.reading.table import Table, shown
from edgecompress.errors import DataError
from edgecompress.recipe.schema import Recipe
from edgecompress.wording import counted, verb

TEXT_TASKS = ("text-classification", "language-modeling")
#: Tasks whose answers are classes by name.
CLASS_TASKS = ("text-classification", "timeseries-classification")
#: The share of cells that fail from which on the column is the mistake, not the rows.
WRONG_COLUMN = 0.5
#: Axes of a sample: a row of features, a series of them.
ROW, SERIES = 1, 2


def usual_names(recipe: Recipe) -> list[str]:
    """Returns the columns that a recipe names, and what columns are called where it names none."""
    data = recipe.data
    return [
        *(name for name in (data.text, data.label, data.split_by) if name is not None),
        *(data.features or ()),
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
    for part, table in tables.items():
        if not table.lines:
            table.check()  # says why
        label = _label_column(recipe, table, part, has_test="test" in tables)
        group = recipe.data.split_by and table.column("split_by", recipe.data.split_by, default="")
        groups[part] = (
            np.array([_group(table, row, value) for row, value in enumerate(table.columns[group])]) if group else None
        )
        answers[part] = _answers(table, label, numbers=task == "regression")
        if as_text:
            inputs[part] = _texts(recipe, table, notes)
        else:
            chosen = chosen or _features(recipe, table, tuple(name for name in (label, group) if name))
            inputs[part] = _values(recipe, table, chosen)
        table.check()
    kind: RawKind = "text" if as_text else "series" if _is_series(inputs["train"], task) else "features"
    if kind == "series":
        inputs = {part: one[..., np.newaxis] if one.ndim == ROW + 1 else one for part, one in inputs.items()}
    labels, names = _labels(task, answers, {part: len(one) for part, one in inputs.items()}, origin)
    splits = {part: Split(inputs[part], labels[part], groups[part]) for part in tables}
    if task in CLASS_TASKS:
        notes += describe_classes(labels, names, origin)
    targets = (_label_column(recipe, tables["train"], "train", has_test=False) or "",) if task == "regression" else ()
    return RawData(splits["train"], splits.get("test"), names, notes=tuple(notes), kind=kind, target_names=targets)


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


def _group(table: Table, row: int, value: Any) -> str:
    name, wrong = label_of(value)
    if wrong:
        table.blame(row, f"the group {wrong}")
    return name


def _answers(table: Table, column: str | None, *, numbers: bool) -> list[Any] | None:
    """Returns class names, or numbers to predict; rows without one are blamed."""
    if column is None:
        return None
    found = []
    for row, value in enumerate(table.columns[column]):
        answer, wrong = number_of(value) if numbers else label_of(value)
        if wrong:
            table.blame(row, f"`{column}` {wrong}")
        found.append(answer)
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
    return rest


def _values(recipe: Recipe, table: Table, names: Sequence[str]) -> NDArray[Any]:
    """Returns (N, features) float32, or what lists of one key hold: (N, ...) or (N,) objects of (steps, features)."""
    columns = [table.columns[table.column("features", name, default="")] for name in names]
    if len(columns) == 1 and any(isinstance(value, list) for value in columns[0]):
        return _sequences(table, names[0], columns[0])
    result = np.zeros((len(table), len(columns)), np.float32)
    for place, (name, cells) in enumerate(zip(names, columns, strict=True)):
        fast = _numbers(cells)
        if fast is not None:
            result[:, place] = fast
            continue
        wrong = {}
        for row, value in enumerate(cells):
            result[row, place], problem = number_of(value)
            if problem:
                wrong[row] = problem
        if len(wrong) > WRONG_COLUMN * len(cells) and recipe.data.features is None:
            row = next(iter(wrong))
            raise DataError(
                f"{table.path}:{table.lines[row]}: {table.noun} `{name}` {wrong[row]}. If it is no feature, name those "
                "that are in data.features."
            )
        for row, problem in wrong.items():
            table.blame(row, f"`{name}` {problem}")
    return result


def _numbers(cells: list[Any]) -> NDArray[np.float32] | None:
    """Returns cells as numbers, None where one of them is none."""
    if not all(type(cell) in (str, int, float) for cell in cells):
        return None
    if any("_" in cell for cell in cells if isinstance(cell, str)):  # NumPy reads 1_000 as Python does
        return None
    try:
        with np.errstate(over="ignore"):
            values = np.array(cells).astype(np.float64).astype(np.float32)
    except (ValueError, OverflowError):
        return None
    return values if np.isfinite(values).all() else None


def _sequences(table: Table, name: str, cells: list[Any]) -> NDArray[Any]:
    """Returns lists of numbers or of rows, in one array where all are of one shape."""
    found: list[NDArray[np.float32] | None] = []
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
    arrays = [one for one in found if one is not None]
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
        return {part: np.array(given, np.float32).reshape(-1, 1) for part, given in answers.items()}, ()
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
