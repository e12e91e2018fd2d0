"""Measuring where the time of threads goes, by saying what they do.

A thread is in one phase at any moment, so what is measured adds up to all of its time. A change of
phase takes less than a microsecond: use it around batches, images and chunks, not around rows.
"""

import threading
import time
from contextlib import AbstractContextManager, nullcontext
from types import TracebackType

from sparc.common.timing.phases import Phase, Role
from sparc.common.timing.shares import Shares

_running_here = threading.local()
"""In each thread, `watches`: the stopwatches that were started in it, the last one last."""


def during(phase: Phase) -> AbstractContextManager[None]:
    """Context in which the calling thread is in a phase, by the stopwatch that was started in it.

    For code that is called from threads of many kinds, such as exchanges between processes. Where
    no stopwatch was started, nothing is measured.
    """
    watches: list[Stopwatch] = getattr(_running_here, "watches", [])
    return watches[-1].at(phase) if watches else nullcontext()


class Stopwatch:
    """Where the time of the threads of one role goes; may be used and read in any thread.

    Args:
        role: What the threads are there for.
        worker: Whose they are; see `Shares`.
        rest: What a thread is doing when nothing is said: `IDLE` for those that help others.
    """

    def __init__(self, role: Role, worker: str = "", *, rest: Phase = Phase.OTHER) -> None:
        self._role, self._worker, self._rest = role, worker, rest
        self._lock = threading.Lock()
        self._running: list[_Thread] = []
        self._ended: dict[Phase, float] = {}
        self._most_threads = 0
        self._rows = 0
        self._local = threading.local()
        self._contexts = {phase: _At(self, phase) for phase in Phase}

    def at(self, phase: Phase) -> AbstractContextManager[None]:
        """Context in which the calling thread is in a phase; then it is in the former one again.

        Contexts may be nested: time in the inner one does not count for the outer one. Time outside
        of all of them counts, as `rest`, only where the thread has been started.
        """
        return self._contexts[phase]

    def start(self) -> None:
        """From now on the time of the calling thread counts."""
        self._enter(self._rest)
        _running_here.watches = [*getattr(_running_here, "watches", []), self]

    def stop(self) -> None:
        """The time of the calling thread counts no more, until it starts again."""
        _running_here.watches.remove(self)
        self._leave()

    def running(self) -> AbstractContextManager[None]:
        """Context in which the time of the calling thread counts."""
        return _Running(self)

    def add_rows(self, rows: int) -> None:
        """Count rows that are finished."""
        with self._lock:
            self._rows += rows

    def shares(self) -> Shares:
        """What was measured so far, phases that are not over included."""
        with self._lock:
            seconds, rows = dict(self._ended), self._rows
            for thread in self._running:
                for phase, spent in thread.look().items():
                    seconds[phase] = seconds.get(phase, 0.0) + spent
            return Shares(self._role, self._worker, self._most_threads, rows, seconds)

    def _enter(self, phase: Phase) -> None:
        try:
            self._local.thread.enter(phase)
        except AttributeError:
            self._local.thread = _Thread(phase)
            with self._lock:
                self._running.append(self._local.thread)
                self._most_threads = max(self._most_threads, len(self._running))

    def _leave(self) -> None:
        thread: _Thread = self._local.thread
        if thread.leave():
            return
        del self._local.thread
        with self._lock:
            self._running.remove(thread)
            for phase, seconds in thread.look().items():
                self._ended[phase] = self._ended.get(phase, 0.0) + seconds


class _Thread:
    """The phases of one thread, which enters and leaves them, and into which others may look."""

    __slots__ = ("_lock", "_phases", "_seconds", "_since")

    def __init__(self, phase: Phase) -> None:
        self._lock = threading.Lock()
        self._phases = [phase]
        self._seconds: dict[Phase, float] = {}
        self._since = time.perf_counter()

    def enter(self, phase: Phase) -> None:
        with self._lock:
            self._close()
            self._phases.append(phase)

    def leave(self) -> bool:
        """Leave the phase; returns whether there is one around it, in which the thread is now."""
        with self._lock:
            self._close()
            self._phases.pop()
            return bool(self._phases)

    def look(self) -> dict[Phase, float]:
        """Seconds by phase until now."""
        with self._lock:
            if self._phases:
                self._close()
            return dict(self._seconds)

    def _close(self) -> None:
        """Count the time since the last change for the phase that the thread is in."""
        now, phase = time.perf_counter(), self._phases[-1]
        self._seconds[phase] = self._seconds.get(phase, 0.0) + now - self._since
        self._since = now


class _At:
    """A phase as a context; one serves all threads, nested or not."""

    __slots__ = ("_phase", "_stopwatch")

    def __init__(self, stopwatch: Stopwatch, phase: Phase) -> None:
        self._stopwatch, self._phase = stopwatch, phase

    def __enter__(self) -> None:
        self._stopwatch._enter(self._phase)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stopwatch._leave()


class _Running:
    """A thread's time as a context."""

    def __init__(self, stopwatch: Stopwatch) -> None:
        self._stopwatch = stopwatch

    def __enter__(self) -> None:
        self._stopwatch.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stopwatch.stop()
