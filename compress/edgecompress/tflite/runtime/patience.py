"""How long a process that runs an interpreter may take: silence is limited, so that slow models may go on."""

from __future__ import annotations

import time
from collections.abc import Callable

#: The first word (the file is loaded, or the only answer is there) has to come by then.
START_S = 60.0
#: The same for files that a run has made itself.
OWN_START_S = 600.0
#: Between two words. A file that works says something after each invoke, or at least once a second.
SILENCE_S = 60.0
#: All invokes together may take this long, however fast the first one was.
LEAST_TOTAL_S = 600.0
#: Machines get busy: what the first invoke took, this many times over, is no silence yet, and for all of them no hang.
TIMES_THE_FIRST = 20.0
#: At most this much of the time between two looks counts: the machine, or all of us, may have been asleep (Ctrl-Z).
LONGEST_LOOK_S = 2.0


class Patience:
    """Adds up how long a process has been silent, and how long it has taken; tells when that is too much."""

    def __init__(self, start_s: float = START_S, clock: Callable[[], float] = time.monotonic) -> None:
        """Begins to count.

        Args:
            start_s: What may pass before the first word.
            clock: Of seconds.
        """
        self._clock, self._seen = clock, clock()
        self._silent = self._taken = 0.0
        self._start_s, self._may_be_silent, self._may_take = start_s, start_s, float("inf")
        self._said: tuple[int, int] | None = None
        self._first_s: float | None = None

    def look(self) -> str:
        """Returns why the process has to be ended, "" while it may go on. To be called every second or so."""
        now = self._clock()
        passed = min(max(now - self._seen, 0.0), LONGEST_LOOK_S)
        self._seen = now
        self._silent += passed
        self._taken += passed
        if self._silent < self._may_be_silent and self._taken < self._may_take:
            return ""
        if self._said is None:
            return f"did not answer within {self._start_s:g} s and was ended"
        done, total = self._said
        if self._taken >= self._may_take and self._first_s is not None:
            return (
                f"had done {done:,} of {total:,} invokes after {self._taken:.0f} s, though the first one took "
                f"{self._first_s:.3g} s, and was ended"
            )
        return f"said nothing for {self._may_be_silent:.0f} s after {done:,} of {total:,} invokes and was ended"

    def heard(self, done: int, total: int) -> None:
        """Takes note of a word: so many of all invokes are done; 0 of them once the file is loaded."""
        self.look()
        if done > 0 and self._first_s is None:
            first = self._silent if self._said is not None else self._taken
            self._first_s = first / done
            self._may_be_silent = max(SILENCE_S, TIMES_THE_FIRST * self._first_s)
            self._may_take = self._taken + max(LEAST_TOTAL_S, TIMES_THE_FIRST * self._first_s * total)
        elif self._first_s is None:
            self._may_be_silent = SILENCE_S
        self._said, self._silent = (done, total), 0.0
