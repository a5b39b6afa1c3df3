"""The plan: which stages a recipe takes, what their fingerprints depend on, what is reused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from edgecompress.errors import ModelError, UsageError
from edgecompress.pipeline.changes import remember
from edgecompress.pipeline.lock_file import differences, lock_file
from edgecompress.pipeline.plan import Plan, altered, make_plan
from edgecompress.recipe.schema import Recipe
from edgecompress.recipe.steps import STAGE_ORDER, reads
from edgecompress.sources.fingerprints import library_version
from edgecompress.store.code import Program, Reach
from edgecompress.store.manifests import read_manifest
from edgecompress.store.store import StageResult, Store, contents

FULL: dict[str, Any] = {
    "version": 1,
    "name": "full",
    "teacher": {"model": "resnet9"},
    "student": {"model": "resnet8"},
    "distill": {},
    "prune": {},
    "quantize": {"mode": "qat"},
}


@pytest.fixture(autouse=True)
def _data_without_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "edgecompress.data.loading.fingerprint", lambda recipe, *, trust: f"hash of {recipe.data.source}"
    )


@pytest.fixture(autouse=True)
def _versions_are_asked_for_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    for user in ("pipeline.plan", "sources.fingerprints"):
        monkeypatch.setattr(f"edgecompress.{user}.library_version", library_version.__wrapped__)


def recipe(base_dir: Path | None = None, **changes: Any) -> Recipe:
    blocks = {key: value for key, value in {**FULL, **changes}.items() if value is not None}
    return Recipe.model_validate(blocks).model_copy(update={"base_dir": str(base_dir or "")})


def plan(tmp_path: Path, asked: Recipe | None = None, **options: Any) -> Plan:
    return make_plan(asked or recipe(), Store(tmp_path), **options)


def prints(found: Plan) -> dict[str, str]:
    return {step.stage: step.fingerprint for step in found.steps}


def finish(store: Store, found: Plan, *stages: str) -> None:
    there: dict[str, StageResult] = {}
    for step in found.steps:
        if step.stage in stages:
            with store.workspace(step.stage, step.fingerprint) as work:
                (work / "file").write_text(step.stage)
                made_from = contents(there[name] for name in reads(recipe(), step.stage) if name in there)
                store.finish(work, step.stage, step.fingerprint, {}, 1.0, (), step.parts, made_from=made_from)
        result, _ = store.load(step.stage, step.fingerprint)
        if result is not None:
            there[step.stage] = result


@pytest.mark.parametrize(
    ("changes", "stages"),
    [
        ({}, list(STAGE_ORDER)),
        ({"student": None, "distill": None}, ["teacher", "prune", "quantize", "export", "verify", "benchmark"]),
        ({"teacher": None, "distill": None}, ["distill", "prune", "quantize", "export", "verify", "benchmark"]),
        ({"prune": None, "quantize": None}, ["teacher", "distill", "export", "verify", "benchmark"]),
    ],
)
def test_blocks_decide_the_stages(tmp_path: Path, changes: dict[str, Any], stages: list[str]) -> None:
    assert [step.stage for step in plan(tmp_path, recipe(**changes)).steps] == stages


@pytest.mark.parametrize(
    ("changes", "remade"),
    [
        ({}, []),
        ({"name": "other"}, []),
        ({"budget": {"size_kib": 1}}, []),
        ({"benchmark": {"runs": 50}}, ["benchmark"]),
        ({"benchmark": {"runtimes": ["litert", "tflite-micro"]}}, ["benchmark"]),
        ({"benchmark": {"runtimes": ["tensorflow"]}}, ["benchmark"]),
        ({"benchmark": {"runtimes": ["tflite-micro"]}}, ["quantize", "export", "verify", "benchmark"]),
        ({"report": {"analysis": "none"}}, ["verify"]),
        ({"export": {"io": "float32"}}, ["export", "verify", "benchmark"]),
        ({"quantize": {"mode": "qat", "calibration_samples": 9}}, ["quantize", "export", "verify", "benchmark"]),
        ({"prune": {"ratio": 0.3}}, ["prune", "quantize", "export", "verify", "benchmark"]),
        ({"prune": {"importance": "taylor"}}, ["prune", "quantize", "export", "verify", "benchmark"]),
        ({"distill": {"alpha": 0.1}}, ["distill", "prune", "quantize", "export", "verify", "benchmark"]),
        ({"teacher": {"model": "resnet20"}}, list(STAGE_ORDER)),
        ({"seed": 1}, list(STAGE_ORDER)),
        ({"data": {"source": "fashion-mnist"}}, list(STAGE_ORDER)),
        ({"data": {"path": "elsewhere", "test_path": "there", "download": True}}, []),
        ({"data": {"split_by": "speaker"}}, list(STAGE_ORDER)),
    ],
)
def test_a_change_reaches_what_depends_on_it(tmp_path: Path, changes: dict[str, Any], remade: list[str]) -> None:
    before, after = prints(plan(tmp_path)), prints(plan(tmp_path, recipe(**changes)))
    assert [stage for stage in before if before[stage] != after[stage]] == remade


@pytest.mark.parametrize(
    "changes",
    [
        {"prune": {"method": "unstructured"}},
        {"student": {"model": "resnet8", "weights": "student.safetensors"}},
        {"student": {"model": "keras/net.keras"}},
    ],
)
def test_a_runtime_that_reads_no_sparse_weights_counts_where_there_may_be_some(changes: dict[str, Any]) -> None:
    assert recipe(**changes).may_be_sparse
    assert not recipe(**changes, benchmark={"runtimes": ["litert", "tflite-micro"]}).may_be_sparse
    assert not recipe().may_be_sparse


def test_data_content_and_libraries_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = prints(plan(tmp_path))
    with monkeypatch.context() as other:
        other.setattr("edgecompress.data.loading.fingerprint", lambda recipe, *, trust: "changed")
        assert prints(plan(tmp_path))["teacher"] != before["teacher"]
    monkeypatch.setattr("importlib.metadata.version", lambda name: "99.0" if name == "torch-pruning" else "1.0")
    versions = plan(tmp_path).steps[2].parts["libraries"]
    assert versions == {"torch": "1.0", "numpy": "1.0", "torch-pruning": "99.0"}


def test_what_ptq_does_not_use_does_not_count(tmp_path: Path) -> None:
    calibrated = prints(plan(tmp_path, recipe(quantize={"mode": "ptq"})))
    trained = prints(plan(tmp_path, recipe(quantize={"mode": "ptq", "train": {"epochs": 9}})))
    assert calibrated == trained


def test_the_output_type_reaches_repairs_that_may_keep_the_last_layer_wider(tmp_path: Path) -> None:
    for allow, reaches in (([], False), (["int16"], True)):
        quantize = {"mode": "ptq", "max_drop_points": 1.0, "allow": allow}
        one, other = (
            prints(plan(tmp_path, recipe(quantize=quantize, export={"io": io})))["quantize"]
            for io in ("int8", "float32")
        )
        assert (one != other) == reaches


def test_finished_steps_are_reused_and_the_rest_says_why(tmp_path: Path) -> None:
    store = Store(tmp_path)
    finish(store, plan(tmp_path), "teacher", "distill")
    found = plan(tmp_path)
    assert [step.reason for step in found.steps[:4]] == [
        "finished before", "finished before", "not made yet", "follows prune",
    ]  # fmt: skip
    assert not found.cached
    finish(store, found, *STAGE_ORDER)
    assert plan(tmp_path).cached
    fresh = plan(tmp_path, fresh=True)
    assert {step.reason for step in fresh.steps} == {"asked to be made again (--fresh)"}
    assert all(step.result is None for step in fresh.steps)


def run(store: Store, asked: Recipe, **options: Any) -> Plan:
    """Stands for a run: everything is finished, and the recipe's history knows it."""
    found = make_plan(asked, store, **options)
    finish(store, found, *(step.stage for step in found.steps if step.result is None))
    remember(asked, store, {step.stage: step.parts for step in found.steps})
    return found


def reasons(found: Plan) -> list[str]:
    return [step.reason for step in found.steps]


def test_reasons_compare_with_the_last_run_of_the_same_recipe(tmp_path: Path) -> None:
    store = Store(tmp_path)
    run(store, recipe(name="other", data={"source": "npz", "path": "a.npz"}, seed=3))
    first = reasons(make_plan(recipe(), store))
    assert first == ["not made yet", *["follows teacher"] * 6]
    run(store, recipe())
    assert reasons(make_plan(recipe(seed=1), store))[0] == "seed 0 -> 1"
    run(store, recipe(seed=1))
    assert reasons(make_plan(recipe(seed=2), store))[0] == "seed 1 -> 2"
    assert reasons(make_plan(recipe(seed=1), store)) == ["finished before"] * 7


def test_a_history_that_is_damaged_tells_nothing(tmp_path: Path) -> None:
    run(Store(tmp_path), recipe())
    (file,) = (tmp_path / "last").glob("*.json")
    for content in (b"", b"[1]", b"[" * 100_000, b'{"teacher": 3}'):
        file.write_bytes(content)
        assert reasons(plan(tmp_path, recipe(seed=1)))[0] == "not made yet"


def other_code(monkeypatch: pytest.MonkeyPatch, *stages: str) -> None:
    """Changes a room of the code that some stages depend on."""
    real = Program.hashes

    def hashes(program: Program, reach: Reach) -> dict[str, str]:
        mine = any(f"edgecompress.stages.{stage}.run" in reach.roots for stage in stages)
        return real(program, reach) | ({"quantization/grids": "other"} if mine else {})

    monkeypatch.setattr(Program, "hashes", hashes)


def test_other_code_makes_again_what_depends_on_it_and_says_which(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path)
    run(store, recipe())
    other_code(monkeypatch, "quantize")
    found = make_plan(recipe(), store)
    told = "the program's own code changed (quantization/grids)"
    assert reasons(found) == [*["finished before"] * 3, told, *["follows quantize"] * 3]


def test_results_of_other_code_are_kept_where_that_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path)
    before = run(store, recipe())
    other_code(monkeypatch, "quantize", "verify")
    kept = make_plan(recipe(), store, keep_cache=True)
    assert prints(kept) == prints(before)  # so what builds on a kept result is found as well
    assert kept.cached
    assert [step.stage for step in kept.steps if step.kept] == ["quantize", "verify"]
    assert kept.steps[3].kept == ("quantization/grids",)
    assert kept.steps[3].reason == "kept: made by other code (quantization/grids)"
    assert altered(recipe(), kept, "benchmark") == ""
    # Nothing else may differ.
    other = make_plan(recipe(seed=1), store, keep_cache=True)
    assert not any(step.result or step.kept for step in other.steps)
    damaged = kept.steps[3].result
    assert damaged is not None
    damaged.path("file").write_text("damaged")
    assert make_plan(recipe(), store, keep_cache=True).steps[3].result is None


def test_what_was_kept_is_in_the_lock_file_and_a_lock_file_knows_its_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path)
    before = yaml.safe_load(lock_file(recipe(), run(store, recipe()), {}, "ab"))
    assert "kept_code" not in before or before["kept_code"] == {}
    other_code(monkeypatch, "quantize")
    kept = make_plan(recipe(), store, keep_cache=True)
    assert yaml.safe_load(lock_file(recipe(), kept, {}, "ab"))["kept_code"] == {"quantize": ["quantization/grids"]}
    assert differences(before, kept) == []
    assert differences(before, make_plan(recipe(), store)) == ["the program's own code of quantize"]


def test_code_that_changes_during_a_run_is_noticed_where_it_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = plan(tmp_path)
    other_code(monkeypatch, "quantize")
    assert altered(recipe(), found, "prune") == ""  # what is finished by then stays
    for stage in ("quantize", "export", "benchmark"):
        assert altered(recipe(), found, stage) == "the program's own code changed (quantization/grids)"


def test_a_changed_key_is_named_where_it_counts_and_the_rest_follows(tmp_path: Path) -> None:
    run(Store(tmp_path), recipe())
    changed = plan(tmp_path, recipe(prune={"ratio": 0.7}))
    assert [step.reason for step in changed.steps] == [
        "finished before", "finished before", "prune.ratio 0.5 -> 0.7", "follows prune", "follows prune",
        "follows prune", "follows prune",
    ]  # fmt: skip


def test_damage_is_noticed(tmp_path: Path) -> None:
    store = Store(tmp_path)
    finish(store, plan(tmp_path), *STAGE_ORDER)
    step = plan(tmp_path).steps[1]
    assert step.result is not None
    step.result.path("file").write_text("other")
    found = plan(tmp_path).steps
    assert found[1].reason == "file is damaged (its hash differs)"
    # Whether the others fit what will be made is not known before.
    assert [one.stage for one in found if one.waits] == ["prune", "quantize", "export", "verify", "benchmark"]
    assert found[2].reason == "finished before, reused if distill comes out as before"
    assert [one.stage for one in found if one.result is None and not one.waits] == ["distill"]


def test_a_result_that_was_made_from_other_files_is_not_reused(tmp_path: Path) -> None:
    store = Store(tmp_path)
    finish(store, plan(tmp_path), *STAGE_ORDER)
    (export,) = (step for step in plan(tmp_path).steps if step.stage == "export")
    assert export.result is not None
    with store.workspace("export", export.fingerprint) as work:  # as another run would put it there
        (work / "file").write_text("other bytes")
        made_from = read_manifest(export.result.folder, store.seal).made_from
        store.finish(work, "export", export.fingerprint, {}, 1.0, (), export.parts, made_from=made_from)
    found = plan(tmp_path)
    told = {step.stage: step.reason for step in found.steps if step.result is None}
    assert told == {"verify": "made from another file of export", "benchmark": "made from another file of export"}
    # Nor is it where results of other code are kept.
    kept = plan(tmp_path, keep_cache=True)
    assert [step.stage for step in kept.steps if step.result is None] == ["verify", "benchmark"]


def test_until(tmp_path: Path) -> None:
    assert [step.stage for step in plan(tmp_path, until="distill").steps] == ["teacher", "distill"]
    with pytest.raises(UsageError, match="--until prune: this recipe has the stages teacher, distill, quantize"):
        plan(tmp_path, recipe(prune=None), until="prune")


def test_weights_count_by_their_content(tmp_path: Path) -> None:
    weights = tmp_path / "w.safetensors"
    weights.write_bytes(b"one")
    asked = recipe(tmp_path, teacher={"model": "resnet9", "weights": "w.safetensors"})
    before = prints(plan(tmp_path, asked))
    weights.rename(tmp_path / "moved.safetensors")
    moved = recipe(tmp_path, teacher={"model": "resnet9", "weights": "moved.safetensors"})
    assert prints(plan(tmp_path, moved)) == before
    (tmp_path / "moved.safetensors").write_bytes(b"two")
    assert prints(plan(tmp_path, moved))["teacher"] != before["teacher"]
    with pytest.raises(ModelError, match="No such file or directory"):
        plan(tmp_path, asked)


def test_models_of_libraries_count_with_their_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = recipe(teacher={"model": "torchvision/resnet18"})
    before = prints(plan(tmp_path, asked))
    real = "importlib.metadata.version"
    monkeypatch.setattr(real, lambda name: "99.0")
    assert prints(plan(tmp_path, asked))["teacher"] != before["teacher"]
    assert plan(tmp_path, asked).steps[0].parts["teacher"]["library"] == "99.0"


def test_a_library_that_is_not_installed_has_no_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.metadata

    def version(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr("importlib.metadata.version", version)
    assert plan(tmp_path).steps[0].parts["libraries"] == {"torch": None, "numpy": None}


def test_what_times_models_counts_where_a_latency_decides_on_their_widths(tmp_path: Path) -> None:
    by_latency = {"of": "latency", "ratio": 0.5}
    before = prints(plan(tmp_path, recipe(prune=by_latency)))
    other = prints(plan(tmp_path, recipe(prune=by_latency, benchmark={"runtimes": ["tensorflow"]})))
    assert [stage for stage in before if before[stage] != other[stage]] == [
        "prune", "quantize", "export", "verify", "benchmark",
    ]  # fmt: skip
    widths = {**by_latency, "steps": 1, "widths": {"layer": 4}}
    assert (
        prints(plan(tmp_path, recipe(prune=widths)))["prune"]
        == (prints(plan(tmp_path, recipe(prune=widths, benchmark={"threads": 2})))["prune"])
    )
    by_macs = recipe(benchmark={"threads": 2})
    assert prints(plan(tmp_path, by_macs))["prune"] == prints(plan(tmp_path))["prune"]


def test_recurrent_states_count_where_the_network_may_have_some(tmp_path: Path) -> None:
    def step(model: str, **quantize: str) -> Any:
        series = {"task": "timeseries-classification", "prune": None, "student": {"model": model}}
        return plan(tmp_path, recipe(**series, quantize={"mode": "ptq", **quantize})).steps[2]

    def quantized(model: str, **quantize: str) -> str:
        return step(model, **quantize).fingerprint

    assert step("lstm").parts["quantize"]["cells"] == "float32"
    assert "cells" not in step("lstm", cells="int8").parts["quantize"]
    assert quantized("lstm") == quantized("lstm", cells="float32") != quantized("lstm", cells="int8")
    assert quantized("gru") == quantized("gru", cells="float32") != quantized("gru", cells="int8")
    assert quantized("tcn") == quantized("tcn", cells="int8") != quantized("tcn", cells="float32")
    assert "cells" not in plan(tmp_path).steps[3].parts["quantize"]


@pytest.mark.parametrize(
    ("model", "quantize", "kept"),
    [
        ("transformer", {}, True), ("tcn", {}, False), ("torchvision/vit_b_16", {}, True), ("hf/dir", {}, True),
        ("python:mod:fn", {}, True), ("tcn", {"softmax": "float32"}, True), ("transformer", {"softmax": "int8"}, False),
        ("transformer", {"activations": "int16"}, False), ("transformer", None, False),
    ],
)  # fmt: skip
def test_attention_stays_float_where_all_else_is_int8(
    model: str, quantize: dict[str, str] | None, *, kept: bool
) -> None:
    assert recipe(teacher=None, distill=None, student={"model": model}, quantize=quantize).float_softmax is kept


@pytest.mark.parametrize(
    ("model", "quantize", "kept"),
    [
        ("lstm", {}, True), ("gru", {}, True), ("tcn", {}, False), ("python:mod:fn", {}, True),
        ("tcn", {"cells": "float32"}, True),
        ("lstm", {"cells": "int8"}, False), ("lstm", {"activations": "int16"}, False),
        ("lstm", {"activations": "dynamic"}, False), ("lstm", None, False),
        ("lstm", {"activations": "int16", "cells": "float32"}, True),
    ],
)  # fmt: skip
def test_recurrent_states_stay_float_where_all_else_is_int8(
    model: str, quantize: dict[str, str] | None, *, kept: bool
) -> None:
    assert recipe(teacher=None, distill=None, student={"model": model}, quantize=quantize).float_cells is kept
