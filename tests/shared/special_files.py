"""Links, pipes, folders and endless files in the place of every file that the program reads or writes.

`try_cases` starts this file as a program: it imports what is heavy once and forks for each command. The stages of a run
hand over what a real run left, so that all of its files are written in a moment.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import ModuleType

from tests.shared.faults import stub_stages

ROOT = Path(__file__).parents[2]
KINDS = ("link", "dangling link", "pipe", "folder", "endless", "holes")
HOLES_BYTES = 10 * 1024**3
#: What is on no disk yet when a run has finished, and can be put there before the next one.
MORE = (
    "run", "run/.lock", "run/rejected.tflite", "run/model_step.tflite", "run/.report.md.abcdefgh.partial", "store",
    "store/locks", "store/checkpoints", "store/last", "cache",
)  # fmt: skip
#: What a run and the store may change; what of a recipe's folder is no part of a case.
OURS = ("run", "store", "cache")
LEFT = (*OURS, "own-store", "shared", "runs", "kept", "world", "victims")
#: What only a run that makes stages comes to.
BEGUN = ("store/locks", "store/checkpoints")
#: Command -> the exit codes that it may answer with.
ALLOWED = {"verify": (0, 4, 5)}
OTHERWISE = (0, 2, 4)


@dataclass(frozen=True)
class Case:
    """One kind of file in one place, and a command.

    Attributes:
        place: Where, from the folder that holds recipe, data, store and the run's folder.
        kind: Of KINDS.
        command: Of COMMANDS.
    """

    place: str
    kind: str
    command: str


@dataclass(frozen=True)
class Outcome:
    """What became of it.

    Attributes:
        case: What was tried.
        code: The exit code; below 0 for a signal: -14 where the command did not end.
        said: What it wrote to the terminal.
        changed: Files that it must not change and did.
        seconds: How much longer it took than without.
    """

    case: Case
    code: int
    said: str
    changed: list[str]
    seconds: float

    @property
    def holds(self) -> bool:
        """Whether nothing of others was changed, and the exit code is one of those for what a user can cause."""
        allowed = ALLOWED.get(self.case.command, OTHERWISE)
        return self.code in allowed and not self.changed and "Traceback" not in self.said


def commands(recipe: str) -> dict[str, list[str]]:
    """Returns name -> arguments of every command that is tried, in the folder that holds all."""
    run = ["run", recipe, "--output", "run", "--quiet"]
    return {
        "run": run,
        "run --fresh": [*run, "--fresh"],
        "run --force": [*run, "--fresh", "--force"],
        "plan": ["plan", recipe],
        "plan --sizes": ["plan", recipe, "--sizes"],
        "validate": ["validate", recipe],
        "report": ["report", "run"],
        "verify": ["verify", "run"],
        "analyze": ["analyze", "run", "--samples", "8"],
        "inspect": ["inspect", "run/model.tflite"],
        "bench": ["bench", "run/model.tflite", "--runs", "2"],
    }


def put(path: Path, kind: str, victim: Path) -> None:
    """Puts something special in the place of a file or a folder."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    match kind:
        case "link":
            path.symlink_to(victim)
        case "dangling link":
            path.symlink_to(victim.with_name("nothing"))
        case "pipe":
            os.mkfifo(path)
        case "folder":
            path.mkdir()
        case "endless":
            path.symlink_to("/dev/zero")
        case "holes":
            with path.open("wb") as stream:
                stream.truncate(HOLES_BYTES)


def places(world: Path) -> list[str]:
    """Returns every place in a folder with a finished run in it; of the store's steps, which are alike, one whole."""
    files = [path.relative_to(world).as_posix() for path in sorted(world.rglob("*")) if path.is_file()]
    step = next((path.name for path in sorted(world.glob("store/prune-*"))), None)
    if step is None:
        return files
    kept = [name for name in files if not name.startswith("store/") or step in name or "/last/" in name]
    checkpoint = f"store/checkpoints/{step}/prune.checkpoint"
    begun = [f"store/{step}", f"store/locks/{step}", f"store/checkpoints/{step}", checkpoint]
    return [*kept, *MORE, *begun]


def try_cases(
    recipe: Path, store: Path | None, wanted: Sequence[tuple[str, str]], *, limit_s: int = 300, thin: int = 1
) -> Iterator[Outcome]:
    """Gives the outcome in every place, for each of some commands and kinds.

    Args:
        recipe: A recipe; what lies beside it is taken along.
        store: Where all of its stages are finished; None: nothing is run before.
        wanted: Pairs of a command, of those that `commands` has, and what is put there, of KINDS.
        limit_s: How long a command may take.
        thin: Only every so many-th kind is tried in a place, another one in the next place.
    """
    request = json.dumps([str(recipe), None if store is None else str(store), list(wanted), limit_s, thin])
    command = [sys.executable, "-m", "tests.shared.special_files", request]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    environment.pop("COVERAGE_PROCESS_CONFIG", None)  # it would be written at the end of every fork
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, cwd=ROOT, text=True) as server:
        assert server.stdout is not None
        for line in server.stdout:
            found = json.loads(line)
            yield Outcome(**{**found, "case": Case(**found["case"])})
    assert server.returncode == 0


def forked(
    arguments: Sequence[str], world: Path, stages: dict[str, ModuleType], limit_s: int
) -> tuple[int, str, float]:
    """Returns exit code, what was said and the seconds of a command in a process of its own."""
    said, began = world.with_suffix(".said"), time.monotonic()
    child = os.fork()
    if not child:
        code = 99
        try:
            os.setsid()
            descriptor = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            os.dup2(descriptor, 1)
            os.dup2(descriptor, 2)
            signal.alarm(limit_s)  # whatever it waits for, in Python or in native code
            os.chdir(world)
            os.environ |= {"EDGECOMPRESS_STORE": "store", "EDGECOMPRESS_TRUST": "1"}
            os.environ["XDG_CACHE_HOME"] = str(world / "cache")
            if arguments[0] == "run":
                sys.modules |= stages
            from edgecompress_cli.main import invoke

            code = invoke(arguments)
            sys.stdout.flush()
        finally:
            os._exit(code)
    status = os.waitpid(child, 0)[1]
    return os.waitstatus_to_exitcode(status), said.read_text(errors="replace"), time.monotonic() - began


def prints(folder: Path, others: Sequence[str] = ()) -> dict[str, str]:
    """Returns name -> what it is, of everything in a folder that no command may change; `others` are left out."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if any(name == other or name.startswith(f"{other}/") for other in others):
            continue
        if path.is_symlink():
            found[name] = f"-> {path.readlink()}"
        elif path.is_file() and path.stat().st_size < HOLES_BYTES:
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
        else:
            found[name] = str(path.lstat().st_mode)
    return found


def main(recipe: str, store: str | None, wanted: Sequence[tuple[str, str]], limit_s: int, thin: int) -> None:
    """Answers one line per case."""
    stages = {} if store is None else stub_stages(Path(store), Path(recipe))
    every = commands(Path(recipe).name)
    with tempfile.TemporaryDirectory(dir=Path(recipe).parent) as name:
        # Each case has the same folder, since that is part of what is remembered of a recipe.
        kept, world, victims = Path(name, "kept"), Path(name, "world"), Path(name, "victims")
        shutil.copytree(Path(recipe).parent, world, ignore=lambda _, names: {one for one in names if one in LEFT})
        victims.mkdir()
        (victims / "victim").write_text("precious")
        if store is not None:
            shutil.copytree(store, world / "store")
            code, said, _ = forked(every["run"], world, stages, limit_s)
            assert code == 0, said
        world.rename(kept)
        usual: dict[str, float] = {}
        for command, kind in wanted:
            for number, place in enumerate(places(kept)):
                if (number + KINDS.index(kind)) % thin or not _concerns(command, place):
                    continue
                if command not in usual:
                    shutil.copytree(kept, world)
                    code, said, usual[command] = forked(every[command], world, stages, limit_s)
                    assert code == 0, said  # or nothing that follows would say anything
                    shutil.rmtree(world)
                shutil.copytree(kept, world)
                put(world / place, kind, victims / "victim")
                before = _prints(victims, world)
                code, said, seconds = forked(every[command], world, stages, limit_s)
                after = _prints(victims, world)
                changed = [key for key in before | after if before.get(key) != after.get(key)]
                shutil.rmtree(world)
                outcome = Outcome(Case(place, kind, command), code, said, changed, round(seconds - usual[command], 1))
                sys.stdout.write(json.dumps(asdict(outcome)) + "\n")
                sys.stdout.flush()


def _prints(victims: Path, world: Path) -> dict[str, str]:
    """Returns name -> content of all that no command may change."""
    others = {f"beside the recipe: {name}": text for name, text in prints(world, OURS).items()}
    return {f"elsewhere: {name}": text for name, text in prints(victims).items()} | others


def _concerns(command: str, place: str) -> bool:
    """Returns whether a command reads or writes a place at all, as far as that is plain."""
    if command in ("inspect", "bench"):
        return place in ("run", "run/model.tflite")
    if command == "validate":
        return not place.startswith(("run", "store", "cache"))
    if command.startswith("plan"):
        return not place.startswith("run")
    if place.startswith(BEGUN) and command not in ("run --fresh", "run --force"):
        return False
    if command == "report":
        return place in ("run", "run/report.json")
    return True


if __name__ == "__main__":
    main(*json.loads(sys.argv[1]))
