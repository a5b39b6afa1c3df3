"""One flatbuffer on every runtime, each in a process of its own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgecompress.errors import ModelError, ResourceError
from edgecompress.tflite.runtime import private_env
from edgecompress.tflite.runtime.bench import bench
from edgecompress.tflite.runtime.proof import prove
from edgecompress.tflite.runtime.runtimes import RUNTIMES
from tests.unit.made_flatbuffer import Made, Op, int8, make_bytes

pytestmark = pytest.mark.slow


def raw_images(count: int = 50) -> np.ndarray:
    return np.random.default_rng(0).integers(-128, 128, (count, 12, 12, 3)).astype(np.int8)


@pytest.fixture(scope="module")
def old_runtime() -> None:
    """tflite-runtime's own environment, set up once on a machine."""
    try:
        private_env.install()
    except ResourceError as error:
        pytest.skip(str(error))


def test_litert_agrees_with_itself(int8_file: Path) -> None:
    proof = prove(int8_file, "litert", raw_images())
    assert (proof.runs, proof.samples, proof.same_answer, proof.bit_exact, proof.max_steps) == (True, 50, 100, 100, 0)
    assert proof.arena_bytes is None


def test_tflite_micro_runs_it_and_tells_its_arena(int8_file: Path) -> None:
    proof = prove(int8_file, "tflite-micro", raw_images())
    assert proof.runs, proof.reason
    assert proof.max_steps is not None
    assert proof.max_steps <= 4
    assert proof.arena_bytes is not None
    assert proof.activation_bytes is not None
    assert proof.persistent_bytes is not None
    assert proof.arena_bytes >= proof.activation_bytes + proof.persistent_bytes
    # Two maps of 12 x 12 x 8 live at once.
    assert proof.activation_bytes >= 2 * 12 * 12 * 8
    assert proof.flash_bytes == int8_file.stat().st_size


@pytest.mark.usefixtures("old_runtime")
def test_tflite_runtime_runs_it_beside_numpy_2(int8_file: Path) -> None:
    assert int(np.__version__.split(".")[0]) >= 2
    proof = prove(int8_file, "tflite-runtime", raw_images())
    assert proof.runs, proof.reason
    assert proof.max_steps is not None
    assert proof.max_steps <= 4
    (row,) = bench([int8_file], runtimes=["tflite-runtime"], runs=10)
    assert 0 < row.latency.p50_ms < 1000


def test_a_file_it_cannot_run_is_told_with_the_reason(tmp_path: Path) -> None:
    path = tmp_path / "sine.tflite"
    path.write_bytes(make_bytes([Made((1, 4)), Made((1, 4))], [Op("ATAN2", (0, 0), (1,))]))
    proof = prove(path, "tflite-micro", np.zeros((3, 4), np.float32))
    assert not proof.runs
    assert proof.reason
    assert proof.same_answer is None


def test_a_micro_session_tells_what_does_not_fit(int8_file: Path) -> None:
    session = RUNTIMES["tflite-micro"].session(int8_file)
    assert session.input.shape == (1, 12, 12, 3)
    session.fill(seed=0)
    session.invoke()
    with pytest.raises(ModelError, match="do not fit"):
        session.run(np.zeros((2, 5, 5, 3), np.int8))


def test_without_its_environment_tflite_runtime_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, int8_file: Path
) -> None:
    monkeypatch.setenv("EDGECOMPRESS_RUNTIMES", str(tmp_path / "none"))
    assert private_env.folder().parent == tmp_path / "none"
    with pytest.raises(ResourceError, match="doctor --install tflite-runtime"):
        RUNTIMES["tflite-runtime"].require()
    with pytest.raises(ResourceError, match="doctor --install tflite-runtime"):
        prove(int8_file, "tflite-runtime", raw_images(2))


def test_a_failed_setup_leaves_nothing_half_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGECOMPRESS_RUNTIMES", str(tmp_path))
    monkeypatch.setattr(private_env, "PACKAGES", ("./no-such-package-here",))
    with pytest.raises(ResourceError, match="could not be set up"):
        private_env.install()
    assert list(tmp_path.iterdir()) == []


def test_a_newer_python_needs_an_older_one_beside_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(private_env, "NEWEST_PYTHON", (3, 9))
    monkeypatch.setattr(private_env.shutil, "which", lambda _name: None)
    with pytest.raises(ResourceError, match=r"no python3\.9 on the path"):
        private_env.interpreter()
    monkeypatch.setattr(private_env.shutil, "which", lambda name: f"/opt/{name}")
    assert private_env.interpreter() == "/opt/python3.9"


def test_what_is_not_installed_is_said_before_anything_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    for name in ("tensorflow", "tflite-micro"):
        with pytest.raises(ResourceError, match=rf"{name} is not installed.*pip install"):
            RUNTIMES[name].require()


def test_int8_relu_is_equal_on_micro(tmp_path: Path) -> None:
    path = tmp_path / "relu.tflite"
    path.write_bytes(
        make_bytes(
            [int8(1, 16, scale=0.5, zero_point=-20), int8(1, 16, scale=0.5, zero_point=-20)],
            [Op("RELU", (0,), (1,), version=2)],
        )
    )
    raw = np.random.default_rng(1).integers(-128, 128, (30, 16)).astype(np.int8)
    proof = prove(path, "tflite-micro", raw)
    assert (proof.runs, proof.bit_exact, proof.max_steps) == (True, 100, 0)
