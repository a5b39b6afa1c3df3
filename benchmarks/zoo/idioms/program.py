"""Small networks around one layer or one expression, as a user would write them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from benchmarks.zoo.entry import Entry, Takes
from benchmarks.zoo.idioms.functions import FUNCTIONS
from benchmarks.zoo.idioms.layers import CALLED, LAYERS
from benchmarks.zoo.idioms.reports import REPORTS

PROGRAM = """import math

import torch
import torch.nn.functional as F
from torch import nn


class Net(nn.Module):
    def __init__(self, num_classes=10):
        super().__init__()
        {made}
        with torch.no_grad():
            width = self.features(torch.zeros({example})).flatten(1).shape[1]
        self.head = nn.Linear(width, num_classes)

    def features(self, x):
        {begun}
        {given}

    def forward(self, x):
        return self.head(self.features(x).flatten(1))
"""


@dataclass(frozen=True)
class Stem:
    """What comes before the layer.

    Attributes:
        takes: What the network takes.
        shape: Of a sample.
        made: What __init__ makes; empty: nothing.
        begun: What makes `y` of the input `x`.
    """

    takes: Takes
    shape: tuple[int, ...]
    made: str
    begun: str


#: Name -> what comes before. The layer sees `y`: pictures of 8 channels, lines of 8 channels and 16 steps, 16 steps of
#: 8 features, volumes of 4 channels and 4 x 8 x 8, vectors of 16, 16 token numbers of 258, or the input itself.
STEMS = {
    "pictures": Stem("pictures", (3, 16, 16), "self.first = nn.Conv2d(3, 8, 3, padding=1)", "y = self.first(x)"),
    "lines": Stem("series", (16, 4), "self.first = nn.Conv1d(4, 8, 3, padding=1)", "y = self.first(x.transpose(1, 2))"),
    "steps": Stem("series", (16, 4), "self.first = nn.Linear(4, 8)", "y = self.first(x)"),
    "volumes": Stem(
        "pictures",
        (3, 8, 8),
        "self.first = nn.Conv2d(3, 16, 3, padding=1)",
        "y = self.first(x).view(x.shape[0], 4, 4, 8, 8)",
    ),
    "vectors": Stem("series", (8, 4), "self.first = nn.Linear(32, 16)", "y = self.first(x.flatten(1))"),
    "tokens": Stem("tokens", (16,), "", "y = x"),
    "raw pictures": Stem("pictures", (3, 16, 16), "", "y = x"),
    "raw steps": Stem("series", (16, 4), "", "y = x"),
}


def entry(name: str, stem: str, made: str, given: str) -> Entry:
    """Returns an entry of the zoo: `made` are lines of __init__, `given` those of forward, the last its value."""
    before = STEMS[stem]
    *lines, last = given.strip().splitlines()
    lines = [*lines, last if last.lstrip().startswith("return ") else f"return {last}"]
    making = [line for line in (before.made, *made.strip().splitlines()) if line]
    example = ", ".join(str(size) for size in (2, *before.shape))
    program = PROGRAM.format(
        made="\n        ".join(making or ["pass"]),
        example=f"{example}, dtype=torch.int32" if before.takes == "tokens" else example,
        begun=before.begun,
        given="\n        ".join(lines),
    )
    return Entry("idioms", name, takes=before.takes, shapes=(before.shape,), program=program)


def named(texts: dict[str, str]) -> Iterator[tuple[str, str, str]]:
    """Gives what comes before, a text, and its name: the text, with what comes before where others have it too.

    A line that is indented belongs to the one above.
    """
    lines = {stem: text.strip().replace("\n  ", " ").splitlines() for stem, text in texts.items()}
    counts = Counter(text for every in lines.values() for text in every)
    for stem, every in lines.items():
        for text in every:
            yield stem, text, text if counts[text] == 1 else f"{text} of {stem}"


def idioms() -> list[Entry]:
    """Returns all of them."""
    layers = [entry(name, stem, f"self.layer = {layer}", "self.layer(y)") for stem, layer, name in named(LAYERS)]
    called = [entry(name, stem, f"self.layer = {layer}", call) for name, (stem, layer, call) in CALLED.items()]
    functions = [entry(name, stem, "", text) for stem, text, name in named(FUNCTIONS)]
    reports = [entry(name, stem, made, given) for name, (stem, made, given) in REPORTS.items()]
    return [*layers, *called, *functions, *reports]
