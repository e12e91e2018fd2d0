"""Batches that a thread picks ahead of the trainer, in a ring of buffers.

This module must not know where the rows live.
"""

import queue
import threading
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from sparc.common.timing.phases import Phase
from sparc.common.timing.stopwatch import Stopwatch

BATCHES_AHEAD = 4


class Batch(NamedTuple):
    """Rows of a batch, or the memory for them."""

    features: dict[str, Tensor]
    """By stream, (rows, dim); zeros in rows that lack the stream."""
    present: Tensor | None = None
    """Which streams each row has, in the order of the features, (rows, streams) bool. None if all
    rows of the cache that are read have all of them."""


class Buffers(NamedTuple):
    """Memory for a batch.

    Attributes:
        batch: The memory.
        copied: What must have happened before it may be written again.
    """

    batch: Batch
    copied: torch.cuda.Event | None


Pool = queue.SimpleQueue[Buffers | None]
"""Buffers that may be written; None ends the picking."""


class BatchesAhead:
    """A thread that picks batches into a ring of buffers.

    Args:
        pick: Picks batches into buffers of a pool, until the pool hands out None.
        new_buffers: Makes the tensors of one batch.
        device: Where batches are wanted.
        times: Where the time of the trainer goes.
        picking: Where that of the thread goes.
    """

    def __init__(
        self,
        pick: Callable[[Pool], Iterator[Batch]],
        new_buffers: Callable[[], Batch],
        device: torch.device,
        *,
        times: Stopwatch,
        picking: Stopwatch,
    ) -> None:
        self._device, self._times, self._picking = device, times, picking
        self._free: Pool = queue.SimpleQueue()
        self._full: queue.SimpleQueue[Batch | BaseException] = queue.SimpleQueue()
        self._in_use: Batch | None = None
        for _ in range(BATCHES_AHEAD + 1):
            self._free.put(Buffers(new_buffers(), None))
        self._batches = pick(self._free)
        self._thread = threading.Thread(target=self._run, name="sparc-reader", daemon=True)
        self._thread.start()

    def next_batch(self) -> Batch:
        """The next batch, float32; see `BatchReader.next_batch`."""
        if self._in_use is not None:
            self._free.put(Buffers(self._in_use, None))
            self._in_use = None
        with self._times.at(Phase.STARVED):
            batch = self._full.get()
        if isinstance(batch, BaseException):
            self._full.put(batch)  # for the next call
            raise batch
        if self._device.type == "cpu":
            self._in_use = batch
            return batch
        with self._times.at(Phase.TRANSFER):
            return self._sent(batch)

    def _sent(self, batch: Batch) -> Batch:
        """The batch on the device; on a GPU the copy is still under way."""
        sent = {name: t.to(self._device, non_blocking=True) for name, t in batch.features.items()}
        present = batch.present
        if present is not None:
            present = present.to(self._device, non_blocking=True)
        copied = None
        if self._device.type == "cuda":
            copied = torch.cuda.Event()  # type: ignore[no-untyped-call]
            copied.record(torch.cuda.current_stream(self._device))
        self._free.put(Buffers(batch, copied))
        return Batch({name: x.float() for name, x in sent.items()}, present)

    def close(self) -> None:
        """Stop the thread."""
        self._free.put(None)
        # Buffers that are still in the pool come out before the None: at most a few batches.
        self._thread.join()

    def _run(self) -> None:
        with self._picking.running():
            try:
                for batch in self._batches:
                    self._full.put(batch)
            except BaseException as error:
                self._full.put(error)
