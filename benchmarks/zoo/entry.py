"""What the zoo holds: one entry a model, with the program a user would have written and the data it takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

#: What a model takes: pictures (C, H, W), series (steps, features), texts of some tokens.
Takes = Literal["pictures", "series", "tokens"]
CLASSES = 10


@dataclass(frozen=True)
class Entry:
    """A model.

    Attributes:
        group: `timm`, `torchvision`, `hf` or `idioms`.
        name: Its name in the table.
        model: As the recipe has it.
        takes: What its samples are.
        shapes: Shapes of a sample, the first that it can be built for is taken.
        program: What net.py holds; empty where the model is a library's.
        left_out: Why it is listed alone, and not run.
    """

    group: str
    name: str
    model: str = "python:net:Net"
    takes: Takes = "pictures"
    shapes: tuple[tuple[int, ...], ...] = ((3, 16, 16),)
    program: str = ""
    left_out: str = ""

    @property
    def case(self) -> str:
        """Returns what the table calls its row."""
        return f"{self.group}/{self.name}"

    def recipe(self) -> str:
        """Returns the recipe that a user would write: weights that are given, PTQ."""
        task = {"pictures": "image", "series": "timeseries", "tokens": "text"}[self.takes]
        tokens = f", length: {self.shapes[0][0]}, tokenizer: {{kind: byte}}" if self.takes == "tokens" else ""
        return (
            "version: 1\n"
            f"task: {task}-classification\n"
            f"data: {{source: npz, path: data.npz{tokens}}}\n"
            f'student: {{model: "{self.model}", weights: weights.pt}}\n'
            "quantize: {mode: ptq, calibration_samples: 64}\n"
            "benchmark: {runs: 20}\n"
        )
