"""What is said of a runtime that gives other answers than LiteRT."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from edgecompress.stages import benchmark
from edgecompress.tflite.runtime.proof import RuntimeProof


@pytest.mark.parametrize(
    ("same", "said"),
    [(99.95, None), (99.5, "its kernels round otherwise"), (9.6, "Do not use this flatbuffer there")],
)
def test_other_answers_are_warned_of(monkeypatch: pytest.MonkeyPatch, same: float, said: str | None) -> None:
    proof = RuntimeProof("tflite-runtime", runs=True, samples=1000, same_answer=same)
    monkeypatch.setattr(benchmark, "_inputs", lambda *_args: None)
    monkeypatch.setattr(benchmark, "prove", lambda *_args, **_options: proof)
    warnings: list[str] = []
    ctx = SimpleNamespace(note=lambda _text: None, warn=warnings.append)
    bench: Any = SimpleNamespace(
        ctx=ctx,
        recipe=SimpleNamespace(benchmark=SimpleNamespace(threads=1)),
        dataset=SimpleNamespace(outputs=(10,)),
        task=SimpleNamespace(chooses=True),
    )
    assert benchmark._prove(bench, Path("model.tflite"), "tflite-runtime") is proof
    assert bool(warnings) == (said is not None)
    assert said is None or (said in warnings[0] and f"{same:.2f} % of 1000 samples" in warnings[0])
