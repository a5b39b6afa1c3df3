"""Combinations of keys that cannot work."""

from __future__ import annotations

from typing import Any

import pytest

from edgecompress.recipe.checks.combinations import check
from edgecompress.recipe.names import MODEL_ARGUMENTS

TEACHER = {"model": "resnet9"}
STUDENT = {"model": "resnet8"}


def blamed(**data: Any) -> list[str]:
    return [".".join(str(part) for part in path) for path, _, _ in check(data)]


@pytest.mark.parametrize(
    "data",
    [
        {"teacher": TEACHER},
        {"student": STUDENT},
        {"teacher": TEACHER, "student": STUDENT, "distill": {"alpha": 0}},
        {"teacher": TEACHER, "student": {**STUDENT, "train": None}, "distill": {}},
        {"teacher": TEACHER, "student": {**STUDENT, "train": {"epochs": 1}}},
        {"teacher": TEACHER, "data": {"source": "npz", "path": "x.npz"}},
        {"teacher": TEACHER, "data": {"source": "cifar10", "download": True}},
        {"teacher": TEACHER, "data": {"source": "python:a:b", "args": {"x": 1}, "path": "y"}},
        {"teacher": TEACHER, "data": {"augment": ["flip"], "channels": 3, "download": False, "args": {}}},
        {"teacher": TEACHER, "quantize": {"mode": "qat", "train": {"epochs": 1}}, "export": {"io": "float32"}},
        {"teacher": TEACHER, "quantize": {}, "export": {"io": "uint8"}},
        {"teacher": {"model": "keras/t.keras", "args": {"input": "unit"}, "train": None}, "student": STUDENT},
        {"teacher": {"model": "mobilenet-v2", "args": {"width": 0.35}}, "student": {**STUDENT, "args": {"width": 8}}},
        {"teacher": {"model": "torchvision/resnet18", "args": {"anything": "goes"}}},
        {"teacher": TEACHER, "prune": {"round_to": 4, "train": {"epochs": 1}, "steps": 9}},
        {"teacher": {**TEACHER, "train": {"momentum": 0.5}}},
        {"teacher": TEACHER, "budget": {"size_kib": 1, "latency_ms": 0.001, "accuracy_drop_points": 0}},
        {
            "teacher": TEACHER,
            "quantize": {"max_drop_points": 0.5, "escalate": "qat", "train": {"epochs": 1}},
        },
        {
            "teacher": TEACHER,
            "budget": {"arena_kib": 64},
            "benchmark": {"runtimes": ["litert", "tflite-runtime", "tflite-micro"]},
        },
    ],
)
def test_what_works_is_not_blamed(data: dict[str, Any]) -> None:
    assert blamed(**data) == []


@pytest.mark.parametrize(
    ("data", "keys"),
    [
        ({}, [""]),
        ({"teacher": None}, [""]),
        ({"student": STUDENT, "distill": {}}, ["distill"]),
        ({"teacher": TEACHER, "distill": {}}, ["distill"]),
        ({"teacher": TEACHER, "student": {**STUDENT, "train": {}}, "distill": {}}, ["student.train"]),
        ({"teacher": TEACHER, "data": {"source": "npz"}}, ["data.path"]),
        ({"teacher": TEACHER, "data": {"source": "image-folder", "path": None}}, ["data.path"]),
        ({"teacher": TEACHER, "data": {"path": "x.npz"}}, ["data.path"]),
        ({"teacher": TEACHER, "data": {"source": "digits", "path": "x"}}, ["data.path"]),
        ({"teacher": TEACHER, "data": {"download": True}}, ["data.download"]),
        ({"teacher": TEACHER, "data": {"args": {"x": 1}}}, ["data.args"]),
        ({"teacher": TEACHER, "prune": {"method": "unstructured", "round_to": 8}}, ["prune.round_to"]),
        ({"teacher": TEACHER, "prune": {"method": "unstructured", "importance": "taylor"}}, ["prune.importance"]),
        ({"teacher": TEACHER, "quantize": {"train": {}}}, ["quantize.train"]),
        (
            {"teacher": TEACHER, "quantize": {"mode": "ptq", "learn_from_teacher": True}},
            ["quantize.learn_from_teacher"],
        ),
        ({"teacher": TEACHER, "export": {"io": "int8"}}, ["export.io"]),
        ({"teacher": TEACHER, "export": {"io": "uint8"}, "quantize": None}, ["export.io"]),
        ({"teacher": {**TEACHER, "train": {"optimizer": "adamw", "momentum": 0.9}}}, ["teacher.train.momentum"]),
        ({"teacher": TEACHER, "budget": {"size_kib": 0.99}}, ["budget.size_kib"]),
        ({"teacher": TEACHER, "budget": {"latency_ms": 0.0001}}, ["budget.latency_ms"]),
        ({"teacher": TEACHER, "budget": {"arena_kib": 64}}, ["budget.arena_kib"]),
        (
            {"teacher": {**TEACHER, "args": {"width": "sixty", "widht": 3}}},
            ["teacher.args.width", "teacher.args.widht"],
        ),
        ({"teacher": {"model": "mobilenet-v2", "args": {"width": True}}}, ["teacher.args.width"]),
        (
            {"teacher": TEACHER, "student": STUDENT, "distill": {"train": {"label_smoothing": 0.1}}},
            ["distill.train.label_smoothing"],
        ),
        ({"teacher": TEACHER, "data": {"augment": ["flip", "crop", "flip"]}}, ["data.augment.2"]),
        ({"teacher": TEACHER, "benchmark": {"runtimes": ["litert", "litert"]}}, ["benchmark.runtimes.1"]),
        ({"teacher": TEACHER, "quantize": {"mode": "qat", "max_drop_points": 1}}, ["quantize.max_drop_points"]),
        ({"teacher": TEACHER, "quantize": {"clusters": 16, "weights": "int4"}}, ["quantize.clusters"]),
        ({"teacher": TEACHER, "quantize": {"clusters": 16, "max_drop_points": 1}}, ["quantize.clusters"]),
        ({"teacher": TEACHER, "quantize": {"portable": True, "weights": "int4"}}, ["quantize.portable"]),
        ({"teacher": TEACHER, "quantize": {"portable": True, "activations": "int16"}}, ["quantize.portable"]),
        ({"teacher": TEACHER, "quantize": {"portable": True, "clusters": 16}}, ["quantize.portable"]),
        ({"teacher": TEACHER, "quantize": {"portable": False, "clusters": 16}}, []),
        ({"teacher": {"model": "keras/t.keras"}}, ["teacher.model"]),
        ({"teacher": TEACHER, "student": {"model": "keras/t.keras"}}, ["student.model"]),
        (
            {"teacher": {"model": "keras/t.h5", "weights": "w.pth", "train": {"epochs": 1}}, "student": STUDENT},
            ["teacher.train", "teacher.weights"],
        ),
        (
            {"teacher": {"model": "keras/t", "args": {"input": "pixels", "width": 3}}, "student": STUDENT},
            ["teacher.args.input", "teacher.args.width"],
        ),
        ({"teacher": TEACHER, "quantize": {"escalate": "qat"}}, ["quantize.escalate"]),
        ({"teacher": TEACHER, "benchmark": {"runtimes": ["tflite-micro", "litert"]}}, ["benchmark.runtimes"]),
    ],
)
def test_what_cannot_work_is_blamed_at_its_key(data: dict[str, Any], keys: list[str]) -> None:
    assert blamed(**data) == keys


def test_hint_names_the_source_a_path_belongs_to() -> None:
    hints = [check({"teacher": TEACHER, "data": {"path": path}})[0][2] for path in ("x.npz", "pictures")]
    assert hints == ["did you mean `source: npz`?", "did you mean `source: image-folder`?"]


def test_blocks_of_the_wrong_type_do_not_stop_the_checks() -> None:
    wrong = {
        "teacher": 5,
        "student": [],
        "distill": "x",
        "data": {"source": 3},
        "prune": 1,
        "budget": {"size_kib": "x"},
    }
    assert blamed(**wrong, export={"io": "int8"}) == ["export.io"]
    assert blamed(**wrong, quantize=7, export=None) == []


@pytest.mark.slow
def test_the_table_of_arguments_is_that_of_the_models() -> None:
    from inspect import signature

    from edgecompress.models.building import BUILT_IN

    for name, build in BUILT_IN.items():
        taken = [
            p for p in signature(build).parameters.values() if p.name not in ("input_shape", "num_classes", "ends")
        ]
        assert {p.name: p.annotation for p in taken} == MODEL_ARGUMENTS[name]
    assert set(MODEL_ARGUMENTS) == set(BUILT_IN)


@pytest.mark.parametrize(
    ("kind", "activations", "wrong"),
    [
        ("int8", "int8", False), ("float32", "int8", False), ("float32", "int16", False),
        ("int8", "int16", True), ("float32", "dynamic", True), ("int8", "float32", True),
    ],
)  # fmt: skip
@pytest.mark.parametrize("key", ["norms", "cells", "softmax"])
def test_norms_and_cells_are_never_narrower_than_the_rest(key: str, kind: str, activations: str, wrong: bool) -> None:
    quantize = {key: kind, "activations": activations}
    assert (f"quantize.{key}" in blamed(teacher=TEACHER, quantize=quantize)) is wrong
