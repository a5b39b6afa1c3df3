"""Every error a user can cause or meet, each with the exit code the command line answers with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum


class ExitCode(IntEnum):
    """What the process returns; shell scripts and Makefiles depend on these numbers."""

    DONE = 0
    INTERNAL = 1
    RECIPE = 2
    BUDGET = 3
    RESOURCE = 4
    VERIFICATION = 5
    INTERRUPTED = 130


class EdgecompressError(Exception):
    """A failure with a clear cause: the message says what, where and how to mend it."""

    exit_code: ExitCode = ExitCode.INTERNAL

    def __init__(self, message: str = "", details: Sequence[str] = ()) -> None:
        """Takes the message, and what is listed below it, a line each."""
        super().__init__("\n".join([message, *details]))
        # Apart, because names from outside may have line breaks, which make no lines when they are shown.
        self.message, self.details = message, tuple(details)


@dataclass(frozen=True)
class Problem:
    """One thing wrong with a recipe.

    Attributes:
        message: What is wrong and what was expected.
        key: The dotted path of the key, "" for the whole file.
        file: The file's name as the user gave it, or "--set" for an override.
        line: 1-based line in that file, 0 where there is none.
        hint: How to mend it, "" where nothing useful can be said.
    """

    message: str
    key: str = ""
    file: str = ""
    line: int = 0
    hint: str = ""

    def __str__(self) -> str:
        where = self.file + (f":{self.line}" if self.line else "")
        head = f"{where}: " if where else ""
        key = f"{self.key}: " if self.key else ""
        hint = f" ({self.hint})" if self.hint else ""
        return f"{head}{key}{self.message}{hint}"


class UsageError(EdgecompressError):
    """The command line cannot be carried out as it was written."""

    exit_code = ExitCode.RECIPE


class RecipeError(EdgecompressError):
    """A recipe that cannot be used, with every problem found in it."""

    exit_code = ExitCode.RECIPE

    def __init__(self, problems: list[Problem]) -> None:
        """Takes the problems in the order they are shown."""
        self.problems = problems
        super().__init__("\n".join(str(problem) for problem in problems))


class ResourceError(EdgecompressError):
    """Data, a model or the file system could not be used."""

    exit_code = ExitCode.RESOURCE


class DataError(ResourceError):
    """The data could not be found, read or used."""


class ModelError(ResourceError):
    """The model could not be built, loaded, pruned or converted."""


class ResultError(ModelError):
    """A finished step of the store does not hold what such a step leaves: it has to be made again.

    Attributes:
        steps: Stage and fingerprint of the steps that it may be.
    """

    def __init__(self, message: str, *steps: tuple[str, str]) -> None:
        """Takes what is wrong, and the steps."""
        self.steps = steps
        super().__init__(message)


class DivergedError(ModelError):
    """A training's loss, gradients or weights are no finite numbers any more."""


class StaleInputError(ModelError):
    """What a finished stage was made from came out with other bytes when it had to be made again."""


class VerificationError(EdgecompressError):
    """The flatbuffer does not compute what it should, or holds what it should not."""

    exit_code = ExitCode.VERIFICATION
