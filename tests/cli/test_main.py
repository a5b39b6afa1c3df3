"""The program as shells and scripts see it: exit codes, one-line errors, one JSON document."""

from __future__ import annotations

import errno
import io
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgecompress.errors import (
    DataError,
    EdgecompressError,
    ExitCode,
    ModelError,
    Problem,
    RecipeError,
    ResourceError,
    UsageError,
    VerificationError,
)
from edgecompress.version import __version__
from edgecompress_cli import crash, main
from tests.shared.processes import HUNG_S

ROOT = Path(__file__).parents[2]
HEAVY = ("torch", "numpy", "tensorflow", "ai_edge_litert", "litert_torch", "torchvision", "sklearn", "matplotlib")


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[BaseException], None]:
    """Makes `validate` fail with a given error, with logs in a folder of the test's own."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(crash, "_logs", [])

    def fail_with(error: BaseException) -> None:
        def load(*_: Any, **__: Any) -> None:
            raise error

        monkeypatch.setattr("edgecompress.recipe.reading.load.load_recipe", load)

    return fail_with


def run(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "edgecompress", *arguments],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=HUNG_S, **options,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("error", "code", "kind"),
    [
        (RecipeError([Problem("no", "a.b", "r.yaml", 3, "mend it")]), 2, "recipe"),
        (UsageError("no"), 2, "usage"),
        (DataError("no"), 4, "data"),
        (ModelError("no"), 4, "model"),
        (ResourceError("no"), 4, "resource"),
        (VerificationError("no"), 5, "verification"),
        (MemoryError(), 4, "resource"),
        (OSError(errno.ENOSPC, "No space left on device", "/x/y"), 4, "resource"),
        (KeyboardInterrupt("go on like this"), 130, "interrupted"),
        (EdgecompressError("no"), 1, "internal"),
        (ZeroDivisionError("no"), 1, "internal"),
        (OSError(errno.EBADF, "Bad file descriptor"), 1, "internal"),
    ],
)
@pytest.mark.parametrize("as_json", [False, True])
def test_every_error_has_its_exit_code(
    error: BaseException,
    code: int,
    kind: str,
    as_json: bool,
    failing: Callable[[BaseException], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    if isinstance(error, RecipeError):  # which `validate` itself would catch
        assert main.report_failure(error, as_json=as_json) == code
    else:
        failing(error)
        assert main.invoke(["validate", "r.yaml", *(["--json"] if as_json else [])]) == code
    out, err = capsys.readouterr()
    if as_json:
        document = json.loads(out)
        assert err == ""
        assert document["ok"] is False
        assert (document["error"]["exit_code"], document["error"]["kind"]) == (code, kind)
        assert document["error"]["message"]
    else:
        assert out == ""
        assert err.splitlines()[-1].startswith("error: ")
        assert "Traceback" not in err


def test_problems_are_listed_before_the_message(capsys: pytest.CaptureFixture[str]) -> None:
    problems = [Problem("no", "a.b", "r.yaml", 3, "mend it"), Problem("nor this", "", "--set")]
    assert main.report_failure(RecipeError(problems), as_json=False) == ExitCode.RECIPE
    assert capsys.readouterr().err.splitlines() == [
        "r.yaml:3: a.b: no (mend it)",
        "--set: nor this",
        "error: 2 problems in the recipe",
    ]
    main.report_failure(RecipeError(problems[:1]), as_json=True)
    assert json.loads(capsys.readouterr().out)["error"]["problems"] == [
        {"file": "r.yaml", "line": 3, "key": "a.b", "message": "no", "hint": "mend it"}
    ]


def test_internal_error_is_one_line_and_its_traceback_is_in_the_log(
    failing: Callable[[BaseException], None], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    failing(ValueError("first line\nsecond line"))
    assert main.invoke(["validate", "r.yaml"]) == ExitCode.INTERNAL
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: internal error (ValueError: first line); the traceback is in ")
    log = Path(line.rpartition(" in ")[2])
    assert log.parent == tmp_path
    assert "Traceback" in log.read_text()
    assert "second line" in log.read_text()


def test_traceback_goes_to_the_log_of_the_run(
    failing: Callable[[BaseException], None], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    log = tmp_path / "run.log"
    before = "2026-12-01T02:53:09+00:00 run run-start stages=[]\n"
    log.write_text(before)
    crash.log_crashes_to(log)
    failing(ValueError("oh\n# touch x\r# y"))
    assert main.invoke(["validate", "r.yaml"]) == ExitCode.INTERNAL
    assert capsys.readouterr().err.endswith(f"the traceback is in {log}\n")
    first, second, *traceback = log.read_text().splitlines()
    assert first == before.strip()
    assert second.endswith(" run internal-error ")
    assert "  ValueError: oh" in traceback
    assert all(line.startswith("  ") for line in traceback)


@pytest.mark.parametrize("kind", ["another's", "link", "pipe"])
def test_traceback_goes_into_no_file_of_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    log, victim = tmp_path / "run" / "run.log", tmp_path / "victim"
    log.parent.mkdir()
    victim.write_text("precious")
    if kind == "pipe":
        os.mkfifo(log)
    elif kind == "link":
        victim.write_text("")
        log.symlink_to(victim)
    else:
        log.write_text("precious")
    before = victim.read_text()
    monkeypatch.setattr(crash, "_logs", [log])
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert Path(crash.record(ValueError("oh"))).parent == tmp_path
    assert victim.read_text() == before
    assert kind != "another's" or log.read_text() == "precious"


def test_traceback_finds_a_place_when_the_run_has_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crash, "_logs", [tmp_path / "gone" / "run.log"])
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert Path(crash.record(ValueError("oh"))).parent == tmp_path
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    assert crash.record(ValueError("oh")).startswith("nowhere (No such file")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["validat", "x"], "No such command 'validat'. Did you mean 'validate'? See: edgecompress --help"),
        (["validate"], "Missing argument 'RECIPE'. See: edgecompress validate --help"),
        (["validate", "x", "--nonsense"], "No such option: --nonsense See: edgecompress validate --help"),
        (["schema", "--json", "--markdown"], "--markdown and --json exclude each other: choose one."),
    ],
)
def test_usage_errors(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.invoke(arguments) == ExitCode.RECIPE
    out, err = capsys.readouterr()
    assert message in (out + err)


def test_json_behind_two_dashes_is_an_argument(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # where no file is suggested
    assert main.invoke(["validate", "--", "--json"]) == ExitCode.RECIPE
    assert capsys.readouterr().out == "--json: no such file (check the path)\n"


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.invoke(["--version"]) == 0
    assert capsys.readouterr().out == f"edgecompress {__version__}\n"


def test_without_arguments_the_help_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.invoke([]) == ExitCode.RECIPE
    bare = capsys.readouterr().out
    assert main.invoke(["--help"]) == 0
    assert capsys.readouterr().out == bare
    assert "Exit codes: 0 done" in bare


def test_every_command_has_json_an_example_and_a_short_summary(capsys: pytest.CaptureFixture[str]) -> None:
    for command in main.COMMANDS:
        assert main.invoke([command.__name__, "--help"]) == 0
        text = capsys.readouterr().out
        assert "--json" in text, command.__name__
        assert f"edgecompress {command.__name__}" in text.partition("Example")[2], command.__name__
    assert main.invoke(["--help"]) == 0
    assert "..." not in capsys.readouterr().out.partition("Commands:")[2]


@pytest.mark.slow
def test_help_and_validate_import_nothing_heavy(tmp_path: Path) -> None:
    recipe = tmp_path / "r.yaml"
    recipe.write_text("version: 1\nteacher: {model: resnet9}\n")
    commands = (["--help"], ["validate", "--help"], ["validate", str(recipe)], ["schema"])
    program = (
        f"import sys\nfrom edgecompress_cli.main import invoke\nfor arguments in {commands!r}:\n"
        "    code = invoke(arguments)\n"
        f"    print('heavy:', [name for name in {HEAVY!r} if name in sys.modules], code, file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True, timeout=HUNG_S
    )
    assert done.stderr == "heavy: [] 0\n" * len(commands)  # the first that has some imports them


def test_module_runs_as_a_program() -> None:
    done = run("--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"edgecompress {__version__}\n", "")


@pytest.mark.slow
def test_reader_that_stops_reading_is_no_error() -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "edgecompress", "schema"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(HUNG_S) == main.PIPE_CLOSED


@pytest.mark.slow
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_full_disk_behind_stdout_is_a_resource_error() -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "edgecompress", "validate", "--help"],
            cwd=ROOT, stdout=full, stderr=subprocess.PIPE, text=True, check=False, timeout=HUNG_S,
        )  # fmt: skip
    assert done.returncode == ExitCode.RESOURCE
    assert "No space left on device" in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.slow
def test_closed_stdout_is_survived() -> None:
    done = run("--version", preexec_fn=lambda: os.close(1))
    assert (done.returncode, done.stderr) == (0, "")


def test_main_reads_the_arguments_of_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.BytesIO()
    monkeypatch.setattr(sys, "argv", ["edgecompress", "--version"])
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, "ascii"))
    assert main.main() == 0
    assert sys.stdout.errors == "backslashreplace"
    assert written.getvalue() == f"edgecompress {__version__}\n".encode()


def test_flush_that_fails_is_a_resource_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Full(io.StringIO):
        def flush(self) -> None:
            raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(sys, "stdout", Full())
    assert main.invoke(["--version"]) == ExitCode.RESOURCE
    assert capsys.readouterr().err == "error: cannot write the output: Input/output error\n"


def test_pipe_that_breaks_inside_a_command(
    failing: Callable[[BaseException], None], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    failing(BrokenPipeError())
    monkeypatch.setattr(sys, "stdout", io.StringIO())  # its descriptor must not be this process's own
    assert main.invoke(["validate", "r.yaml"]) == main.PIPE_CLOSED
    assert capsys.readouterr().err == ""


def test_exit_codes_of_commands_are_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(main, "app", lambda **_: 3)
    assert main.invoke([]) == 3
    monkeypatch.setattr(main, "app", lambda **_: None)
    assert main.invoke([]) == 0
