"""What all tests share."""

from __future__ import annotations

import functools
import gc
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

from tests.shared import quick, untraced
from tests.shared.processes import HUNG_S, hear_signals

untraced.install()
#: What is imported while tests are collected is compiled once, whatever the environment says: pytest takes seconds over
#: the tests' own modules. What tests write and import is another matter.
WRITES_NOTHING = sys.dont_write_bytecode
sys.dont_write_bytecode = False
#: Constants of the product that end a child process which takes too long: none does here, however busy the machine is.
LIMITS_S = (
    "edgecompress.pipeline.diagnosis.PROBE_TIMEOUT_S",
    "edgecompress.tflite.runtime.bench.START_S",
    "edgecompress.tflite.runtime.patience.START_S",
    "edgecompress.tflite.runtime.patience.SILENCE_S",
)


#: What takes a test to the converter, Keras or TensorFlow, which take seconds to import alone: fixtures, and functions
#: that its module has imported.
CONVERTING_FIXTURES = {"converted", "int8_file", "keras"}
CONVERTING = {"convert", "convert_inputs", "run_pipeline", "predict_sizes", "quantized_structure", "require_tensorflow"}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--quick", action="store_true", help="Leave out what needs torch, the converter or a second.")
    parser.addoption("--regenerate", action="store_true", help="Write the golden files anew instead of comparing.")


def pytest_configure(config: pytest.Config) -> None:
    hear_signals()
    if config.getoption("--quick"):
        quick.install()


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leaves whole runs out of a quick session before their files are read: each gets to the converter."""
    return True if config.getoption("--quick") and collection_path == Path(__file__).parent / "e2e" else None


def converts(item: pytest.Function) -> bool:
    """Returns whether a test gets to the converter, as far as can be seen from outside."""
    return "e2e" in item.path.parts or bool(CONVERTING_FIXTURES & {*item.fixturenames}) or has_converting(item.module)


@functools.cache
def has_converting(module: ModuleType) -> bool:
    """Returns whether a module has imported one of our functions that convert."""
    named = [value for value in vars(module).values() if getattr(value, "__name__", "") in CONVERTING]
    return any(str(getattr(value, "__module__", "")).startswith("edgecompress.") for value in named)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Function]) -> None:
    """Marks what converts, leaves it out of a quick session, and puts what takes longest first.

    A long file that comes last keeps one of two workers waiting. The shipped recipes, which share nothing with other
    tests, run beside those that wait for each other's trained models.
    """
    quick.collected()
    for item in items:
        if converts(item):
            item.add_marker(pytest.mark.converter)
    if config.getoption("--quick"):
        left_out = {item for item in items if {"converter", "slow"} & {mark.name for mark in item.iter_markers()}}
        config.hook.pytest_deselected(items=list(left_out))
        items[:] = [item for item in items if item not in left_out]
    items.sort(key=lambda item: (item.path.name != "test_recipes.py", "e2e" not in item.path.parts))


def pytest_collection_finish() -> None:
    """Keeps the thousands of collected tests out of each collection of garbage."""
    sys.dont_write_bytecode = WRITES_NOTHING
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def _one_core() -> None:
    """Each worker keeps to a core of its own, its child processes too: with all cores each they wait for each other."""
    if hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        number = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
        os.sched_setaffinity(0, {cores[number % len(cores)]})


@pytest.fixture(scope="session", autouse=True)
def _patience() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name in LIMITS_S:
            patch.setattr(name, HUNG_S)
        yield


@pytest.fixture(scope="session")
def session_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all workers of a session share, and no other session does."""
    own = tmp_path_factory.getbasetemp()
    return own.parent if "PYTEST_XDIST_WORKER" in os.environ else own


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[Path, str], None]:
    """Compares a text with a golden file, or writes the file where pytest was told to."""

    def compare(path: Path, text: str) -> None:
        if request.config.getoption("--regenerate"):
            path.write_text(text, encoding="utf-8")
        assert path.is_file(), f"{path} is missing; write it with pytest --regenerate, then read it"
        assert text == path.read_text(encoding="utf-8")

    return compare
