"""`edgecompress run` around the pipeline: outcomes, exit codes, what goes to which stream."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from edgecompress.context import Event
from edgecompress.errors import DataError, ExitCode
from edgecompress.pipeline.plan import Plan, Step
from edgecompress.pipeline.run import Outcome
from edgecompress.store.store import StageResult
from edgecompress_cli import crash
from edgecompress_cli.main import invoke
from tests.unit.report import sample

Capture = pytest.CaptureFixture[str]
STAGES = ("teacher", "distill", "export", "verify", "benchmark")


class Pipeline(SimpleNamespace):
    """Stands in for the pipeline; remembers what it was asked and ends as it is told."""

    asked: dict[str, Any]

    def __call__(self, recipe: Any, **asked: Any) -> Outcome:
        self.recipe, self.asked = recipe, asked
        for kind, data in (
            ("stage-start", {"reason": "not made yet", "fingerprint": "ab"}),
            ("warning", {"message": "it is [small]"}),
            ("stage-end", {"seconds": 1.5, "metrics": {"validation_accuracy": 91.0}}),
        ):
            for listener in asked["listeners"]:
                listener(Event(kind, "teacher", data))
        if self.error is not None:
            raise self.error
        stages = STAGES[: STAGES.index(asked["until"]) + 1] if asked["until"] else STAGES
        result = StageResult("x", "y", Path()) if self.cached else None
        steps = tuple(Step(stage, f"print of {stage}", {}, result, "") for stage in stages)
        plan = Plan(steps, "ab")
        return Outcome(self.code, asked["output"], self.report, plan, 65.2, self.messages, self.doubts)


@pytest.fixture
def pipeline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Pipeline:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(crash, "_logs", [])
    for name in ("EDGECOMPRESS_STORE", "EDGECOMPRESS_TRUST"):
        monkeypatch.delenv(name, raising=False)
    Path("r.yaml").write_text("version: 1\nname: mine\nteacher: {model: resnet9}\n")
    standing = Pipeline(code=ExitCode.DONE, report=sample.report(), messages=(), doubts=(), cached=False, error=None)
    monkeypatch.setattr("edgecompress.pipeline.run.run_pipeline", standing)
    return standing


def test_a_run_that_went_well(pipeline: Pipeline, capsys: Capture) -> None:
    assert invoke(["run", "r.yaml"]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("fashion-mnist-qat: Good: verified, within budget on all 4 lines.\n")
    assert "runs/mine/model.tflite" in out
    assert err.splitlines() == [
        "Teacher: started (not made yet)",
        "Teacher: warning: it is [small]",
        "Teacher: done in 1.5 s. validation 91.00 %",
        "runs/mine: done in 1 min 05 s",
    ]
    assert pipeline.recipe.name == "mine"
    assert pipeline.asked["output"] == Path("runs/mine")
    assert pipeline.asked["store"].root == Path("runs/.store")
    assert [pipeline.asked[key] for key in ("trust", "until", "fresh")] == [False, None, False]
    assert pipeline.asked["strict"] is False
    assert crash._logs == [Path("runs/mine/run.log")]


def test_options_reach_the_pipeline(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    monkeypatch.setenv("EDGECOMPRESS_STORE", "elsewhere")
    assert invoke(["run", "r.yaml", "-o", "here", "--set", "seed=7", "--fresh", "--trust", "--quiet"]) == 0
    assert pipeline.recipe.seed == 7
    assert pipeline.asked["output"] == Path("here")
    assert pipeline.asked["store"].root == Path("elsewhere")
    assert [pipeline.asked[key] for key in ("trust", "fresh")] == [True, True]
    monkeypatch.setenv("EDGECOMPRESS_TRUST", "1")
    invoke(["run", "r.yaml", "--quiet"])
    assert pipeline.asked["trust"] is True
    capsys.readouterr()


def test_quiet_shows_warnings_only(pipeline: Pipeline, capsys: Capture) -> None:
    assert invoke(["run", "r.yaml", "--quiet"]) == 0
    assert capsys.readouterr() == ("", "Teacher: warning: it is [small]\n")


@pytest.mark.parametrize(
    ("code", "label"), [(ExitCode.BUDGET, "budget missed"), (ExitCode.VERIFICATION, "verification failed")]
)
@pytest.mark.parametrize("flag", ["--quiet", "--json", ""])
def test_outcomes_that_are_no_success(
    pipeline: Pipeline, capsys: Capture, code: ExitCode, label: str, flag: str
) -> None:
    pipeline.code, pipeline.messages = code, ("this first", "then that")
    assert invoke(["run", "r.yaml", *([flag] if flag else [])]) == code
    out, err = capsys.readouterr()
    assert err.splitlines()[-2:] == [f"{label}: this first", f"{label}: then that"]
    if flag == "--json":
        document = json.loads(out)
        assert (document["ok"], document["exit_code"]) == (False, code)
    if flag == "--quiet":
        assert out == ""


@pytest.mark.parametrize("flag", ["--quiet", "--json", ""])
def test_doubts_are_told_apart_from_missed_limits(pipeline: Pipeline, capsys: Capture, flag: str) -> None:
    pipeline.doubts = ("no better than chance",)
    assert invoke(["run", "r.yaml", *([flag] if flag else [])]) == 0
    err = capsys.readouterr().err
    # Where the report is shown, they stand at its head.
    assert ("doubtful: no better than chance" in err.splitlines()) == bool(flag)
    pipeline.code, pipeline.messages = ExitCode.BUDGET, pipeline.doubts
    assert invoke(["run", "r.yaml", "--strict", *([flag] if flag else [])]) == 3
    assert pipeline.asked["strict"] is True
    err = capsys.readouterr().err
    assert err.splitlines()[-1] == "doubtful: no better than chance"
    assert "budget missed" not in err


def test_json_is_one_document_and_progress_goes_to_stderr(pipeline: Pipeline, capsys: Capture) -> None:
    assert invoke(["run", "r.yaml", "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out) == {
        "ok": True, "exit_code": 0, "output": "runs/mine", "report": json.loads(json.dumps(pipeline.report)),
    }  # fmt: skip
    assert "Teacher: started (not made yet)" in err


def test_stopping_early(pipeline: Pipeline, capsys: Capture) -> None:
    pipeline.report = None
    assert invoke(["run", "r.yaml", "--until", "distill"]) == 0
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines()[-1] == "runs/mine: stopped after distill in 1 min 05 s"
    assert invoke(["run", "r.yaml", "--until", "distill", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["report"] == {
        "stopped_after": "distill",
        "steps": [
            {"stage": "teacher", "fingerprint": "print of teacher"},
            {"stage": "distill", "fingerprint": "print of distill"},
        ],
        "doubts": [],
    }


def test_nothing_to_do_is_said(pipeline: Pipeline, capsys: Capture) -> None:
    pipeline.cached = True
    assert invoke(["run", "r.yaml"]) == 0
    assert capsys.readouterr().err.splitlines()[-1].endswith("done in 1 min 05 s (everything was finished before)")


@pytest.mark.parametrize("as_json", [False, True])
@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (KeyboardInterrupt(), 130, "interrupted. Finished stages are kept: run the same command again to go on."),
        (DataError("x.npz: no such file"), 4, "x.npz: no such file"),
    ],
)
def test_errors(
    pipeline: Pipeline, capsys: Capture, error: BaseException, code: int, message: str, as_json: bool
) -> None:
    pipeline.error = error
    assert invoke(["run", "r.yaml", "--quiet", *(["--json"] if as_json else [])]) == code
    out, err = capsys.readouterr()
    said = json.loads(out)["error"]["message"] if as_json else err.splitlines()[-1].removeprefix("error: ")
    assert said == message


def test_internal_error_goes_to_the_log_of_the_run(pipeline: Pipeline, capsys: Capture) -> None:
    Path("runs/mine").mkdir(parents=True)
    pipeline.error = ZeroDivisionError("oh")
    assert invoke(["run", "r.yaml", "--quiet"]) == 1
    assert capsys.readouterr().err.endswith("the traceback is in runs/mine/run.log\n")
    assert "ZeroDivisionError: oh" in Path("runs/mine/run.log").read_text()


def test_output_that_is_a_file_is_not_written_to(pipeline: Pipeline, capsys: Capture) -> None:
    Path("taken").write_text("mine")
    pipeline.error = ZeroDivisionError("oh")
    assert invoke(["run", "r.yaml", "--quiet", "--output", "taken"]) == 1
    assert Path("taken").read_text() == "mine"
    capsys.readouterr()


def test_recipe_problems_are_listed(pipeline: Pipeline, capsys: Capture, run_dir: Callable[[], list[str]]) -> None:
    assert invoke(["run", "r.yaml", "--set", "seed=x", "--set", "prune.rato=1"]) == 2
    err = capsys.readouterr().err
    assert "error: 2 problems in the recipe" in err
    assert run_dir() == ["r.yaml"]


@pytest.fixture
def run_dir() -> Callable[[], list[str]]:
    return lambda: sorted(path.name for path in Path().iterdir())
