"""AdaRound: which way each weight is rounded is learned, layer by layer, so that the layer's output stays what it was.

Source: Nagel et al. 2020, "Up or Down? Adaptive Rounding for Post-Training Quantization" (arXiv 2004.10568), equations
21 to 25: rectified sigmoid, and a regulariser whose exponent falls until every weight has decided.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812 - the usual name

from edgecompress.quantization.graph.graph import Node
from edgecompress.quantization.graph.layers import activate, symmetric_same
from edgecompress.quantization.graph.ops import WEIGHTED
from edgecompress.quantization.proof.layers import Layer, walk
from edgecompress.quantization.twin.twin import Twin

ITERATIONS = 1000
#: Output positions that a layer is rounded by, and how many of them a step looks at.
ROWS, BATCH_ROWS = 8192, 256
#: Samples laid out at a time.
UNFOLDED = 16
LEARNING_RATE = 1e-2
#: Weight of the regulariser against the squared error.
REGULARISATION = 0.01
#: The regulariser's exponent falls from the first to the second, after a share of the iterations without it.
EXPONENTS = (20.0, 2.0)
WARM_UP = 0.2
#: Weights within this share of a step of an integer lie on it but for the rounding of floating point.
ON_GRID = 1e-4
#: The rectified sigmoid is stretched over this interval and clipped to 0 and 1.
STRETCH = (-0.1, 1.1)


def learn_rounding(twin: Twin, x: torch.Tensor, *, iterations: int = ITERATIONS, seed: int = 0) -> int:
    """Rounds a twin's weights in place, for good, and returns how many layers were rounded.

    Afterwards the weights lie on the grid of their scales, so the twin rounds them to themselves.

    Args:
        twin: In evaluation mode, with its ranges set.
        x: A batch of network inputs, (N, ...), N of 2 or more.
        iterations: Optimizer steps per layer.
        seed: Of the order of samples.

    Raises:
        ModelError: The graph can only be computed sample by sample.
    """
    generator = torch.Generator().manual_seed(seed)
    rounded: set[int] = set()  # steps of a recurrent layer share their weights
    for layer in walk(twin, x):
        n = layer.node.inputs[1] if layer.node.op in WEIGHTED else -1
        if n >= 0 and n not in rounded and str(n) in twin.weights and twin.graph.tensors[n].quantized:
            with torch.enable_grad():
                _round_layer(twin, layer, n, iterations, generator)
            rounded.add(n)
    return len(rounded)


def _round_layer(twin: Twin, layer: Layer, n: int, iterations: int, generator: torch.Generator) -> None:
    weight = twin.weights[str(n)].data
    axis = twin.graph.tensors[n].axis
    scale, qmax = twin.weight_grid(n)
    scale = scale.reshape([-1 if d == axis and len(scale) > 1 else 1 for d in range(weight.ndim)])
    steps = weight / scale
    floor = torch.floor(steps)
    choice = _undo_sigmoid(steps - floor).requires_grad_()
    optimizer = torch.optim.Adam([choice], lr=LEARNING_RATE)
    rows = lay_out(layer, generator)
    bias = layer.quantized[2] if len(layer.quantized) > 2 else None  # noqa: PLR2004
    for iteration in range(iterations):
        index = torch.randint(len(rows.inputs), (min(BATCH_ROWS, len(rows.inputs)),), generator=generator)
        up = _rectified(choice)
        soft = (floor + up).clamp(-qmax, qmax) * scale
        error = (rows.outputs(soft, bias, index) - rows.targets[index]).square().sum(-1).mean()
        loss = error + _undecided(up, iteration / iterations)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    with torch.no_grad():
        up = (_rectified(choice) >= 0.5).to(weight.dtype)  # noqa: PLR2004 - the nearer of 0 and 1
        # What lies on the grid stays: pruned weights are zero, and the largest weight of a channel makes its scale.
        nearest = torch.round(steps)
        hard = torch.where((steps - nearest).abs() < ON_GRID, nearest, floor + up)
        weight.copy_(hard.clamp(-qmax, qmax) * scale)


@dataclass(frozen=True)
class Rows:
    """A layer as a product of matrices, at some of its output positions: maps are large and their positions alike.

    Attributes:
        node: The layer's operator.
        inputs: (rows, groups, inputs of an output channel): what the quantized model has there.
        targets: (rows, output channels): what the float model makes of its own.
    """

    node: Node
    inputs: torch.Tensor
    targets: torch.Tensor

    def outputs(self, weight: torch.Tensor, bias: torch.Tensor | None, index: torch.Tensor) -> torch.Tensor:
        """Returns the outputs of some rows, (rows, output channels), for a weight as the flatbuffer lays it out."""
        x = self.inputs[index]
        if self.node.op == "CONV_2D":
            weight = weight.permute(0, 3, 1, 2)  # OHWI
        elif self.node.op == "DEPTHWISE_CONV_2D":
            weight = weight.permute(3, 0, 1, 2)  # 1HWO
        groups = x.shape[1]
        y = torch.einsum("rgk,gok->rgo", x, weight.reshape(groups, -1, x.shape[2])).flatten(1)
        return activate(self.node, y if bias is None else y + bias)


@torch.no_grad()
def lay_out(layer: Layer, generator: torch.Generator) -> Rows:
    """Returns a layer's inputs and targets at up to ROWS positions, drawn evenly over the samples."""
    node, x, target = layer.node, layer.quantized[0], layer.target[0]
    if layer.each is not None:
        x, target = x.flatten(0, 1), target.flatten(0, 1)
    if node.op == "FULLY_CONNECTED":
        x, target = x.reshape(-1, 1, layer.quantized[1].shape[1]), target.reshape(-1, target.shape[-1])
        chosen = torch.randperm(len(x), generator=generator)[:ROWS]
        return Rows(node, x[chosen], target[chosen])
    weight = layer.quantized[1]
    kernel = (weight.shape[1], weight.shape[2])
    groups = x.shape[3] if node.op == "DEPTHWISE_CONV_2D" else x.shape[3] // weight.shape[3]
    each = max(ROWS // len(x), 1)
    found, targets = [], []
    for start in range(0, len(x), UNFOLDED):
        patches = _unfold(node, x[start : start + UNFOLDED], kernel)
        wanted = target[start : start + UNFOLDED].flatten(1, 2)
        chosen = torch.randperm(patches.shape[2], generator=generator)[:each]
        picked = patches[:, :, chosen].transpose(1, 2).flatten(0, 1)
        found.append(picked.reshape(len(picked), groups, -1))
        targets.append(wanted[:, chosen].flatten(0, 1))
    return Rows(node, torch.cat(found), torch.cat(targets))


def _unfold(node: Node, x: torch.Tensor, kernel: tuple[int, int]) -> torch.Tensor:
    """Returns the patches (N, channels * height * width of the kernel, positions) that a convolution multiplies."""
    x, padding = symmetric_same(node, x.permute(0, 3, 1, 2), kernel)
    dilation = (node.options["dilationHFactor"], node.options["dilationWFactor"])
    return F.unfold(x, kernel, dilation, padding, (node.options["strideH"], node.options["strideW"]))


def _rectified(choice: torch.Tensor) -> torch.Tensor:
    low, high = STRETCH
    return (torch.sigmoid(choice) * (high - low) + low).clamp(0.0, 1.0)


def _undo_sigmoid(share: torch.Tensor) -> torch.Tensor:
    """Returns the choice that rounds softly to where the weight is."""
    low, high = STRETCH
    return -torch.log((high - low) / (share - low) - 1.0)


def _undecided(up: torch.Tensor, progress: float) -> torch.Tensor:
    """Returns the price of weights that have not decided."""
    if progress < WARM_UP:
        return up.new_zeros(())
    first, last = EXPONENTS
    exponent = last + (first - last) * (1.0 - (progress - WARM_UP) / (1.0 - WARM_UP))
    return REGULARISATION * (1.0 - (2.0 * up - 1.0).abs().pow(exponent)).sum()
