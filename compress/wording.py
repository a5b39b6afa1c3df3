"""Counts in sentences."""

from __future__ import annotations


def counted(count: float, noun: str, plural: str = "") -> str:
    """Returns a count with its noun, thousands separated: `1 epoch`, `0 epochs`, `1,797 samples`.

    Args:
        count: How many.
        noun: For one.
        plural: For all other counts; default: the noun with an s.
    """
    return f"{count:,} {noun if count == 1 else plural or f'{noun}s'}"


def verb(count: float, one: str, many: str) -> str:
    """Returns the form of a verb that goes with a count: `is` or `are`."""
    return one if count == 1 else many
