"""The analysis of a run: which samples judge it, what it may cost, how it is ranked; there is no test split to read."""

from __future__ import annotations

import math
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from edgecompress.data.base import Split
from edgecompress.quantization.proof.analysis import adding, analyse
from edgecompress.quantization.proof.effort import pass_cost
from edgecompress.quantization.twin.twin import Twin
from edgecompress.stages.verifying import analysis
from edgecompress.stages.verifying.analysis import FEWEST_LAYERS, FEWEST_SAMPLES, analyse_run, worst
from tests.unit.converted_net import Converted, images

NONE = Split(np.zeros((0, 12, 12, 3), np.float32), np.zeros(0, np.int64))


class Pictures:
    """The task, reduced to what the analysis asks of it; it keeps what it was asked."""

    name = "image-classification"
    chooses = True

    def __init__(self) -> None:
        self.seen: list[NDArray[Any]] = []

    def inputs(self, batch: NDArray[Any]) -> torch.Tensor:
        self.seen.append(batch)
        return torch.from_numpy(batch).permute(0, 3, 1, 2)

    def metrics(self, outputs: NDArray[np.float32], split: Split) -> dict[str, float]:
        return {"accuracy": 100.0 * float((outputs.argmax(1) == split.labels).mean())}

    def agreement(self, outputs: NDArray[np.float32], reference: NDArray[np.float32]) -> float:
        return 100.0 * float((outputs.argmax(1) == reference.argmax(1)).mean())


def workbench(validation: Split, train: Split = NONE, *, depth: str = "full", tested: int = 0) -> Any:
    """Returns a bench whose test split has a length and no samples: touching them raises."""
    told: list[tuple[int, int, str]] = []
    return SimpleNamespace(
        dataset=SimpleNamespace(
            name="made", validation=validation, train=train, calibration=None, test=range(tested), outputs=(5,)
        ),
        task=Pictures(),
        recipe=SimpleNamespace(seed=0, report=SimpleNamespace(analysis=depth)),
        device=torch.device("cpu"),
        ctx=SimpleNamespace(progress=lambda *event: told.append(event)),
        told=told,
    )


def pictures(count: int, seed: int) -> Split:
    """Returns random pictures as a source has them, with labels by turns."""
    return Split(images(count, seed).permute(0, 2, 3, 1).numpy().copy(), np.arange(count) % 5)


@pytest.fixture
def twin(converted: Converted) -> Twin:
    twin = converted.twin()
    twin.calibrate([images(64)])
    return twin


def accuracy(twin: Twin, split: Split) -> float:
    with torch.no_grad():
        answers = twin(torch.from_numpy(split.inputs).permute(0, 3, 1, 2)).argmax(1).numpy()
    return 100.0 * float((answers == split.labels).mean())


def test_validation_judges_the_layers(twin: Twin) -> None:
    bench = workbench(pictures(50, seed=3), train=pictures(9, seed=4))
    found = analyse_run(bench, twin)
    assert (found["split"], found["samples"], found["noise_points"]) == ("validation", 50, 4.0)
    assert found["score"] == pytest.approx(accuracy(twin, bench.dataset.validation), abs=2.01)
    with twin.floating():
        assert found["float_score"] == pytest.approx(accuracy(twin, bench.dataset.validation))
    assert found["tried"] == len(adding(twin)) == sum(entry["gained_db"] is not None for entry in found["layers"])
    assert sorted(entry["index"] for entry in found["layers"]) == list(range(len(twin.graph.nodes)))
    told = [(abs(entry["gained_points"]) > 4.0, entry["gained_db"]) for entry in found["layers"][: found["tried"]]]
    assert [gain for large, gain in told if not large] == sorted((g for large, g in told if not large), reverse=True)
    assert bench.told == [(1, 2, "layer passes"), (2, 2, "layer passes")]
    assert not any(np.isin(batch, bench.dataset.train.inputs).all() for batch in bench.task.seen)


def test_without_validation_the_float_model_s_answers_judge(twin: Twin) -> None:
    bench = workbench(NONE, train=pictures(40, seed=5))
    found = analyse_run(bench, twin)
    assert (found["split"], found["samples"]) == ("calibration", 40)
    assert found["float_score"] == 100.0
    assert 0.0 < found["score"] <= 100.0


def test_a_fault_comes_first(twin: Twin) -> None:
    node = next(node for node in twin.graph.nodes if node.op == "CONV_2D" and node.index > 0)
    group = twin.groups[twin.group_of[node.outputs[0]]]
    group.set_range(group.low / 20, group.high / 20)
    found = analyse_run(workbench(NONE, train=pictures(40, seed=5)), twin)
    assert found["layers"][0]["layer"] == node.label
    assert found["layers"][0]["saturation"] > 0.5


def test_the_number_of_samples_is_kept_to_and_drawn_from_every_class(twin: Twin) -> None:
    bench = workbench(pictures(100, seed=3))
    found = analyse_run(bench, twin, samples=10, effort=math.inf)
    assert (found["samples"], found["noise_points"]) == (10, 20.0)
    chosen = [k for k, one in enumerate(bench.dataset.validation.inputs) if any(
        np.array_equal(one, seen) for batch in bench.task.seen for seen in batch)]  # fmt: skip
    assert np.bincount(bench.dataset.validation.labels[chosen]).tolist() == [2] * 5


def test_effort_saves_samples_then_layers(twin: Twin) -> None:
    cost, layers = pass_cost(twin), len(adding(twin))
    assert layers > FEWEST_LAYERS
    some = analyse_run(workbench(pictures(100, seed=3)), twin, effort=30 * cost * (8 + layers / 2))
    assert (some["samples"], some["tried"]) == (30, layers)
    few = analyse_run(workbench(pictures(100, seed=3)), twin, effort=1.0)
    assert (few["samples"], few["tried"]) == (FEWEST_SAMPLES, FEWEST_LAYERS)


def test_a_run_spends_a_share_of_what_the_comparison_costs(twin: Twin, monkeypatch: pytest.MonkeyPatch) -> None:
    layers, validation = len(adding(twin)), pictures(100, seed=3)

    def tried(samples: int) -> tuple[int, int]:
        """Returns samples and layers where flatbuffer and twin were compared on so many."""
        found = analyse_run(workbench(validation, depth="fast", tested=samples - 100), twin)
        return found["samples"], found["tried"]

    passes = 8 + layers / 2
    assert tried(int(30.5 * 2 * passes)) == (30, layers)
    assert tried(5000) == (100, layers)
    assert tried(100) == (FEWEST_SAMPLES, FEWEST_LAYERS)
    monkeypatch.setattr(analysis, "REPORT_EFFORT", 30.5 * passes * pass_cost(twin))
    assert tried(5000) == (30, layers)  # large networks stop there


def test_the_cost_counts_values_and_multiplications(twin: Twin) -> None:
    values = sum(math.prod(shape) for node in twin.graph.nodes for shape in node.output_shapes)
    macs = 144 * 8 * 27 + 144 * 8 * 9 + 36 * 16 * 72 + 16 * 16 + 32 * 5
    assert pass_cost(twin) == pytest.approx(values + macs / 400)


def test_the_layers_that_add_most_error_are_tried(twin: Twin) -> None:
    nodes, layers = adding(twin), analyse(twin, [images(4)])
    noisy = [nodes[1].index, nodes[4].index]
    planted = [replace(layer, local_snr_db=float(layer.index in noisy and -layer.index)) for layer in layers]
    assert [node.index for node in worst(planted, nodes, 2.9)] == noisy
    assert worst(planted, nodes, len(nodes)) == nodes
