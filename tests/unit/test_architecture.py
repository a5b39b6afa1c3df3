"""The layout and the import rules: who may use whom, what stays light, how long a file gets."""

from __future__ import annotations

import ast
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
#: Import name -> its source root.
PACKAGES = {"edgecompress": ROOT / "compress", "edgecompress_cli": ROOT / "cli"}
LIBRARY = PACKAGES["edgecompress"] / "edgecompress"
FILES = sorted(path for package, root in PACKAGES.items() for path in (root / package).rglob("*.py"))
#: From the bottom up: a module may import its own layer and those below. The first part of a name under `edgecompress`.
LAYERS: tuple[tuple[str, ...], ...] = (
    (
        "errors",
        "recipe",
        "artifact",
        "machine",
        "context",
        "python_imports",
        "python_source",
        "keras_source",
        "hf_source",
        "quiet",
        "wording",
        "changes",
        "figures",
        "archives",
        "file_lock",
    ),
    ("tasks", "models", "data"),
    ("training", "tflite"),
    ("pruning", "quantization"),
    ("stages",),
    ("plan", "lock", "pipeline", "report", "budget", "recheck", "diagnosis"),
)
STAGES = ("teacher", "distill", "prune", "quantize", "export", "verify", "benchmark")
#: Modules that import nothing heavy, so that `--help` and `validate` answer at once.
LIGHT = (
    "edgecompress.errors",
    "edgecompress.recipe.schema",
    "edgecompress.recipe.reading.load",
    "edgecompress.recipe.reference",
    "edgecompress.pipeline.plan",
    "edgecompress_cli.main",
)
HEAVY = ("torch", "numpy", "tensorflow", "ai_edge_litert", "litert_torch", "torchvision", "sklearn", "matplotlib")
LONGEST = 350
TOP_LEVEL = {
    "cli", "compress", "recipes", "tests", "benchmarks", "docs", ".ci",
    "pyproject.toml", "README.md", "CHANGELOG.md", "LICENSE", "Makefile", "edgecompress.mk", "constraints.txt",
    ".gitignore",
}  # fmt: skip


def module_name(path: Path) -> str:
    root = next(root for root in PACKAGES.values() if path.is_relative_to(root))
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path: Path) -> Iterator[str]:
    """Gives every module a file imports, also within functions."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield node.module or ""
            if (node.module or "").split(".")[
                0
            ] in PACKAGES:  # `from edgecompress.stages.table import verify` imports a module too
                yield from (f"{node.module}.{alias.name}" for alias in node.names)


def is_module(name: str) -> bool:
    """Returns whether a dotted name is a module or a package of ours, not something in one."""
    top = name.split(".", maxsplit=1)[0]
    if top not in PACKAGES:
        return False
    place = PACKAGES[top] / name.replace(".", "/")
    return place.with_suffix(".py").exists() or (place / "__init__.py").exists()


def layer(module: str) -> int | None:
    """Returns the layer of a module of the library, None for the package itself."""
    if module == "edgecompress":
        return None
    part = module.split(".")[1]
    for number, names in enumerate(LAYERS):
        if any(part == name or part.startswith(f"{name}_") for name in names):
            return number
    raise AssertionError(f"{module} belongs to no layer: name it in LAYERS")


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_down_only(path: Path) -> None:
    mine = module_name(path)
    for used in imports(path):
        top = used.split(".")[0]
        if mine.startswith("edgecompress.") and mine != "edgecompress.__main__":
            assert top not in ("edgecompress_cli", "typer"), f"{mine} imports {used}"
            if top == "edgecompress" and used != "edgecompress" and is_module(used):
                above, own = layer(used), layer(mine)
                assert above is None or (own is not None and above <= own), (
                    f"{mine} (layer {own}) imports {used} (layer {above})"
                )


def test_stages_do_not_import_each_other() -> None:
    for stage in STAGES:
        others = {f"edgecompress.stages.table.{other}" for other in STAGES if other != stage}
        found = set(imports(LIBRARY / "stages" / f"{stage}.py")) & others
        assert not found, f"{stage} imports {found}"
    for helper in (LIBRARY / "stages").glob("*.py"):
        if helper.stem not in (*STAGES, "__init__"):
            found = set(imports(helper)) & {f"edgecompress.stages.table.{stage}" for stage in STAGES}
            assert not found, f"{helper.name} imports {found}"


def test_the_table_of_stages_is_in_the_order_of_a_run() -> None:
    from edgecompress.pipeline import plan
    from edgecompress.stages import table as stages

    assert tuple(stages.STAGES) == STAGES == plan.STAGE_ORDER


@pytest.mark.parametrize("module", LIGHT)
def test_light_modules_import_nothing_heavy(module: str) -> None:
    program = f"import sys, {module}; print([name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout == "[]\n"


def test_only_render_prints() -> None:
    for path in FILES:
        calls = [node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)]
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


def test_the_top_level_holds_what_the_layout_says() -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split(
        "\n"
    )
    assert {name.split("/")[0] for name in listed if name} <= TOP_LEVEL
