"""What a model raises while it runs, as an error that names the line: its code is mostly not the program's own."""

from __future__ import annotations

import contextlib
import inspect
import sysconfig
import traceback
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import FrameType

import torch
from torch import nn

from edgecompress.errors import EdgecompressError, ModelError
from edgecompress.sources.border import described

#: The program's own code, torch's and Python's: a line in there is not what went wrong.
_PROGRAM = Path(__file__).parents[1]
_BENEATH = (_PROGRAM, Path(torch.__file__).parent, Path(sysconfig.get_paths()["stdlib"]))
_INSTALLED = frozenset({"site-packages", "dist-packages"})


@contextlib.contextmanager
def blaming(model: nn.Module, where: str) -> Iterator[None]:
    """Turns whatever a model raises into an error that says where, unless all of the code is the program's own.

    Args:
        model: Whose code runs, forward or backward.
        where: What it is doing, said in the error: `distill, epoch 1, step 3`.

    Raises:
        ModelError: Code that the program did not write raised something.
    """
    try:
        yield
    except (MemoryError, EdgecompressError):
        raise
    except (Exception, SystemExit) as error:
        place = place_of(list(traceback.walk_tb(error.__traceback__))[2:], model)  # from the `with` block on
        if place is None:
            raise
        raise ModelError(f"the model failed ({where}): {described(error)} ({place})") from error


def place_of(calls: Iterable[tuple[FrameType, int]], model: nn.Module) -> str | None:
    """Returns `file:line` of the code that an error came from; None where all of it is the program's own.

    The last line of code that is neither installed nor beneath it counts, else the last one of a library; where only
    torch's own layers ran, or autograd, which knows no lines, the place where the model's class says what it computes.
    """
    places = [(frame.f_code.co_filename, line) for frame, line in calls]
    foreign = [place for place in places if not _is_beneath(place[0])]
    own = [place for place in foreign if not _INSTALLED & set(Path(place[0]).parts)]
    for found in (own, foreign):
        if found:
            return f"{found[-1][0]}:{found[-1][1]}"
    for module in model.modules():
        place = _place_of_class(type(module))
        if place is not None:
            return place
    return None if type(model).__module__.split(".")[0] == _PROGRAM.name else f"a {type(model).__name__}"


def _is_beneath(file: str) -> bool:
    if file.startswith("<"):  # made at run time, by torch.fx or dataclasses
        return True
    path = Path(file)
    installed = _INSTALLED & set(path.parts)
    return any(path.is_relative_to(root) for root in (_BENEATH[:2] if installed else _BENEATH))


def _place_of_class(kind: type[nn.Module]) -> str | None:
    """Returns where a class's forward begins, None for those of torch and of the program."""
    if kind.__module__.split(".")[0] in ("torch", _PROGRAM.name):
        return None
    try:
        return f"{inspect.getsourcefile(kind.forward)}:{inspect.getsourcelines(kind.forward)[1]}"
    except (OSError, TypeError, AttributeError):  # made where there is no source
        return None
