"""Rows that processes exchange beside what training exchanges: a connection of its own.

A thread that reads ahead of the training exchanges rows whenever it has some, in another order than
the training's exchanges, so it needs another group of processes. It is one of gloo on every device:
rows come from disk into main memory, and NCCL does not serve two threads at a time.
"""

import threading
import time
from collections.abc import Sequence
from typing import Any, Protocol

import torch
import torch.distributed
from torch import Tensor

from sparc.train.distributed.processes import (
    TIMEOUT,
    Processes,
    all_gather,
    naming_lost_ones,
)

_POLL = 0.0005
"""Seconds between two looks at an exchange: once a block of rows, this costs nothing."""


class AbandonedError(Exception):
    """An exchange was given up, since this process reads no further."""


class Exchange(Protocol):
    """What one thread of this process exchanges with the same thread of the others.

    All of them must make the same calls in the same order.
    """

    @property
    def rank(self) -> int:
        """Which process this is."""
        ...

    @property
    def world(self) -> int:
        """How many there are."""
        ...

    def gather(self, mine: Tensor, out: Tensor | None = None) -> Tensor:
        """Give every process's rows to every process.

        Args:
            mine: (rows, …), of one shape in all processes, contiguous, in main memory.
            out: Where to put them, if not in new memory: (world * rows, …), contiguous.

        Returns:
            `out`: the rows of process 0, of process 1 and so on.

        Raises:
            AbandonedError: The exchange was abandoned here.
            LostProcessError: Another process cannot be reached.
        """
        ...

    def trade(self, given: Tensor, out: Tensor, *, to: Sequence[int], of: Sequence[int]) -> None:
        """Give every process rows of its own. Raises as `gather` does.

        Args:
            given: (rows, …), contiguous, in main memory: those for process 0, for process 1 …
            out: Likewise, where the rows of process 0 go, of process 1 and so on.
            to: How many of `given` each process gets.
            of: How many of `out` come from each process.
        """
        ...

    def abandon(self) -> None:
        """Give up what is under way and all that follows; called from any thread."""
        ...


class GlooExchange:
    """An exchange over a group of its own. All processes make theirs in the same order."""

    def __init__(self, rank: int, world: int) -> None:
        self.rank, self.world = rank, world
        group = torch.distributed.new_group(backend="gloo", timeout=TIMEOUT)
        assert isinstance(group, torch.distributed.ProcessGroup)  # all processes are members
        self._group = group
        self._abandoned = threading.Event()

    def gather(self, mine: Tensor, out: Tensor | None = None) -> Tensor:
        """See `Exchange.gather`."""
        if out is None:
            out = mine.new_empty(self.world * len(mine), *mine.shape[1:])
        with naming_lost_ones():
            self._finish(
                all_gather(_as_bytes(out), _as_bytes(mine), group=self._group, async_op=True)
            )
        return out

    def trade(self, given: Tensor, out: Tensor, *, to: Sequence[int], of: Sequence[int]) -> None:
        """See `Exchange.trade`."""
        with naming_lost_ones():
            self._finish(
                torch.distributed.all_to_all_single(
                    _as_bytes(out),
                    _as_bytes(given),
                    output_split_sizes=list(of),
                    input_split_sizes=list(to),
                    group=self._group,
                    async_op=True,
                )
            )

    def abandon(self) -> None:
        """See `Exchange.abandon`."""
        self._abandoned.set()

    def _finish(self, work: Any) -> None:
        """Wait for the others, who may be hours behind: the first process validates alone."""
        while not work.is_completed():
            if self._abandoned.is_set():
                raise AbandonedError
            time.sleep(_POLL)
        work.wait()


def exchange_among(group: Processes) -> Exchange | None:
    """A new exchange, which all processes have to ask for at the same time; None for one."""
    return GlooExchange(group.rank, group.world) if group.world > 1 else None


def _as_bytes(rows: Tensor) -> Tensor:
    """The same memory, (rows, bytes of a row): gloo knows few types."""
    return rows.view(len(rows), -1).view(torch.uint8)
