"""The `edgecompress` program: its commands, and the one place where errors become messages and exit codes.

Nothing heavy is imported here or at the top of a command's file, so that `--help` answers at once.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import inspect
import io
import os
import signal
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

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
from edgecompress.machine import wait_patiently
from edgecompress.version import __version__
from edgecompress.wording import counted
from edgecompress_cli import crash, render
from edgecompress_cli.commands.analyze import analyze
from edgecompress_cli.commands.bench import bench
from edgecompress_cli.commands.doctor import doctor
from edgecompress_cli.commands.inspect import inspect as inspect_
from edgecompress_cli.commands.plan import plan
from edgecompress_cli.commands.recipes import recipes
from edgecompress_cli.commands.report import report
from edgecompress_cli.commands.run import run
from edgecompress_cli.commands.schema import schema
from edgecompress_cli.commands.validate import validate
from edgecompress_cli.commands.verify import verify

if TYPE_CHECKING:
    from edgecompress_cli.supervise import ChildDied

COMMANDS: tuple[Callable[..., Any], ...] = (
    run,
    plan,
    validate,
    recipes,
    report,
    analyze,
    inspect_,
    bench,
    verify,
    schema,
    doctor,
)
#: Commands that may be deep in native code for long; they run in a child process, so that Ctrl-C is answered at once.
SUPERVISED = ("run", "plan", "analyze", "verify", "inspect", "bench", "doctor")
#: Those of them that go on where they were ended.
KEEPING = ("run", "analyze", "verify")

#: What `error.kind` says in JSON; the first class that fits counts.
KINDS: tuple[tuple[type[EdgecompressError], str], ...] = (
    (RecipeError, "recipe"),
    (UsageError, "usage"),
    (DataError, "data"),
    (ModelError, "model"),
    (ResourceError, "resource"),
    (VerificationError, "verification"),
    (EdgecompressError, "internal"),
)
#: What a shell sees of a program that SIGPIPE ended: the reader of our output has gone (`edgecompress schema | head`).
PIPE_CLOSED = 141
#: Refusals of the file system that are no fault of the program.
REFUSALS = (
    errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EMFILE, errno.ENFILE, errno.EIO,
    errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP, errno.EFBIG, errno.EBUSY, errno.ESTALE, errno.EISDIR,
    errno.EEXIST, errno.ENOTEMPTY, errno.ENXIO, errno.EINVAL,
)  # fmt: skip


class _Interrupted(Exception):  # noqa: N818 - an event, carried past typer, which would swallow its text
    """Ctrl-C inside a command, with what the command says about going on."""


class _PipeClosed(Exception):  # noqa: N818 - an event, carried past typer, which would answer with exit code 1
    """Whoever read our output stopped reading."""


def _carry_events(command: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(command)
    def carried(*args: Any, **kwargs: Any) -> Any:
        try:
            return command(*args, **kwargs)
        except KeyboardInterrupt as event:
            raise _Interrupted(str(event)) from event
        except BrokenPipeError as event:
            raise _PipeClosed from event

    return carried


def _help(command: Callable[..., Any]) -> str:
    """Returns a command's help: its docstring, with the lines of the example kept as they are."""
    text = inspect.getdoc(command) or ""
    return text.replace("\n\nExample", "\n\n\b\nExample")


def _version(asked: bool) -> None:
    if asked:
        render.line(f"edgecompress {__version__}")
        raise typer.Exit


app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
for _command in COMMANDS:
    _text = _help(_command)
    _summary = _text.partition("\n\n")[0].rstrip(".")
    app.command(_command.__name__, help=_text, short_help=_summary)(_carry_events(_command))


@app.callback(invoke_without_command=True)
def edgecompress(
    context: typer.Context,
    _shown: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Distil, prune and quantize neural networks into INT8 TFLite flatbuffers, from one recipe.

    Exit codes: 0 done; 1 internal error; 2 usage or recipe; 3 budget missed; 4 data, model or file system could not be
    used; 5 verification failed; 130 interrupted.

    `edgecompress COMMAND --help` says more about a command, with an example.
    """
    if context.invoked_subcommand is None:
        render.document(context.get_help())
        raise typer.Exit(ExitCode.RECIPE)


def report_failure(error: BaseException, *, as_json: bool) -> int:
    """Writes what went wrong, as a message on stderr or one JSON document on stdout, and returns the exit code.

    An error that is none of the project's own is a bug in it: its traceback goes to a log, one line to the screen.
    """
    if isinstance(error, EdgecompressError) and error.exit_code != ExitCode.INTERNAL:
        kind = next(name for known, name in KINDS if isinstance(error, known))
        problems = error.problems if isinstance(error, RecipeError) else []
        message = f"{counted(len(problems), 'problem')} in the recipe" if problems else error.message
        return _answer(error.exit_code, kind, message, as_json=as_json, problems=problems, details=error.details)
    if isinstance(error, typer.TyperException):
        context = getattr(error, "ctx", None)
        more = f" See: {context.command_path} --help" if context is not None else ""
        return _answer(ExitCode.RECIPE, "usage", error.format_message() + more, as_json=as_json)
    if isinstance(error, (KeyboardInterrupt, _Interrupted)):
        return _answer(ExitCode.INTERRUPTED, "interrupted", str(error) or "interrupted", as_json=as_json)
    if isinstance(error, SystemExit):  # our own code never raises it
        message = f"code that the program does not know ended it (sys.exit({error.code!r:.40})): nothing came of it."
        return _answer(ExitCode.RESOURCE, "resource", message, as_json=as_json)
    if isinstance(error, MemoryError):
        message = "memory ran out. Use smaller batches, fewer samples or smaller pictures."
        return _answer(ExitCode.RESOURCE, "resource", message, as_json=as_json)
    if isinstance(error, OSError) and error.errno in REFUSALS:
        what = f" ({error.filename})" if error.filename else ""
        message = (
            f"the file system refused: {error.strerror}{what}. Free space, or choose a folder that can be written."
        )
        return _answer(ExitCode.RESOURCE, "resource", message, as_json=as_json)
    log = crash.record(error)
    what = f"{type(error).__name__}: {error}".splitlines()[0][:200]
    return _answer(
        ExitCode.INTERNAL, "internal", f"internal error ({what}); the traceback is in {log}", as_json=as_json
    )


def _answer(
    code: int,
    kind: str,
    message: str,
    *,
    as_json: bool,
    problems: Sequence[Problem] = (),
    details: Sequence[str] = (),
) -> int:
    if as_json:
        found = [vars(problem) for problem in problems]
        whole = "\n".join([message, *details])
        render.emit_json(
            {"ok": False, "error": {"exit_code": int(code), "kind": kind, "message": whole, "problems": found}}
        )
    else:
        render.error(message, problems, details)
    return int(code)


def invoke(arguments: Sequence[str]) -> int:
    """Runs one command line and returns its exit code; every error has become a message by then."""
    as_json = _wants_json(arguments)
    try:
        try:
            result = app(args=list(arguments), prog_name="edgecompress", standalone_mode=False)
            code = result if isinstance(result, int) else int(ExitCode.DONE)
        except (BrokenPipeError, _PipeClosed):
            raise
        except BaseException as error:  # noqa: BLE001 - the one place that answers for every error, and every panic
            code = report_failure(error, as_json=as_json)
        if sys.stdout is not None:  # a parent may have closed it
            sys.stdout.flush()
    except (BrokenPipeError, _PipeClosed):
        _silence_stdout()
        return PIPE_CLOSED
    except OSError as error:
        _silence_stdout()
        with contextlib.suppress(OSError):
            render.error(f"cannot write the output: {error.strerror or error}")
        return int(ExitCode.RESOURCE)
    return code


def _wants_json(arguments: Sequence[str]) -> bool:
    """Returns whether a command line asks for one JSON document, which it then gets whatever happens."""
    return "--json" in (arguments[: arguments.index("--")] if "--" in arguments else arguments)


def _silence_stdout() -> None:
    """Points stdout at nothing, so that Python's own flush at exit does not fail again."""
    with contextlib.suppress(OSError, ValueError):
        descriptor = sys.stdout.fileno()
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, descriptor)
        os.close(null)


def main() -> int:
    """Runs the program on the process's arguments and returns its exit code."""
    wait_patiently()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal that cannot show a letter is no reason to fail
    arguments = sys.argv[1:]
    return _supervised(arguments) if arguments[:1] in [[name] for name in SUPERVISED] else invoke(arguments)


def _supervised(arguments: Sequence[str]) -> int:
    """Runs a command in a child process and answers for it where it cannot do so itself."""
    from edgecompress_cli.supervise import ChildDied, Terminated, supervise

    as_json, keeps = _wants_json(arguments), arguments[0] in KEEPING
    kept = ". Finished stages are kept" if keeps else ""
    try:
        return supervise(lambda: invoke(arguments))
    except KeyboardInterrupt:
        from edgecompress_cli.commands.run import GO_ON

        return report_failure(KeyboardInterrupt(GO_ON if keeps else ""), as_json=as_json)
    except Terminated as event:
        message = f"{event}{kept}: run the same command again to go on." if keeps else str(event)
        return _answer(event.exit_code, "interrupted", message, as_json=as_json)
    except ChildDied as death:
        return report_failure(ResourceError(f"{death}{kept}.{_found_by(death)}"), as_json=as_json)


def _found_by(death: ChildDied) -> str:
    """Returns how a layer is found that native code crashes at; "" where nothing speaks for one."""
    if death.number == signal.SIGKILL or "network" not in str(death):
        return ""
    return (
        " Leave parts of the network out to find the layer that it does not take, and build that from other operations."
    )


if __name__ == "__main__":
    sys.exit(main())
