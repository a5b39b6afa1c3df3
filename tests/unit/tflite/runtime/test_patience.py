"""How long an interpreter may be silent, by a clock that the tests move."""

from __future__ import annotations

import pytest

from edgecompress.tflite.runtime import patience
from edgecompress.tflite.runtime.patience import Patience


class Clock:
    """Seconds that pass when the test says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(autouse=True)
def limits(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"SILENCE_S": 60.0, "LEAST_TOTAL_S": 600.0}.items():
        monkeypatch.setattr(patience, name, value)


@pytest.fixture
def clock() -> Clock:
    return Clock()


def passing(clock: Clock, waiting: Patience, seconds: float) -> str:
    """Lets time pass as the watching thread sees it; returns why the process has to be ended."""
    end = clock.now + seconds
    while clock.now < end:
        clock.now = min(clock.now + 1.0, end)
        reason = waiting.look()
        if reason:
            return reason
    return ""


def test_without_a_word_it_ends_when_its_start_is_over(clock: Clock) -> None:
    waiting = Patience(10.0, clock)
    assert passing(clock, waiting, 9.0) == ""
    assert passing(clock, waiting, 2.0) == "did not answer within 10 s and was ended"
    assert clock.now == 10.0


def test_once_loaded_it_has_a_minute_for_each_word(clock: Clock) -> None:
    waiting = Patience(10.0, clock)
    waiting.heard(0, 5)
    assert passing(clock, waiting, 59.0) == ""
    waiting.heard(0, 5)
    assert passing(clock, waiting, 59.0) == ""
    assert passing(clock, waiting, 1.0) == "said nothing for 60 s after 0 of 5 invokes and was ended"


def test_a_fast_file_that_hangs_later_is_ended(clock: Clock) -> None:
    waiting = Patience(10.0, clock)
    waiting.heard(0, 1000)
    waiting.heard(1, 1000)
    passing(clock, waiting, 2.0)
    waiting.heard(400, 1000)
    assert passing(clock, waiting, 100.0) == "said nothing for 60 s after 400 of 1,000 invokes and was ended"
    assert clock.now == 62.0


def test_a_slow_file_may_be_slow(clock: Clock) -> None:
    """Eight seconds a sample, and on a machine that got busy ten times that."""
    waiting = Patience(60.0, clock)
    waiting.heard(0, 100)
    assert passing(clock, waiting, 8.0) == ""
    waiting.heard(1, 100)
    for done in range(2, 101):
        assert passing(clock, waiting, 80.0) == ""
        waiting.heard(done, 100)
    assert passing(clock, waiting, 161.0) == "said nothing for 160 s after 100 of 100 invokes and was ended"


def test_what_takes_absurdly_longer_than_its_first_is_ended_however_much_it_talks(clock: Clock) -> None:
    waiting = Patience(10.0, clock)
    waiting.heard(0, 10_000)
    passing(clock, waiting, 0.5)
    waiting.heard(1, 10_000)
    done, reason = 1, ""
    while not reason:
        reason = passing(clock, waiting, 55.0)
        done += 1
        waiting.heard(done, 10_000)
    allowed = 20 * 0.5 * 10_000
    assert allowed <= clock.now <= allowed + 60
    assert "of 10,000 invokes after 100000 s, though the first one took 0.5 s, and was ended" in reason


def test_a_few_fast_ones_have_ten_minutes_together(clock: Clock) -> None:
    waiting = Patience(10.0, clock)
    waiting.heard(0, 100)
    waiting.heard(1, 100)
    done = 1
    while not passing(clock, waiting, 50.0):
        done += 1
        waiting.heard(done, 100)
    assert clock.now == 600.0


def test_a_machine_that_slept_is_no_silence(clock: Clock) -> None:
    """Ctrl-Z and `fg`, or a closed lid: the clock has gone on and nobody has worked."""
    waiting = Patience(10.0, clock)
    waiting.heard(0, 5)
    clock.now += 36_000.0
    assert waiting.look() == ""
    assert passing(clock, waiting, 57.0) == ""
    assert passing(clock, waiting, 5.0)
