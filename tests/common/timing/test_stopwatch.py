"""Stopwatches account for all of the time of their threads, and shares add up."""

import pickle
import threading
from collections.abc import Iterator
from contextlib import suppress

import pytest

from sparc.common.timing import stopwatch as module
from sparc.common.timing.phases import Phase, Role
from sparc.common.timing.shares import Shares, merged
from sparc.common.timing.stopwatch import Stopwatch, during


class Clock:
    """A clock that a test sets; all threads read the same time."""

    now = 0.0

    def perf_counter(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[Clock]:
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock


def test_every_second_belongs_to_the_innermost_phase(clock: Clock) -> None:
    watch = Stopwatch(Role.ENCODER, "cpu")
    with watch.running():
        clock.now += 1
        with watch.at(Phase.ENCODE):
            clock.now += 2
            with watch.at(Phase.STARVED), watch.at(Phase.STARVED):
                clock.now += 4
            with suppress(ZeroDivisionError), watch.at(Phase.WRITE):
                clock.now += 8
                _ = 1 // 0
            clock.now += 16
            assert watch.shares().seconds[Phase.ENCODE] == 18, "the phase is not over"
    clock.now += 1000  # nobody runs
    with watch.at(Phase.READ):  # a thread that has not started
        clock.now += 32
    clock.now += 1000
    watch.add_rows(126)
    shares = watch.shares()
    assert shares.seconds == {
        Phase.OTHER: 1,
        Phase.ENCODE: 18,
        Phase.STARVED: 4,
        Phase.WRITE: 8,
        Phase.READ: 32,
    }
    assert (shares.total, shares.elapsed, shares.rows_per_second) == (63, 63, 2)
    assert shares.share(Phase.ENCODE, Phase.STARVED) == pytest.approx(22 / 63)
    assert pickle.loads(pickle.dumps(shares)) == shares


def test_code_that_knows_no_stopwatch_uses_the_one_that_was_started_last(clock: Clock) -> None:
    outer, inner = Stopwatch(Role.TRAINER), Stopwatch(Role.MEASURER)
    with during(Phase.EXCHANGE):  # none
        clock.now += 1
    with outer.running():
        with inner.running(), during(Phase.EXCHANGE):
            clock.now += 2
        with during(Phase.EXCHANGE):
            clock.now += 4
    assert inner.shares().seconds[Phase.EXCHANGE] == 2
    assert outer.shares().seconds == {Phase.OTHER: 2, Phase.EXCHANGE: 4}


def test_threads_that_run_at_a_time_add_up_and_those_that_follow_one_another_are_one(
    clock: Clock,
) -> None:
    watch = Stopwatch(Role.LOADER, rest=Phase.IDLE)
    both, read = threading.Barrier(3), threading.Barrier(3)

    def work() -> None:
        watch.start()
        both.wait()
        with watch.at(Phase.READ):
            read.wait()
            both.wait()
        watch.stop()

    for _ in range(2):
        threads = [threading.Thread(target=work) for _ in range(2)]
        for thread in threads:
            thread.start()
        both.wait()
        clock.now += 3
        read.wait()
        clock.now += 5
        both.wait()
        for thread in threads:
            thread.join()
    shares = watch.shares()
    assert shares.threads == 2
    assert shares.total == pytest.approx(2 * 2 * 8)
    assert shares.elapsed == pytest.approx(16)
    assert shares.seconds[Phase.IDLE] + shares.seconds[Phase.READ] == pytest.approx(32)


def test_shares_of_a_worker_are_merged_and_what_happened_since_is_their_difference() -> None:
    first = Shares(Role.ENCODER, "a", 1, 10, {Phase.ENCODE: 1.0, Phase.STARVED: 3.0})
    second = Shares(Role.ENCODER, "a", 1, 5, {Phase.ENCODE: 2.0})
    other = Shares(Role.ENCODER, "b", 1, 7, {Phase.ENCODE: 2.0})
    both = Shares(Role.ENCODER, "a", 1, 15, {Phase.ENCODE: 3.0, Phase.STARVED: 3.0})
    assert merged([first, other, second]) == (both, other)
    assert both.since(first) == second
