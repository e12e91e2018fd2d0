"""Reading batches from an activation cache: whole chunks in, shuffled float32 batches out.

`BatchReader` cuts batches along a `RowOrder`. `residency` says where the rows live meanwhile:

- `device`: all rows in the memory of the training device, picked there.
- `host`: all rows in main memory; a thread picks batches ahead of the trainer.
- `stream`: two blocks in main memory, whatever the size of the cache: one that batches are picked
  from and one that two threads read chunks into.

Residency changes where rows live, never which rows a batch has. This module must not know what
the batches are for.
"""

import time
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from sparc.common.cache.reader import ActivationCache
from sparc.common.errors import ConfigError, setting
from sparc.train.config import Residency, RowChoice
from sparc.train.data.ahead import Batch, BatchesAhead, Pool
from sparc.train.data.order import Position, RowOrder
from sparc.train.data.residency import choose_residency
from sparc.train.data.rows import (
    Planned,
    ResidentRows,
    Rows,
    StreamedRows,
    block_bytes,
    bytes_of,
    count_rows,
)

SERIAL_VALUES = 32_000
"""The most values that torch converts on the calling thread alone (its grain is 32,768)."""


class BatchReader:
    """An endless sequence of shuffled batches, epoch after epoch.

    Use it as a context manager, or call `close`: it owns threads.

    Args:
        cache: A complete cache.
        streams: The streams to read, in the order of the cache.
        rows: `all` leaves out rows that are not valid in all the streams, `any` those that are
            valid in none.
        batch_size: Rows per batch, over all processes together.
        block_chunks: M, the chunks that are shuffled together.
        seed: Seed of the order of rows.
        residency: Where the rows live. `auto` chooses by their size.
        device: Where batches are wanted.
        rank: Which process this is.
        world: How many processes share every batch: each takes its own part of the rows.

    Raises:
        IncompleteCacheError: A chunk is missing.
        CacheError: No row is valid in all the streams; with `any`, none is in one of them.
        ConfigError: The processes cannot share a batch evenly.
    """

    def __init__(
        self,
        cache: ActivationCache,
        streams: tuple[str, ...],
        *,
        batch_size: int,
        block_chunks: int,
        seed: int,
        residency: Residency = "auto",
        device: torch.device | None = None,
        rows: RowChoice = "all",
        rank: int = 0,
        world: int = 1,
    ) -> None:
        cache.require_complete(streams)
        self.streams = streams
        self.device = device or torch.device("cpu")
        self.waited = 0.0
        """Seconds that the trainer has waited for batches so far."""
        self.counts = count_rows(cache, streams, rows)
        """How many rows there are, and which streams they have."""
        self.order = RowOrder(
            usable=self.counts.by_chunk,
            block_chunks=block_chunks,
            batch_size=batch_size,
            seed=seed,
        )
        if self.order.batch_rows % world:
            raise ConfigError(
                f"a batch of {self.order.batch_rows} rows cannot be shared by {world} processes: "
                f"choose {setting('--batch-size')} so that they divide it"
            )
        self._part = self.order.batch_rows // world
        self._rank = rank
        self.residency = choose_residency(
            residency, self.device, bytes_of(cache, streams, cache.info.rows)
        )
        self.block_bytes = block_bytes(cache, streams, block_chunks)
        """Memory of a block; `stream` keeps two."""
        self._rows: Rows
        if self.residency == "stream":
            self._rows = StreamedRows(cache, streams, rows, self.order)
        else:
            place = self.device if self.residency == "device" else torch.device("cpu")
            self._rows = ResidentRows(cache, streams, rows, place, quiet=rank > 0)
        self._dims = {name: cache.streams[name].dim for name in streams}
        self._dtypes = {name: getattr(torch, cache.streams[name].dtype) for name in streams}
        self._position = Position(0, 0)
        self._ahead: BatchesAhead | None = None
        self._direct: Iterator[Batch] | None = None

    def __enter__(self) -> "BatchReader":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def position(self) -> Position:
        """Which batch `next_batch` returns next."""
        return self._position

    def seek(self, position: Position) -> None:
        """Go to a batch: `next_batch` returns it next, whatever was read before."""
        self._stop()
        self._position = position

    def next_batch(self) -> Batch:
        """The next batch.

        Returns:
            This process's part of the batch, float32 on the device. On a CPU the memory is used
            again by the next call.
        """
        started = time.perf_counter()
        if self._rows.device == self.device and self.device.type != "cpu":
            if self._direct is None:
                self._direct = self._picked(self._position, None)
            batch = next(self._direct)
        else:
            if self._ahead is None:
                position = self._position
                self._ahead = BatchesAhead(
                    lambda pool: self._picked(position, pool), self._buffers, self.device
                )
            batch = self._ahead.next_batch()
        self.waited += time.perf_counter() - started
        epoch, step = self._position
        last = step + 1 == self.order.steps_per_epoch
        self._position = Position(epoch + 1, 0) if last else Position(epoch, step + 1)
        return batch

    def close(self) -> None:
        """Stop the threads."""
        self._stop()
        self._rows.close()

    def _stop(self) -> None:
        if self._ahead is not None:
            self._ahead.close()
        self._ahead = self._direct = None

    # ------------------------------------------------------------------ picking rows

    def _buffers(self) -> Batch:
        """Memory for a batch: float32; as stored, and pinned, where it is copied to a GPU."""
        place = self._rows.device
        copied = self.device.type != "cpu" and place.type == "cpu"
        pinned = copied and self.device.type == "cuda"

        def empty(columns: int, dtype: torch.dtype) -> Tensor:
            return torch.empty(self._part, columns, dtype=dtype, device=place, pin_memory=pinned)

        features = {
            name: empty(dim, self._dtypes[name] if copied else torch.float32)
            for name, dim in self._dims.items()
        }
        # All batches of all processes are alike in this, whichever rows they have.
        complete = self.counts.all_complete
        return Batch(features, None if complete else empty(len(self.streams), torch.bool))

    def _picked(self, position: Position, pool: Pool | None) -> Iterator[Batch]:
        """Batches from a position on, in memory from the pool (new memory without one).

        Ends when the pool hands out None.
        """
        order, part = self.order, self._part
        epoch, step = position
        batch: Batch | None = None
        for planned, loaded in self._rows.blocks(self._plan(position)):
            if planned.epoch != epoch:
                epoch, step = planned.epoch, 0
            block = planned.block
            end = block.first + block.rows
            shuffled = order.permutation(epoch, planned.number, block.rows)
            index = torch.from_numpy(loaded.usable[shuffled]).to(self._rows.device)
            present = None
            if not self.counts.all_complete:
                present = torch.from_numpy(loaded.present[shuffled]).to(self._rows.device)
            while step < order.steps_per_epoch:
                # This process's part of the batch, as rows of the epoch.
                start = step * order.batch_rows + self._rank * part
                if batch is None:
                    batch = self._memory(pool)
                    if batch is None:
                        return
                low, high = max(start, block.first), min(start + part, end)
                if low < high:
                    of_block = slice(low - block.first, high - block.first)
                    of_batch = slice(low - start, high - start)
                    for name in self.streams:
                        target = batch.features[name][of_batch]
                        _pick(loaded.features[name], index[of_block], target)
                    if batch.present is not None and present is not None:
                        batch.present[of_batch] = present[of_block]
                if start + part > end:
                    break  # the rest of it lies in the next block
                yield batch
                batch = None
                step += 1

    def _plan(self, position: Position) -> Iterator[Planned]:
        """The blocks to read from a position on, epoch after epoch."""
        epoch, step = position
        begin = step * self.order.batch_rows
        while True:
            for number, block in enumerate(self.order.blocks(epoch)):
                if block.rows and block.first + block.rows > begin:
                    yield Planned(epoch, number, block)
            epoch, begin = epoch + 1, 0

    def _memory(self, pool: Pool | None) -> Batch | None:
        """Memory for the next batch; None where the pool is closed."""
        if pool is None:
            return self._buffers()
        free = pool.get()
        if free is None:
            return None
        if free.copied is not None:
            free.copied.synchronize()
        return free.batch


def _pick(features: Tensor, index: Tensor, out: Tensor) -> None:
    """Gather rows, as float32 or as they are stored.

    On a CPU this runs beside the training, so it must stay on its own thread: torch would spread
    it over the very threads that train, and both would spend their time waiting for each other.
    """
    if features.device.type != "cpu":
        out.copy_(features.index_select(0, index))
    elif features.dtype == out.dtype:
        np.take(features.numpy(), index.numpy(), axis=0, out=out.numpy(), mode="clip")
    else:
        gathered = torch.from_numpy(np.take(features.numpy(), index.numpy(), axis=0))
        rows = max(1, SERIAL_VALUES // out.shape[1])
        for start in range(0, len(out), rows):
            out[start : start + rows].copy_(gathered[start : start + rows])
