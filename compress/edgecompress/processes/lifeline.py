"""Processes that end with the one that started them, whatever ends that one: nothing of ours goes on without us.

`python -m edgecompress.processes.lifeline PARENT MODULE ARGUMENTS...` runs somebody else's module that way.
"""

from __future__ import annotations

import ctypes
import os
import runpy
import signal
import sys
import threading

#: Of Linux's <sys/prctl.h>.
PR_SET_PDEATHSIG = 1
#: Exit code of a process that nobody waits for any more.
ABANDONED = 130


def end_with(parent: int) -> bool:
    """Lets the system end this process (SIGKILL) with the one that started it, and returns whether it will (Linux).

    To be called first thing. The system goes by the thread that made this process: it has to wait for its end.

    Args:
        parent: The process that started this one. Where it has gone already, this one ends here.
    """
    try:
        ends = bool(ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) == 0)
    except (AttributeError, OSError, TypeError):  # another system
        ends = False
    # Where it was gone before we asked. (On Windows a virtual environment's Python starts another one.)
    if os.name == "posix" and os.getppid() != parent:
        os._exit(ABANDONED)
    return ends


def end_when_closed(descriptor: int) -> None:
    """Ends this process as soon as nobody holds the other end of a pipe any more; returns at once.

    That is noticed by a thread, on every system; native code that never lets other threads work is not.

    Args:
        descriptor: The end that is read; whatever comes out of it is left aside.
    """

    def wait() -> None:
        try:
            while os.read(descriptor, 4096):
                pass
        except OSError:  # closed on this side: the process is ending by itself
            return
        os._exit(ABANDONED)

    threading.Thread(target=wait, name="lifeline", daemon=True).start()


if __name__ == "__main__":
    end_with(int(sys.argv[1]))
    sys.argv = sys.argv[2:]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
