"""The wheel: what is in it, and that it works where there is no checkout."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from edgecompress.version import __version__

ROOT = Path(__file__).parents[2]
CARRIED = {
    "edgecompress/share/edgecompress.mk": ROOT / "edgecompress.mk",
    "edgecompress/recipe/recipe.schema.json": ROOT / "compress" / "edgecompress" / "recipe" / "recipe.schema.json",
    f"edgecompress-{__version__}.dist-info/licenses/LICENSE": ROOT / "LICENSE",
    **{f"edgecompress/share/recipes/{path.name}": path for path in (ROOT / "recipes").glob("*.yaml")},
}


def build(source: Path, kind: str, folder: Path) -> Path:
    """Returns what hatchling, which has to be installed, builds from a folder: the `wheel` or the `sdist`."""
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "--target", kind, "--directory", str(folder)],
        cwd=source, capture_output=True, text=True, check=True, timeout=120,
    )  # fmt: skip
    (built,) = folder.iterdir()
    return built


def contents(wheel: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(ROOT, "wheel", tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, unpacked as an installer does it."""
    place = tmp_path_factory.mktemp("installed")
    shutil.unpack_archive(wheel, place, "zip")
    return place


def test_holds_the_two_packages_and_what_they_carry(wheel: Path) -> None:
    assert wheel.name == f"edgecompress-{__version__}-py3-none-any.whl"
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "compress", "cli"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout.split()  # fmt: skip
    sources = {name.partition("/")[2]: ROOT / name for name in listed if (ROOT / name).is_file()}
    assert "edgecompress/pipeline/run.py" in sources
    assert "edgecompress_cli/main.py" in sources
    found = contents(wheel)
    expected = {name: path.read_bytes() for name, path in (sources | CARRIED).items()}
    info = f"edgecompress-{__version__}.dist-info"
    written = {f"{info}/{name}" for name in ("METADATA", "WHEEL", "RECORD", "entry_points.txt")}
    assert set(found) == {*expected, *written}
    assert {name: found[name] for name in expected} == expected
    assert found[f"{info}/entry_points.txt"].decode().split() == [
        "[console_scripts]", "edgecompress", "=", "edgecompress_cli.main:main"
    ]  # fmt: skip


def test_the_source_archive_builds_the_same_wheel(wheel: Path, tmp_path: Path) -> None:
    archive = build(ROOT, "sdist", tmp_path / "sdist")
    with tarfile.open(archive) as packed:
        packed.extractall(tmp_path / "source", filter="data")
    (source,) = (tmp_path / "source").iterdir()
    assert contents(build(source, "wheel", tmp_path / "wheel")) == contents(wheel)


def test_works_where_there_is_no_checkout(installed: Path, tmp_path: Path) -> None:
    def answer(*command: str) -> str:
        environment = {**os.environ, "PYTHONPATH": str(installed)}
        return subprocess.run(
            [sys.executable, *command], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
        ).stdout

    where = "import edgecompress, edgecompress_cli; print(edgecompress.__file__, edgecompress_cli.__file__)"
    assert all(Path(file).is_relative_to(installed) for file in answer("-c", where).split())
    assert answer("-m", "edgecompress", "--version") == f"edgecompress {__version__}\n"
    assert "fashion-mnist-qat" in answer("-m", "edgecompress", "recipes")
    for name in ("digits", "edgecompress.mk", "recipe.schema.json"):
        answer("-m", "edgecompress", "recipes", "copy", name)
    assert answer("-m", "edgecompress", "validate", "digits.yaml") == "digits.yaml: OK\n"
    assert answer("-m", "edgecompress", "schema") == (tmp_path / "recipe.schema.json").read_text()
    # What runs in a process of its own is found from there too, even by another Python that knows none of our paths.
    beside = "from edgecompress.tflite.runtime import private_env; print(private_env.own_packages())"
    assert answer("-c", beside) == f"{installed}\n"
