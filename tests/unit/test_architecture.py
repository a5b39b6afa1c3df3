"""The layout and the import rules: who may use whom, what stays light, how long a file and how full a folder gets."""

from __future__ import annotations

import ast
import statistics
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.shared.processes import HUNG_S

ROOT = Path(__file__).parents[2]
#: Import name -> its source root.
PACKAGES = {"edgecompress": ROOT / "compress", "edgecompress_cli": ROOT / "cli"}
LIBRARY = PACKAGES["edgecompress"] / "edgecompress"
FILES = sorted(path for package, root in PACKAGES.items() for path in (root / package).rglob("*.py"))
#: Every room, from the ground up. A module may import from its own room and from those on earlier lines; rooms on one
#: line do not know each other. A module belongs to the longest name here that its own begins with: `data` is what lies
#: in that folder itself, but for the modules that have lines of their own.
ROOMS: tuple[tuple[str, ...], ...] = (
    ("errors", "figures", "machine", "processes", "quiet", "version", "wording"),
    ("context",),
    ("store", "recipe"),
    ("recipe.checks",),
    ("recipe.reading",),
    ("sources", "report.numbers", "report.intervals", "report.schema"),
    ("report.budget", "report.verdict", "report.forms"),
    ("report.rows",),
    ("report.words",),
    ("report.html", "report.program", "report.markdown", "report.picture"),
    ("report.document",),
    ("data.base",),
    ("data", "data.tokens"),
    ("data.reading", "data.forms"),
    ("data.sources", "data.prepare"),
    ("data.loading",),
    ("models",),
    ("models.built_in",),
    ("models.libraries",),
    ("models.building",),
    ("tasks", "tflite.lowering"),
    ("training", "tflite.format", "pruning"),
    ("tflite.runtime", "pruning.coupling", "pruning.unstructured"),
    ("tflite.facts", "pruning.structured"),
    ("quantization.graph",),
    ("quantization.grids",),
    ("quantization.structure", "quantization.twin"),
    ("quantization.proof",),
    ("quantization.repairs",),
    ("stages.keras_teacher",),
    ("stages.base",),
    ("stages.quantizing",),
    ("stages.exporting",),
    ("stages.verifying", "stages.pruning"),
    ("stages.before", "stages"),
    ("stages.table",),
    ("pipeline",),
)
STAGES = ("teacher", "distill", "prune", "quantize", "export", "verify", "benchmark")
#: Modules that import nothing heavy, so that `--help` and `validate` answer at once.
LIGHT = (
    "edgecompress",
    "edgecompress.errors",
    "edgecompress.recipe.schema",
    "edgecompress.recipe.reading.load",
    "edgecompress.recipe.reference",
    "edgecompress.pipeline.plan",
    "edgecompress_cli.main",
)
HEAVY = ("torch", "numpy", "tensorflow", "ai_edge_litert", "litert_torch", "torchvision", "sklearn", "matplotlib")
LONGEST = 350
#: Python files in one folder, `__init__.py` and `conftest.py` aside.
FULLEST = 14
#: Modules at the root of the library.
AT_THE_ROOT = 8
TOP_LEVEL = {
    "cli", "compress", "recipes", "tests", "benchmarks", "docs", ".ci",
    "pyproject.toml", "README.md", "CHANGELOG.md", "LICENSE", "Makefile", "edgecompress.mk", "constraints.txt",
    ".gitignore", ".pre-commit-config.yaml",
}  # fmt: skip


def module_name(path: Path) -> str:
    root = next(root for root in PACKAGES.values() if path.is_relative_to(root))
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def nodes(path: Path) -> tuple[ast.AST, ...]:
    """Returns all of a file's syntax."""
    return tuple(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))


@cache
def imports(path: Path) -> tuple[str, ...]:
    """Returns every module a file imports, also within functions and for types only."""
    found: list[str] = []
    for node in nodes(path):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            # `from a.package import module` imports that module; what else is named lies in `a.package` itself.
            whole = [f"{node.module}.{alias.name}" for alias in node.names]
            found += [name if is_module(name) else str(node.module) for name in whole]
    return tuple(dict.fromkeys(found))


@cache
def is_module(name: str) -> bool:
    """Returns whether a dotted name is a module or a package of ours, not something in one."""
    top = name.split(".", maxsplit=1)[0]
    if top not in PACKAGES:
        return False
    place = PACKAGES[top] / name.replace(".", "/")
    return place.with_suffix(".py").exists() or (place / "__init__.py").exists()


def room(module: str) -> tuple[int, str]:
    """Returns the room of a module of the library, and how far up it lies."""
    inside = module.removeprefix("edgecompress.")
    fitting = [
        (name, number)
        for number, names in enumerate(ROOMS)
        for name in names
        if inside == name or inside.startswith(f"{name}.")
    ]
    assert fitting, f"{module} belongs to no room: name it in ROOMS"
    name, number = max(fitting, key=lambda found: len(found[0]))
    return number, name


def of_the_library(path: Path) -> bool:
    """Returns whether the rules of rooms hold for a file: not for packages, nor for the two faces of the library."""
    return path.is_relative_to(LIBRARY) and path.name != "__init__.py" and path != LIBRARY / "__main__.py"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_down_only(path: Path) -> None:
    if not of_the_library(path):
        # The face is lazy and may name anything of the library; all other packages hold their docstring alone.
        ours = {used for used in imports(path) if used.split(".")[0] in PACKAGES}
        assert path.parent == LIBRARY or path.is_relative_to(PACKAGES["edgecompress_cli"]) or not ours, path
        return
    mine = module_name(path)
    own, at_home = room(mine)
    for used in imports(path):
        assert used.split(".")[0] not in ("edgecompress_cli", "typer"), f"{mine} imports {used}"
        if is_module(used):
            assert used != "edgecompress", f"{mine} imports the library's own face"
            above, there = room(used)
            assert above < own or there == at_home, f"{mine} (room {at_home}) imports {used} (room {there})"


def test_nothing_imports_in_a_circle() -> None:
    graph = {module_name(path): {used for used in imports(path) if is_module(used)} for path in FILES}
    waiting = {name: set(used) - {name} for name, used in graph.items()}
    while free := [name for name, used in waiting.items() if not used]:
        for name in free:
            del waiting[name]
        for used in waiting.values():
            used.difference_update(free)
    assert not waiting, f"in circles, or above one: {sorted(waiting)}"


def test_every_room_is_there() -> None:
    for name in (name for names in ROOMS for name in names):
        assert is_module(f"edgecompress.{name}"), f"there is no {name} any more: take it out of ROOMS"


def test_stages_do_not_import_each_other() -> None:
    for stage in STAGES:
        others = {f"edgecompress.stages.{other}" for other in STAGES if other != stage}
        found = set(imports(LIBRARY / "stages" / f"{stage}.py")) & others
        assert not found, f"{stage} imports {found}"
    helpers = [path for path in (LIBRARY / "stages").rglob("*.py") if path.stem not in (*STAGES, "table", "__init__")]
    assert {path.parent.name for path in helpers} > {"before", "pruning", "quantizing", "exporting", "verifying"}
    for helper in helpers:
        found = set(imports(helper)) & {f"edgecompress.stages.{stage}" for stage in STAGES}
        assert not found, f"{helper.name} imports {found}"


@pytest.mark.slow
def test_the_table_of_stages_is_in_the_order_of_a_run() -> None:
    from edgecompress.recipe import steps
    from edgecompress.stages import table

    assert tuple(table.STAGES) == STAGES == steps.STAGE_ORDER


@pytest.mark.slow
def test_light_modules_import_nothing_heavy() -> None:
    program = (
        f"import importlib, sys\nfor module in {LIGHT!r}:\n    importlib.import_module(module)\n"
        f"    print(module, [name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True, timeout=HUNG_S
    )
    assert done.stdout.splitlines() == [f"{module} []" for module in LIGHT]  # the first that has some imports them


def test_only_render_prints() -> None:
    for path in FILES:
        calls = [node for node in nodes(path) if isinstance(node, ast.Call)]
        printing = [call for call in calls if isinstance(call.func, ast.Name) and call.func.id == "print"]
        assert not printing or path == ROOT / "cli" / "edgecompress_cli" / "render.py", (
            f"{path}:{printing[0].lineno} prints"
        )


def test_files_stay_small() -> None:
    lengths = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in FILES}
    for path, length in lengths.items():
        reason = "long because" in path.read_text(encoding="utf-8")[:1500].lower()
        assert length <= LONGEST or reason, f"{path}: {length} lines; split it, or say at its top why it is long"
    assert statistics.median(lengths.values()) <= LONGEST / 2


def folders() -> Iterator[tuple[Path, list[Path]]]:
    """Gives every folder of the project's own Python files, and those."""
    for top in ("compress", "cli", "tests"):
        files = [path for path in (ROOT / top).rglob("*.py") if path.name not in ("__init__.py", "conftest.py")]
        for folder in sorted({path.parent for path in files}):
            yield folder, [path for path in files if path.parent == folder]


def test_folders_stay_small() -> None:
    for folder, files in folders():
        assert len(files) <= FULLEST, f"{folder} has {len(files)} files: find the rooms in it"
    at_the_root = [path.name for path in LIBRARY.glob("*.py") if path.name != "__init__.py"]
    assert len(at_the_root) <= AT_THE_ROOT, f"{sorted(at_the_root)}: find a room for some of them"


def test_the_top_level_holds_what_the_layout_says() -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split(
        "\n"
    )
    assert {name.split("/")[0] for name in listed if name} <= TOP_LEVEL
