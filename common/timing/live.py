"""What bounds a job while it runs: beside its progress bar, and in the file of timings."""

import time
from collections.abc import Callable, Sequence
from typing import Any

from sparc.common.timing.file import TimingsFile
from sparc.common.timing.shares import Shares
from sparc.common.timing.timings import Timings

SECONDS_BETWEEN_LOOKS = 2.0
"""How long the time is of which the bar shows the shares, at least."""

SECONDS_BETWEEN_LINES = 10.0
"""How often a line is appended to a file, at most."""

LONG = 10.0
"""A command that took at least that many seconds says where they went."""


class Live:
    """Looks at the stopwatches of a job from time to time.

    Args:
        timings: Where the time went so far.
        recent: In a few words, what bounds the job, of the shares of the last seconds.
        file: Where timings are appended; None: nowhere.
    """

    def __init__(
        self,
        timings: Callable[[], Timings],
        recent: Callable[[Sequence[Shares]], str],
        file: TimingsFile | None = None,
    ) -> None:
        self._timings, self._recent, self._file = timings, recent, file
        self._looked = self._appended = time.monotonic()
        self._before: Sequence[Shares] = ()

    def show(self, bar: Any) -> None:
        """Set the text beside a progress bar, if enough time has passed.

        Args:
            bar: Of `sparc.common.progress.progress`.
        """
        now = time.monotonic()
        if now - self._looked < SECONDS_BETWEEN_LOOKS:
            return
        timings = self._timings()
        before = {(one.role, one.worker): one for one in self._before}
        recent = [
            one.since(before[key]) if (key := (one.role, one.worker)) in before else one
            for one in timings.shares
        ]
        self._looked, self._before = now, timings.shares
        bar.set_postfix_str(self._recent(recent), refresh=False)
        if self._file is not None and now - self._appended >= SECONDS_BETWEEN_LINES:
            self._appended = now
            self._file.append(timings, finished=False)

    def end(self) -> Timings:
        """Where all of the time went; appended to the file."""
        timings = self._timings()
        if self._file is not None:
            self._file.append(timings, finished=True)
        return timings
