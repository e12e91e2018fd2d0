"""Where the time of an analysis goes: of codes and of tables, and what would help."""

import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from sparc.common.timing.phases import Phase, Role
from sparc.common.timing.shares import Shares, together
from sparc.common.timing.stopwatch import Stopwatch
from sparc.common.timing.timekeeper import Timekeeper

COMMAND = "sparc-analyze run"

WORK = Stopwatch(Role.MEASURER)
"""Of the threads of this process that measure parts, here or on a cluster's worker, where many
analyses may follow one another: look at it before and after."""

_MUCH = 0.5
"""The share of the time at least of what bounds an analysis."""


class AnalysisTimes:
    """Where the time of an analysis goes.

    Args:
        measurers: Where that of the threads has gone that measure parts of codes.
        file: Where timings are appended; None: nowhere.
    """

    def __init__(
        self, measurers: Callable[[], Iterable[Shares]] = tuple, file: Path | None = None
    ) -> None:
        self._measurers = measurers
        self.codes = Stopwatch(Role.CODER)
        """Of the thread that computes codes; its rows count once for each set of codes."""
        self.tables = Stopwatch(Role.ANALYZER)
        """Of the same thread before and after that."""
        self.reading = Stopwatch(Role.READER, rest=Phase.IDLE)
        """Of the thread that reads features ahead."""
        self.writing = Stopwatch(Role.WRITER, rest=Phase.IDLE)
        """Of the thread that writes codes."""
        self.keeper = Timekeeper(COMMAND, self.shares, advice, file)

    def shares(self) -> tuple[Shares, ...]:
        """What was measured; threads that have not run are left out."""
        watches = (self.codes, self.reading, self.writing, self.tables)
        looks = (*(watch.shares() for watch in watches), *self._measurers())
        return tuple(one for one in looks if one.total)

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Context in which tables are made; its time counts for a step of that name."""
        began = time.monotonic()
        with self.tables.at(Phase.MEASURE):
            yield
        self.keeper.add_step(name, time.monotonic() - began)


def advice(shares: Sequence[Shares]) -> str:
    """What bounds the analysis and what helps; empty where no one thing does."""
    coder, analyzer = together(shares, Role.CODER), together(shares, Role.ANALYZER)
    of_codes = coder.total if coder is not None else 0.0
    of_tables = analyzer.total if analyzer is not None else 0.0
    if coder is not None and of_codes > of_tables:
        return _of_codes(coder)
    measurers = together(shares, Role.MEASURER)
    if analyzer is None or measurers is None or analyzer.share(Phase.MEASURE) < _MUCH:
        return ""
    what = "reading for" if measurers.share(Phase.READ) >= _MUCH else "measuring"
    more = (
        "a cluster (--scheduler tcp://…) helps"
        if measurers.threads >= (os.cpu_count() or 1)
        else "more --workers or a cluster (--scheduler tcp://…) help"
    )
    return f"{what} tables is the bound: {more}"


def _of_codes(coder: Shares) -> str:
    """What bounds an analysis that mostly computes codes."""
    starved, blocked = coder.share(Phase.STARVED), coder.share(Phase.BLOCKED)
    if starved >= _MUCH:
        return (
            f"reading the cache is the bound: codes wait for it {starved:.0%} of the time; a "
            "faster disk helps"
        )
    if blocked >= _MUCH:
        return (
            f"writing the report is the bound: codes wait for it {blocked:.0%} of the time; a "
            "faster disk helps"
        )
    if coder.share(Phase.ENCODE) >= _MUCH:
        return "computing codes is the bound: a faster --device helps"
    return ""
