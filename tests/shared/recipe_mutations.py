"""Recipes that are nearly right, quite wrong or hostile, made from the shipped ones; a seed names each."""

from __future__ import annotations

import functools
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from edgecompress.recipe.fields import blocks, keys_of

ROOT = Path(__file__).parents[2]
SHIPPED = sorted((ROOT / "recipes").glob("*.yaml"))
START = "version: 1\nstudent: {model: resnet8}\n"

#: Values that no key expects all of.
VALUES: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2**31, 2**63, 2**64, -(2**70), 0.0, 0.5, 1.0, 1e-3, 1e308, -1e-320,
    float("nan"), float("inf"), "", " ", "0", "1e-3", "yes", "null", "~", "~nobody/x", "a" * 5000, "\0", "\x1b[31m",
    "\ud800", "é", "日本", "../../etc/passwd", "/dev/zero", "python:os:system", "python:a:b:c", "keras/", "timm/",
    "torchvision/", "resnet9", "int8", [], [[]], [1, 2], ["crop", "crop"], {}, {"a": {"b": {"c": 1}}}, {"model": 1},
    {"epochs": -1}, b"\xff\x00",
)  # fmt: skip
#: Texts that mean something in YAML.
TOKENS = (
    "\t", "  ", "- ", "? ", ": ", "&a ", "*a", "<<: *a", "!!python/object:os.system", "!!binary ", "!x ", "%YAML 9.9\n",
    "---\n", "...\n", "|\n", ">-\n", "[", "]", "{", "}", '"', "'", "#", "\\", '"\\U99999999"', "\0", "\u2028", "\r",
    ",", "@", "`", "0x", "1_000", "12:30:45", "2001-01-01", ".nan", "-.inf", "1e999", "<<", "=", "\ufeff", "\x85",
)  # fmt: skip


def mutated(seed: int) -> bytes:
    """Returns the file of one seed: a shipped recipe, changed once or a few times."""
    rng = random.Random(seed)  # noqa: S311 - damage, not a secret
    text = rng.choice(SHIPPED).read_text(encoding="utf-8")
    if rng.random() < 0.4:
        text = _dumped(_with_changed_values(yaml.safe_load(text), rng), rng)
    for _ in range(rng.choice([0, 1, 1, 1, 2, 4])):
        text = rng.choice(TEXT_CHANGES)(text, rng)
    content = text.encode("utf-8", "surrogatepass")
    return rng.choice(BYTE_CHANGES)(content, rng) if rng.random() < 0.15 else content


def _with_changed_values(data: dict[str, Any], rng: random.Random) -> dict[str, Any]:
    """Returns a recipe with keys of the schema set to anything, removed, renamed or moved."""
    known = blocks()
    for _ in range(rng.choice([1, 1, 2, 3])):
        place = rng.choice(list(known))
        block: Any = data
        for part in filter(None, place.split(".")):
            if not isinstance(block.get(part), dict):
                block[part] = {}
            block = block[part]
        key = rng.choice(list(keys_of(known[place])) or ["x"])
        match rng.randrange(4):
            case 0 if block:
                block[key[:-1] or "k"] = block.pop(rng.choice(list(block)))
            case 1:
                block.pop(key, None)
            case 2:
                block[rng.choice(list(keys_of(known[rng.choice(list(known))])) or ["y"])] = rng.choice(VALUES)
            case _:
                block[key] = rng.choice(VALUES)
    return data


def _dumped(data: dict[str, Any], rng: random.Random) -> str:
    style = rng.choice([None, True, False])
    return yaml.safe_dump(data, default_flow_style=style, allow_unicode=rng.random() < 0.5, sort_keys=False)


def _drop_line(text: str, rng: random.Random) -> str:
    lines = text.splitlines(keepends=True) or [""]
    del lines[rng.randrange(len(lines))]
    return "".join(lines)


def _repeat_line(text: str, rng: random.Random) -> str:
    lines = text.splitlines(keepends=True) or [""]
    lines.insert(rng.randrange(len(lines) + 1), rng.choice(lines))
    return "".join(lines)


def _indent_line(text: str, rng: random.Random) -> str:
    lines = text.splitlines(keepends=True) or [""]
    place = rng.randrange(len(lines))
    lines[place] = (
        rng.choice([" ", "  ", "\t", "      "]) + lines[place] if rng.random() < 0.6 else lines[place].lstrip()
    )
    return "".join(lines)


def _insert_token(text: str, rng: random.Random) -> str:
    place = rng.randrange(len(text) + 1)
    return text[:place] + rng.choice(TOKENS) + text[place:]


def _misspell(text: str, rng: random.Random) -> str:
    place = rng.randrange(max(len(text) - 1, 1))
    change = rng.randrange(3)
    if change == 0:
        return text[:place] + text[place + 1 :]
    if change == 1:
        return text[:place] + text[place : place + 2][::-1] + text[place + 2 :]
    return text[:place] + chr(rng.choice([rng.randrange(32, 127), rng.randrange(1, 0x3000)])) + text[place + 1 :]


def _cut(text: str, rng: random.Random) -> str:
    return text[: rng.randrange(len(text) + 1)]


def _splice(text: str, rng: random.Random) -> str:
    other = rng.choice(SHIPPED).read_text(encoding="utf-8")
    return text[: rng.randrange(len(text) + 1)] + other[rng.randrange(len(other)) :]


def _replace_value(text: str, rng: random.Random) -> str:
    lines = text.splitlines(keepends=True) or [""]
    place = rng.randrange(len(lines))
    head, colon, _ = lines[place].partition(":")
    value = rng.choice([*TOKENS, *map(str, VALUES)])
    lines[place] = f"{head}{colon} {value}\n" if colon else lines[place]
    return "".join(lines)


def _anchor(text: str, rng: random.Random) -> str:
    return text.replace(": {", ": &a {", 1) + rng.choice(
        ["x: *a\n", "teacher: *a\n", "student: {<<: *a}\n", "<<: *a\n"]
    )


TEXT_CHANGES: tuple[Callable[[str, random.Random], str], ...] = (
    _drop_line, _repeat_line, _indent_line, _insert_token, _misspell, _cut, _splice, _replace_value, _anchor,
)  # fmt: skip


def _flip(content: bytes, rng: random.Random) -> bytes:
    damaged = bytearray(content or b" ")
    for _ in range(rng.choice([1, 3, 20])):
        damaged[rng.randrange(len(damaged))] ^= 1 << rng.randrange(8)
    return bytes(damaged)


def _encode_otherwise(content: bytes, rng: random.Random) -> bytes:
    text = content.decode("utf-8", "replace")
    return text.encode(rng.choice(["utf-16", "utf-16-le", "utf-32", "latin-1", "utf-8-sig", "utf-7"]), "replace")


def _other_lines(content: bytes, rng: random.Random) -> bytes:
    return content.replace(b"\n", rng.choice([b"\r\n", b"\r", b"\n\r", b"\x0b"]))


def _junk(content: bytes, rng: random.Random) -> bytes:
    return rng.randbytes(rng.choice([1, 100, 5000])) + content[: rng.randrange(len(content) + 1)]


BYTE_CHANGES: tuple[Callable[[bytes, random.Random], bytes], ...] = (_flip, _encode_otherwise, _other_lines, _junk)


def _laughs(levels: int, merge: bool = False) -> str:
    """Returns nine of nine of nine... of one small thing."""
    lines = ["a0: &a0 {k: lol}" if merge else "a0: &a0 [lol, lol, lol]"]
    for level in range(1, levels):
        inner = ", ".join([f"*a{level - 1}"] * 9)
        lines.append(f"a{level}: &a{level} {{<<: [{inner}]}}" if merge else f"a{level}: &a{level} [{inner}]")
    return "\n".join(lines) + "\n"


@functools.cache
def hostile() -> dict[str, bytes]:
    """Returns files made to take time or memory, or to run something, by name; each must end as one clear error."""
    texts = {
        "billion laughs": (START + _laughs(12)),
        "billion laughs by merging": (START + _laughs(12, merge=True)),
        "ten megabytes": (START + "#" * 10_000_000),
        "as large as may be, one text": (START + "name: " + "a" * 399_000),
        "as large as may be, comments": ("bad\n" + "#\n" * 199_000),
        "as large as may be, escapes": (START + 'name: "' + "\\x41" * 99_000 + '"'),
        "as large as may be, empty lines": ("bad" + "\n" * 399_000),
        "as large as may be, folded": (START + "name: >\n" + "  a\n" * 99_000),
        "as large as may be, quotes": (START + "name: '" + "''" * 199_000 + "'"),
        "thousands of unknown keys": (START + "".join(f"key{n}: 1\n" for n in range(4900))),
        "thousands of unknown keys in a block": (
            "version: 1\nstudent:\n  model: resnet8\n  train:\n" + "".join(f"    epoch{n}: 1\n" for n in range(4900))
        ),
        "thousands of double keys": (START + "x: 1\n" * 9000),
        "thousands of list items": (START + "quantize: {allow: [" + ", ".join(f"x{n}" for n in range(9900)) + "]}\n"),
        "thousands of numbers that are none": (START + "".join(f"k{n}: .nan\n" for n in range(4900))),
        "thousands of anchors": (START + "".join(f"x{n}: &a{n} 1\n" for n in range(4900))),
        "long keys": (START + "".join("k" * 500 + f"{n}: 1\n" for n in range(700))),
        "deep blocks": "".join(" " * n + "a:\n" for n in range(800)),
        "a long number": (START + "seed: " + "9" * 390_000),
        "a long version": ("%YAML 1." + "9" * 390_000 + "\n---\n" + START),
        "no letter": (START + 'name: "\\U99999999"'),
        "half a letter": (START + 'name: "\\uD800"'),
        "not a number": (START + "seed: .nan\n"),
        "infinity": (START + "threads: -.inf\n"),
        "a block that holds itself": (START + "x: &x {y: *x}\n"),
        "a block that merges itself": (START + "x: &x {<<: *x}\n"),
        "billion merges of nothing": (START + _laughs(12, merge=True).replace("{k: lol}", "{}")),
        "a Python object": (START + "name: !!python/object/apply:os.system [touch ran]\n"),
        "a Python module": (START + "name: !!python/module:os\n"),
    }
    return {name: text.encode() for name, text in texts.items()} | {
        "brackets": b"[" * 399_000,
        "braces": b"{" * 399_000,
        "lists in lists": b"- " * 199_000,
        "keys of keys": b"? " * 199_000,
        "UTF-16": START.encode("utf-16"),
        "UTF-16 without a mark": START.encode("utf-16-le"),
        "UTF-32": START.encode("utf-32"),
        "Latin-1": (START + "name: caf\xe9\n").encode("latin-1"),
        "binary": bytes(range(256)) * 1000,
        "zeros": bytes(100_000),
        "an ELF file": b"\x7fELF" + bytes(60) + b"\x01" * 1000,
        "a gzip file": b"\x1f\x8b\x08" + bytes(range(200)),
    }
