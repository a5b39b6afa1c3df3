"""`python -m edgecompress`: the program, where its script is not on the path. The one module that imports the CLI."""

from __future__ import annotations

import sys

from edgecompress_cli.main import main

if __name__ == "__main__":
    sys.exit(main())
