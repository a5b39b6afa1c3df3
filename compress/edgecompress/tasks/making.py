"""The tasks, by the name a recipe gives them."""

from __future__ import annotations

from collections.abc import Callable

from edgecompress.data.base import Dataset
from edgecompress.recipe.schema import Recipe
from edgecompress.tasks.anomaly import AnomalyDetection
from edgecompress.tasks.base import Task
from edgecompress.tasks.classification import Classification
from edgecompress.tasks.language import LanguageModeling
from edgecompress.tasks.regression import Regression

#: Name in the recipe -> what makes the task over a dataset.
TASKS: dict[str, Callable[[Recipe, Dataset], Task]] = {
    "image-classification": Classification,
    "text-classification": Classification,
    "timeseries-classification": Classification,
    "audio-classification": Classification,
    "regression": Regression,
    "anomaly-detection": AnomalyDetection,
    "language-modeling": LanguageModeling,
}


def make_task(recipe: Recipe, dataset: Dataset) -> Task:
    """Returns the task of a recipe over its data."""
    return TASKS[recipe.task](recipe, dataset)
