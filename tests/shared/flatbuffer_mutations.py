"""Flatbuffers that are cut, flipped, overwritten and spliced; a seed names each."""

from __future__ import annotations

import random
from collections.abc import Callable

#: Counts and offsets that lead nowhere.
WORDS = (0, 1, 0xFF, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0xFFFFFFF0)


def mutated(content: bytes, seed: int) -> bytes:
    """Returns a damaged copy of a flatbuffer."""
    rng = random.Random(seed)  # noqa: S311 - damage, not a secret
    damaged = rng.choice(CHANGES)(bytearray(content), rng)
    return bytes(damaged)


def _flip(content: bytearray, rng: random.Random) -> bytearray:
    for _ in range(rng.choice([1, 1, 2, 8, 64])):
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    return content


def _cut(content: bytearray, rng: random.Random) -> bytearray:
    return content[: rng.randrange(len(content))]


def _word(content: bytearray, rng: random.Random) -> bytearray:
    for _ in range(rng.choice([1, 1, 3])):
        place = rng.randrange(len(content) // 4) * 4
        content[place : place + 4] = rng.choice(WORDS).to_bytes(4, "little")
    return content


def _nudge(content: bytearray, rng: random.Random) -> bytearray:
    """Changes small whole numbers, as shapes, strides, types and indexes are, by a little."""
    small = [
        place for place in range(0, len(content) - 3, 4) if int.from_bytes(content[place : place + 4], "little") < 64
    ]
    for place in rng.sample(small, min(len(small), rng.choice([1, 2, 4]))):
        content[place] = (content[place] + rng.choice([-2, -1, 1, 2, 100])) % 256
    return content


def _byte(content: bytearray, rng: random.Random) -> bytearray:
    content[rng.randrange(len(content))] = rng.randrange(256)
    return content


def _move(content: bytearray, rng: random.Random) -> bytearray:
    size = rng.choice([4, 16, 64, 256])
    first, second = rng.randrange(len(content)), rng.randrange(len(content))
    content[second : second + size] = content[first : first + size]
    return content


def _grow(content: bytearray, rng: random.Random) -> bytearray:
    place = rng.randrange(len(content))
    return content[:place] + bytearray(rng.randbytes(rng.choice([1, 4, 1000]))) + content[place:]


CHANGES: tuple[Callable[[bytearray, random.Random], bytearray], ...] = (
    _flip, _flip, _cut, _word, _word, _nudge, _nudge, _nudge, _byte, _move, _grow,
)  # fmt: skip
