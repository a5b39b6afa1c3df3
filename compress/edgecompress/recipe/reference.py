"""The recipe's reference, made from the models: a Markdown page for readers and a JSON Schema for editors."""

from __future__ import annotations

import copy
import json
from typing import Any

from pydantic.fields import FieldInfo

from edgecompress.recipe.fields import accepts_null, block_of, blocks, choices, default_of, keys_of, type_words
from edgecompress.recipe.schema import MODELS, SOURCES, Block, Recipe, Trains

PYTHON_NAME = "^python:[A-Za-z_][A-Za-z0-9_.]*:[A-Za-z_][A-Za-z0-9_]*$"
#: Keys that take a name from a table, or a prefixed one: definition -> key -> (names, patterns).
NAMES: dict[str, dict[str, tuple[tuple[str, ...], tuple[str, ...]]]] = {
    "DataSpec": {"source": (SOURCES, (PYTHON_NAME,))},
    "ModelSpec": {"model": (MODELS, ("^torchvision/.+", "^timm/.+", "^keras/.+", "^hf/.+", PYTHON_NAME))},
}

INTRODUCTION = """\
# Recipe reference

A recipe is one YAML file: plain keys and values, no code. Only `version` and a `teacher` or a `student` are required;
every other key has a default. A block that is left out is skipped: without `distill` the student is trained on the
labels (or loaded), without `prune` it stays dense, without `quantize` it stays float32, and without `student` the
teacher itself is compressed.

Relative paths start from the recipe's folder. Unknown keys, wrong types, values out of range and combinations that
cannot work are reported all at once, each with its line, by `edgecompress validate`. Any key can be overridden on the
command line: `edgecompress run recipe.yaml --set prune.ratio=0.7`; `null` removes a block.

This page is made from the program: `edgecompress schema --markdown`. `edgecompress schema` prints the same as JSON
Schema, for editors.
"""

#: What follows the table of `train`.
OPEN = """\
What a recipe says holds; what stays `null` is chosen when the data and the network are known, and told in the log, in
`edgecompress plan --sizes` and in the report:

- `batch_size`: the largest power of two from 8 to 256 (32 for an `hf/` model) with which an epoch has 20 steps.
- `epochs`: 15 for a model, 20 with `distill`, 5 for pruning, 3 for QAT and for an `hf/` model, or as many as make 1,000
  steps (pruning: 400; QAT and `hf/`: 300), but no more than 200.
- `optimizer`: `sgd` where at least every other convolution or linear layer has a batch norm, `adamw` elsewhere; QAT
  takes `adam`, an `hf/` model `adamw`.
- `learning_rate`: for `sgd` 0.1 in batches of 256, with the root of the batch size down to 0.05 in batches of 64 or
  less, a fifth of it without batch norms; for `adam` and `adamw` 0.002. A model that starts from `weights`
  takes a tenth, pruning a fifth, QAT a twentieth; an `hf/` model 0.00005.

The `train` block at the top of a recipe sets these keys for all blocks; what a block says itself goes before.
"""


def reference_markdown() -> str:
    """Returns the reference as Markdown: a table of keys for each block, `train` (one type everywhere) at the end."""
    parts = [INTRODUCTION]
    trains: dict[str, type[Trains]] = {}
    for path, block in blocks().items():
        if path.split(".")[-1] == "train":
            continue
        title = f"`{path}`" if path else "Top level"
        about = _one_line(block.__doc__)
        parts.append(f"## {title}\n\n{about}\n\n{_table(path, block)}")
        if issubclass(block, Trains):
            trains[path] = block
    parts.append(_train_section(trains))
    return "\n".join(parts)


def json_schema() -> dict[str, Any]:
    """Returns the recipe's JSON Schema (draft 2020-12), with every default that a recipe's author would get."""
    schema = Recipe.model_json_schema()
    definitions = schema["$defs"]
    for key in ("base_dir", "locked"):  # the loader's
        schema["properties"].pop(key)
    for name, block in _blocks_by_definition().items():
        properties = definitions[name]["properties"]
        for key, field in keys_of(block).items():
            _complete(properties[key], field)
        for key, (names, patterns) in NAMES.get(name, {}).items():
            properties[key]["anyOf"] = [{"enum": list(names)}, *({"pattern": pattern} for pattern in patterns)]
        if issubclass(block, Trains):
            own = f"{name}Train"
            definitions[own] = copy.deepcopy(definitions["TrainSpec"])
            for key, value in block.filled_train({}).items():
                definitions[own]["properties"][key]["default"] = (
                    float(f"{value:g}") if isinstance(value, float) else value
                )
            properties["train"] = json.loads(json.dumps(properties["train"]).replace("/TrainSpec", f"/{own}"))
    for key, field in keys_of(Recipe).items():
        _complete(schema["properties"][key], field)
    schema["anyOf"] = [{"required": ["teacher"]}, {"required": ["student"]}]
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "edgecompress recipe"}


def _blocks_by_definition() -> dict[str, type[Block]]:
    return {block.__name__: block for path, block in blocks().items() if path}


def _complete(schema: dict[str, Any], field: FieldInfo) -> None:
    """Drops pydantic's generated titles and adds the default where pydantic leaves it out."""
    schema.pop("title", None)
    if field.default_factory is not None:
        schema["default"] = {}


def _table(path: str, block: type[Block]) -> str:
    lines = ["| key | type | default | meaning |", "| --- | --- | --- | --- |"]
    for key, field in keys_of(block).items():
        default = _default_words(path, key, field)
        lines.append(f"| `{key}` | {_type(path, key, field)} | {default} | {_cell(field.description)} |")
    return "\n".join(lines) + "\n"


def _type(path: str, key: str, field: FieldInfo) -> str:
    if block_of(field) is not None:
        place = "train" if key == "train" else f"{path}.{key}" if path else key
        return f"block, see [`{place}`](#{place})"
    words = type_words(field)
    if words.startswith("`") and choices(field):
        words = " \\| ".join(f"`{value}`" for value in choices(field))
    return words + (" \\| `null`" if accepts_null(field) else "")


def _default_words(path: str, key: str, field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    if block_of(field) is not None:
        return "left out" if accepts_null(field) and (key != "train" or not path) else "its defaults"
    value = default_of((*path.split("."), key) if path else (key,))
    return f"`{_yaml(value)}`" if value != "" else "the file's stem"


def _train_section(trains: dict[str, type[Trains]]) -> str:
    names = list(trains)
    lines = [
        "## `train`",
        "",
        "How a model is trained: one type wherever something learns, with defaults that suit the block it stands in.",
        "",
        f"| key | type | {' | '.join(f'in `{name}`' for name in names)} | meaning |",
        f"| --- | --- | {' | '.join('---' for _ in names)} | --- |",
    ]
    for key, field in keys_of(blocks()["teacher.train"]).items():
        defaults = " | ".join(f"`{_yaml(default_of((name, 'train', key)))}`" for name in names)
        lines.append(f"| `{key}` | {_type('', key, field)} | {defaults} | {_cell(field.description)} |")
    return "\n".join(lines) + "\n\n" + OPEN


def _yaml(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(str(item) for item in value)}]"
    return json.dumps(value).strip('"')


def _one_line(text: str | None) -> str:
    return " ".join((text or "").split())


def _cell(text: str | None) -> str:
    return _one_line(text).replace("|", "\\|")
