"""Downloads by torchvision, which knows the mirrors and checks what it got."""

from __future__ import annotations

import contextlib
import io
import sys
from pathlib import Path

from edgecompress.errors import DataError


def download(name: str, root: Path) -> None:
    """Leaves torchvision's data set `name` (a class of torchvision.datasets) in `root`, in torchvision's layout.

    Raises:
        DataError: It could not be fetched, was damaged on the way, or could not be written.
    """
    from edgecompress.sources.torchvision_import import import_torchvision

    import_torchvision()
    from torchvision import datasets

    # Nothing may reach stdout, which can be one JSON document; and progress bars are for terminals.
    progress = sys.stderr if sys.stderr.isatty() else io.StringIO()
    try:
        with contextlib.redirect_stdout(progress), contextlib.redirect_stderr(progress):
            getattr(datasets, name)(root=str(root), download=True)
    except (OSError, RuntimeError, EOFError, ValueError) as error:  # no network is an OSError, a wrong md5 RuntimeError
        why = " ".join(str(error).split()).rstrip(".")
        raise DataError(
            f"{name} could not be downloaded to {root}: {why}. Fetch it where there is a network, and name its "
            f"folder in data.path."
        ) from error
