"""Whether training works the first time: default settings against a small grid, over small data sets and ten modules.

    python -m benchmarks.training.defaults  # three quarters of an hour on one core; finished rows are skipped

A case is a data set, a module and how it is trained: `defaults`, where the recipe says nothing, or an optimizer and a
learning rate, everything else as by default. `value` is the task's main figure on the test split. Each row takes less
than a minute. What is printed in the end is the table of docs/training.md.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn import datasets

from benchmarks.table import RESULTS, Table
from edgecompress.context import Context
from edgecompress.errors import DivergedError
from edgecompress.figures import judged, main_figure
from edgecompress.recipe.schema import Recipe
from edgecompress.stages.base import Workbench
from edgecompress.store.store import Store
from edgecompress.training.evaluate import outputs_of
from edgecompress.training.fit import fit
from edgecompress.training.loss import Lesson

COLUMNS = ("figure", "value", "samples", "epochs", "batch_size", "optimizer", "learning_rate", "setbacks", "seconds")
#: What the defaults are held against.
GRID = ({"optimizer": "adamw", "learning_rate": 0.003}, {"optimizer": "sgd", "learning_rate": 0.1},
        {"optimizer": "adamw", "learning_rate": 0.001}, {"optimizer": "sgd", "learning_rate": 0.01})  # fmt: skip
FASHION = Path("/usr/share/datasets/fashion-mnist")
OWN = "python:study_modules"
Arrays = tuple[NDArray[Any], NDArray[Any]]


def table(name: str) -> Arrays:
    """Returns one of scikit-learn's tables: each row a series of one step."""
    found = getattr(datasets, f"load_{name}")()
    return found.data[:, None].astype(np.float32), found.target


def digits() -> Arrays:
    """Returns 1,797 pictures of 8x8 pixels."""
    found = datasets.load_digits()
    return (found.images * 15).astype(np.uint8)[..., None], found.target


def shapes(count: int = 600, side: int = 32) -> Arrays:
    """Returns drawn discs, boxes, crosses and rings, anywhere and of any size, on noise."""
    draw = np.random.default_rng(1)
    rows, columns = np.mgrid[:side, :side]
    pictures, labels = draw.integers(0, 90, (count, side, side, 1)), np.arange(count) % 4
    for picture, label in zip(pictures, labels, strict=True):
        radius = int(draw.integers(side // 6, side // 3))
        y, x = (int(draw.integers(radius, side - radius)) for _ in range(2))
        far, wide = np.hypot(rows - y, columns - x), np.maximum(abs(rows - y), abs(columns - x))
        cross = (np.minimum(abs(rows - y), abs(columns - x)) < 2) & (wide < radius)
        drawn = (far < radius, wide < radius, cross, abs(far - radius + 2) < 2)[label]
        picture[drawn] = draw.integers(130, 255)
    return pictures.astype(np.uint8), labels


def waves(count: int = 400, steps: int = 48) -> Arrays:
    """Returns series of sines, squares, saw teeth and noise, two channels, in any phase."""
    draw = np.random.default_rng(2)
    labels = np.arange(count) % 4
    phase = draw.uniform(0, 1, (count, 1, 2)) + draw.uniform(2, 5, (count, 1, 1)) * np.linspace(0, 1, steps)[:, None]
    kinds = (np.sin(2 * np.pi * phase), np.sign(np.sin(2 * np.pi * phase)), 2 * (phase % 1) - 1, 0 * phase)
    clean = np.choose(labels[:, None, None], kinds)
    return (clean + draw.normal(0, 0.6, clean.shape)).astype(np.float32), labels


def fashion(count: int = 600) -> Arrays:
    """Returns some of Fashion-MNIST's training pictures, from Debian's package."""
    import gzip

    pictures = gzip.decompress((FASHION / "train-images-idx3-ubyte.gz").read_bytes())[16:]
    labels = gzip.decompress((FASHION / "train-labels-idx1-ubyte.gz").read_bytes())[8:]
    return (
        np.frombuffer(pictures, np.uint8).reshape(-1, 28, 28, 1)[:count],
        np.frombuffer(labels, np.uint8)[:count].astype(np.int64),
    )


WORDS = {"weather": "rain wind cloud storm sun cold", "money": "bank loan price rent coin debt",
         "food": "bread soup apple rice cheese salt"}  # fmt: skip
EVERYDAY = [
    "the",
    "a",
    "of",
    "we",
    "and",
    "is",
    "it",
    "that",
    "was",
    "for",
    "on",
    "with",
    "they",
    "this",
    "but",
    "from",
]


def texts(folder: Path, count: int = 300) -> dict[str, Any]:
    """Writes sentences of everyday words with one or two that tell what they are about."""
    draw = np.random.default_rng(3)
    lines = ["text,label"]
    for number in range(count):
        topic = list(WORDS)[number % len(WORDS)]
        words = [str(draw.choice(EVERYDAY)) for _ in range(10)]
        for place in draw.integers(0, 10, int(draw.integers(1, 3))):
            words[place] = str(draw.choice(WORDS[topic].split()))
        lines.append(f"{' '.join(words)},{topic}")
    (folder / "texts.csv").write_text("\n".join(lines) + "\n")
    return {"source": "csv", "path": "texts.csv", "text": "text", "label": "label", "length": 12}


def diabetes(folder: Path) -> dict[str, Any]:
    """Writes scikit-learn's table of 442 patients and the number to predict."""
    found = datasets.load_diabetes()
    rows = np.column_stack([found.data, found.target])
    header = ",".join([*(name for name in found.feature_names), "y"])
    np.savetxt(folder / "diabetes.csv", rows, delimiter=",", header=header, comments="", fmt="%.6g")
    return {"source": "csv", "path": "diabetes.csv", "label": "y"}


def prose(folder: Path) -> dict[str, Any]:
    """Writes sentences of a small grammar, to be read byte by byte."""
    draw = np.random.default_rng(4)
    who, does = ("the cat", "a dog", "my aunt", "the old man"), ("sees", "feeds", "calls", "forgets")
    (folder / "prose").mkdir(exist_ok=True)
    for number in range(20):
        lines = [f"{draw.choice(who)} {draw.choice(does)} {draw.choice(who)}." for _ in range(40)]
        (folder / "prose" / f"{number}.txt").write_text("\n".join(lines))
    return {"source": "text-files", "path": "prose", "length": 32, "tokenizer": {"kind": "byte"}}


Write = Callable[[Path], dict[str, Any]]


def arrays(name: str, make: Callable[[], Arrays]) -> Write:
    """Returns what writes a data set of arrays and says where it lies."""

    def write(folder: Path) -> dict[str, Any]:
        x, y = make()
        order = np.random.default_rng(0).permutation(len(x))
        test = len(x) // 3
        train, held = order[test:], order[:test]
        np.savez(folder / f"{name}.npz", x_train=x[train], y_train=y[train], x_test=x[held], y_test=y[held])
        return {"source": "npz", "path": f"{name}.npz"}

    return write


SERIES = "timeseries-classification"
#: Data set -> task, and what writes it.
DATA: dict[str, tuple[str, Write]] = {
    "iris": (SERIES, arrays("iris", lambda: table("iris"))),
    "wine": (SERIES, arrays("wine", lambda: table("wine"))),
    "breast cancer": (SERIES, arrays("cancer", lambda: table("breast_cancer"))),
    "diabetes": ("regression", diabetes),
    "digits": ("image-classification", arrays("digits", digits)),
    "shapes": ("image-classification", arrays("shapes", shapes)),
    "fashion": ("image-classification", arrays("fashion", fashion)),
    "waves": (SERIES, arrays("waves", waves)),
    "texts": ("text-classification", texts),
    "prose": ("language-modeling", prose),
}
#: Case -> data set, model, its arguments.
CASES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "iris, eight linear layers": ("iris", f"{OWN}:deep_mlp", {}),
    "wine, eight linear layers with layer norms": ("wine", f"{OWN}:deep_mlp", {"norm": True}),
    "breast cancer, mlp": ("breast cancer", "mlp", {"width": 32}),
    "diabetes, mlp": ("diabetes", "mlp", {"width": 32}),
    "digits, convolutions without norms": ("digits", f"{OWN}:ConvNet", {}),
    "digits, vision Transformer": ("digits", f"{OWN}:Patches", {}),
    "digits, squeeze-and-excite": ("digits", f"{OWN}:squeeze_excite", {}),
    "shapes, eight plain convolutions": ("shapes", f"{OWN}:deep_plain", {}),
    "shapes, squeeze-and-excite": ("shapes", f"{OWN}:squeeze_excite", {}),
    "shapes, resnet8": ("shapes", "resnet8", {"width": 8}),
    "fashion, timm's MobileNetV3": ("fashion", "timm/mobilenetv3_small_050", {}),
    "fashion, ds-cnn": ("fashion", "ds-cnn", {"width": 16}),
    "waves, own GRU": ("waves", f"{OWN}:Recurrent", {}),
    "waves, tcn": ("waves", "tcn", {"width": 16}),
    "waves, transformer": ("waves", "transformer", {"layers": 2, "heads": 2, "width": 32}),
    "texts, text-cnn": ("texts", "text-cnn", {"width": 16, "embedding": 16}),
    "texts, transformer": ("texts", "transformer", {"layers": 1, "heads": 2, "width": 32}),
    "prose, transformer": ("prose", "transformer", {"layers": 2, "heads": 2, "width": 32}),
}
DEFAULTS = "defaults"


def named(train: dict[str, Any]) -> str:
    """Returns how a training is called."""
    return f"{train['optimizer']} {train['learning_rate']:g}" if train else DEFAULTS


def run_case(case: str, train: dict[str, Any], seed: int, folder: Path) -> dict[str, Any]:
    """Trains a model and returns its row."""
    data, model, args = CASES[case]
    task, write = DATA[data]
    recipe = Recipe.model_validate(
        {
            "version": 1,
            "name": "study",
            "task": task,
            "seed": seed,
            "threads": 1,
            "base_dir": str(folder),
            "data": write(folder),
            "student": {"model": model, "args": args, "train": train},
        }
    )
    started = time.monotonic()
    ctx = Context(seed, trust=True, stage="distill")
    bench = Workbench(recipe, ctx, Store(folder / "store"))
    spec = bench.spec_of("distill")
    assert spec.train is not None
    learner = bench.laid_out(bench.build(spec, "distill"), "distill")
    settled = bench.training(spec.train, spec.habits, learner, "distill")
    split, value = bench.dataset.test, float("nan")
    try:
        fit(learner, settled, bench.task, ctx, lesson=Lesson(), device=bench.device, name="student")
        figures = bench.task.metrics(outputs_of(learner, bench.task, split.inputs, bench.device), split)
        known = judged(task, figures)
        assert known is not None
        value = known[1]
    except DivergedError as error:
        print(error, flush=True)
    return {
        "figure": main_figure(task).key,
        "value": round(value, 4),
        "samples": len(bench.dataset.train),
        "epochs": settled.epochs,
        "batch_size": settled.batch_size,
        "optimizer": settled.optimizer,
        "learning_rate": settled.learning_rate,
        "setbacks": sum("diverged" in warning for warning in ctx.warnings),
        "seconds": round(time.monotonic() - started, 1),
    }


def show(rows: list[dict[str, str]]) -> None:
    """Prints the table: what the defaults reach, the best of the grid, and the share of it."""
    print("| case | samples | trained by default | figure | defaults | best of the grid | share |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for case in CASES:
        own = [row for row in rows if row["case"] == f"{case}: {DEFAULTS}"]
        grid = [row for row in rows if row["case"].startswith(f"{case}: ") and row not in own]
        grid = [row for row in grid if row["value"] not in ("", "nan")]
        if not own or not grid:
            continue
        figure = main_figure(DATA[CASES[case][0]][0])
        best = (max if figure.larger_is_better else min)(grid, key=lambda row: float(row["value"]))
        share = float(own[0]["value"]) / float(best["value"])
        share = share if figure.larger_is_better else 1 / share
        row, way = own[0], best["case"].split(": ")[-1]
        rate = f"{row['optimizer']} {float(row['learning_rate']):.3g}"
        how = f"{row['epochs']} epochs, batches of {row['batch_size']}, {rate}"
        print(
            f"| {case} | {row['samples']} | {how} | {figure.label} | {float(row['value']):.4g} | "
            f"{float(best['value']):.4g} ({way}) | {100 * share:.1f} % |"
        )


def main() -> None:
    """Runs what is missing and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--cases", nargs="+", default=list(CASES), choices=list(CASES), metavar="CASE")
    parser.add_argument("--defaults-only", action="store_true")
    options = parser.parse_args()
    results = Table(RESULTS / "training_defaults.csv", COLUMNS)
    modules = Path(__file__).with_name("study_modules.py").read_text()
    ways: list[dict[str, Any]] = [{}, *(() if options.defaults_only else GRID)]
    with tempfile.TemporaryDirectory() as scratch:
        (Path(scratch) / "study_modules.py").write_text(modules)
        for seed in options.seeds:
            for train in ways:
                for case in options.cases:
                    name = f"{case}: {named(train)}"
                    if not results.done(name, seed):
                        results.append(name, seed, **run_case(case, train, seed, Path(scratch)))
                        print(results.rows()[-1], flush=True)
    show(results.rows())


if __name__ == "__main__":
    main()
