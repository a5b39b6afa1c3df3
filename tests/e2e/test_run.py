"""A recipe from teacher to flatbuffer and report, and what happens around it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

from edgecompress.context import Event
from edgecompress.errors import DataError, ExitCode, ModelError, ResourceError, UsageError
from edgecompress.models.built_in.resnet import resnet8
from edgecompress.models.weights import save_weights
from edgecompress.pipeline.recheck import recheck
from edgecompress.pipeline.run import Outcome
from edgecompress.pruning.loading import load_pruned
from edgecompress.quantization.proof.compare import match_tensors
from edgecompress.quantization.twin.twin import Twin
from edgecompress.stages.table import STAGES as STAGE_TABLE
from edgecompress.store.files import sealed, sha256_file
from edgecompress.store.store import Store
from edgecompress.tflite.format.flatbuffer import read_model

STAGES = ["teacher", "distill", "prune", "quantize", "export", "verify", "benchmark"]


def kinds(events: list[Event], kind: str) -> list[str]:
    return [event.stage for event in events if event.kind == kind]


@pytest.fixture
def outcome(cook: Callable[..., Outcome]) -> Outcome:
    return cook()


def test_a_run_leaves_an_int8_flatbuffer_and_a_report(outcome: Outcome, kitchen: Path) -> None:
    assert outcome.exit_code == ExitCode.DONE
    folder = kitchen / "run"
    for name in (
        "model.tflite",
        "report.json",
        "report.md",
        "report.html",
        "recipe.lock.yaml",
        "run.log",
        "events.jsonl",
    ):
        assert (folder / name).stat().st_size > 0, name
    report = json.loads((folder / "report.json").read_text())
    names = ("model.tflite", "model.safetensors", "architecture.json")
    assert report["files"] == {name: sha256_file(folder / name) for name in names}
    loaded = load_pruned(resnet8((1, 12, 12), 3, width=8, stages=2), folder)
    assert sum(parameter.numel() for parameter in loaded.parameters()) == report["models"][2]["params"]
    assert [row["key"] for row in report["models"]] == ["teacher", "student", "pruned", "quantized"]
    teacher, student, pruned, quantized = report["models"]
    assert teacher["params"] > student["params"] > pruned["params"]
    assert quantized["flatbuffer"]["size_bytes"] == (folder / "model.tflite").stat().st_size
    assert report["ratios"]["against_teacher"]["size"] == pytest.approx(
        teacher["flatbuffer"]["size_bytes"] / quantized["flatbuffer"]["size_bytes"], rel=1e-3
    )
    assert report["verification"]["passed"] is True
    assert report["verification"]["census"]["not_int8"] == []
    assert report["budget"]["passed"] is True
    assert {stage for stage, curve in report["curves"].items() if curve} == {"teacher", "distill", "prune", "quantize"}


def test_the_reported_accuracy_is_what_an_interpreter_gets(outcome: Outcome, kitchen: Path) -> None:
    """By an independent read: the file, the npz and the numbers the report states, nothing else of ours."""
    report = json.loads((kitchen / "run" / "report.json").read_text())
    normalization = report["data"]["normalization"]
    interpreter = Interpreter(str(kitchen / "run" / "model.tflite"))
    interpreter.allocate_tensors()
    source, sink = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    assert source["dtype"] == sink["dtype"] == np.int8
    assert tuple(source["shape"]) == (1, 12, 12, 1)
    data = np.load(kitchen / "stripes.npz")
    right = 0
    for picture, label in zip(data["x_test"], data["y_test"], strict=True):
        x = (picture[None, ..., None] * normalization["value_scale"] - normalization["mean"][0]) / normalization["std"][
            0
        ]
        scale, zero_point = source["quantization"]
        interpreter.set_tensor(source["index"], np.clip(np.rint(x / scale) + zero_point, -128, 127).astype(np.int8))
        interpreter.invoke()
        right += int(interpreter.get_tensor(sink["index"])[0].argmax() == label)
    assert report["models"][-1]["accuracy"] == pytest.approx(100.0 * right / len(data["y_test"]), abs=1e-6)
    assert report["models"][-1]["accuracy"] > 60.0


def test_a_second_run_reuses_everything_and_changes_no_byte(
    cook: Callable[..., Outcome], outcome: Outcome, kitchen: Path
) -> None:
    before = {
        path.name: path.read_bytes()
        for path in (kitchen / "run").iterdir()
        if path.suffix in (".tflite", ".json", ".yaml", ".html")
    }
    events: list[Event] = []
    again = cook(listeners=[events.append])
    assert kinds(events, "stage-cached") == STAGES
    assert kinds(events, "stage-start") == []
    assert again.plan.cached
    assert {name: (kitchen / "run" / name).read_bytes() for name in before} == before
    assert outcome.exit_code == again.exit_code


@pytest.mark.parametrize(
    ("override", "first"),
    [
        ("quantize.calibration_samples=50", "quantize"),
        ("prune.ratio=0.3", "prune"),
        ("export.io=float32", "export"),
        ("benchmark.runs=12", "benchmark"),
    ],
)
def test_a_change_makes_only_what_depends_on_it(
    cook: Callable[..., Outcome], own_store: Store, override: str, first: str
) -> None:
    events: list[Event] = []
    changed = cook(override, output="changed", store=own_store, listeners=[events.append])
    remade = kinds(events, "stage-start")
    assert remade[0] == first
    expected = STAGES[STAGES.index(first) :]
    assert remade == expected
    assert changed.exit_code == ExitCode.DONE


def test_name_and_budget_make_nothing_again(cook: Callable[..., Outcome], outcome: Outcome) -> None:
    events: list[Event] = []
    missed = cook("name=other", "budget.size_kib=1", output="named", listeners=[events.append])
    assert kinds(events, "stage-start") == []
    assert missed.exit_code == ExitCode.BUDGET
    assert outcome.exit_code == ExitCode.DONE


def test_a_missed_budget_keeps_flatbuffer_and_report(cook: Callable[..., Outcome], kitchen: Path) -> None:
    missed = cook("budget.size_kib=1", "budget.accuracy=100", output="missed")
    assert missed.exit_code == ExitCode.BUDGET
    assert any("size" in message for message in missed.messages)
    assert (kitchen / "missed" / "model.tflite").is_file()
    report = json.loads((kitchen / "missed" / "report.json").read_text())
    assert report["budget"]["passed"] is False
    assert {line["name"]: line["passed"] for line in report["budget"]["lines"]}["size_kib"] is False


@pytest.mark.parametrize("k", [0, 3])
def test_a_fault_planted_in_layer_k_ends_in_exit_5_and_the_report_names_k(
    cook: Callable[..., Outcome], kitchen: Path, monkeypatch: pytest.MonkeyPatch, k: int
) -> None:
    planted: list[str] = []
    write_into = Twin.write_into

    def faulty(self: Twin, model: object) -> None:
        write_into(self, model)
        nodes = [node for node in self.graph.nodes if node.op in ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")]
        node = nodes[k]
        planted.append(node.label)
        tensor = model.subgraphs[0].tensors[match_tensors(self, model)[node.inputs[1]]]
        buffer = model.buffers[tensor.buffer]
        buffer.data = (-np.asarray(buffer.data).view(np.int8)).view(np.uint8)

    monkeypatch.setattr(Twin, "write_into", faulty)
    result = cook(f"quantize.calibration_samples={40 + k}", output="faulty")
    assert result.exit_code == ExitCode.VERIFICATION
    report = json.loads((kitchen / "faulty" / "report.json").read_text())
    assert report["verification"]["first_differing_layer"] == planted[0]
    assert any(planted[0] in message for message in result.messages)
    assert not (kitchen / "faulty" / "model.tflite").exists()
    assert (kitchen / "faulty" / "rejected.tflite").is_file()


def test_sparse_weights_are_zero_in_the_flatbuffer(cook: Callable[..., Outcome], kitchen: Path) -> None:
    result = cook(
        "prune={method: unstructured, ratio: 0.9, steps: 4, train: {epochs: 2, batch_size: 32}}",
        "quantize.mode=qat",
        "export.sparse=never",
        output="sparse",
    )
    assert result.exit_code == ExitCode.DONE
    model = read_model(kitchen / "sparse" / "model.tflite")
    zeros = total = 0
    for operator in model.subgraphs[0].operators:
        if model.operatorCodes[operator.opcodeIndex].builtinCode in (3, 4, 9):
            data = np.asarray(model.buffers[model.subgraphs[0].tensors[operator.inputs[1]].buffer].data).view(np.int8)
            zeros, total = zeros + int((data == 0).sum()), total + data.size
    assert zeros / total >= 0.9
    report = json.loads((kitchen / "sparse" / "report.json").read_text())
    assert report["sparsity"]["zeros_in_file"] == zeros
    assert report["sparsity"]["masked_weights"] >= 0.9 * report["sparsity"]["prunable_weights"]
    assert any("does not make" in warning for warning in report["warnings"])


def test_without_a_quantize_block_the_flatbuffer_is_float_and_says_so(
    cook: Callable[..., Outcome], kitchen: Path
) -> None:
    result = cook("quantize=null", output="float")
    assert result.exit_code == ExitCode.DONE
    assert Interpreter(str(kitchen / "float" / "model.tflite")).get_input_details()[0]["dtype"] == np.float32
    assert any("float32" in warning for warning in result.report["warnings"])


def test_until_stops_early_and_names_the_stages(cook: Callable[..., Outcome], kitchen: Path) -> None:
    result = cook(until="distill", output="early")
    assert [step.stage for step in result.plan.steps] == ["teacher", "distill"]
    assert not (kitchen / "early" / "model.tflite").exists()
    with pytest.raises(UsageError, match="has the stages teacher, distill"):
        cook(until="nothing")


def test_an_interrupted_run_goes_on_where_it_was_and_makes_the_same_bytes(
    cook: Callable[..., Outcome], outcome: Outcome, kitchen: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """In a store of its own, where all is made anew: the same recipe gives the same file there."""
    store = Store(tmp_path_factory.mktemp("interrupted"))

    def interrupt(event: Event) -> None:
        if event.kind == "epoch" and event.stage == "prune":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cook(store=store, listeners=[interrupt], output="interrupted")
    events: list[Event] = []
    assert cook(store=store, listeners=[events.append], output="interrupted").exit_code == ExitCode.DONE
    assert kinds(events, "stage-cached") == ["teacher", "distill"]
    assert (kitchen / "interrupted" / "model.tflite").read_bytes() == (kitchen / "run" / "model.tflite").read_bytes()
    assert outcome.exit_code == ExitCode.DONE


def test_a_damaged_stage_is_made_again(cook: Callable[..., Outcome], own_store: Store) -> None:
    step = next(step for step in cook(store=own_store).plan.steps if step.stage == "quantize")
    path = step.result.path("weights.safetensors")
    assert path.is_relative_to(own_store.root)
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    events: list[Event] = []
    assert cook(store=own_store, listeners=[events.append]).exit_code == ExitCode.DONE
    assert kinds(events, "stage-start") == ["quantize"]
    assert "damaged" in next(event.data["reason"] for event in events if event.kind == "stage-start")


@pytest.mark.parametrize("name", ["report.json", "report.html", "report.png", "recipe.lock.yaml"])
def test_damage_in_the_folder_is_mended(
    cook: Callable[..., Outcome], outcome: Outcome, kitchen: Path, shared_store: Store, name: str
) -> None:
    before = cook().report
    path = kitchen / "run" / name
    content = path.read_bytes()
    path.write_bytes(content.replace(b"0.", b"1.", 1) if name == "report.json" else content[:-100])
    if name in ("report.json", "recipe.lock.yaml"):
        assert not _passes(kitchen / "run", shared_store)
    events: list[Event] = []
    mended = cook(listeners=[events.append]).report
    assert kinds(events, "stage-start") == []
    told_anew = {"created_at", "stages", "pages", "sha256"}  # when it was written, and that every stage was cached
    assert mended.keys() == before.keys()
    assert all(mended[key] == before[key] for key in mended.keys() - told_anew)
    assert json.loads((kitchen / "run" / "report.json").read_text()) == mended
    assert all(sha256_file(kitchen / "run" / page) == digest for page, digest in mended["pages"].items())
    assert "recipe.lock.yaml" in mended["pages"]
    assert outcome.exit_code == ExitCode.DONE


@pytest.mark.parametrize("what", ["verification", "budget", "verdict", "figures", "model.tflite"])
def test_a_report_that_somebody_forged_is_written_anew(
    cook: Callable[..., Outcome], outcome: Outcome, kitchen: Path, what: str
) -> None:
    """Its seals are right, as anybody can make them."""
    path = kitchen / "run" / "report.json"
    report = json.loads(path.read_text())
    match what:
        case "verification":
            report["verification"] |= {"passed": False, "reasons": ["nothing"]}
        case "budget":
            report["budget"] = {"passed": True, "lines": []}
        case "verdict":
            report["verdict"] = {"status": "good", "reasons": [{"code": "none", "text": "It is perfect."}]}
        case "figures":
            report["models"][-1]["accuracy"] = 99.99
        case _:
            (kitchen / "run" / what).write_bytes(b"something else")
            report["files"][what] = sha256_file(kitchen / "run" / what)
    path.write_text(json.dumps(sealed(report)))
    again = cook()
    assert again.exit_code == outcome.exit_code
    assert again.report is not None
    assert outcome.report is not None
    told_anew = {"created_at", "stages", "pages", "sha256"}
    assert {key: again.report[key] for key in again.report.keys() - told_anew} == {
        key: outcome.report[key] for key in outcome.report.keys() - told_anew
    }
    assert sha256_file(kitchen / "run" / "model.tflite") == outcome.report["files"]["model.tflite"]


def _passes(folder: Path, store: Store) -> bool:
    try:
        return bool(recheck(folder, store)["passed"])
    except ResourceError:
        return False


def test_weights_that_change_while_a_run_is_at_work_are_told_and_kept_under_no_name(
    cook: Callable[..., Outcome], kitchen: Path
) -> None:
    store = Store(kitchen / "own")
    path = kitchen / "student.safetensors"
    alone = ["seed=4", "teacher=null", "distill=null", "prune=null", "quantize=null"]
    save_weights(resnet8((1, 12, 12), 3, width=8, stages=2), path)

    def replace_them(event: Event) -> None:
        if event.kind == "stage-start" and event.stage == "distill":
            save_weights(resnet8((1, 12, 12), 3, width=8, stages=2), path)

    overrides = [*alone, "student.weights=student.safetensors", "student.train=null"]
    with pytest.raises(ModelError, match=r"while the run was at work, the content of student\.weights changed"):
        cook(*overrides, until="distill", store=store, listeners=[replace_them])
    again = [cook(*overrides, until="distill", store=store).plan.steps[0].result for _ in range(2)]
    assert again[0] is None  # nothing was kept under either name
    assert again[1] is not None
    path.unlink()
    assert not list(store.root.glob(".*partial"))


def test_what_cannot_work_is_said_before_anything_is_trained(cook: Callable[..., Outcome], kitchen: Path) -> None:
    events: list[Event] = []
    with pytest.raises(ModelError):
        cook("prune.ratio=0.999", output="early", listeners=[events.append])
    too_many = ["prune={method: unstructured, ratio: 0.9999}", "seed=3"]
    with pytest.raises(ModelError, match="of the weights"):
        cook(*too_many, output="early", listeners=[events.append])
    assert not [event for event in events if event.kind == "epoch"]
    with pytest.raises(DataError, match="nowhere"):
        cook("data.path=nowhere.npz")
    with pytest.raises(ModelError, match="nowhere"):
        cook("teacher.weights=nowhere.pt")


def test_verify_confirms_a_run_and_notices_a_changed_flatbuffer(
    cook: Callable[..., Outcome], outcome: Outcome, kitchen: Path, shared_store: Store
) -> None:
    verdict = recheck(kitchen / "run", shared_store)
    assert verdict["passed"]
    assert verdict["accuracy"] == pytest.approx(outcome.report["models"][-1]["accuracy"])
    path = kitchen / "run" / "model.tflite"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0x55
    path.write_bytes(content)
    verdict = recheck(kitchen / "run", shared_store)
    assert not verdict["passed"]
    assert next(check["name"] for check in verdict["checks"] if check["passed"] is False) == "model.tflite"
    path.write_bytes(b"no flatbuffer at all")
    assert recheck(kitchen / "run", shared_store)["passed"] is False
    lock = kitchen / "run" / "recipe.lock.yaml"
    lock.write_text(lock.read_text().replace("base_dir:", "basedir:"))
    with pytest.raises(ResourceError, match="no recipe that this version knows"):
        recheck(kitchen / "run", shared_store)


def test_a_failed_verification_counts_also_where_the_run_stops_there(
    cook: Callable[..., Outcome], own_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    (verified,) = own_store.root.glob("verify-*")
    planted = {
        **json.loads((verified / "manifest.json").read_text())["metrics"],
        "passed": False,
        "reasons": ["planted"],
    }
    plots = (verified / "plots.json").read_bytes()
    shutil.rmtree(verified)

    def fail(_bench: object, work: Path) -> dict[str, object]:
        (work / "plots.json").write_bytes(plots)
        return planted

    monkeypatch.setitem(STAGE_TABLE, "verify", fail)
    found = cook(store=own_store, until="verify", output="until")
    assert (found.exit_code, found.messages) == (ExitCode.VERIFICATION, ("planted",))


def test_ptq_climbs_the_ladder_and_escalates_to_training(cook: Callable[..., Outcome], kitchen: Path) -> None:
    """A limit that nothing can meet: every rung is tried, the last one trains."""
    outcome = cook(
        "quantize.mode=ptq", "quantize.max_drop_points=0", "quantize.escalate=qat", "quantize.train.epochs=1",
        "distill.train.epochs=1", output="ladder",
    )  # fmt: skip
    assert outcome.exit_code == ExitCode.DONE
    quantization = json.loads((kitchen / "ladder" / "report.json").read_text())["quantization"]
    names = [rung["name"] for rung in quantization["rungs"]]
    assert names == ["plain", "ranges", "equalize", "adaround", "qat"][: len(names)]
    assert all(rung["detail"] for rung in quantization["rungs"])
    last = quantization["rungs"][-1]
    assert last["drop_points"] <= 0 or last["name"] == "qat"
    assert last["accuracy"] == pytest.approx(quantization["validation_accuracy"])


def test_other_runtimes_are_tried_and_the_arena_is_budgeted(cook: Callable[..., Outcome], kitchen: Path) -> None:
    runtimes = "benchmark.runtimes=[litert, tensorflow, tflite-micro]"
    outcome = cook(runtimes, "budget.arena_kib=4", output="micro")
    assert outcome.exit_code == ExitCode.BUDGET
    report = json.loads((kitchen / "micro" / "report.json").read_text())
    tensorflow, micro = report["runtimes"]
    assert (tensorflow["runtime"], micro["runtime"]) == ("tensorflow", "tflite-micro")
    for proof in (tensorflow, micro):
        assert proof["runs"], proof["reason"]
        assert proof["same_answer"] >= 95
        assert proof["samples"] == report["data"]["train"] + report["data"]["validation"]
    assert micro["flash_bytes"] == (kitchen / "micro" / "model.tflite").stat().st_size
    assert micro["arena_bytes"] > 4 * 1024
    assert [line["name"] for line in report["budget"]["lines"] if not line["passed"]] == ["arena_kib"]
    teacher, *_, result = report["models"]
    assert set(result["latency"]) == {"litert", "tensorflow", "tflite-micro"}
    assert set(teacher["latency"]) == {"litert", "tensorflow"}


def test_a_runtime_that_is_not_there_stops_the_run_before_it_trains(
    cook: Callable[..., Outcome], kitchen: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGECOMPRESS_RUNTIMES", str(kitchen / "none"))
    events: list[Event] = []
    with pytest.raises(ResourceError, match="doctor --install tflite-runtime"):
        cook(
            "benchmark.runtimes=[litert, tflite-runtime]",
            store=Store(kitchen / "empty"),
            listeners=[events.append],
        )
    assert kinds(events, "epoch") == []


def test_two_of_four_weights_are_zero_in_the_file(cook: Callable[..., Outcome], kitchen: Path) -> None:
    """By an independent read: whole numbers as they lie in the flatbuffer, four neighbours at a time."""
    outcome = cook(
        "prune={method: unstructured, pattern: '2:4', steps: 2, train: {epochs: 1, batch_size: 32}}", output="pattern"
    )
    assert outcome.exit_code == ExitCode.DONE, outcome.messages
    report = json.loads((kitchen / "pattern" / "report.json").read_text())
    dense = report["pruning"]["dense"]
    assert dense == ["conv.weight"]
    interpreter = Interpreter(str(kitchen / "pattern" / "model.tflite"), experimental_preserve_all_tensors=True)
    interpreter.allocate_tensors()
    weights = [
        d
        for d in interpreter.get_tensor_details()
        if d["dtype"] == np.int8 and len(d["quantization_parameters"]["scales"]) > 1
    ]
    counted = 0
    for detail in weights:
        values = interpreter.get_tensor(detail["index"])
        if values.shape[0] > 1:  # the stem, of one input channel, has become a depthwise convolution: 1HWO
            assert ((values.reshape(-1, 4) == 0).sum(1) >= 2).all(), detail["name"]
            counted += values.size
    assert counted == report["pruning"]["prunable_weights"]
    assert report["pruning"]["masked_weights"] == counted // 2
    assert report["sparsity"]["zeros_in_file"] >= counted // 2


def test_the_file_is_pruned_to_a_size(cook: Callable[..., Outcome], kitchen: Path) -> None:
    outcome = cook(
        "prune={target: {size_kib: 8}, steps: 2, round_to: 4, train: {epochs: 1, batch_size: 32}}", output="small"
    )
    assert outcome.exit_code == ExitCode.DONE, outcome.messages
    report = json.loads((kitchen / "small" / "report.json").read_text())
    target = report["pruning"]["target"]
    assert (target["kind"], target["asked"]) == ("size", 8 * 1024)
    size = (kitchen / "small" / "model.tflite").stat().st_size
    # Widths go in steps of four in a net this small.
    assert size == pytest.approx(8 * 1024, rel=0.1)
    assert size == pytest.approx(target["reached"], rel=0.01)
    with pytest.raises(ModelError, match=r"cannot prune to 1,024 bytes"):
        cook("prune={target: {size_kib: 1}, train: {epochs: 1}}", output="none")
