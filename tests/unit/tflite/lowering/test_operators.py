"""What the converter gets wrong, or has no operator for, comes out right and in operators with an INT8 kernel."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from edgecompress.tflite.format.convert import convert
from edgecompress.tflite.format.flatbuffer import read_model
from edgecompress.tflite.format.views import graph_views
from edgecompress.tflite.runtime.runtimes import RUNTIMES

Function = Callable[[torch.Tensor], torch.Tensor]


class Each(nn.Module):
    """Functions of one picture, their values in a row."""

    def __init__(self, functions: list[Function]) -> None:
        super().__init__()
        self.functions = functions

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([function(x).flatten(1) for function in self.functions], 1)


ACTIVATIONS: list[Function] = [
    F.elu, F.celu, F.selu, F.softplus, F.mish, F.logsigmoid, F.rrelu, torch.sign,
    lambda x: F.elu(x, 0.5), lambda x: F.celu(x, 0.7), lambda x: F.softplus(x, 2.0),
]  # fmt: skip
POOLS: list[Function] = [
    lambda x: F.max_pool2d(x, 3, 2, ceil_mode=True),
    lambda x: F.max_pool2d(x, 3, 3, ceil_mode=True),
    lambda x: F.max_pool2d(x - 5, 3, 2, padding=1, ceil_mode=True),
    lambda x: F.avg_pool2d(x, 3, 2, padding=1, ceil_mode=True),
    lambda x: F.avg_pool2d(x, 2, 2, padding=1, count_include_pad=False),
    lambda x: F.avg_pool2d(x, 3, 2, ceil_mode=True, count_include_pad=False),
    lambda x: F.avg_pool2d(x, 2, divisor_override=3),
    lambda x: F.avg_pool2d(x, 3, 1, padding=1, count_include_pad=False),
    lambda x: F.adaptive_max_pool2d(x, 1),
    lambda x: F.adaptive_max_pool2d(x, (3, 5)),
    lambda x: F.adaptive_avg_pool2d(x, (3, 5)),
    lambda x: F.lp_pool2d(x, 2, 2),
]
RESIZED: list[Function] = [
    lambda x: F.interpolate(x, scale_factor=2, mode="nearest"),
    lambda x: F.interpolate(x, size=(17, 20), mode="nearest"),
    lambda x: F.interpolate(x, size=(22, 13), mode="nearest"),
    lambda x: F.interpolate(x[:, None], scale_factor=2, mode="nearest"),
    lambda x: F.interpolate(x, scale_factor=2, mode="bilinear"),
    lambda x: F.max_pool2d(x, 3, 1, dilation=2),
    lambda x: F.max_pool2d(x, 2, 2, padding=1, dilation=(1, 3)),
    lambda x: F.softplus(x, 2.0, 1.0),
    lambda x: torch.logsumexp(x, (2, 3)),
    lambda x: torch.logsumexp(x, 1, keepdim=True),
]
IN_THREE: list[Function] = [
    lambda x: F.max_pool3d(x[:, None], 2),
    lambda x: F.max_pool3d(x[:, None], (1, 2, 2), padding=(0, 1, 1), ceil_mode=True),
    lambda x: F.avg_pool3d(x[:, None], (2, 3, 2), stride=(1, 2, 2)),
    lambda x: F.adaptive_avg_pool3d(x[:, None], (2, 3, 4)),
    lambda x: F.adaptive_max_pool3d(x[:, None], (1, 2, 4)),
    lambda x: F.local_response_norm(x, 3),
    lambda x: F.lp_pool3d(x[:, None], 2, 2),
    lambda x: F.conv3d(torch.stack([x, -x], 1), torch.linspace(-1, 1, 36).view(4, 1, 1, 3, 3), groups=2),
]
WINDOWS: list[Function] = [
    lambda x: F.fold(F.unfold(x, 3, padding=1), (11, 13), 3, padding=1),
    lambda x: F.fold(F.unfold(x, (2, 4), stride=(3, 2)) * 0.5, (11, 13), (2, 4), stride=(3, 2)),
    lambda x: F.fold(F.unfold(x, (3, 2), dilation=2, padding=(1, 0)), (11, 13), (3, 2), dilation=2, padding=(1, 0)),
    lambda x: F.fold(F.unfold(x[:, :, :8, :12], (2, 3), stride=(2, 3)), (8, 12), (2, 3), stride=(2, 3)),
    lambda x: F.fold(F.unfold(x[0, :, :8, :12], 4, stride=4), (8, 12), 4, stride=4)[None],
    lambda x: F.fold(F.unfold(x[:, :, :9, :9], 3, stride=3), (9, 9), 3, stride=3),
    lambda x: x.unfold(2, 4, 4).unfold(3, 4, 4),
    lambda x: x.unfold(2, 3, 2).unfold(3, 5, 3).amax(-1),
    lambda x: x.unfold(-1, 9, 4) * 2,
    lambda x: x.unfold(1, 2, 1).unfold(2, 11, 1),
    lambda x: F.unfold(x, 3, stride=2),
]
MIXED: list[Function] = [
    lambda x: F.interpolate(x, size=(5, 20), mode="bilinear", antialias=True),
    lambda x: F.interpolate(x, size=(20, 5), mode="bicubic", antialias=True),
    lambda x: F.interpolate(x, scale_factor=0.5, mode="bilinear", antialias=True),
    lambda x: F.interpolate(x, scale_factor=0.4, mode="bicubic", antialias=True, align_corners=True),
    lambda x: F.interpolate(x, scale_factor=1.3, mode="bilinear"),
    lambda x: F.interpolate(x, scale_factor=1.3, mode="bilinear", recompute_scale_factor=True),
    lambda x: F.interpolate(x, scale_factor=(2, 0.7), mode="bilinear", align_corners=True),
    lambda x: F.interpolate(x.flatten(2), scale_factor=1.5, mode="linear"),
    lambda x: F.interpolate(x.flatten(2), size=71, mode="linear", align_corners=True),
    lambda x: F.interpolate(x[:, None], size=(5, 7, 13), mode="trilinear"),
    lambda x: F.interpolate(x[:, None], scale_factor=2, mode="trilinear", align_corners=True),
]
COPIES: list[Function] = [
    lambda x: x.repeat(1, 2, 1, 3),
    lambda x: torch.tile(x, (1, 1, 2)),
    lambda x: x.repeat_interleave(3, 2),
    lambda x: x[:, :1].expand(-1, 2, -1, -1).transpose(2, 3),
    lambda x: x[:, :1, None].expand(-1, 1, 4, -1, -1).reshape(1, 4, *x.shape[2:]) @ x[:, :1].transpose(2, 3),
    lambda x: x * x.mean((2, 3), keepdim=True).expand_as(x),
]


@pytest.mark.parametrize(
    "functions",
    [ACTIVATIONS, POOLS, RESIZED, IN_THREE, WINDOWS, MIXED, COPIES],
    ids=["activations", "pools", "sizes", "in three axes", "windows", "mixtures", "copies"],
)
def test_functions_come_out_as_torch_computes_them(functions: list[Function], tmp_path: Path) -> None:
    check(Each(functions), (3, 11, 13), tmp_path)


class SharedKeys(nn.Module):
    """Attention whose heads share one head's keys, as many language models have it."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.width = width
        self.q, self.k = nn.Linear(6, 2 * width, bias=False), nn.Linear(6, width, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        steps = x.shape[1]
        q = self.q(x).view(-1, steps, 2, self.width).transpose(1, 2)
        k = self.k(x).view(-1, steps, 1, self.width).transpose(1, 2)
        shared = k[:, :, None].expand(-1, 1, 2, steps, self.width).reshape(-1, 2, steps, self.width)
        return (q @ shared.transpose(-1, -2)).flatten(1)


@pytest.mark.parametrize("steps", [8, 5])
def test_heads_that_share_keys_see_them_transposed(steps: int, tmp_path: Path) -> None:
    check(SharedKeys(), (steps, 6), tmp_path)


class Up(nn.Module):
    """Transposed convolutions with all that may be uneven."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            [
                nn.ConvTranspose2d(4, 6, 3, 2, padding=1, output_padding=1),
                nn.ConvTranspose2d(4, 6, 2, 3, output_padding=(1, 0)),
                nn.ConvTranspose2d(4, 6, 4, 2, padding=1, groups=2),
                nn.ConvTranspose2d(4, 6, 3, 2, padding=1, bias=False),
            ]
        )
        self.norm = nn.BatchNorm2d(6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([self.norm(layer(x)).flatten(1) for layer in self.layers], 1)


def test_transposed_convolutions_and_their_norms(tmp_path: Path) -> None:
    module = Up()
    with torch.no_grad():
        module.norm.running_mean.normal_()  # type: ignore[union-attr]
        module.norm.running_var.uniform_(0.5, 2)  # type: ignore[union-attr]
    ops = check(module, (4, 5, 6), tmp_path)
    assert ops.count("TRANSPOSE_CONV") == 5  # one is of two groups
    for graph in graph_views(read_model(tmp_path / "float.tflite")):
        for op in graph.ops:
            if op.op == "TRANSPOSE_CONV" and len(op.inputs) > 3:
                assert len(graph.tensors[op.inputs[3]].shape) == 1  # as the quantizer takes a bias


class Series(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv1d(5, 8, 3, padding=1), nn.BatchNorm1d(8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.norm(self.conv(x.transpose(1, 2)))).flatten(1)


def test_a_batch_norm_behind_a_convolution_over_a_series_is_folded(tmp_path: Path) -> None:
    module = Series()
    with torch.no_grad():
        module.norm.running_mean.normal_()  # type: ignore[union-attr]
        module.norm.running_var.uniform_(0.5, 2)  # type: ignore[union-attr]
    ops = check(module, (9, 5), tmp_path)
    assert "MUL" not in ops
    assert "ADD" not in ops


class Powers(nn.Module):
    """What is learnt as an exponent is known when it is converted."""

    def __init__(self) -> None:
        super().__init__()
        self.p = nn.Parameter(torch.tensor(3.0))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = x.clamp(min=1e-2)
        return torch.cat([y.pow(self.p), y.pow(1.0 / self.p), y.pow(2.5), y.pow(-0.5), y.pow(4)], 1).flatten(1)


def test_powers_become_products_roots_and_exponentials(tmp_path: Path) -> None:
    ops = check(Powers(), (2, 4, 4), tmp_path)
    assert "POW" not in ops


class Masked(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mask", torch.full((6, 6), float("-inf")).triu(1) + 0.25)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x @ x.transpose(1, 2) + self.mask).softmax(-1).flatten(1)  # type: ignore[operator]


def test_a_mask_of_minus_infinity_chooses(tmp_path: Path) -> None:
    ops = check(Masked(), (6, 4), tmp_path)
    assert "SELECT_V2" in ops


class Flat(nn.Module):
    """`view` takes tensors that lie in the order of their axes, as they do in training."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, 4, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.conv(x)
        return torch.cat([y.view(y.size(0), -1), x.view(x.size(0), -1)], 1)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_view_behind_a_convolution_and_of_the_input(channels: int, tmp_path: Path) -> None:
    check(Flat(channels), (channels, 5, 5), tmp_path)


class Branches(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(x).relu().flatten(1)


class Paired(nn.Module):
    """Each value of one input times each of another, for vectors and rows of them."""

    def __init__(self) -> None:
        super().__init__()
        self.pairs, self.plain = nn.Bilinear(4, 4, 5), nn.Bilinear(4, 4, 1, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        rows = self.pairs(x, x.flip(-1)).flatten(1)
        return torch.cat([rows, self.plain(x[:, 0], x[:, 1])], 1)


def test_bilinear_layers(tmp_path: Path) -> None:
    check(Paired(), (6, 4), tmp_path)


class Bags(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        kinds = ("sum", "mean", "max")
        self.bags = nn.ModuleList([nn.EmbeddingBag(30, 4, mode=kind) for kind in kinds])
        self.bags += [
            nn.EmbeddingBag(30, 4, mode="sum", padding_idx=3),
            nn.EmbeddingBag(30, 4, include_last_offset=True),
        ]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        ends = torch.tensor([0, x.numel()])
        found = [bag(x) for bag in self.bags[:-1]] + [self.bags[-1](x.reshape(-1), ends)]
        weighted = F.embedding_bag(x, self.bags[0].weight, mode="sum", per_sample_weights=x * 0.5)
        return torch.cat([*found, weighted], 1)


def test_bags_of_embeddings(tmp_path: Path) -> None:
    module, path = Bags().eval(), tmp_path / "float.tflite"
    with torch.no_grad():
        module.bags[3].weight.normal_()  # its row of padding too
    convert(module, (6,), path, torch.int32)
    x = torch.tensor([[3, 29, 0, 3, 17, 5]], dtype=torch.int32)
    with torch.no_grad():
        expected = module(x).numpy()
    np.testing.assert_allclose(RUNTIMES["litert"].session(path).run(x.numpy()), expected, atol=1e-5)


class Limited(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(9, 4, max_norm=0.7, norm_type=1.0, padding_idx=2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.table(x).flatten(1)


def test_rows_of_a_table_are_shortened_beforehand(tmp_path: Path) -> None:
    module, path, x = Limited().eval(), tmp_path / "float.tflite", torch.tensor([[8, 2, 0, 5]], dtype=torch.int32)
    before = module.table.weight.detach().clone()
    convert(module, (4,), path, torch.int32)
    torch.testing.assert_close(module.table.weight, before)
    with torch.no_grad():
        expected = module(x).numpy()
    np.testing.assert_allclose(RUNTIMES["litert"].session(path).run(x.numpy()), expected, atol=1e-6)
    assert [op.op for op in graph_views(read_model(path))[0].ops if op.op not in ("RESHAPE", "CAST")] in (
        ["EMBEDDING_LOOKUP"], ["GATHER"],
    )  # fmt: skip


def test_torchscript_and_compiled_modules(tmp_path: Path) -> None:
    check(torch.jit.script(Branches()), (3, 5, 5), tmp_path)
    check(torch.compile(Branches(), backend="eager"), (3, 5, 5), tmp_path)  # type: ignore[arg-type]


def check(module: nn.Module, shape: tuple[int, ...], folder: Path) -> list[str]:
    """Converts a module, compares what the file computes, and returns the file's operators."""
    path = folder / "float.tflite"
    convert(module.eval(), shape, path)
    x = torch.from_numpy(np.random.default_rng(3).standard_normal((2, *shape)).astype(np.float32))
    with torch.no_grad():
        expected = torch.cat([module(sample[None]) for sample in x]).numpy()
    given = x.permute(0, 2, 3, 1) if x.ndim == 4 else x
    session = RUNTIMES["litert"].session(path)
    np.testing.assert_allclose(session.run(given.contiguous().numpy()), expected, atol=2e-5, rtol=1e-4)
    return [op.op for graph in graph_views(read_model(path)) for op in graph.ops]
