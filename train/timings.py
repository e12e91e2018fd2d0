"""Where the time of a training goes: between two lines of its log, in all, and what would help."""

from collections.abc import Sequence

import torch

from sparc.common.errors import setting
from sparc.common.timing.phases import Phase, Role
from sparc.common.timing.shares import Shares, merged, together
from sparc.common.timing.timings import longest_phase
from sparc.train.data.reader import BatchReader
from sparc.train.distributed.processes import Processes
from sparc.train.run.log import Line

COMMAND = "sparc-train run"

_MUCH = 0.25
"""The share of the time at least of what bounds a training beside its steps."""

_STEPS = 0.75
"""The share of the time at least of steps that bound it."""


class LoopTimes:
    """Where the time of the training loop goes, over all processes.

    Args:
        reader: Its stopwatch is the loop's.
        processes: All of them.
    """

    def __init__(self, reader: BatchReader, processes: Processes) -> None:
        self._reader, self._processes = reader, processes
        self._total: tuple[Shares, ...] = ()
        self.bound = ""
        """The longest phase between the last two lines, such as `step 97%`."""
        self._before: dict[Role, Shares] = {}
        self._before = {one.role: one for one in self._since()}

    def line(self, step: int) -> Line:
        """Figures since the last call; every process calls it at the same step.

        Args:
            step: Steps made so far.
        """
        own, *helpers = self._since()
        for one in (own, *helpers):
            before = self._before.get(one.role)
            self._before[one.role] = one if before is None else before + one
        shares = (*_of_all(own, self._processes), *helpers)
        self._total = merged((*self._total, *shares))
        self.bound = longest_phase(shares)
        first, rows = shares[0], sum(one.rows for one in shares)
        seconds = max(first.elapsed, 1e-9)
        return {
            "step": step,
            "seconds": round(seconds, 6),
            "rows_per_second": round(rows / seconds, 3),
            "waiting": round(first.share(Phase.STARVED), 6),
            "threads": [one.to_json() for one in shares],
        }

    def shares(self) -> tuple[Shares, ...]:
        """What was measured so far: of all processes up to the last line, then of this one."""
        return merged((*self._total, *self._since()))

    def _since(self) -> list[Shares]:
        """What was measured since the last line, first in the loop itself."""
        now = (self._reader.times.shares(), *self._reader.shares())
        return [
            one.since(self._before[one.role]) if one.role in self._before else one for one in now
        ]


def _of_all(own: Shares, processes: Processes) -> list[Shares]:
    """The shares of the trainers of all processes, in every process."""
    if processes.world == 1:
        return [own]
    figures = [own.rows, *(own.seconds.get(phase, 0.0) for phase in Phase)]
    sent = torch.tensor([figures], dtype=torch.float64, device=processes.device)
    return [
        Shares(
            own.role,
            f"process {rank}",
            own.threads,
            int(rows),
            {phase: value for phase, value in zip(Phase, seconds, strict=True) if value > 0},
        )
        for rank, (rows, *seconds) in enumerate(processes.gather(sent).tolist())
    ]


def advice(shares: Sequence[Shares]) -> str:
    """What bounds the training and what helps; empty where no one thing does."""
    trainers = together(shares, Role.TRAINER)
    if trainers is None:
        return ""
    beside = {
        phase: trainers.share(phase)
        for phase in (Phase.STARVED, Phase.EXCHANGE, Phase.VALIDATE, Phase.SAVE)
    }
    longest = max(beside, key=lambda phase: beside[phase])
    share = f"{beside[longest]:.0%} of the time"
    if beside[longest] < _MUCH:
        if trainers.share(Phase.STEP) < _STEPS:
            return ""
        return "the steps are the bound: a faster device or more processes (torchrun) help"
    if longest == Phase.STARVED:
        return _of_reading(share, together(shares, Role.PICKER))
    if longest == Phase.EXCHANGE:
        return (
            f"exchanges between processes take {share}: a larger {setting('--batch-size')} or "
            "fewer processes help; where one process exchanges less than the others, it is slower"
        )
    if longest == Phase.VALIDATE:
        return f"validation takes {share}: a smaller {setting('--validation')} cache helps"
    return f"checkpoints take {share}: a larger {setting('--checkpoint-every')} helps"


def _of_reading(share: str, picker: Shares | None) -> str:
    """What to do where steps wait for rows."""
    if picker is not None and picker.share(Phase.STARVED) > picker.share(Phase.PICK):
        memory = setting("--residency host", 'residency="host"')
        return (
            f"reading the cache is the bound: steps wait {share} for rows; a faster disk helps, or "
            f"{memory} where memory holds the rows"
        )
    device = setting("--residency device", 'residency="device"')
    return (
        f"picking rows is the bound: steps wait {share} for them; {device} helps where a GPU holds "
        "the rows"
    )
