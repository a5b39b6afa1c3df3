"""Every way of running a batch gives each sample the outputs it has alone."""

from __future__ import annotations

import pytest
import torch

from edgecompress.quantization.graph.batches import Way, broadcast_alike, find_way, run_batch
from edgecompress.quantization.twin.twin import Twin
from edgecompress.tflite.format.flatbuffer import read_model
from tests.unit.converted_net import Converted, images
from tests.unit.made_flatbuffer import Made, Op, constant, make_bytes


def attention(rows: int = 4) -> Twin:
    """Returns a graph that folds a sample's rows into axis 0, as converted attention layers do."""

    def shape(*sides: int) -> Made:
        return constant(sides, "int32")

    turn = constant([1, 0, 2], "int32")
    weight = constant(torch.randn(6, 6, generator=torch.Generator().manual_seed(0)).numpy(), "float32")
    tensors = [
        Made((1, rows, 6)),
        shape(rows, 6),
        Made((rows, 6)),
        weight,
        Made((rows, 6)),
        shape(rows, 2, 3),
        Made((rows, 2, 3)),
        turn,
        Made((2, rows, 3)),
        Made((2, rows, rows)),
        Made((2, rows, rows)),
        Made((2, rows, 3)),
        Made((rows, 2, 3)),
        shape(1, rows * 6),
        Made((1, rows * 6)),
    ]
    ops = [
        Op("RESHAPE", (0, 1), (2,)),
        Op("FULLY_CONNECTED", (2, 3), (4,)),
        Op("RESHAPE", (4, 5), (6,)),
        Op("TRANSPOSE", (6, 7), (8,)),
        Op("BATCH_MATMUL", (8, 8), (9,), {"adjY": True}),
        Op("SOFTMAX", (9,), (10,), {"beta": 1.0}),
        Op("BATCH_MATMUL", (10, 8), (11,)),
        Op("TRANSPOSE", (11, 7), (12,)),
        Op("RESHAPE", (12, 13), (14,)),
    ]
    named = [Made(made.shape, made.dtype, made.values, name=f"t{number}") for number, made in enumerate(tensors)]
    model = read_model(make_bytes(named, ops))
    return Twin(model, model, [f"op{k}" for k in range(len(ops))])


def samples(count: int = 5) -> torch.Tensor:
    return torch.randn(count, 4, 6, generator=torch.Generator().manual_seed(1))


def test_a_graph_along_axis_0_runs_together(converted: Converted) -> None:
    twin = converted.twin()
    twin.calibrate([images(16)])
    x = images(6, seed=1)
    with torch.no_grad():
        together = twin(x)
        alone = run_batch(twin._run, x.permute(0, 2, 3, 1), Way.ALONE)
        stacked = run_batch(twin._run, x.permute(0, 2, 3, 1), Way.STACKED)
    assert twin._way is Way.TOGETHER
    step = twin.groups[twin.group_of[twin.graph.output]].scale
    # One and several samples are summed in another order, which may tip a rounding in any layer.
    assert float((together - alone).abs().max()) <= 2.01 * step
    assert float((stacked - alone).abs().max()) <= 2.01 * step


def test_one_that_folds_rows_into_axis_0_is_stacked() -> None:
    twin, x = attention(), samples()
    with torch.no_grad():
        outputs = twin(x)
        alone = torch.cat([twin(sample[None]) for sample in x])
    assert twin._way is Way.STACKED
    torch.testing.assert_close(outputs, alone, rtol=1e-5, atol=1e-6)


def test_gradients_are_those_of_the_samples_alone() -> None:
    twin, x = attention(), samples()
    gradients = []
    for way in (Way.STACKED, Way.ALONE):
        twin.zero_grad()
        run_batch(twin._run, x, way).square().sum().backward()
        gradients.append(twin.weights["3"].grad.clone())
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-4, atol=1e-5)
    assert float(gradients[0].abs().max()) > 0.1


def test_ranges_see_every_sample_whatever_the_way(converted: Converted) -> None:
    found = []
    for way in Way:
        twin = converted.twin()
        twin._way = way
        twin.calibrate([images(8)])
        found.append([(group.low, group.high) for group in twin.groups])
    for one, other in zip(found[1:], found[:-1], strict=True):
        for mine, its in zip(one, other, strict=True):
            assert mine == pytest.approx(its, rel=1e-4, abs=1e-5)


def test_looking_for_the_way_observes_nothing(converted: Converted) -> None:
    twin = converted.twin().train()
    before = twin.ranges()
    twin.track_ranges(None)
    twin(images(4))
    assert twin.ranges() == before
    assert twin._momentum is None


def mixing(x: torch.Tensor, *, stacked: bool = False) -> torch.Tensor:
    """Neither along axis 0 nor mapped can it be run."""
    if stacked:
        raise RuntimeError("vmap: it is not possible to call .item() on a Tensor")
    return x - x.mean(0, keepdim=True) + x.sum()


def test_where_nothing_else_works_samples_go_one_by_one() -> None:
    assert find_way(mixing, samples(2)) is Way.ALONE
    x = samples(3)
    expected = torch.stack([sample.sum().expand(4, 6) for sample in x])
    torch.testing.assert_close(run_batch(mixing, x, Way.ALONE), expected)


def test_outputs_of_another_shape_are_another_way() -> None:
    def flat(x: torch.Tensor, *, stacked: bool = False) -> torch.Tensor:
        return x.reshape(len(x), 1, -1) if stacked else x.reshape(1, -1)

    assert find_way(flat, samples(2)) is Way.STACKED


def test_one_sample_needs_no_way() -> None:
    twin = attention()
    assert twin(samples(1)).shape == (1, 24)
    assert twin._way is None


@pytest.mark.parametrize(
    ("shapes", "each", "alike"),
    [
        (((4, 2, 3, 3), (1, 2, 3, 3)), [True, False], False),  # alone, (2, 3, 3) and (1, 2, 3, 3) give four axes
        (((4, 1, 2, 3), (1, 2, 3)), [True, False], True),
        (((4, 2, 3), (4, 2, 3)), [True, True], True),
        (((4, 2, 3), (4, 3)), [True, True], False),
        (((4, 2, 3), ()), [True, False], True),
        (((2, 3), (3,)), None, True),
    ],
)
def test_stacked_samples_broadcast_as_each_alone(
    shapes: tuple[tuple[int, ...], ...], each: list[bool] | None, alike: bool
) -> None:
    arguments = [torch.rand(shape) for shape in shapes]
    assert broadcast_alike(arguments, each) is alike
    if each is not None:
        singles = [[x[k] if counts else x for x, counts in zip(arguments, each, strict=True)] for k in range(4)]
        expected = torch.stack([one + other for one, other in singles])
        try:
            found = arguments[0] + arguments[1]
        except RuntimeError:
            found = torch.zeros(())
        assert (found.shape == expected.shape and torch.equal(found, expected)) is alike
