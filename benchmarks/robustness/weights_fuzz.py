"""Are damaged weights, Keras models, tokenizers and checkpoints told from whole ones? Some thousands, in one process.

    python -m benchmarks.robustness.weights_fuzz  # some minutes on one core; finished rows are skipped

Files of nine kinds are cut, flipped, overwritten and grown, within what is packed or hashed too (tests/shared/
weights_mutations.py; a seed names each), and read as a run reads them. A file is taken, or refused with an error of the
program's own, which is exit code 2 or 4; anything else would be exit code 1, or a panic of a native library. Rows go to
results/weights_fuzz.csv, 250 files to each. Seconds are those of the processor.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import tempfile
import time
import traceback
import warnings
from pathlib import Path

from benchmarks.table import RESULTS, Table
from edgecompress.errors import EdgecompressError, ExitCode
from tests.shared.weights_mutations import KINDS, written

COLUMNS = ("files", "taken", "exit_2", "exit_4", "other", "slowest_cpu_s", "slowest")
FILES, PER_ROW = 1000, 250
#: Kinds that take a process each, so that there are fewer of them.
FEWER = {"keras hdf5": 50, "keras archive": 50}


def outcome(kind: str, path: Path) -> int:
    """Returns the exit code that reading a file comes to."""
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            KINDS[kind][2](path)
    except KeyboardInterrupt:
        raise
    except MemoryError:
        return int(ExitCode.RESOURCE)
    except EdgecompressError as error:
        return int(error.exit_code)
    except BaseException:  # noqa: BLE001 - a panic is no exception
        traceback.print_exc()
        return int(ExitCode.INTERNAL)
    return int(ExitCode.DONE)


def main() -> None:
    """Runs what is missing and prints a summary."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--files", type=int, default=FILES, help="of each kind")
    options = parser.parse_args()
    table = Table(RESULTS / "weights_fuzz.csv", COLUMNS)
    for kind in sorted(KINDS, key=FEWER.__contains__):
        files = min(options.files, FEWER.get(kind, options.files))
        for first in range(0, files, PER_ROW):
            seeds = range(first, min(first + PER_ROW, files))
            case = f"{kind}, seeds {first} to {seeds[-1]}"
            if table.done(case, 0):
                continue
            codes: list[int] = []
            slowest, worst = 0.0, 0
            with tempfile.TemporaryDirectory() as folder:
                for seed in seeds:
                    path = written(kind, seed, Path(folder))
                    began = time.process_time()
                    codes.append(outcome(kind, path))
                    seconds = time.process_time() - began
                    if codes[-1] == ExitCode.INTERNAL:
                        print(f"{kind}, seed {seed}: exit code 1", flush=True)
                    slowest, worst = max((slowest, worst), (seconds, seed))
                left = [one.name for one in Path(folder).iterdir()]
                assert left == [KINDS[kind][0]], left  # nothing ran
            table.append(
                case, 0, files=len(codes), taken=codes.count(0), exit_2=codes.count(2), exit_4=codes.count(4),
                other=len(codes) - sum(codes.count(code) for code in (0, 2, 4)), slowest_cpu_s=round(slowest, 3),
                slowest=worst,
            )  # fmt: skip
            print(table.rows()[-1], flush=True)
    rows = table.rows()
    print({key: sum(int(row[key]) for row in rows) for key in COLUMNS[:-2]})
    print(f"the slowest took {max(float(row['slowest_cpu_s']) for row in rows)} s")


if __name__ == "__main__":
    main()
