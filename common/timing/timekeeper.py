"""Keeping the time of a command: what bounds it while it runs, and where its time has gone."""

import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from sparc.common.progress import say
from sparc.common.timing.file import append_timings
from sparc.common.timing.phases import Role
from sparc.common.timing.shares import Shares, merged
from sparc.common.timing.timings import Timings, longest_phase

SECONDS_BETWEEN_LOOKS = 2.0
"""How long the time is of which a progress bar shows the longest phase, at least."""

SECONDS_BETWEEN_LINES = 10.0
"""How often a line is appended to a file, at most."""

LONG = 10.0
"""A command that took at least that many seconds says where they went."""


class Timekeeper:
    """Keeps the time of a command, from when it is made; a context that ends with its work.

    An interruption says where the time went, too.

    Args:
        command: Which one, as `sparc-extract run`.
        shares: What the stopwatches show: those of who does the work first.
        advise: What bounds the job and what helps, a line; empty where no one thing does.
        file: Where timings are appended; None: nowhere.
    """

    def __init__(
        self,
        command: str,
        shares: Callable[[], Iterable[Shares]],
        advise: Callable[[Sequence[Shares]], str],
        file: Path | None,
    ) -> None:
        self._command, self._shares, self._advise, self._file = command, shares, advise, file
        self._began = self._looked = self._appended = time.monotonic()
        self._before: dict[tuple[Role, str], Shares] = {}
        self._steps: dict[str, float] = {}
        self._ended: Timings | None = None

    def add_step(self, name: str, seconds: float) -> None:
        """Count time for a step of the command, such as a table."""
        self._steps[name] = self._steps.get(name, 0.0) + seconds

    def show(self, bar: Any) -> None:
        """Set the text beside a progress bar: the longest phase since the last look.

        May be called often: it does something every two seconds.

        Args:
            bar: Of `sparc.common.progress.progress`.
        """
        self.record()
        now = time.monotonic()
        if now - self._looked < SECONDS_BETWEEN_LOOKS:
            return
        shares = {(one.role, one.worker): one for one in merged(self._shares())}
        recent = [
            one.since(self._before[key]) if key in self._before else one
            for key, one in shares.items()
        ]
        self._looked, self._before = now, shares
        bar.set_postfix_str(longest_phase(recent), refresh=False)

    def record(self) -> None:
        """Append a line to the file, if there is one and enough time has passed."""
        now = time.monotonic()
        if self._file is not None and now - self._appended >= SECONDS_BETWEEN_LINES:
            self._appended = now
            self._append(self.timings(), finished=False)

    def timings(self) -> Timings:
        """Where the time went so far."""
        shares = merged(self._shares())
        return Timings(
            command=self._command,
            seconds=time.monotonic() - self._began,
            shares=shares,
            steps=dict(self._steps),
            advice=self._advise(shares),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._ended = self.timings()
        self._append(self._ended, finished=error is None)
        if isinstance(error, KeyboardInterrupt):
            say_if_long(self._ended)

    @property
    def ended(self) -> Timings:
        """Where the time went, once the context has ended."""
        assert self._ended is not None
        return self._ended

    def _append(self, timings: Timings, *, finished: bool) -> None:
        if self._file is None:
            return
        try:
            append_timings(self._file, timings, finished=finished)
        except OSError as error:  # a night's work does not end for want of its timings
            say(f"note: {self._file} gets no further lines: {error.strerror}")
            self._file = None


def say_if_long(timings: Timings) -> None:
    """Say where the time of a command went, if it took long."""
    if timings.seconds >= LONG:
        for line in timings.lines():
            say(line)
