"""Where seconds went: what stopwatches show, added up and taken from one another."""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

from sparc.common.timing.phases import Phase, Role


@dataclasses.dataclass(frozen=True)
class Shares:
    """Where the time of the threads of one role went. Can be pickled, and is small.

    Attributes:
        role: What the threads are there for.
        worker: Whose they are: a device, a process or a machine; empty where there is but one.
        threads: How many ran at a time, at most.
        rows: Rows that they finished; 0 where they count none.
        seconds: By phase, added up over the threads; phases without time are left out.
    """

    role: Role
    worker: str
    threads: int
    rows: int
    seconds: Mapping[Phase, float]

    @property
    def total(self) -> float:
        """Seconds of all threads together."""
        return sum(self.seconds.values())

    @property
    def elapsed(self) -> float:
        """Seconds that a clock on the wall would show, if all threads ran all the time."""
        return self.total / max(self.threads, 1)

    @property
    def rows_per_second(self) -> float:
        """Rows of all threads together, by the clock on the wall."""
        return self.rows / self.elapsed if self.elapsed else 0.0

    def share(self, *phases: Phase) -> float:
        """The share of these phases in the time of the threads, from 0 to 1."""
        total = self.total
        return sum(self.seconds.get(phase, 0.0) for phase in phases) / total if total else 0.0

    def __add__(self, other: "Shares") -> "Shares":
        """Both times of the same worker, one after the other."""
        return dataclasses.replace(
            self,
            threads=max(self.threads, other.threads),
            rows=self.rows + other.rows,
            seconds=_nonzero(
                (phase, self.seconds.get(phase, 0.0) + other.seconds.get(phase, 0.0))
                for phase in Phase
            ),
        )

    def since(self, before: "Shares") -> "Shares":
        """What happened after an earlier look at the same stopwatch."""
        return dataclasses.replace(
            self,
            rows=self.rows - before.rows,
            seconds=_nonzero(
                (phase, self.seconds.get(phase, 0.0) - before.seconds.get(phase, 0.0))
                for phase in Phase
            ),
        )

    def of_worker(self, worker: str) -> "Shares":
        """The same under the name of a worker."""
        return dataclasses.replace(self, worker=worker)

    def to_json(self) -> dict[str, Any]:
        """As JSON values, seconds to the microsecond."""
        return {
            "role": str(self.role),
            "worker": self.worker,
            "threads": self.threads,
            "rows": self.rows,
            "seconds": {str(phase): round(seconds, 6) for phase, seconds in self.seconds.items()},
        }


def merged(shares: Iterable[Shares]) -> tuple[Shares, ...]:
    """One entry a role and worker, in the order in which they first come."""
    result: dict[tuple[Role, str], Shares] = {}
    for one in shares:
        key = one.role, one.worker
        result[key] = result[key] + one if key in result else one
    return tuple(result.values())


def together(shares: Iterable[Shares], role: Role) -> Shares | None:
    """All workers of a role that worked at the same time; None where there is none."""
    of_role = [one for one in shares if one.role == role]
    if not of_role:
        return None
    return Shares(
        role=role,
        worker="",
        threads=sum(one.threads for one in of_role),
        rows=sum(one.rows for one in of_role),
        seconds=_nonzero(
            (phase, sum(one.seconds.get(phase, 0.0) for one in of_role)) for phase in Phase
        ),
    )


def _nonzero(seconds: Iterable[tuple[Phase, float]]) -> dict[Phase, float]:
    return {phase: value for phase, value in seconds if value > 0}
