"""Makes pruning_nets.py importable: with --import-mode=importlib a test's folder is not on the path."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent))
