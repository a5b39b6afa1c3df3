"""What is installed on which platform: markers, pins and supported Pythons agree with each other and with the code."""

from __future__ import annotations

import sys
import tomllib
from itertools import product
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from edgecompress.machine import BUILT_FOR
from edgecompress.pipeline.diagnosis import LIBRARIES
from edgecompress.tflite.runtime.private_env import NEWEST_PYTHON

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
PYTHONS = ("3.11", "3.12", "3.13")
PLATFORMS = (("linux", "x86_64"), ("linux", "aarch64"), ("darwin", "arm64"), ("win32", "AMD64"))


def wanted(python: str, platform: tuple[str, str]) -> dict[str, Requirement]:
    """Returns what an install with the extras of the Makefile asks for there, by canonical name."""
    texts = [*PROJECT["dependencies"], *(one for extra in PROJECT["optional-dependencies"].values() for one in extra)]
    environment = {"python_version": python, "sys_platform": platform[0], "platform_machine": platform[1]}
    asked = [Requirement(text) for text in texts]
    return {canonicalize_name(one.name): one for one in asked if one.marker is None or one.marker.evaluate(environment)}


def pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pairs = (line.split("==") for line in lines if line and not line.startswith("#"))
    return {canonicalize_name(name): version for name, version in pairs}


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize(
    ("platform", "there", "absent"),
    [
        (("linux", "x86_64"), {"litert-torch", "tflite-micro", "tensorflow-cpu"}, {"tensorflow"}),
        (("linux", "aarch64"), {"tensorflow"}, {"litert-torch", "tflite-micro", "tflite-runtime", "tensorflow-cpu"}),
        (("darwin", "arm64"), {"litert-torch", "tensorflow"}, {"tflite-micro", "tflite-runtime", "tensorflow-cpu"}),
    ],
)
def test_each_platform_gets_what_is_built_for_it(
    python: str, platform: tuple[str, str], there: set[str], absent: set[str]
) -> None:
    found = set(wanted(python, platform))
    assert there <= found
    assert not absent & found
    assert {"torch", "ai-edge-litert", "ai-edge-quantizer", "torch-pruning", "transformers"} <= found


@pytest.mark.parametrize("python", PYTHONS)
def test_tflite_runtime_ends_with_the_python_it_was_built_for(python: str) -> None:
    built = tuple(map(int, python.split("."))) <= NEWEST_PYTHON
    assert ("tflite-runtime" in wanted(python, ("linux", "x86_64"))) is built


@pytest.mark.parametrize("name", BUILT_FOR)
def test_markers_and_messages_know_the_same_platforms(name: str) -> None:
    assert {one for one in PLATFORMS if name in wanted("3.12", one)} == set(BUILT_FOR[name])


@pytest.mark.parametrize(("python", "platform"), list(product(PYTHONS, PLATFORMS)))
def test_every_pin_is_within_its_bounds_and_nothing_asked_for_is_unpinned(
    python: str, platform: tuple[str, str]
) -> None:
    pinned = pins()
    for name, asked in wanted(python, platform).items():
        assert name in pinned, f"{name} has no version in constraints.txt"
        assert asked.specifier.contains(pinned[name], prereleases=True), f"{asked} is pinned to {pinned[name]}"


def test_the_pythons_named_are_the_ones_supported() -> None:
    supported = SpecifierSet(PROJECT["requires-python"])
    known = [f"3.{minor}" for minor in range(9, 18)]
    assert [one for one in known if f"{one}.0" in supported] == list(PYTHONS)
    named = [one.rsplit(" ", 1)[1] for one in PROJECT["classifiers"] if "Python :: 3." in one]
    assert named == list(PYTHONS)


def test_the_doctor_needs_nothing_that_is_not_asked_for() -> None:
    if sys.platform != "linux":
        pytest.skip("the list is that of Linux x86_64")
    asked = wanted("3.11", ("linux", "x86_64"))
    assert {name for name, _, required in LIBRARIES if required} <= set(asked)
