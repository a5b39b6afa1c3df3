"""Which stages does an edit of the program make again? Forty edits: constants, docstrings, comments, messages, kernels.

    python -m benchmarks.robustness.code_edits  # a minute; writes the table anew

Each edit is made to a copy of the package, and the fingerprints of every stage of a recipe are compared with those of
the package as it is. Nothing is trained: the fingerprint decides on what is reused. `digits` is the demo, `plain` a
network quantized without training, pruning or repairs.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.table import RESULTS, ROOT, Table
from edgecompress.pipeline.branches import reach_of
from edgecompress.recipe.reading.load import load_recipe
from edgecompress.recipe.schema import Recipe
from edgecompress.recipe.steps import STAGE_ORDER, has_stage, step_inputs
from edgecompress.store import code
from edgecompress.store.files import sha256_json

TOP = "from __future__ import annotations\n"
UNUSED = "\n\n\ndef unused() -> int:\n    return 2"
COLUMNS = ("kind", "digits", "plain")


@dataclass(frozen=True)
class Edit:
    """One change of one file.

    Attributes:
        kind: What is changed: constant, code, table, docstring, comment, message.
        file: From the package's root.
        before: What stands there, once.
        after: What is put in its place.
        again: The first stage of digits.yaml that is to be made again for it; what builds on it follows.
    """

    kind: str
    file: str
    before: str
    after: str
    again: str = ""


EDITS = (
    # What trains, and what is trained.
    Edit("constant", "training/divergence.py", "SIGMAS = 2.0", "SIGMAS = 3.0", "teacher"),
    Edit("constant", "training/schedules.py", "\n\n\ndef ", "\n\nUNUSED = 1\n\n\ndef "),
    Edit("constant", "tasks/augment.py", "SHIFT_SHARE = 1 / 14", "SHIFT_SHARE = 1 / 7", "teacher"),
    Edit("constant", "data/normalize.py", "CONSTANT = 1e-7", "CONSTANT = 1e-6", "teacher"),
    Edit("constant", "models/built_in/resnet.py", "SMALLEST_MAP = 2", "SMALLEST_MAP = 4", "teacher"),
    Edit("constant", "models/built_in/text_cnn.py", "SPANS = (3, 4, 5)", "SPANS = (3, 5, 7)"),
    Edit("constant", "data/front_end.py", "LOWEST_HZ = 20.0", "LOWEST_HZ = 30.0"),
    Edit("code", "data/sources/npz.py", "def load(", f"{UNUSED}\n\n\ndef load("),
    # Pruning.
    Edit("constant", "stages/prune.py", "PRUNING_SHARE = 0.5", "PRUNING_SHARE = 0.6", "prune"),
    Edit("constant", "stages/prune.py", "TAYLOR_BATCHES = 20", "TAYLOR_BATCHES = 30", "prune"),
    Edit("constant", "stages/pruning/backoff.py", "COARSER = (1, 2, 4)", "COARSER = (1, 2)", "prune"),
    Edit("constant", "pruning/unstructured/patterns.py", TOP, f"{TOP}\nFEW = 3\n"),
    # Quantization: kernels, ranges, repairs, the proof.
    Edit("constant", "quantization/twin/kernels.py", "TIE_MARGIN = 1e-4", "TIE_MARGIN = 1e-3", "quantize"),
    Edit("constant", "quantization/grids/ranges.py", "LARGEST_RATIO = 128.0", "LARGEST_RATIO = 64.0", "quantize"),
    Edit("constant", "quantization/grids/ranges.py", "SKEWED = 0.25", "SKEWED = 0.3", "quantize"),
    Edit("constant", "stages/quantize.py", "TRACKING_SHARE = 0.6", "TRACKING_SHARE = 0.5", "quantize"),
    Edit("constant", "stages/quantize.py", "RANGE_MOMENTUM = 0.02", "RANGE_MOMENTUM = 0.05", "quantize"),
    Edit("constant", "quantization/repairs/ladder.py", "FEWEST_SAMPLES = 16", "FEWEST_SAMPLES = 32"),
    Edit("constant", "quantization/proof/compare.py", "TOLERANCE_STEPS = 1.01", "TOLERANCE_STEPS = 2.01", "verify"),
    Edit("constant", "stages/verifying/gate.py", "TWIN_GATE = 99.8", "TWIN_GATE = 99.0", "verify"),
    # The flatbuffer.
    Edit("constant", "tflite/format/metadata.py", 'PARSER_VERSION = "1.0.0"', 'PARSER_VERSION = "1.1.0"', "export"),
    Edit("constant", "tflite/format/metadata.py", "ZIP_TIME = (1980,", "ZIP_TIME = (1981,", "export"),
    Edit("constant", "tflite/format/finish.py", "VERSION_DIGITS = 12", "VERSION_DIGITS = 16", "export"),
    Edit("constant", "tflite/format/packing.py", "BUFFER_ALIGNMENT = 16", "BUFFER_ALIGNMENT = 32", "quantize"),
    Edit("constant", "tflite/format/sparse.py", "TABLES_BYTES = 400", "TABLES_BYTES = 500", "export"),
    Edit("constant", "stages/benchmark.py", "SAME_ANSWERS = 99.9", "SAME_ANSWERS = 99.0", "benchmark"),
    Edit("constant", "tflite/runtime/bench.py", TOP, f"{TOP}\nMANY = 3\n"),
    # What is told, shown, checked and kept.
    Edit("docstring", "training/fit.py", '"""The training loop: one function', '"""The loop that trains: one function'),
    Edit("docstring", "quantization/twin/kernels.py", '"""Integer kernels', '"""INT8 kernels'),
    Edit("docstring", "stages/teacher.py", '"""Trains the teacher', '"""Has the teacher trained'),
    Edit("comment", "training/fit.py", TOP, f"{TOP}\n# A remark.\n"),
    Edit("comment", "quantization/grids/ranges.py", "SKEWED = 0.25", "SKEWED = 0.25  # found on three networks"),
    Edit("message", "data/normalize.py", "has the same value everywhere", "is the same everywhere"),
    Edit("message", "stages/learning.py", "it was neither trained nor loaded", "nobody trained or loaded it"),
    Edit("message", "stages/quantize.py", "calibrating on", "calibration on"),
    Edit("message", "stages/base.py", "has changed while it was used", "changed while it was used"),
    Edit("message", "wording.py", "def counted(", f"{UNUSED}\n\n\ndef counted("),
    Edit("message", "recipe/checks/tasks.py", TOP, f"{TOP}\nHINT = 'try another'\n"),
    Edit("constant", "report/html/style.py", 'STYLE = """', 'STYLE = """ body { margin: 0; }'),
    Edit("code", "report/words/tables.py", "\n\n\ndef ", f"{UNUSED}\n\n\ndef "),
    Edit("message", "recipe/techniques.py", 'description="', 'description="In short: '),
    Edit("code", "pipeline/report_inputs.py", "def report_inputs(", f"{UNUSED}\n\n\ndef report_inputs("),
)  # fmt: skip


#: First stage that is made again -> all of them.
FOLLOWING = {
    "": (),
    "teacher": STAGE_ORDER,
    **{stage: STAGE_ORDER[STAGE_ORDER.index(stage) :] for stage in ("prune", "quantize", "export")},
    "verify": ("verify",),
    "benchmark": ("benchmark",),
}


def recipes() -> dict[str, Recipe]:
    """Returns the recipes whose stages are looked at."""
    plain = {"version": 1, "data": {"source": "digits"}, "student": {"model": "resnet8"}, "quantize": {"mode": "ptq"}}
    return {
        "digits": load_recipe(ROOT / "recipes" / "digits.yaml"),
        "plain": Recipe.model_validate(plain),
    }


def made_again(before: dict[str, str], after: dict[str, str]) -> tuple[str, ...]:
    """Returns the stages whose fingerprint is another."""
    return tuple(stage for stage in before if before[stage] != after[stage])


def fingerprints(recipe: Recipe) -> dict[str, str]:
    """Returns stage -> hash of the code that it can reach, and of that of the stages it builds on."""
    found: dict[str, str] = {}
    for stage in (stage for stage in STAGE_ORDER if has_stage(recipe, stage)):
        own = code.code_hashes(reach_of(recipe, stage))
        found[stage] = sha256_json([own, step_inputs(recipe, stage, found)])
    return found


@contextmanager
def copied_program(folder: Path) -> Iterator[Path]:
    """Gives a copy of the package, which is looked at in the place of the real one."""
    real, copy = code.ROOT, folder / "edgecompress"
    shutil.copytree(real, copy, ignore=shutil.ignore_patterns("__pycache__"))
    code.read_program()
    known = code._remembered()  # noqa: SLF001 - parsing takes seconds, and is the same for the same content
    code.ROOT = copy
    try:
        code._remember(known)  # noqa: SLF001
        yield copy
    finally:
        code.ROOT = real


@contextmanager
def edited(root: Path, edit: Edit) -> Iterator[None]:
    """Makes an edit, and takes it back."""
    path = root / edit.file
    text = path.read_text(encoding="utf-8")
    assert edit.before in text, f"{edit.file} has no {edit.before!r} any more"
    path.write_text(text.replace(edit.before, edit.after, 1), encoding="utf-8")
    try:
        yield
    finally:
        path.write_text(text, encoding="utf-8")


def main() -> None:
    """Writes and prints the table."""
    table = Table(RESULTS / "code_edits.csv", COLUMNS)
    table.path.unlink(missing_ok=True)
    known = recipes()
    with tempfile.TemporaryDirectory() as folder, copied_program(Path(folder)) as root:
        before = {name: fingerprints(recipe) for name, recipe in known.items()}
        for number, edit in enumerate(EDITS):
            with edited(root, edit):
                again = {name: made_again(before[name], fingerprints(recipe)) for name, recipe in known.items()}
            told = {name: _told(stages) for name, stages in again.items()}
            table.append(f"{edit.file}: {_shown(edit)}", number, kind=edit.kind, **told)
    table.show("edit", COLUMNS)


def _told(stages: tuple[str, ...]) -> str:
    """Returns stages in words: where all that follow are among them, the first one alone is named."""
    later = len(stages) > 1 and stages == STAGE_ORDER[-len(stages) :]
    return f"{stages[0]} and what follows" if later else ", ".join(stages) or "none"


def _shown(edit: Edit) -> str:
    """Returns an edit in a line that a Markdown table can hold."""
    added = edit.after.replace(edit.before, "", 1) if edit.before in edit.after else ""
    told = f"+ {added}" if added and "\n" in edit.after else f"{edit.before} -> {edit.after}"
    return " ".join(told.split())


if __name__ == "__main__":
    main()
