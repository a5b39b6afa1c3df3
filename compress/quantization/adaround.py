"""AdaRound: which way each weight is rounded is learned, layer by layer, so that the layer's output stays what it was.

Source: Nagel et al. 2020, "Up or Down? Adaptive Rounding for Post-Training Quantization" (arXiv 2004.10568), equations
21 to 25: rectified sigmoid, and a regulariser whose exponent falls until every weight has decided.
"""

from __future__ import annotations

import torch

from compress.quantization.batches import compute, compute_each
from compress.quantization.fake import weight_qmax
from compress.quantization.layers import Layer, walk
from compress.quantization.ops import WEIGHTED
from compress.quantization.twin import Twin

ITERATIONS = 1000
BATCH_SIZE = 32
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
    rounded = 0
    for layer in walk(twin, x):
        n = layer.node.inputs[1] if layer.node.op in WEIGHTED else -1
        if n >= 0 and str(n) in twin.weights and twin.graph.tensors[n].quantized:
            with torch.enable_grad():
                _round_layer(twin, layer, n, iterations, generator)
            rounded += 1
    return rounded


def _round_layer(twin: Twin, layer: Layer, n: int, iterations: int, generator: torch.Generator) -> None:
    weight = twin.weights[str(n)].data
    axis = twin.graph.tensors[n].axis
    qmax = weight_qmax(twin.graph.tensors[n])
    scale = twin.weight_scale(n)
    scale = scale.reshape([-1 if d == axis and len(scale) > 1 else 1 for d in range(weight.ndim)])
    steps = weight / scale
    floor = torch.floor(steps)
    choice = _undo_sigmoid(steps - floor).requires_grad_()
    optimizer = torch.optim.Adam([choice], lr=LEARNING_RATE)
    samples = len(layer.target[0])
    for iteration in range(iterations):
        index = torch.randint(samples, (min(BATCH_SIZE, samples),), generator=generator).to(weight.device)
        up = _rectified(choice)
        soft = (floor + up).clamp(-qmax, qmax) * scale
        outputs = _outputs(layer, soft, index)
        error = (outputs - layer.target[0][index]).square().sum(-1).mean()
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


def _outputs(layer: Layer, weight: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    """Returns the layer's real outputs for some samples of the quantized model's inputs."""
    arguments = [layer.quantized[0][index], weight, *layer.quantized[2:]]
    outputs = compute(layer.node, arguments) if layer.each is None else compute_each(layer.node, arguments, layer.each)
    return outputs[0]


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
