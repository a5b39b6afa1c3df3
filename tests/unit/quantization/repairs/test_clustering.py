"""Weights with few values: the best codebook, gradients through it, and the same integers in twin and flatbuffer."""

from __future__ import annotations

import gzip
import itertools

import numpy as np
import pytest
import torch
from ai_edge_litert.interpreter import Interpreter

from edgecompress.quantization.grids.codebooks import best_codes, fake_clustered
from edgecompress.quantization.proof.compare import compare_layers, first_difference
from edgecompress.quantization.repairs.clustering import CodebookSchedule, clusterable, fit_codebooks
from edgecompress.quantization.twin.twin import Twin
from edgecompress.tflite.facts.weights import most_values
from edgecompress.tflite.format.flatbuffer import read_model
from tests.unit.converted_net import Converted, images, run_flatbuffer, shipped


def error(codes: np.ndarray, book: np.ndarray) -> int:
    return int(((codes[:, None] - book[None]) ** 2).min(1).sum())


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("limit", [2, 3, 4])
def test_no_other_codebook_with_zero_in_it_is_nearer(seed: int, limit: int) -> None:
    codes = np.random.default_rng(seed).integers(-5, 7, 25)
    found = best_codes(codes, limit)
    assert len(found) <= limit
    assert 0 in found
    others = itertools.combinations([code for code in range(-5, 7) if code], limit - 1)
    assert error(codes, found) == min(error(codes, np.array((0, *other))) for other in others)


def test_few_values_are_kept_as_they_are_and_zero_is_always_there() -> None:
    assert best_codes(np.array([[-127, 5], [127, 5]], np.int8), 16).tolist() == [-127, 0, 5, 127]
    assert best_codes(np.array([3, 90, 91, 120]), 2).tolist() == [0, 100]
    assert len(best_codes(np.arange(-127, 128), 64)) == 64


def test_each_weight_moves_to_the_nearest_value_and_gradients_pass() -> None:
    weight = torch.tensor([[0.0, 0.24, -1.0], [0.0, 4.9, 10.0]], requires_grad=True)
    scale = torch.tensor([0.01, 0.1])
    found = fake_clustered(weight, scale, 0, torch.tensor([-90.0, 0.0, 50.0, 100.0]))
    assert found.tolist() == [[0.0, 0.0, pytest.approx(-0.9)], [0.0, pytest.approx(5.0), pytest.approx(10.0)]]
    (found * torch.tensor([1.0, 2.0, 3.0])).sum().backward()
    assert weight.grad.tolist() == [[1.0, 2.0, 3.0]] * 2


@pytest.mark.parametrize("clusters", [16, 64])
def test_the_flatbuffer_holds_the_twin_s_few_values(converted: Converted, twin: Twin, clusters: int) -> None:
    plain, _ = shipped(converted, twin)
    fit_codebooks(twin, clusters)
    assert len(clusterable(twin)) == 5  # two convolutions, a depthwise one, a gate and a linear layer
    content, _ = shipped(converted, twin)
    interpreter = Interpreter(model_content=content, experimental_preserve_all_tensors=True)
    interpreter.allocate_tensors()
    many = {len(np.unique(values)) for values in weights_of(interpreter)}
    assert max(many) <= clusters
    assert max(many) == most_values(read_model(content))
    assert most_values(read_model(plain)) > 64
    assert len(gzip.compress(content)) < len(gzip.compress(plain))
    samples = images(2, seed=3)
    assert first_difference(compare_layers(twin, read_model(content), content, nhwc(samples))) is None
    with torch.no_grad():
        expected = twin(samples).numpy()
    step = twin.groups[twin.group_of[twin.graph.output]].scale
    assert np.abs(run_flatbuffer(content, samples) - expected).max() <= 1.01 * step


def test_masked_weights_stay_zero_through_training(converted: Converted, twin: Twin) -> None:
    numbers = clusterable(twin)
    with torch.no_grad():
        for n in numbers:
            weight = twin.weights[str(n)]
            weight.mul_((torch.rand(weight.shape, generator=torch.Generator().manual_seed(n)) > 0.6).float())
    zeros = {n: twin.weights[str(n)].detach() == 0 for n in numbers}
    twin.hold_zeros()
    schedule = CodebookSchedule(twin, 16, 0.6)
    optimizer = torch.optim.Adam(twin.parameters(), 0.01)
    x, labels = images(16), torch.arange(16) % 5
    for step in range(6):
        schedule.at(step / 6)
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(twin(x), labels).backward()
        optimizer.step()
        for n, zero in zeros.items():  # neither gradients nor moments know of them
            weight = twin.weights[str(n)]
            moments = (optimizer.state[weight]["exp_avg"], optimizer.state[weight]["exp_avg_sq"])
            assert not any(value[zero].any() for value in (weight.grad, *moments))
        twin.apply_masks()
    integers = twin.quantized_constants()
    for n, zero in zeros.items():
        assert not integers[n][0][zero.numpy()].any()
        assert len(np.unique(integers[n][0])) <= 16
    content, _ = shipped(converted, twin.eval())
    assert first_difference(compare_layers(twin, read_model(content), content, nhwc(x[:2]))) is None


def test_codebooks_follow_the_weights_and_then_stay(twin: Twin) -> None:
    schedule = CodebookSchedule(twin, 16, 0.6)
    schedule.at(0.0)
    n = clusterable(twin)[0]
    first = twin.codebooks[n].clone()
    with torch.no_grad():
        twin.weights[str(n)].pow_(3)
    schedule.at(0.001)  # too soon
    assert torch.equal(twin.codebooks[n], first)
    schedule.at(0.5)
    second = twin.codebooks[n].clone()
    assert not torch.equal(second, first)
    with torch.no_grad():
        twin.weights[str(n)].copy_(twin.weights[str(n)].sign())
    schedule.at(0.6)
    assert torch.equal(twin.codebooks[n], second)


def test_codebooks_are_kept_with_the_ranges(converted: Converted, twin: Twin) -> None:
    fit_codebooks(twin, 16)
    other = converted.twin()
    other.load_ranges(twin.ranges())
    assert other.codebooks.keys() == twin.codebooks.keys()
    mine, theirs = twin.quantized_constants(), other.quantized_constants()
    assert all(np.array_equal(mine[n][0], theirs[n][0]) for n in mine)
    twin.codebooks = {}
    other.load_ranges(twin.ranges())
    assert other.codebooks == {}


def nhwc(x: torch.Tensor) -> np.ndarray:
    return x.permute(0, 2, 3, 1).numpy()


def weights_of(interpreter: Interpreter) -> list[np.ndarray]:
    """Returns the tensors with a scale per channel, biases aside."""
    return [
        interpreter.get_tensor(detail["index"])
        for detail in interpreter.get_tensor_details()
        if detail["dtype"] == np.int8 and len(detail["quantization_parameters"]["scales"]) > 1
    ]
