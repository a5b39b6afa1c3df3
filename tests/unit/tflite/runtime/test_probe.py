"""The child process that tries a runtime."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from edgecompress.tflite.runtime import probe


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "relu.tflite"
    assert probe.main(["build", str(path)]) == 0
    return path


def test_flatbuffer_is_small_and_the_same_every_time(model: Path) -> None:
    content = model.read_bytes()
    assert content[4:8] == b"TFL3"
    assert len(content) < 1000
    assert content == probe.build()


def test_litert_computes_it(model: Path) -> None:
    assert probe.main(["litert", str(model)]) == 0
    assert tuple(probe.PROBES["litert"](model)) == probe.EXPECTED


def test_tflite_micro_computes_it(model: Path) -> None:
    pytest.importorskip("tflite_micro")
    assert tuple(probe.PROBES["tflite-micro"](model)) == probe.EXPECTED


def test_file_that_is_no_flatbuffer_is_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "no.tflite"
    path.write_bytes(b"not a flatbuffer")
    assert probe.main(["litert", str(path)]) == 1
    assert capsys.readouterr().err.strip().splitlines()[-1].startswith("ValueError: ")


def test_root_cause_is_reported(
    model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(_: Path) -> list[int]:
        raise SystemError("returned a result with an exception set") from ImportError("numpy.core\nis missing")

    monkeypatch.setitem(probe.PROBES, "litert", broken)
    assert probe.main(["litert", str(model)]) == 1
    assert capsys.readouterr().err == "\nImportError: numpy.core is missing\n"


def test_wrong_result_is_a_failure(
    model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(probe.PROBES, "litert", lambda _: list(probe.INPUT))
    assert probe.main(["litert", str(model)]) == 1
    assert "computed [-100, -1, 0, 100] where [0, 0, 0, 100] is right" in capsys.readouterr().err


def test_tensorflow_goes_through_its_own_interpreter(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The real one takes seconds to import; LiteRT's has the same interface.
    from ai_edge_litert import interpreter

    monkeypatch.setitem(sys.modules, "tensorflow.lite.python.interpreter", interpreter)
    assert tuple(probe.PROBES["tensorflow"](model)) == probe.EXPECTED
