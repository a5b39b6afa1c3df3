"""A finished run's layers, looked at again."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edgecompress.context import Event
from edgecompress.errors import ResourceError
from edgecompress.pipeline.recheck_layers import analyse_layers
from edgecompress.pipeline.run import Outcome
from edgecompress.store.store import Store


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
