"""Where the time of a whole command went: as a block of lines to read, and as JSON."""

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sparc.common.text import amount, printable
from sparc.common.timing.phases import Phase, Role
from sparc.common.timing.shares import Shares, together

FORMAT = "sparc-timings"
VERSION = 1

MOST_LINES = 8
"""Workers of a role that have a line of their own."""

MOST_STEPS = 5
"""Steps that are named with their seconds."""

_WAITED_FOR = {
    Role.ENCODER: ("images", "the writer"),
    Role.TRAINER: ("rows", "the writer"),
    Role.CODER: ("features", "the writer"),
}
"""What threads of a role wait for where they are starved, and where they are blocked."""


@dataclasses.dataclass(frozen=True)
class Timings:
    """Where the time of a command went.

    Attributes:
        command: Which one, as `sparc-extract run`.
        seconds: By the clock on the wall.
        shares: By role and worker: who does the work first, then who helps.
        steps: Seconds by step, of a command that has such.
        advice: What bounds the job and what helps, a line; empty where no one thing does.
    """

    command: str
    seconds: float
    shares: tuple[Shares, ...]
    steps: Mapping[str, float] = dataclasses.field(default_factory=dict)
    advice: str = ""

    @property
    def rows(self) -> int:
        """Rows that were finished."""
        return sum(one.rows for one in self.shares)

    def lines(self) -> Iterator[str]:
        """For a person to read."""
        took = f"{self.seconds:,.1f} s"
        if self.rows and not self.steps:
            rate = self.rows / max(self.seconds, 1e-9)
            took = f"{amount(self.rows, 'row')} in {took}, {rate:,.1f} rows/s"
        yield f"time: {took}"
        by_role: dict[Role, list[Shares]] = {}
        for one in self.shares:
            by_role.setdefault(one.role, []).append(one)
        for of_role in by_role.values():
            for one in of_role[:MOST_LINES]:
                yield f"  {_who(one)}: {_speed(one)}{percentages(one)}"
            if others := of_role[MOST_LINES:]:
                rates = sorted(one.rows_per_second for one in others)
                speed = f", {rates[0]:,.1f} to {rates[-1]:,.1f} rows/s" if rates[-1] else ""
                yield f"  {amount(len(others), 'more ' + of_role[0].role)}{speed}"
        if self.steps:
            yield f"  steps: {', '.join(_longest(self.steps))}"
        if self.advice:
            yield f"  {self.advice}"

    def to_json(self) -> dict[str, Any]:
        """As JSON values; an object with `format` and `version`."""
        result: dict[str, Any] = {
            "format": FORMAT,
            "version": VERSION,
            "command": self.command,
            "seconds": round(self.seconds, 6),
            "rows": self.rows,
            "threads": [one.to_json() for one in self.shares],
        }
        if self.steps:
            result["steps"] = {name: round(seconds, 6) for name, seconds in self.steps.items()}
        return {**result, "advice": self.advice}


def longest_phase(shares: Sequence[Shares]) -> str:
    """In which phase those who do the work were most of the time, such as `encode 93%`."""
    work = together(shares, shares[0].role) if shares else None
    if work is None or not work.total:
        return ""
    phase = max(work.seconds, key=lambda phase: work.seconds[phase])
    return f"{in_words(work.role, phase)} {work.share(phase):.0%}"


def percentages(shares: Shares) -> str:
    """The phases of some threads in whole percent that add up to 100, the longest first."""
    parts = whole_percent({phase: shares.share(phase) for phase in Phase})
    ordered = sorted(parts.items(), key=lambda part: -part[1])
    return ", ".join(f"{in_words(shares.role, phase)} {percent}%" for phase, percent in ordered)


def in_words(role: Role, phase: Phase) -> str:
    """What a thread of a role does in a phase."""
    starved, blocked = _WAITED_FOR.get(role, ("work", "others"))
    words = {Phase.STARVED: f"waiting for {starved}", Phase.BLOCKED: f"waiting for {blocked}"}
    return words.get(phase, str(phase))


def whole_percent(shares: Mapping[Phase, float]) -> dict[Phase, int]:
    """Shares of 1 as whole percent that add up to 100; those of 0% are left out.

    The largest remainders are rounded up.
    """
    percent = {phase: math.floor(100 * share) for phase, share in shares.items()}
    if not any(shares.values()):
        return {}
    remainders = sorted(shares, key=lambda phase: percent[phase] - 100 * shares[phase])
    for phase in remainders[: 100 - sum(percent.values())]:
        percent[phase] += 1
    return {phase: value for phase, value in percent.items() if value}


def _who(shares: Shares) -> str:
    who = amount(shares.threads, shares.role) if shares.threads > 1 else str(shares.role)
    return f"{who} {printable(shares.worker)}" if shares.worker else who


def _speed(shares: Shares) -> str:
    return f"{shares.rows_per_second:,.1f} rows/s; " if shares.rows else ""


def _longest(steps: Mapping[str, float]) -> Iterator[str]:
    """The longest steps with their seconds, and the others together."""
    ordered = sorted(steps.items(), key=lambda step: -step[1])
    for name, seconds in ordered[:MOST_STEPS]:
        yield f"{printable(name)} {seconds:,.1f} s"
    if others := ordered[MOST_STEPS:]:
        yield f"{len(others)} others {sum(seconds for _, seconds in others):,.1f} s"
