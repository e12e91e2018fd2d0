"""Reading batches from an activation cache: whole chunks in, shuffled float32 batches out.

`BatchReader` cuts batches along a `RowOrder`. `residency` says where the rows live meanwhile:

- `device`: all rows in the memory of the training device, picked there.
- `host`: all rows in main memory; a thread picks batches ahead of the trainer.
- `stream`: two blocks in main memory, whatever the size of the cache: one that batches are picked
  from and one that two threads read chunks into.

Of several processes each reads its share of the chunks, and they exchange rows. Residency changes
where rows live, never which rows a batch has. This module must not know what
the batches are for.
"""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from sparc.common.cache.reader import ActivationCache
from sparc.common.errors import ConfigError, setting
from sparc.common.timing.phases import Phase, Role
from sparc.common.timing.shares import Shares
from sparc.common.timing.stopwatch import Stopwatch
from sparc.train.config import Residency, RowChoice
from sparc.train.data.ahead import Batch, BatchesAhead, Pool
from sparc.train.data.counting import count_rows
from sparc.train.data.order import Position, RowOrder
from sparc.train.data.plan import Needs, Sharing, plan
from sparc.train.data.residency import choose_residency
from sparc.train.data.rows import (
    ResidentRows,
    Rows,
    StreamedRows,
    block_bytes,
    bytes_of,
    load_all,
)
from sparc.train.data.shared_rows import SharedRows, load_shared
from sparc.train.distributed.exchange import Exchange

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
        exchange: The processes that share every batch; all of them make alike readers at the same
            time. None: there is one.
        needs: Whether each of them takes its own part of the rows of a batch or all rows.

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
        exchange: Exchange | None = None,
        needs: Needs = "part",
    ) -> None:
        cache.require_complete(streams)
        self.streams = streams
        self.device = device or torch.device("cpu")
        worker = "" if exchange is None else f"process {exchange.rank}"
        self.times = Stopwatch(Role.TRAINER, worker)
        """Where the time of the thread goes that takes batches; it says what else it does. Its rows
        are this process's share of those."""
        self._picking = Stopwatch(Role.PICKER, worker, rest=Phase.PICK)
        self.counts = count_rows(cache, streams, rows, exchange)
        """How many rows there are, and which streams they have."""
        self.order = RowOrder(
            usable=self.counts.by_chunk,
            block_chunks=block_chunks,
            batch_size=batch_size,
            seed=seed,
        )
        self._sharing = Sharing(needs=needs)
        if exchange is not None:
            self._sharing = Sharing(exchange.rank, exchange.world, needs)
        require_even_batches(self.order.batch_rows, self._sharing.world)
        self._part = self._sharing.part(self.order.batch_rows)
        self.residency = choose_residency(
            residency, self.device, bytes_of(cache, streams, cache.info.rows), exchange
        )
        self.block_bytes = block_bytes(cache, streams, block_chunks)
        """Memory of a block; `stream` keeps two."""
        self._rows: Rows
        if self.residency != "stream":
            place = self.device if self.residency == "device" else torch.device("cpu")
            resident = (
                load_all(cache, streams, place)
                if exchange is None
                else load_shared(cache, streams, place, exchange)
            )
            rank = self._sharing.rank
            self._rows = ResidentRows(cache.info, rows, resident, place, rank=rank)
        elif exchange is None:
            self._rows = StreamedRows(cache, streams, rows, self.order, picking=self._picking)
        else:
            self._rows = SharedRows(
                cache, streams, rows, self.order, self._sharing, exchange, picking=self._picking
            )
        self._exchange = exchange
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
        """Go to a batch: `next_batch` returns it next, whatever was read before.

        Raises:
            ValueError: Several processes exchange rows, and this one has begun to.
        """
        if self._exchange is not None and self._ahead is not None:
            raise ValueError("processes that exchange rows cannot go to another batch")
        self._stop()
        self._position = position

    def next_batch(self) -> Batch:
        """The next batch.

        Returns:
            This process's part of the batch, float32 on the device. On a CPU the memory is used
            again by the next call.
        """
        if self._rows.device == self.device and self.device.type != "cpu":
            if self._direct is None:
                self._direct = self._picked(self._position, None)
            with self.times.at(Phase.PICK):
                batch = next(self._direct)
        else:
            if self._ahead is None:
                position = self._position
                self._ahead = BatchesAhead(
                    lambda pool: self._picked(position, pool),
                    self._buffers,
                    self.device,
                    times=self.times,
                    picking=self._picking,
                )
            batch = self._ahead.next_batch()
        self.times.add_rows(self.order.batch_rows // self._sharing.world)
        epoch, step = self._position
        last = step + 1 == self.order.steps_per_epoch
        self._position = Position(epoch + 1, 0) if last else Position(epoch, step + 1)
        return batch

    def shares(self) -> Iterator[Shares]:
        """Where the time of the threads has gone that read and pick rows ahead."""
        of_picking = self._picking.shares()
        return (one for one in (of_picking, *self._rows.shares()) if one.threads)

    def close(self) -> None:
        """Stop the threads."""
        if self._exchange is not None:
            self._exchange.abandon()
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
        batch: Batch | None = None
        filled = 0
        for loaded in self._rows.blocks(plan(self.order, position, self._sharing)):
            index = torch.from_numpy(loaded.needed).to(self._rows.device)
            present = None
            if not self.counts.all_complete:
                present = torch.from_numpy(loaded.present).to(self._rows.device)
            done = 0
            while done < len(index):
                if batch is None:
                    batch = self._memory(pool)
                    if batch is None:
                        return
                count = min(self._part - filled, len(index) - done)
                of_block, of_batch = slice(done, done + count), slice(filled, filled + count)
                for name in self.streams:
                    target = batch.features[name][of_batch]
                    _pick(loaded.features[name], index[of_block], target)
                if batch.present is not None and present is not None:
                    batch.present[of_batch] = present[of_block]
                done, filled = done + count, filled + count
                if filled == self._part:
                    yield batch
                    batch, filled = None, 0

    def _memory(self, pool: Pool | None) -> Batch | None:
        """Memory for the next batch; None where the pool is closed."""
        if pool is None:
            return self._buffers()
        with self._picking.at(Phase.IDLE):
            free = pool.get()
            if free is not None and free.copied is not None:
                free.copied.synchronize()
        if free is None:
            return None
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


def require_even_batches(rows: int, processes: int) -> None:
    """Refuse batches of which processes cannot take equal parts.

    Args:
        rows: Rows of a batch.
        processes: How many share it.

    Raises:
        ConfigError: They cannot.
    """
    if rows % processes:
        raise ConfigError(
            f"a batch of {rows} rows cannot be shared by {processes} processes: choose "
            f"{setting('--batch-size')} so that they divide it"
        )
