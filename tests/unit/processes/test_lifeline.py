"""Processes that end with their parent, by the system and by a pipe."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from edgecompress.processes.lifeline import ABANDONED
from tests.shared.processes import HUNG_S, require_child_to_end

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a child with its parent")


def test_a_process_whose_parent_has_gone_already_ends_at_once() -> None:
    program = "from edgecompress.processes.lifeline import end_with; end_with(1 << 22); print('goes on')"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, timeout=HUNG_S, check=False)
    assert (done.returncode, done.stdout) == (ABANDONED, b"")


def test_a_pipe_that_closes_ends_the_process() -> None:
    program = "import time; from edgecompress.processes import lifeline; lifeline.end_when_closed(0); time.sleep(3600)"
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        process.stdin.write(b"this is left aside")
        process.stdin.flush()
        process.stdin.close()
        assert process.wait(HUNG_S) == ABANDONED


@LINUX
def test_somebody_elses_module_ends_with_its_parent() -> None:
    module = ["-m", "edgecompress.processes.lifeline"]
    parent = f"""
import os, subprocess, sys, time
child = subprocess.Popen([sys.executable, *{module!r}, str(os.getpid()), "timeit", "-n", "1", "-r", "1",
                          "import os, time; os.write(1, b'here'); time.sleep(3600)"], stdout=subprocess.PIPE)
assert child.stdout.read(4) == b"here"
print(child.pid, flush=True)
time.sleep(3600)
"""
    with subprocess.Popen(
        [sys.executable, "-c", parent], stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        require_child_to_end(process)


def test_somebody_elses_module_gets_its_arguments() -> None:
    command = [sys.executable, "-m", "edgecompress.processes.lifeline", str(os.getpid()), "json.tool", "--compact"]
    done = subprocess.run(command, input=b'{"a": 1}', capture_output=True, timeout=HUNG_S, check=True)
    assert done.stdout.strip() == b'{"a":1}'
