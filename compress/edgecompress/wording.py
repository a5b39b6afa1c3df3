"""Counts in sentences, and text from outside as it can be shown."""

from __future__ import annotations

import math
import re

#: Digits of a floating-point number.
MOST_DIGITS = 17
#: What a terminal obeys or what turns the order of letters round: control characters but for line breaks and tabs, the
#: marks of right-to-left writing that lay over others, halves of letters.
COMMANDS = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]|\r(?!\n)")

#: What ends a line for any reader, beside the control characters: Python's `splitlines` knows Unicode's too.
BREAKS = re.compile(r"[\r\n\x85\u2028\u2029]")


def printable(text: str) -> str:
    r"""Returns text that no terminal and no page takes for a command: the sequence for red reads `\x1b[31m` then.

    Names of classes, layers and files come from strangers; a terminal that shows them raw lets them clear the screen,
    change its title or hide a line.
    """
    return COMMANDS.sub(lambda found: ascii(found[0])[1:-1], text)


def one_line(text: str) -> str:
    r"""Returns text that is one line wherever it is shown or read: a line break in it reads `\n` then.

    Names and messages from outside could otherwise put lines of their own into a log, or onto a screen.
    """
    return printable(BREAKS.sub(lambda found: ascii(found[0])[1:-1], text))


def counted(count: float, noun: str, plural: str = "") -> str:
    """Returns a count with its noun, thousands separated: `1 epoch`, `0 epochs`, `1,797 samples`.

    Args:
        count: How many.
        noun: For one.
        plural: For all other counts; default: the noun with an s.
    """
    return f"{count:,} {noun if count == 1 else plural or f'{noun}s'}"


def in_digits(value: float, spread: float, digits: int) -> str:
    """Returns a number of some digits: as many more as a spread that is small beside it needs to be seen.

    Args:
        value: The number.
        spread: How far apart numbers like it lie.
        digits: How many it has at least.
    """
    small = 0 < spread < abs(value)
    more = math.ceil(math.log10(abs(value) / spread)) if small else 0
    return f"{value:.{min(digits + more, MOST_DIGITS)}g}"


def verb(count: float, one: str, many: str) -> str:
    """Returns the form of a verb that goes with a count: `is` or `are`."""
    return one if count == 1 else many
