"""Stopping between two steps: what a signal asks of one process, all do after the same step."""

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import torch
import torch.distributed

from sparc.common.errors import Terminated
from sparc.train.distributed.processes import Processes, naming_lost_ones

_REASONS = (None, KeyboardInterrupt, Terminated)
"""What a process may say: that nothing asks it to stop, or what does."""

_ONE_REQUEST = 1.0
"""Seconds in which signals to one of several processes are the same request: Slurm signals
`torchrun` and its processes, and `torchrun` passes the signal on."""


class Stopping:
    """Whether a signal has asked to stop.

    Args:
        processes: The processes that stop together.
    """

    def __init__(self, processes: Processes) -> None:
        self._is_alone = processes.world == 1
        self._asked: type[KeyboardInterrupt] | None = None
        self._asked_at = 0.0
        self._under_way: tuple[Any, torch.Tensor] | None = None

    def ask(self, number: int, _frame: FrameType | None) -> None:
        """Handle a signal: the first one is heard after a step, a second one at once.

        Raises:
            KeyboardInterrupt: It is the second one.
        """
        reason = Terminated if number == signal.SIGTERM else KeyboardInterrupt
        now = time.monotonic()
        if self._asked is None:
            self._asked, self._asked_at = reason, now
        elif self._is_alone or now - self._asked_at > _ONE_REQUEST:
            raise reason

    def after_step(self) -> type[KeyboardInterrupt] | None:
        """What to raise now that a step has been made; all processes have to ask, after each step.

        Of several, all get the same answer. It is what they said after the step before: that was
        exchanged while this one was made, so nobody waits.

        Raises:
            LostProcessError: Another process cannot be reached.
        """
        if self._is_alone:
            return self._asked
        with naming_lost_ones():
            agreed = None
            if self._under_way is not None:
                work, said = self._under_way
                work.wait()
                agreed = _REASONS[int(said)]
            mine = torch.tensor(_REASONS.index(self._asked))
            maximum = torch.distributed.ReduceOp.MAX
            work = torch.distributed.all_reduce(mine, op=maximum, async_op=True)
            self._under_way = work, mine
        return agreed


@contextmanager
def stopping_on_signals(processes: Processes) -> Iterator[Stopping]:
    """Let Ctrl-C and SIGTERM wait for the end of a step, so that none is interrupted halfway.

    A second signal interrupts at once. Only the main thread can handle signals: another one leaves
    them as they are.
    """
    stopping = Stopping(processes)
    if threading.current_thread() is not threading.main_thread():
        yield stopping
        return
    signals = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, stopping.ask) for number in signals]
    try:
        yield stopping
    finally:
        for number, handler in zip(signals, before, strict=True):
            signal.signal(number, handler)
