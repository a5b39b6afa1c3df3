"""The way to the flatbuffer, gone once before anything is trained, with the weights a network starts from.

What cannot be converted, what the converter gets wrong and what would not be INT8 is said now, with the line of the
user's code it comes from, and not after hours of training.
"""

from __future__ import annotations

import tempfile
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from edgecompress.context import Context
from edgecompress.errors import EdgecompressError, ModelError, VerificationError
from edgecompress.models.origins import Origin, origin_of, origins
from edgecompress.quantization.structure.scheme import Scheme
from edgecompress.recipe.schema import ModelSpec, QuantizeSpec, Recipe
from edgecompress.sources.fingerprints import library_version, model_parts
from edgecompress.sources.keras import PREFIX
from edgecompress.stages.base import CONVERTERS, FLOAT, Workbench
from edgecompress.stages.before.faults import require_repeatable, require_same_function
from edgecompress.stages.quantizing.building import pace, readied, structured
from edgecompress.stages.quantizing.floating import floating_operators, floating_parts, with_floats
from edgecompress.stages.verifying.census_reasons import census_reasons
from edgecompress.store.code import Reach, code_hashes
from edgecompress.store.files import sha256_json
from edgecompress.store.store import StageResult, Store
from edgecompress.tflite.facts.census import census
from edgecompress.tflite.facts.slow import slower_in_int8
from edgecompress.tflite.format.convert import convert
from edgecompress.tflite.format.flatbuffer import read_model, write_model
from edgecompress.tflite.format.labels import operator_labels
from edgecompress.tflite.format.views import graph_views
from edgecompress.tflite.runtime.runtimes import RUNTIMES
from edgecompress.tflite.runtime.session import quantize_input

#: Samples that go through the network in torch, in the float file and in the twin.
SAMPLES = 4
CODE = Reach(frozenset({"edgecompress.stages.before.rehearsal.rehearse"}))


@dataclass(frozen=True)
class Network:
    """A network that a recipe will convert.

    Attributes:
        stage: Whose it is.
        spec: The recipe's block.
        build: Returns it with the weights it starts from.
        quantized: Whether it is the one to be quantized.
    """

    stage: str
    spec: ModelSpec
    build: Callable[[], nn.Module]
    quantized: bool


def predict_operators(recipe: Recipe, ctx: Context, store: Store) -> list[dict[str, Any]]:
    """Returns the operators that the recipe's flatbuffers will have, network by network: what `rehearse` finds.

    Returns:
        stage: Whose network it is.
        model: Its name in the recipe.
        ops: Operator -> count and types of its activations, the most frequent first.
        slower: Operator -> how many times as long its INT8 kernel takes as its float32 one, where that is longer.

    Raises:
        ResourceError: Data or models cannot be used, or a network cannot be converted.
        VerificationError: It would not be INT8 as asked.
    """
    bench = Workbench(recipe, ctx, store)
    rows = []
    for network in networks(bench):
        ops = rehearse(bench, network).metrics["census"]["ops"]
        slower = slower_in_int8(ops) if network.quantized and recipe.quantize is not None else {}
        rows.append({"stage": network.stage, "model": network.spec.model, "ops": ops, "slower": slower})
    return rows


def networks(bench: Workbench) -> list[Network]:
    """Returns the networks that a recipe will convert, Keras models aside: those are files of TensorFlow already."""
    recipe = bench.recipe
    found = []
    if recipe.teacher is not None and recipe.student is not None and not recipe.teacher.model.startswith(PREFIX):
        teacher = recipe.teacher
        found.append(Network("teacher", teacher, lambda: bench.build(teacher, "teacher"), quantized=False))
    if not recipe.compressed.model.startswith(PREFIX):
        stage = "teacher" if recipe.student is None else "distill"
        compressed = recipe.compressed
        found.append(Network(stage, compressed, lambda: bench.build(compressed, stage), quantized=True))
    return found


def rehearse(bench: Workbench, network: Network) -> StageResult:
    """Converts a network, quantizes it and runs what comes of it; the census of operators to come is in the metrics.

    It is done once for a network: its outcome is kept in the store.

    Raises:
        ModelError: It cannot be converted, the file computes something else, or it cannot be trained for INT8.
        VerificationError: It would not be INT8 as the recipe asks.
    """
    quantize = bench.recipe.quantize if network.quantized else None
    data = bench.task_of(network.stage).dataset
    untrained = network.spec.model_copy(update={"train": None})
    how = None if quantize is None else pace(quantize, bench.recipe.benchmark.runtimes[0])
    fingerprint = sha256_json(
        {
            "model": model_parts(bench.recipe, untrained),
            "ends": [*data.input_shape, str(data.input_dtype), *data.outputs],
            "quantize": None if quantize is None else [quantize.model_dump(mode="json"), bench.recipe.io, how],
            "float": sorted(bench.recipe.float_parts),
            "libraries": {name: library_version(name) for name in CONVERTERS},
            "code": code_hashes(CODE),
        }
    )

    def make(work: Path) -> dict[str, Any]:
        bench.ctx.note(f"converting the {network.stage} network as it starts, to see that it can be")
        model = network.build().to("cpu").eval()
        samples = _samples(bench, network.stage)
        if not require_repeatable(model, samples):
            bench.ctx.note(f"the {network.stage} network changes its input in place: it gets a copy")
        bench.ctx.doing(f"converting the {network.stage} network to a flatbuffer")
        convert(model, data.input_shape, work / FLOAT, data.input_dtype)
        bench.ctx.doing(f"running the float32 file of the {network.stage} network in LiteRT")
        require_same_function(bench.task_of(network.stage), model, work / FLOAT, samples)
        content = (work / FLOAT).read_bytes()
        if quantize is None:
            found = {"census": census(read_model(content), io="float32", activations="float32").as_dict()}
        else:
            found = _quantized(bench, model, content, samples, quantize)
        if network.spec.train is not None or network.spec.weights is None:
            (work / FLOAT).unlink()  # its weights are not those that will be shipped
        return found

    return bench.store.once("rehearsal", fingerprint, make, bench.ctx.note)


def _samples(bench: Workbench, stage: str) -> torch.Tensor:
    """Returns network inputs: the first training samples, or others where there are none."""
    task = bench.task_of(stage)
    pools = (task.dataset.train.inputs, task.dataset.calibration, task.dataset.validation.inputs)
    found = next((pool for pool in pools if pool is not None and len(pool)), task.dataset.test.inputs)
    # A copy, in the order of its axes: networks that take views are written for that.
    return task.inputs(found[:SAMPLES]).clone(memory_format=torch.contiguous_format)


def _quantized(
    bench: Workbench, model: nn.Module, floating: bytes, samples: torch.Tensor, spec: QuantizeSpec
) -> dict[str, Any]:
    """Builds and runs the quantized file of a network, and returns its operators.

    Raises:
        ModelError: The bridge to the file fails on it, in whatever way.
        VerificationError: It would not be INT8 as asked.
    """
    _require_one_graph(model, floating, samples)
    try:
        return _built(bench, model, floating, samples, spec)
    except (EdgecompressError, MemoryError):
        raise
    except Exception as error:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        raise ModelError(
            f"the INT8 file of {bench.recipe.compressed.model} cannot be built: {type(error).__name__}: {error} "
            f"({Path(frame.filename).name}:{frame.lineno}). This is a network that was not met before: please report "
            "it; run.log has the details."
        ) from error


def _require_one_graph(model: nn.Module, floating: bytes, samples: torch.Tensor) -> None:
    """Refuses a file whose operators have graphs of their own.

    Raises:
        ModelError: It has some; the first operator is named.
    """
    flatbuffer = read_model(floating)
    if len(flatbuffer.subgraphs) == 1:
        return
    labels = operator_labels(flatbuffer, model)
    found = [op for op in graph_views(flatbuffer)[0].ops if op.op.startswith("STABLEHLO_") or op.op in ("WHILE", "IF")]
    named = []
    for op in found[:3]:
        origin = origin_of(origins(model, (samples[:1],)), labels[op.index], op.op)
        came = f", which comes from {origin}" if origin is not None else ""
        named.append(f"{op.op} (layer {labels[op.index]}){came}")
    raise ModelError(
        f"the converter writes a graph of its own for {'; '.join(named) or 'a part of the network'}: that has no INT8 "
        "form. Build that part from other operations."
    )


def _built(
    bench: Workbench, model: nn.Module, floating: bytes, samples: torch.Tensor, spec: QuantizeSpec
) -> dict[str, Any]:
    recipe = bench.recipe
    scheme = Scheme(spec.weights, spec.activations, wide_output=recipe.io == "float32")
    float_model = read_model(floating)
    scheme = with_floats(scheme, floating_parts(recipe, float_model, operator_labels(float_model, model)))
    bench.ctx.doing("quantizing the file of the network")
    swiftest = readied(floating, pace(spec, recipe.benchmark.runtimes[0]))
    built = structured(swiftest, model, scheme, portable=spec.portable)
    structure = read_model(built.structure)
    keys = floating_operators(recipe, structure, built.labels)
    found = census(
        structure, io=recipe.io, labels=built.labels, activations=spec.activations, allow=spec.allow, floating=keys
    )

    def known() -> list[Origin]:
        return origins(model, (samples[:1],))

    if found.not_int8:
        places = known()
        reasons = []
        for item, reason in census_reasons(found, spec):
            origin = origin_of(places, item.layer, item.op)
            reasons.append(f"{reason}{f' (it comes from {origin})' if origin is not None else ''}")
        raise VerificationError(f"{recipe.compressed.model} would not be INT8 as asked: {'; '.join(reasons)}")
    foreign = [node for node in built.twin.graph.nodes if node.foreign is not None]
    if foreign and "qat" in (spec.mode, spec.escalate):
        node = foreign[0]
        origin = origin_of(known(), node.label, node.op)
        raise ModelError(
            f"quantize.mode: qat: {node.op} (layer {node.label}) has no gradient here, so nothing in front of it could "
            f"learn{f'; it comes from {origin}' if origin is not None else ''}. "
            "Build it from other operators, or use mode: ptq."
        )
    twin = built.twin
    try:
        twin.calibrate([samples], bench.task.input_range())
    except ModelError as error:
        # A deep network with the averages that its batch norms start from may overflow; training mends that, and what
        # it does not mend is said by the quantize stage.
        bench.ctx.note(f"the network as it starts cannot be calibrated: {error}")
        return {"census": found.as_dict()}
    with torch.no_grad():
        twin(samples)
    twin.write_into(structure)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "quantized.tflite")
        path.write_bytes(write_model(structure))
        bench.ctx.doing("running the INT8 file of the network in LiteRT")
        session = RUNTIMES["litert"].session(path)
        session.run(quantize_input(np.asarray(bench.task.to_flatbuffer(samples)), session.input))
    return {"census": found.as_dict()}
