"""Finished runs, looked at again: which layer loses what, and whether somebody has exchanged the flatbuffer."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from edgecompress.context import Event
from edgecompress.errors import ResourceError
from edgecompress.pipeline.recheck import recheck
from edgecompress.pipeline.recheck_layers import analyse_layers
from edgecompress.pipeline.run import Outcome
from edgecompress.store.files import sealed
from edgecompress.store.store import Store
from edgecompress.tflite.format.flatbuffer import read_model
from edgecompress.tflite.format.packing import pack
from edgecompress.tflite.runtime import patience
from tests.shared import bombs
from tests.shared.endless import endless
from tests.unit.made_flatbuffer import Op, int8, make_bytes


def test_a_run_s_layers_are_in_its_report_and_found_again(
    cook: Callable[..., Outcome], kitchen: Path, shared_store: Store
) -> None:
    outcome = cook()
    assert outcome.report is not None
    told: list[Event] = []
    found = analyse_layers(kitchen / "run", shared_store, listeners=(told.append,))
    assert found["split"] == "validation"
    assert found["samples"] == 16  # the fewest, of the tenth of the training samples that is held out
    assert found["tried"] > 5
    assert {"CONV_2D", "FULLY_CONNECTED"} <= {layer["op"] for layer in found["layers"]}
    assert json.dumps(found, allow_nan=False)
    assert {event.stage for event in told if event.kind == "progress"} == {"analyze"}
    # The report's samples are the same ones here: there are fewer than it would take.
    reported = outcome.report["analysis"]
    assert reported["conclusion"] == found["conclusion"]
    assert [layer["layer"] for layer in reported["layers"]] == [layer["layer"] for layer in found["layers"]]
    assert [layer["snr_db"] for layer in reported["layers"]] == pytest.approx(
        [layer["snr_db"] for layer in found["layers"]], abs=0.2
    )
    assert len(analyse_layers(kitchen / "run", shared_store, samples=5)["layers"]) == len(found["layers"])

    stripes = dict(np.load(kitchen / "stripes.npz"))
    np.savez(kitchen / "stripes.npz", **{**stripes, "x_test": stripes["x_test"][::-1]})
    with pytest.raises(ResourceError, match="the data has changed since the run"):
        analyse_layers(kitchen / "run", shared_store)


def exchanged(run: Path, content: bytes) -> None:
    """Puts a file in the place of a run's flatbuffer and its hash into report and lock file."""
    digest = hashlib.sha256(content).hexdigest()
    (run / "model.tflite").write_bytes(content)
    lock = yaml.safe_load((run / "recipe.lock.yaml").read_text())
    report = json.loads((run / "report.json").read_bytes())
    report["files"]["model.tflite"] = lock["model_sha256"] = digest
    (run / "recipe.lock.yaml").write_text(yaml.safe_dump(lock))
    report["pages"]["recipe.lock.yaml"] = hashlib.sha256((run / "recipe.lock.yaml").read_bytes()).hexdigest()
    (run / "report.json").write_text(json.dumps(sealed(report)))


def failures(verdict: dict[str, Any]) -> list[tuple[str, str]]:
    """Returns what failed, and why; that another file has another size, and what follows from it, aside."""
    assert verdict["passed"] is not any(check["passed"] is False for check in verdict["checks"])
    failed = [(check["name"], check["detail"]) for check in verdict["checks"] if check["passed"] is False]
    return [(name, detail) for name, detail in failed if name not in ("size", "verdict")]


def test_none_of_them_is_believed_or_waited_for(
    cook: Callable[..., Any], kitchen: Path, shared_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that hangs, one with other answers, one that asks for gigabytes, one that only looks like a flatbuffer."""
    cook()
    run = kitchen / "run"
    own = (run / "model.tflite").read_bytes()
    shape = tuple(int(side) for side in read_model(own).subgraphs[0].tensors[0].shape)
    classes = len(json.loads((run / "report.json").read_bytes())["data"]["classes"])

    def told(content: bytes) -> list[tuple[str, str]]:
        exchanged(run, content)
        return failures(recheck(run, Store(shared_store.root)))

    assert told(own) == []
    (name, detail), *more = told(make_bytes([int8(*shape), int8(*shape)], [Op("RELU", (0,), (1,))]))
    assert (name, more) == ("model.tflite in LiteRT", [])
    assert f"where {classes} numbers were expected" in detail
    ((name, detail),) = told(bombs.shared_names(10_000))
    assert name == "model.tflite"
    assert "its names come to more than a file of" in detail
    ((name, detail),) = told(make_bytes([int8(*shape), int8(1, 2**31 - 1)], [Op("RELU", (0,), (1,))]))
    assert (name, "its tensors need 2.0 GiB at once" in detail) == ("model.tflite in LiteRT", True)
    with monkeypatch.context() as patch:
        patch.setattr(patience, "SILENCE_S", 2.0)
        ((name, detail),) = told(endless(shape, "int8", classes))
    assert name == "model.tflite in LiteRT"
    assert detail.startswith("the interpreter said nothing for 2 s after 0 of ")


def test_the_layers_of_one_with_other_weights_are_told(
    cook: Callable[..., Any], kitchen: Path, shared_store: Store
) -> None:
    """Also where its answers would do: its layers are run by themselves, in a process of their own too."""
    cook()
    run = kitchen / "run"
    model = read_model(run / "model.tflite")
    largest = max(model.buffers, key=lambda buffer: 0 if buffer.data is None else len(buffer.data))
    largest.data = largest.data.copy()
    largest.data[0] ^= 1
    exchanged(run, pack(model))
    ((name, detail),) = failures(recheck(run, Store(shared_store.root)))
    assert name == "agreement with the twin"
    assert "other weights or scales than its twin: the first layer that differs is" in detail
