"""Writes the zoo's table into docs/zoo.md: python -m benchmarks.zoo.table."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from pathlib import Path

from benchmarks.table import COMMIT, RESULTS, ROOT

PAGE = ROOT / "docs" / "zoo.md"
#: What is behind it in the page is made.
MARK = "<!-- made by python -m benchmarks.zoo.table -->"
AGREES, TWIN_AGREES = 0.97, 99.8
HEADS = (
    "model", "parameters", "outcome", "not INT8", "agreement", "input alone", "twin", "bytes", "latency against float",
    "seconds", COMMIT,
)  # fmt: skip
TITLES = {
    "idioms": "Layers and idioms of PyTorch",
    "torchvision": "torchvision",
    "hf": "Hugging Face architectures",
    "timm": "timm",
}

Row = dict[str, str]


def latest(path: Path) -> list[Row]:
    """Returns the last row of each model, in the order in which the models came."""
    with path.open(newline="", encoding="utf-8") as stream:
        rows = {row["case"]: row for row in csv.DictReader(stream)}
    return list(rows.values())


def last_exit(row: Row) -> str:
    """Returns how the row's last run ended."""
    return row["allowed_exit"] or row["exit"]


def agrees(row: Row) -> bool:
    """Returns whether a flatbuffer came out that answers as the network does, and as its twin does."""
    try:
        figures = float(row["agreement"]), float(row["twin"])
    except ValueError:
        return False
    return last_exit(row) == "0" and figures[0] >= AGREES and figures[1] >= TWIN_AGREES


def amplifies(row: Row) -> bool:
    """Returns whether rounding the input alone, in float32, changes the answers more than an agreeing file may."""
    return not agrees(row) and bool(row.get("input_alone")) and float(row["input_alone"]) < AGREES


def was_run(row: Row) -> bool:
    """Returns whether the product was run at all."""
    return row["exit"] not in ("left out", "not built")


def summary(rows: Iterable[Row]) -> str:
    """Returns the counts of every group as a table."""
    lines = [
        "| group | run | agree | of these all INT8 | float32 allowed | refused | failed | amplify | other |",
        "|" + " --- |" * 9,
    ]
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(row["group"], []).append(row)
    for group, its in groups.items():
        run = [row for row in its if was_run(row)]
        good = [row for row in run if agrees(row)]
        refused = [row for row in run if last_exit(row) in ("2", "4")]
        failed = [row for row in run if last_exit(row) == "5"]
        loud = [row for row in run if amplifies(row) and row not in failed]
        counts = (
            len(run),
            len(good),
            sum(not row["not_int8"] for row in good),
            sum(bool(row["allowed_exit"]) for row in good),
            len(refused),
            len(failed),
            len(loud),
            len(run) - len(good) - len(refused) - len(failed) - len(loud),
        )
        lines.append(f"| {TITLES[group]} | " + " | ".join(str(count) for count in counts) + " |")
    return "\n".join(lines)


def line(row: Row) -> str:
    """Returns a row of the page."""
    said = row["exit"] + (f": {row['message']}" if row["message"] else "")
    if row["allowed_exit"]:
        said += f"; with float32 allowed {row['allowed_exit']}"
        said += f": {row['allowed_message']}" if row["allowed_message"] else ""
    name = row["case"].partition("/")[2]
    name = f"`{name}`" if row["group"] == "idioms" else name
    keys = ("not_int8", "agreement", "input_alone", "twin", "bytes", "latency", "seconds", COMMIT)
    figures = (row.get(key) or "" for key in keys)  # older rows lack columns
    cells = (name, row["params"], said, *figures)
    return "| " + " | ".join(cell.replace("|", "\\|").replace("<", "&lt;") for cell in cells) + " |"


def page(rows: list[Row]) -> str:
    """Returns what stands behind the mark: counts, then a table for each group."""
    parts = [MARK, summary(rows)]
    for group, title in TITLES.items():
        its = [row for row in rows if row["group"] == group]
        if its:
            parts.append(f"## {title}")
            heads = f"| {' | '.join(HEADS)} |\n|{' --- |' * len(HEADS)}\n"
            parts.append(heads + "\n".join(line(row) for row in its))
    return "\n\n".join(parts) + "\n"


def main() -> None:
    """Writes the page anew behind its mark."""
    before = PAGE.read_text(encoding="utf-8").partition(MARK)[0]
    PAGE.write_text(before + page(latest(RESULTS / "zoo.csv")), encoding="utf-8")
    print(PAGE)


if __name__ == "__main__":
    main()
