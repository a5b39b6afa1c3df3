"""What those who read an activation make of it: how far a range needs to reach, and where its zero has to lie.

Found in the graph itself, so that calibration, training and every estimator of ranges keep to it.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray

from edgecompress.quantization.graph.graph import Graph, Node
from edgecompress.quantization.graph.layers import LIMITS
from edgecompress.quantization.grids.ranges import INT8, RangeGroup

#: Operator whose INT8 output is the same for all inputs beyond this, both ways: sigmoid(-6.25) = 0.49 / 256 and
#: tanh(-3.2) = -127.6 / 128 round to the ends of the grids that the kernels ask for.
SATURATED_AT = {"LOGISTIC": 6.25, "TANH": 3.2}
#: Where a state that only a tanh and its own next step read is cut off. LSTM cells that count upwards reach 20 and more
#: in a few units, and steps that wide swallow what a single step of time adds in all the others.
CELL = 6.0
#: Of a LOGISTIC's INT8 outputs.
LARGEST_SHARE = 255.0 / 256.0
#: Share of a softmax's sum that raising the least outputs may add: an INT8 probability's step.
ADDED_SHARE = 1.0 / 256.0
#: Share of samples whose own class may be raised: what turned out to be the answer had a chance after all.
MISJUDGED = 1.0 / 256.0
#: Of INT8, and by how many of them an output may be raised, whatever its chance.
STEPS, SLIGHT_STEPS = 255, 4
#: Up to so many classes nothing but the answer counts.
FEW_CLASSES = 100
#: Between outputs and those raised, on average: a fiftieth of what INT8 itself takes off the cosine of a large network.
LEAST_COSINE = 0.9998
#: Operator whose output is the same for all inputs beyond these.
CLIPPING = {
    "LOGISTIC": (-SATURATED_AT["LOGISTIC"], SATURATED_AT["LOGISTIC"]),
    "RELU": LIMITS[1],
    "RELU6": LIMITS[3],
    "RELU_0_TO_1": (0.0, 1.0),
    "RELU_N1_TO_1": LIMITS[2],
    "TANH": (-SATURATED_AT["TANH"], SATURATED_AT["TANH"]),
}
#: Operators that hand on values as they are: what their readers clip need not reach further in front of them either.
_HANDING_ON = frozenset(
    {"CONCATENATION", "EXPAND_DIMS", "GATHER", "PAD", "QUANTIZE", "RESHAPE", "REVERSE_V2", "SLICE", "SPLIT", "SPLIT_V",
     "SQUEEZE", "STRIDED_SLICE", "TILE", "TRANSPOSE", "UNPACK"}
)  # fmt: skip
_ANYWHERE = (-np.inf, np.inf)
_HALVINGS = 40
#: About how many outputs need be looked at, evenly spread: of a language model there are many.
MOST_OUTPUTS = 2_000_000


def mark_readers(graph: Graph, groups: list[RangeGroup], constants: Mapping[int, torch.Tensor] | None = None) -> None:
    """Sets `limits` and `symmetric` of a graph's range groups by what reads them, in place.

    Args:
        graph: The graph.
        groups: Its range groups.
        constants: Tensor number -> real values, as far as they are known.
    """
    group_of = {n: k for k, group in enumerate(groups) for n in group.tensors}
    made_by, read_by = _neighbours(graph, len(groups), group_of)
    for k, group in enumerate(groups):
        if group.dtype != INT8 or group.fixed or graph.output in group.tensors:
            continue
        readers = read_by[k]
        limit = max((SATURATED_AT.get(node.op, np.inf) for node in readers), default=np.inf)
        # The zeros that a state begins with are read elsewhere too.
        sums = {n for node in made_by[k] if node.op == "ADD" for n in node.outputs}
        users = [node for node in readers if sums & set(node.inputs)]
        products = [node for node in users if node.op == "MUL" and _leads_back(node, k, made_by, read_by, group_of)]
        if products and 0 < len(users) - len(products) == sum(node.op == "TANH" for node in users):
            limit = CELL
            for node in products:
                # A share of the state, and the largest share is 255/256. On the state's own grid every product of
                # integers that is an odd multiple of 128 would be a tie, which each kernel rounds its own way.
                groups[group_of[node.outputs[0]]].limits = (-limit * LARGEST_SHARE, limit * LARGEST_SHARE)
        if np.isfinite(limit):
            group.limits = (-limit, limit)
    reaches = _reaches(graph, constants or {})
    for group in groups:
        if group.dtype == INT8 and not group.fixed and group.observed and graph.input not in group.tensors:
            lows, highs = zip(*(reaches.get(n, _ANYWHERE) for n in group.observed), strict=True)
            group.limits = (max(group.limits[0], min(lows)), min(group.limits[1], max(highs)))
    for node in graph.nodes:
        # XNNPACK multiplies two INT8 activations where the second one's zero point is 0; what is left to TFLite's own
        # kernel takes 30 times as long.
        if node.op == "BATCH_MATMUL" and node.inputs[1] in group_of:
            second = groups[group_of[node.inputs[1]]]
            second.symmetric = second.dtype == INT8 and not second.fixed


def _reaches(graph: Graph, constants: Mapping[int, torch.Tensor]) -> dict[int, tuple[float, float]]:
    """Returns, for each activation, between which values its readers tell values apart, and it has any."""
    found: dict[int, tuple[float, float]] = {graph.output: _ANYWHERE}
    for node in reversed(graph.nodes):
        behind = [found.get(n, _ANYWHERE) for n in node.outputs]
        low, high = min(one[0] for one in behind), max(one[1] for one in behind)
        cut, fused = _cut(node, constants), _fused_cut(node, constants)
        if fused is not None:
            low, high = fused
        elif cut is not None:  # where both cut, both have to agree on where values end
            low, high = max(low, min(cut[0], high)), min(high, max(cut[1], low))
        elif node.op not in _HANDING_ON:
            low, high = _ANYWHERE
        if cut is not None and node.op not in SATURATED_AT:
            for n in node.outputs:
                known = found.get(n, _ANYWHERE)
                found[n] = (max(known[0], cut[0]), min(known[1], cut[1]))
        for n in node.inputs:
            if n >= 0 and graph.tensors[n].constant is None:
                known = found.get(n, (low, high))
                found[n] = (min(known[0], low), max(known[1], high))
    return found


def _cut(node: Node, constants: Mapping[int, torch.Tensor]) -> tuple[float, float] | None:
    """Returns beyond which inputs an operator gives the same, None where it always tells them apart."""
    if node.op not in ("MAXIMUM", "MINIMUM"):
        return CLIPPING.get(node.op)
    known = next((constants[n] for n in node.inputs if n in constants and constants[n].numel()), None)
    if known is None:
        return None
    return (float(known.min()), np.inf) if node.op == "MAXIMUM" else (-np.inf, float(known.max()))


def _fused_cut(node: Node, constants: Mapping[int, torch.Tensor]) -> tuple[float, float] | None:
    """Returns the same of a sum or product with a constant that an activation is fused with."""
    low, high = LIMITS.get(int(node.options.get("fusedActivationFunction") or 0), _ANYWHERE)
    known = [constants[n] for n in node.inputs if n in constants]
    if node.op not in ("ADD", "MUL") or (low, high) == _ANYWHERE or len(known) != 1 or not known[0].numel():
        return None
    least, most = float(known[0].min()), float(known[0].max())
    if not np.isfinite([least, most]).all() or (node.op == "MUL" and least <= 0):
        return None
    if node.op == "ADD":
        return low - most, high - least
    return min(low / least, low / most), max(high / least, high / most)


def _neighbours(graph: Graph, count: int, group_of: Mapping[int, int]) -> tuple[list[list[Node]], list[list[Node]]]:
    """Returns the operators that make values of each group, and those that read them; passing on is neither."""
    made_by: list[list[Node]] = [[] for _ in range(count)]
    read_by: list[list[Node]] = [[] for _ in range(count)]
    for node in graph.nodes:
        made = {group_of[n] for n in node.outputs if n in group_of}
        read = {group_of[n] for n in node.inputs if n in group_of}
        passes = len(read) == 1 and read == made
        for k in made if not passes else ():
            made_by[k].append(node)
        for k in read if not passes else ():
            read_by[k].append(node)
    return made_by, read_by


def _leads_back(
    node: Node, k: int, made_by: list[list[Node]], read_by: list[list[Node]], group_of: Mapping[int, int]
) -> bool:
    """Returns whether a product of group `k` is read only by sums that are values of group `k`."""
    product = group_of.get(node.outputs[0], k)
    makers = {maker.index for maker in made_by[k]}
    readers = read_by[product]
    return product != k and bool(readers) and all(one.op == "ADD" and one.index in makers for one in readers)


def cut_outputs(graph: Graph, groups: list[RangeGroup], group_of: Mapping[int, int], floor: float) -> bool:
    """Ends the output's range at `floor` from below; returns whether that could be done: nothing else may read it."""
    k = group_of.get(graph.output)
    if k is None or groups[k].dtype != INT8 or groups[k].fixed or _neighbours(graph, len(groups), group_of)[1][k]:
        return False
    groups[k].limits = (floor, np.inf)
    return True


def output_floor(outputs: NDArray[np.floating], classes: NDArray[np.int64] | None = None) -> float:
    """Returns how far outputs among which the largest counts may be raised from below, so that a range ends there.

    What is far below the largest output has no chance, and the steps spent on it are missing where two classes are
    close. No sample's softmax sum grows by more than ADDED_SHARE. What is raised by more than SLIGHT_STEPS has no more
    of the sum than that either: outputs that all but agree, as of a head behind a normalisation, all have a chance. A
    chance is what the network makes of it, which may be sure of itself and wrong: the outputs of the samples' own
    classes are not raised by more than SLIGHT_STEPS, but for MISJUDGED of them. Of many classes the next best answers
    count too, and outputs as vectors: those raised must have a mean cosine of LEAST_COSINE or more to those that were.

    Args:
        outputs: (..., classes).
        classes: Of each row of outputs; None where they are not known.
    """
    values = outputs.reshape(-1, outputs.shape[-1]).astype(np.float64)
    most = values.max(1, keepdims=True)
    low, top = float(values.min()), float(values.max())
    sums = np.exp(values - most).sum(1)
    norms = np.linalg.norm(values, axis=1)
    own = values[np.arange(len(values)), classes] if classes is not None else most[:, 0]

    def harmless(floor: float) -> bool:
        raised = np.maximum(values, floor)
        added = np.exp(raised - most).sum(1) - sums
        slight = SLIGHT_STEPS * (top - floor) / STEPS
        far = (raised - values > slight).any(1)
        share = np.where(far, np.exp(np.minimum(floor - most[:, 0], 0.0)), 0.0)
        fits = bool((np.maximum(added, share) <= ADDED_SHARE * sums).all())
        fits = fits and float((floor - own > slight).mean()) <= MISJUDGED
        if not fits or values.shape[1] <= FEW_CLASSES:
            return fits
        lengths = norms * np.linalg.norm(raised, axis=1)
        cosines = np.divide((raised * values).sum(1), lengths, out=np.ones_like(lengths), where=lengths > 0)
        return float(cosines.mean()) >= LEAST_COSINE

    high = float(most.min())
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if harmless(middle) else (low, middle)
    return low
