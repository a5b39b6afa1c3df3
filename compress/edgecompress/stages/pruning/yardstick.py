"""Weighs and times pruned models as the flatbuffers they would be shipped as, but for what their ranges are.

Bytes and milliseconds depend on the widths, not on the weights: each structure is converted once. A latency is always
measured beside the unpruned model's, in turns, because a busy machine slows both down and their ratio holds.
"""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import torch
from ai_edge_litert import schema_py_generated as schema
from torch import nn

from edgecompress.quantization.structure.scheme import Scheme
from edgecompress.quantization.structure.structure import quantized_structure
from edgecompress.recipe.schema import BenchmarkSpec
from edgecompress.stages.base import Workbench
from edgecompress.stages.exporting.notes import metadata_of
from edgecompress.stages.quantizing.floating import floating_parts, with_floats
from edgecompress.tflite.format.convert import convert
from edgecompress.tflite.format.finish import finish
from edgecompress.tflite.format.flatbuffer import read_model
from edgecompress.tflite.format.labels import operator_labels
from edgecompress.tflite.runtime.child import call
from edgecompress.tflite.runtime.latency import measure
from edgecompress.tflite.runtime.patience import OWN_START_S
from edgecompress.tflite.runtime.runtimes import RUNTIMES

#: Timed runs of each flatbuffer, fewer where they would take longer than this altogether.
LATENCY_RUNS = 400
FEWEST_RUNS = 60
TIMED_MS = 3_000.0
#: A model counts as slower only beyond this ratio, and only if it is measured twice: machines are noisy.
SLOWER = 1.03


#: Shapes of all of a model's tensors.
Widths = tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Timing:
    """A pruned model's latency beside its parent's.

    Attributes:
        before_ms: The parent's median.
        after_ms: The pruned model's, by the ratio.
        ratio: Median over interleaved blocks of (its median / the parent's).
    """

    before_ms: float
    after_ms: float
    ratio: float


def timed(paths: Mapping[str, Path], spec: BenchmarkSpec, runs: int) -> dict[str, tuple[float, float]]:
    """Returns label -> (median in ms, ratio to the first file), interleaved, on the first runtime of a recipe.

    Raises:
        ResourceError: The runtime is not installed, or cannot run a file.
    """
    runtime = spec.runtimes[0]
    if not RUNTIMES[runtime].isolated:
        found = measure(paths, runtime=runtime, threads=spec.threads, runs=runs)
        return {label: (one.p50_ms, one.ratio_to_first) for label, one in found.items()}
    files = {label: str(path.absolute()) for label, path in paths.items()}
    arguments = {"paths": files, "runtime": runtime, "threads": spec.threads, "runs": runs}
    answer: dict[str, dict[str, Any]] = call("bench", arguments, start_s=OWN_START_S, runtime=runtime)
    return {label: (one["p50_ms"], one["ratio_to_first"]) for label, one in answer.items()}


class Yardstick:
    """Weighs and times what becomes of one model."""

    def __init__(self, bench: Workbench, base: nn.Module, stage: str | None = None) -> None:
        """Takes the unpruned model; nothing is converted before it is asked for.

        Args:
            bench: The run.
            base: The unpruned model.
            stage: The finished stage that made it, if any: its flatbuffer is one that later stages need too.
        """
        self._bench, self._base, self._stage = bench, base, stage
        self._folder = tempfile.TemporaryDirectory(prefix="edgecompress-")
        self._converted: dict[Widths, bytes] = {}
        self._written: dict[Widths, Path] = {}

    def __enter__(self) -> Self:
        """Returns itself."""
        return self

    def __exit__(self, *_exc: object) -> None:
        """Removes its files."""
        self._folder.cleanup()

    def before(self, kind: str) -> float:
        """Returns the bytes (`size`) or the milliseconds (`latency`) of the unpruned model."""
        return self._weight(self._base) if kind == "size" else self._base_ms

    def value(self, kind: str, model: nn.Module) -> float:
        """Returns the bytes (`size`) or the milliseconds (`latency`) of a pruned model."""
        return self._weight(model) if kind == "size" else self.time(model).after_ms

    def time(self, model: nn.Module) -> Timing:
        """Returns the latency of a pruned model beside that of the unpruned one."""
        spec = self._bench.recipe.benchmark
        runs = int(min(max(TIMED_MS / self._base_ms, FEWEST_RUNS), LATENCY_RUNS))
        _, ratio = timed({"base": self._path(self._base), "model": self._path(model)}, spec, runs)["model"]
        return Timing(self._base_ms, ratio * self._base_ms, ratio)

    def slower(self, model: nn.Module) -> tuple[bool, Timing]:
        """Returns whether a pruned model is slower than the unpruned one beyond noise, and its latency."""
        timing = self.time(model)
        if timing.ratio <= SLOWER:
            return False, timing
        again = self.time(model)
        return again.ratio > SLOWER, again

    @cached_property
    def _base_ms(self) -> float:
        return timed({"base": self._path(self._base)}, self._bench.recipe.benchmark, FEWEST_RUNS)["base"][0]

    def _path(self, model: nn.Module) -> Path:
        """Returns the flatbuffer with a model's widths, to be timed; its weights may be those of an earlier model.

        What it would tell of itself is left out: no runtime reads that.
        """
        widths = widths_of(model)
        if widths not in self._written:
            path = Path(self._folder.name, f"{len(self._written)}.tflite")
            found = read_model(self._in_its_types(model))
            path.write_bytes(finish(found, _labels(found, model), self._bench.recipe.io)[0])
            self._written[widths] = path
        return self._written[widths]

    def _weight(self, model: nn.Module) -> float:
        """Returns the bytes of the flatbuffer with a model's widths, as it would be shipped."""
        found = read_model(self._in_its_types(model))
        notes, files = metadata_of(self._bench.recipe, self._bench.dataset, found)
        return float(len(finish(found, _labels(found, model), self._bench.recipe.io, notes, files)[0]))

    def _in_its_types(self, model: nn.Module) -> bytes:
        """Returns a flatbuffer with a model's widths, in the recipe's types, with placeholder ranges."""
        widths = widths_of(model)
        if widths not in self._converted:
            content = self._floating(model)
            quantize, recipe = self._bench.recipe.quantize, self._bench.recipe
            if quantize is not None:
                scheme = Scheme(quantize.weights, quantize.activations)
                if recipe.float_parts:
                    floating = read_model(content)
                    scheme = with_floats(scheme, floating_parts(recipe, floating, _labels(floating, model)))
                content = quantized_structure(content, scheme)
            self._converted[widths] = content
        return self._converted[widths]

    def _floating(self, model: nn.Module) -> bytes:
        if model is self._base and self._stage is not None:
            return self._bench.float_flatbuffer(self._stage).read_bytes()
        path = Path(self._folder.name, "float.tflite")
        convert(model, self._bench.dataset.input_shape, path, self._bench.dataset.input_dtype)
        return path.read_bytes()


def widths_of(model: nn.Module) -> Widths:
    """Returns what tells two structures of one network apart."""
    return tuple(tuple(tensor.shape) for tensor in model.state_dict().values())


def _labels(flatbuffer: schema.ModelT, model: nn.Module) -> list[str]:
    return operator_labels(flatbuffer, copy.deepcopy(model).to("cpu", torch.float32))
