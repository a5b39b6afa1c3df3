"""Files that every runtime computes alike, held against LiteRT's kernels and TensorFlow's reference ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from edgecompress.quantization.graph.graph import Node
from edgecompress.quantization.grids.portable import BELOW, below_powers
from edgecompress.quantization.grids.ranges import RangeGroup
from edgecompress.quantization.repairs.adaround import learn_rounding
from edgecompress.quantization.repairs.settling import FARTHEST, count_parting, parting_layers, reference_sum, settle
from edgecompress.quantization.structure.pooling import pool_means
from edgecompress.quantization.structure.structure import quantized_structure
from edgecompress.quantization.twin.kernels import as_the_kernel
from edgecompress.quantization.twin.twin import Twin
from edgecompress.tflite.format.convert import convert
from edgecompress.tflite.format.flatbuffer import read_model
from edgecompress.tflite.format.packing import pack
from edgecompress.tflite.format.sparse import densified
from edgecompress.tflite.format.views import op_name
from tests.unit.converted_net import Converted, images
from tests.unit.made_flatbuffer import Made, Op, constant, int8, make_bytes

SHAPE = (3, 12, 12)
PAIRS = np.stack(np.meshgrid(np.arange(-128, 128), np.arange(-128, 128), indexing="ij")).reshape(2, 1, -1)
KERNELS = {"litert": OpResolverType.AUTO, "reference": OpResolverType.BUILTIN_REF}


class Residual(nn.Module):
    """Convolution, depthwise convolution, a sum with an activation, a pool and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU())
        self.depthwise = nn.Conv2d(16, 16, 3, padding=1, groups=16)
        self.pointwise = nn.Conv2d(16, 16, 1)
        self.pool = nn.AvgPool2d(12)
        self.head = nn.Linear(16, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        x = torch.relu(x + self.pointwise(torch.relu(self.depthwise(x))))
        return self.head(self.pool(x).flatten(1))


@pytest.fixture(scope="module")
def residual(tmp_path_factory: pytest.TempPathFactory) -> Converted:
    torch.manual_seed(5)
    module, path = Residual().eval(), tmp_path_factory.mktemp("residual") / "float.tflite"
    convert(module, SHAPE, path)
    return Converted(module, path, quantized_structure(path.read_bytes()))


def twin_of(converted: Converted, *, portable: bool) -> Twin:
    structure = read_model(converted.structure)
    labels = [f"layer{k}" for k in range(len(structure.subgraphs[0].operators))]
    twin = Twin(structure, read_model(converted.floating), labels, portable=portable).eval()
    twin.calibrate([images(64)])
    return twin


def written(converted: Converted, twin: Twin) -> schema.ModelT:
    model = read_model(converted.structure)
    twin.write_into(model)
    return model


def run(content: bytes, kernels: str, *raw: np.ndarray) -> np.ndarray:
    interpreter = Interpreter(model_content=content, experimental_op_resolver_type=KERNELS[kernels])
    interpreter.allocate_tensors()
    for entry, values in zip(interpreter.get_input_details(), raw, strict=True):
        interpreter.set_tensor(entry["index"], values)
    interpreter.invoke()
    return interpreter.get_tensor(interpreter.get_output_details()[0]["index"])


def outputs(model: schema.ModelT, kernels: str, raw: np.ndarray) -> np.ndarray:
    content = pack(model)
    return np.concatenate([run(content, kernels, one[None]) for one in raw])


def raw_images(twin: Twin, count: int) -> np.ndarray:
    group = twin.groups[twin.group_of[twin.graph.input]]
    return group.integers(images(count, seed=21).permute(0, 2, 3, 1).numpy())


def test_all_kernels_and_the_twin_give_the_same_integers(residual: Converted) -> None:
    twin = twin_of(residual, portable=True)
    settle(twin)
    model, labels = written(residual, twin), [node.label for node in twin.graph.nodes]
    assert parting_layers(model, labels) == []
    raw = raw_images(twin, 300)
    found = outputs(model, "litert", raw)
    np.testing.assert_array_equal(found, outputs(model, "reference", raw))
    sink = twin.groups[twin.group_of[twin.graph.output]]
    with torch.no_grad():
        np.testing.assert_array_equal(found, sink.integers(twin(images(300, seed=21)).numpy()))
    assert len(np.unique(found)) > 50


def test_without_it_kernels_part_and_the_layers_are_named(residual: Converted) -> None:
    twin = twin_of(residual, portable=False)
    model, labels = written(residual, twin), [node.label for node in twin.graph.nodes]
    weighted = [node.label for node in twin.graph.nodes if "CONV" in node.op or node.op == "FULLY_CONNECTED"]
    assert set(weighted) <= set(parting_layers(model, labels))
    raw = raw_images(twin, 300)
    assert (outputs(model, "litert", raw) != outputs(model, "reference", raw)).mean() > 0.002


def test_the_network_stays_what_it_was(residual: Converted) -> None:
    x = images(200, seed=22)
    plain, portable = (twin_of(residual, portable=which) for which in (False, True))
    with torch.no_grad():
        exact = residual.module(x)
        noise = [(twin(x) - exact).square().mean() for twin in (plain, portable)]
    assert noise[1] < exact.square().mean() / 300
    assert noise[1] > noise[0]  # seven bits are not eight


@pytest.mark.parametrize("damage", ["odd weight", "even bias", "scale"])
def test_one_number_that_is_otherwise_is_found(residual: Converted, damage: str) -> None:
    twin = twin_of(residual, portable=True)
    settle(twin)
    model, labels = written(residual, twin), [node.label for node in twin.graph.nodes]
    graph = model.subgraphs[0]
    place, operator = next((k, o) for k, o in enumerate(graph.operators) if op_name(model, o) == "CONV_2D")
    weight, bias = (graph.tensors[int(n)] for n in operator.inputs[1:3])
    if damage == "scale":
        weight.quantization.scale = np.asarray(weight.quantization.scale) * np.float32(1.001)
    else:
        buffer = model.buffers[(weight if damage == "odd weight" else bias).buffer]
        buffer.data = np.array(buffer.data)
        buffer.data[0] ^= 1
    assert parting_layers(model, labels) == [labels[place]]


def test_operators_that_runtimes_round_otherwise_are_named(converted: Converted) -> None:
    twin = twin_of(converted, portable=True)
    settle(twin)
    left = parting_layers(written(converted, twin), [node.label for node in twin.graph.nodes])
    ops = {node.op for node in twin.graph.nodes if node.label in left}
    assert ops == {"MEAN", "MUL", "LOGISTIC", "HARD_SWISH"}


def test_zeros_stay_and_sparse_files_are_read(residual: Converted) -> None:
    twin = twin_of(residual, portable=True)
    with torch.no_grad():
        for n in twin.portable:
            weight = twin.weights[str(n)]
            weight[weight.abs() < weight.abs().quantile(0.7)] = 0.0
    for n, (integers, _) in twin.quantized_constants().items():
        if n in twin.portable:
            np.testing.assert_array_equal(integers[twin.weights[str(n)].detach().numpy() == 0], 0)
            assert not np.any(integers % 2)
    settle(twin)
    model = written(residual, twin)
    assert densified(model).subgraphs[0].operators == model.subgraphs[0].operators


def test_learned_rounding_keeps_to_the_grid(residual: Converted) -> None:
    twin = twin_of(residual, portable=True)
    before = {n: twin.weight_scale(n).clone() for n in twin.portable}
    assert learn_rounding(twin, images(32), iterations=20) == len(twin.portable) == 4
    constants = twin.quantized_constants()
    for n, old in before.items():
        integers, scale = constants[n]
        assert not np.any(integers % 2)
        assert np.all(scale <= old.numpy() * 1.0001)  # a largest weight that was rounded up does not double it
        shape = [-1 if d == twin.graph.tensors[n].axis else 1 for d in range(integers.ndim)]
        np.testing.assert_allclose(integers * scale.reshape(shape), twin.weights[str(n)].detach().numpy(), atol=1e-6)


@settings(max_examples=200, deadline=None)
@given(least=st.floats(1e-6, 10.0), ratio=st.floats(1e-3, 1e3))
def test_multipliers_lie_just_below_a_power_of_two(least: float, ratio: float) -> None:
    given_scale = torch.tensor([least, 3.0 * least])
    scale = below_powers(given_scale, ratio)
    multiplier = scale.double().numpy() * ratio
    power = 2.0 ** np.ceil(np.log2(multiplier))
    assert np.all(multiplier < power * (1.0 - BELOW))
    assert np.all(multiplier > power * (1.0 - 2.0**-20))
    assert np.all(scale.numpy() >= given_scale.numpy() * 0.9999)
    assert np.all(scale.numpy() < given_scale.numpy() * 2.0001)


def test_a_scale_that_is_a_power_already_stays() -> None:
    scale = below_powers(torch.tensor([0.3]), 0.7)
    assert below_powers(scale, 0.7) == scale
    assert below_powers(scale * (1.0 + 1e-6), 0.7) == scale


grids = st.tuples(st.floats(0.01, 0.2), st.integers(-128, 127))


def group_of(grid: tuple[float, int]) -> RangeGroup:
    return RangeGroup((0,), (0,), fixed=False, scale=float(np.float32(grid[0])), zero_point=grid[1])


@settings(max_examples=25, deadline=None)
@given(a=grids, b=grids, out=grids)
def test_sums_are_the_kernels_for_every_pair(
    a: tuple[float, int], b: tuple[float, int], out: tuple[float, int]
) -> None:
    """The twin's sum is LiteRT's, the reference's is TensorFlow's, and their differences are what is counted."""
    first, second, target = map(group_of, (a, b, out))
    made = [int8(1, 65536, scale=one.scale, zero_point=one.zero_point) for one in (first, second, target)]
    content = make_bytes(made, [Op("ADD", (0, 1), (2,))], inputs=(0, 1))
    raw = [values.astype(np.int8) for values in PAIRS]
    litert, reference = (run(content, kernels, *raw)[0].astype(int) for kernels in KERNELS)
    x, y = (PAIRS[k, 0] - one.zero_point for k, one in enumerate((first, second)))
    np.testing.assert_array_equal(reference_sum(x, y, first, second, target), reference)
    real = [
        torch.from_numpy(values * np.float32(one.scale)) for values, one in zip((x, y), (first, second), strict=True)
    ]
    node = Node(0, "ADD", "sum", (0, 1), (2,), {"fusedActivationFunction": 0}, ((1, 4),) * 2, ((1, 4),))
    steps = as_the_kernel(node, real[0] + real[1], real, [first, second, target]).double().numpy() / target.scale
    np.testing.assert_array_equal(np.clip(np.rint(steps) + target.zero_point, -128, 127), litert)
    assert count_parting(first, second, target) == (litert != reference).sum()


def test_a_sum_is_moved_to_where_kernels_agree(residual: Converted) -> None:
    twin = twin_of(residual, portable=True)
    node = next(node for node in twin.graph.nodes if node.op == "ADD")
    a, b, out = (twin.groups[twin.group_of[n]] for n in (*node.inputs, *node.outputs))
    scales = [scale for scale in np.linspace(out.scale, 1.5 * out.scale, 40) if _parts(out, scale, a, b)]
    assert len(scales) > 10  # most scales part some pairs
    for scale in scales[:10]:
        out.set_scale(float(scale))
        zero_point = out.zero_point
        settle(twin)
        assert count_parting(a, b, out) == 0
        assert out.zero_point == zero_point
        assert abs(out.scale / scale - 1.0) <= 1.01 * FARTHEST


def _parts(out: RangeGroup, scale: float, a: RangeGroup, b: RangeGroup) -> bool:
    out.set_scale(scale)
    return count_parting(a, b, out) > 0


def test_layers_that_cannot_be_written_so_are_left_and_named(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module, path = (
        nn.Sequential(nn.Flatten(), nn.Linear(432, 8, bias=False), nn.ReLU(), nn.Linear(8, 4)).eval(),
        (tmp_path / "float.tflite"),
    )
    convert(module, SHAPE, path)
    bare = Converted(module, path, quantized_structure(path.read_bytes()))
    twin = twin_of(bare, portable=True)
    left = parting_layers(written(bare, twin), [node.label for node in twin.graph.nodes])
    linear = [node for node in twin.graph.nodes if node.op == "FULLY_CONNECTED"]
    named = [node.label for node in linear if len(node.inputs) < 3 or node.inputs[2] < 0]
    assert left == named
    assert len(twin.portable) == len(linear) - len(named)


class Means(nn.Module):
    """A gate, whose mean keeps its axes, and a mean before a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 8, 3), nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.first(x)
        x = self.second(x * torch.sigmoid(x.mean((2, 3), keepdim=True)))
        return self.head(x.mean((2, 3)))


def test_means_over_maps_become_pools(tmp_path: Path) -> None:
    path = tmp_path / "means.tflite"
    convert(Means().eval(), SHAPE, path)
    content = path.read_bytes()
    pooled = pool_means(content)
    ops = {
        name: [op_name(model, operator) for operator in model.subgraphs[0].operators]
        for name, model in (("before", read_model(path)), ("after", schema.ModelT.InitFromPackedBuf(pooled, 0)))
    }
    assert "AVERAGE_POOL_2D" not in ops["before"]
    assert ops["after"].count("AVERAGE_POOL_2D") == 2
    assert ops["before"].count("MEAN") == 2
    assert "MEAN" not in ops["after"]
    for x in images(5, seed=2).permute(0, 2, 3, 1).numpy():
        for kernels in KERNELS:
            np.testing.assert_allclose(
                run(pooled, kernels, x[None]), run(content, kernels, x[None]), rtol=1e-5, atol=1e-6
            )
    assert pool_means(pooled) == pooled  # nothing is left to do


@pytest.mark.parametrize(
    ("shape", "axes", "result", "pools"),
    [
        ((1, 4, 6, 3), [1, 2], (1, 3), 1), ((1, 4, 6, 3), [-2, -3], (1, 1, 1, 3), 1), ((1, 4, 6, 3), [3], (1, 4, 6), 0),
        ((1, 4, 6, 3), [1], (1, 6, 3), 0), ((1, 4, 6, 3), [2, 3], (1, 4), 0),
        ((1, 4, 6), [1], (1, 6), 0), ((1, 4, 6), [1, 2], (1,), 0),
    ],
)  # fmt: skip
def test_only_means_over_maps_become_pools(
    shape: tuple[int, ...], axes: list[int], result: tuple[int, ...], pools: int
) -> None:
    made = [Made(shape, name="x"), constant(axes, "int32"), Made(result, name="y")]
    keeps = {"keepDims": len(shape) == len(result)}
    content = make_bytes(made, [Op("MEAN", (0, 1), (2,), keeps)])
    pooled = pool_means(content)
    model = schema.ModelT.InitFromPackedBuf(pooled, 0)
    assert [op_name(model, operator) for operator in model.subgraphs[0].operators].count("AVERAGE_POOL_2D") == pools
    assert (pooled == content) == (pools == 0)
    x = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    np.testing.assert_allclose(run(pooled, "litert", x), run(content, "litert", x), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kept", [False, True])
def test_a_transposition_goes_with_its_mean_unless_it_is_read_elsewhere(kept: bool) -> None:
    order, axes, back = (constant(values, "int32") for values in ([0, 3, 1, 2], [2, 3], [1, 3]))
    made = [Made((1, 4, 6, 3)), order, Made((1, 3, 4, 6)), axes, Made((1, 3)), back, Made((1, 3)), Made((1, 3))]
    ops = [Op("TRANSPOSE", (0, 1), (2,)), Op("MEAN", (2, 3), (4,)), Op("ADD", (4, 4), (7,))]
    if kept:
        made[5], made[6] = constant([2, 3], "int32"), Made((1, 3))
        ops[2:] = [Op("REDUCE_MAX", (2, 5), (6,)), Op("ADD", (4, 6), (7,))]
    content = make_bytes(made, ops)
    pooled = pool_means(content)
    model = schema.ModelT.InitFromPackedBuf(pooled, 0)
    found = [op_name(model, operator) for operator in model.subgraphs[0].operators]
    assert ("TRANSPOSE" in found, "MEAN" in found) == (kept, False)
    x = np.random.default_rng(0).normal(size=(1, 4, 6, 3)).astype(np.float32)
    np.testing.assert_allclose(run(pooled, "litert", x), run(content, "litert", x), rtol=1e-5, atol=1e-6)


def test_pooled_means_are_alike_everywhere(tmp_path: Path) -> None:
    torch.manual_seed(1)
    layers = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU6(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4))
    path = tmp_path / "net.tflite"
    convert(layers.eval(), SHAPE, path)
    made = Converted(layers, path, quantized_structure(pool_means(path.read_bytes())))
    twin = twin_of(made, portable=True)
    settle(twin)
    model = written(made, twin)
    assert parting_layers(model, [node.label for node in twin.graph.nodes]) == []
    raw = raw_images(twin, 200)
    np.testing.assert_array_equal(outputs(model, "litert", raw), outputs(model, "reference", raw))


def test_the_largest_weights_are_clipped_where_that_is_the_smaller_error(residual: Converted) -> None:
    twin = twin_of(residual, portable=True)
    n = next(n for n in twin.portable if twin.graph.tensors[n].axis == 0)
    weight = twin.weights[str(n)]
    with torch.no_grad():
        weight.copy_(torch.linspace(-0.9, 0.9, weight.numel()).reshape(weight.shape))
        before = twin.weight_scale(n)[0]
        reach = 126.0 * before
        for largest, halves in ((1.02, True), (1.9, False)):  # of what half the steps would reach
            weight[0] = torch.linspace(-0.4, 0.4, weight[0].numel()).reshape(weight[0].shape) * reach
            weight[0].view(-1)[0] = largest * reach / 2
            assert (twin.weight_scale(n)[0] < 0.6 * before) == halves
            steps = twin.fake_weight(n)[0] / (2 * twin.weight_scale(n)[0])
            assert steps.abs().max() <= 63.01
