"""Rows of a cache of which every process reads its share, and which the processes exchange.

Of N processes, each reads and decodes one chunk in N. A batch has rows of all chunks of a block, so
once a block is read, every process sends each of the others the rows that it needs. Nothing is read
twice, and what is sent is less than what is learnt from. This module must not know how batches are
cut.
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from sparc.common.cache.reader import ActivationCache
from sparc.common.progress import progress
from sparc.common.timing.phases import Phase, Role
from sparc.common.timing.shares import Shares
from sparc.common.timing.stopwatch import Stopwatch
from sparc.train.config import RowChoice
from sparc.train.data.order import RowOrder
from sparc.train.data.plan import Planned, RowNumbers, Sharing
from sparc.train.data.rows import (
    READING_THREADS,
    Flags,
    Loaded,
    Resident,
    are_usable,
    empty_rows,
    valid_flags,
)
from sparc.train.distributed.exchange import Exchange


class SharedRows:
    """The rows that this process needs of two blocks, in main memory.

    One of them is in use, the other is being read and exchanged. Beside them lie the chunks that
    this process reads of a block.

    Args:
        cache: A complete cache.
        streams: The streams to read.
        rows: Which rows are trained on.
        order: Their order.
        sharing: What the processes need.
        exchange: What they exchange it by.
        picking: Where the time of the thread goes that asks for blocks.
    """

    device = torch.device("cpu")

    def __init__(
        self,
        cache: ActivationCache,
        streams: tuple[str, ...],
        rows: RowChoice,
        order: RowOrder,
        sharing: Sharing,
        exchange: Exchange,
        *,
        picking: Stopwatch,
    ) -> None:
        self._picking = picking
        self._times = Stopwatch(Role.READER, f"process {exchange.rank}", rest=Phase.IDLE)
        chunks = min(order.block_chunks, cache.info.chunks)
        self._own = _OwnChunks(cache, streams, exchange, chunks)
        self._choice: RowChoice = rows
        self._block_chunks = order.block_chunks
        self._sharing = sharing
        self._exchange = exchange
        if sharing.needs == "part":
            block_rows = min(chunks * cache.info.rows_per_chunk, order.rows)
            size = sharing.largest_part(block_rows, order.batch_rows)
        else:
            size = sharing.world * self._own.rows
        self._memory = [{name: empty_rows(cache, name, size) for name in streams} for _ in range(2)]
        self._thread = ThreadPoolExecutor(1, "sparc-exchanging", self._times.start)

    def blocks(self, plan: Iterator[Planned]) -> Iterator[Loaded]:
        """See `Rows.blocks`. To be called once: a second plan would not be that of the others."""
        coming = self._thread.submit(self._load, next(plan), self._memory[0])
        try:
            for number in itertools.count(1):
                with self._picking.at(Phase.STARVED):
                    loaded = coming.result()
                coming = self._thread.submit(self._load, next(plan), self._memory[number % 2])
                yield loaded
        finally:
            _wait_for(coming)

    def shares(self) -> tuple[Shares, ...]:
        """See `Rows.shares`."""
        return (self._times.shares(),)

    def close(self) -> None:
        """Stop the threads."""
        self._exchange.abandon()
        self._thread.shutdown(cancel_futures=True)
        self._own.close()

    def _load(self, planned: Planned, memory: Mapping[str, Tensor]) -> Loaded:
        """Read this process's chunks of a block, and exchange rows."""
        with self._times.at(Phase.EXCHANGE):
            return self._load_here(planned, memory)

    def _load_here(self, planned: Planned, memory: Mapping[str, Tensor]) -> Loaded:
        chunks = planned.block.chunks
        first = planned.number * self._block_chunks
        readers = _Readers.of(len(chunks), first=first, world=self._sharing.world)
        with self._times.at(Phase.READ):
            mine = self._own.read(chunks, readers)
        valid = self._own.flags_of_all(mine, readers)
        # Usable rows are numbered through the block, chunk by chunk.
        places, rows = np.nonzero(are_usable(valid, self._choice))
        wanted = planned.wanted[self._sharing.rank]
        present = valid[places[wanted], rows[wanted]]
        if self._sharing.needs == "whole":
            features = self._own.gather(readers, memory)
            lies_at = readers.gathered[places] * valid.shape[1] + rows
            return Loaded(features, lies_at[wanted], present)
        lies_at = readers.slots[places] * valid.shape[1] + rows
        trade = _Trade.of_block(readers.ranks[places], lies_at, planned.wanted, self._sharing.rank)
        for name, own in self._own.memory.items():
            given = torch.from_numpy(np.take(own.numpy(), trade.given, axis=0))
            taken = memory[name][: len(wanted)]
            self._exchange.trade(given, taken, to=trade.to, of=trade.of)
        return Loaded(memory, trade.needed, present)


def load_shared(
    cache: ActivationCache,
    streams: tuple[str, ...],
    device: torch.device,
    exchange: Exchange,
) -> Resident:
    """All rows in the memory of every process's device, of which each reads its share.

    Args:
        cache: A complete cache.
        streams: The streams to read.
        device: Where this process wants them.
        exchange: What the processes exchange them by.
    """
    info, width = cache.info, exchange.world * READING_THREADS
    own = _OwnChunks(cache, streams, exchange, width)
    memory = {name: empty_rows(cache, name, exchange.world * own.rows) for name in streams}
    resident = Resident.empty(cache, streams, device)
    quiet = exchange.rank > 0
    try:
        with progress(info.rows, "loading", quiet=quiet) as bar:
            for first in range(0, info.chunks, width):
                chunks = range(first, min(first + width, info.chunks))
                readers = _Readers.of(len(chunks), first=first, world=exchange.world)
                valid = own.flags_of_all(own.read(chunks, readers), readers)
                gathered = own.gather(readers, memory)
                for place, chunk in enumerate(chunks):
                    rows = info.chunk_rows(chunk)
                    start = int(readers.gathered[place]) * info.rows_per_chunk
                    for name, features in resident.features.items():
                        of_chunk = gathered[name][start : start + len(rows)]
                        features[rows.start : rows.stop].copy_(of_chunk)
                    resident.valid[rows.start : rows.stop] = valid[place, : len(rows)]
                    bar.update(len(rows))
    finally:
        own.close()
    return resident


class _Readers(NamedTuple):
    """Which process reads which chunk of a block.

    Attributes:
        ranks: The process, (chunks,) int64.
        slots: Which of the chunks that it reads, (chunks,) int64.
        slots_each: Chunks of each process, of which some may be none.
        gathered: Where the chunk lies among those of all processes, (chunks,) int64.
    """

    ranks: RowNumbers
    slots: RowNumbers
    slots_each: int
    gathered: RowNumbers

    @staticmethod
    def of(chunks: int, *, first: int, world: int) -> "_Readers":
        """Those of a block, by the number of chunks of the epoch that come before it.

        In turn, through all blocks of an epoch: of blocks with fewer chunks than processes, each
        reads one in a while.
        """
        places = np.arange(chunks)
        ranks, slots = (first + places) % world, places // world
        slots_each = -(-chunks // world)
        return _Readers(ranks, slots, slots_each, ranks * slots_each + slots)


class _Trade(NamedTuple):
    """Which rows of a block this process gives and takes.

    Attributes:
        given: Rows of its own memory, those for process 0 first, (rows,) int64.
        to: How many of them each process gets.
        of: How many rows each process gives it; they come in that order.
        needed: The rows that come, in the order of their use, (rows,) int64.
    """

    given: RowNumbers
    to: list[int]
    of: list[int]
    needed: RowNumbers

    @staticmethod
    def of_block(
        ranks: RowNumbers, lies_at: RowNumbers, wanted: Sequence[RowNumbers], rank: int
    ) -> "_Trade":
        """What follows from who holds which of a block's rows.

        Args:
            ranks: The process that holds each usable row, (rows,).
            lies_at: Where that lies in the process's memory, (rows,).
            wanted: By process, the rows that it needs, in the order of their use.
            rank: This process.
        """
        given = [rows[ranks[rows] == rank] for rows in wanted]
        holders = ranks[wanted[rank]]
        needed = np.empty_like(holders)
        needed[np.argsort(holders, kind="stable")] = np.arange(len(holders))
        return _Trade(
            given=lies_at[np.concatenate(given)],
            to=[len(rows) for rows in given],
            of=np.bincount(holders, minlength=len(wanted)).tolist(),
            needed=needed,
        )


class _OwnChunks:
    """Memory for the chunks that this process reads of a block, and the threads that read them.

    Args:
        cache: A complete cache.
        streams: The streams to read.
        exchange: The processes.
        chunks: The most chunks of a block.
    """

    def __init__(
        self, cache: ActivationCache, streams: tuple[str, ...], exchange: Exchange, chunks: int
    ) -> None:
        self._cache = cache
        self._streams = streams
        self._exchange = exchange
        self.rows = -(-chunks // exchange.world) * cache.info.rows_per_chunk
        """Rows that fit."""
        self.memory = {name: empty_rows(cache, name, self.rows) for name in streams}
        """By stream, (rows, dim), as stored."""
        self._threads = ThreadPoolExecutor(READING_THREADS, thread_name_prefix="sparc-reading")

    def read(self, chunks: Sequence[int], readers: _Readers) -> Flags:
        """Read this process's chunks of a block.

        Returns:
            Which streams their rows have: (chunks of each process, rows of a chunk, streams) bool.
        """
        rows_per_chunk, rank = self._cache.info.rows_per_chunk, self._exchange.rank
        shape = (readers.slots_each, rows_per_chunk, len(self._streams))
        flags = np.zeros(shape, dtype=np.bool_)

        def read(place: int) -> None:
            chunk, slot = chunks[place], int(readers.slots[place])
            count = len(self._cache.info.chunk_rows(chunk))
            start = slot * rows_per_chunk
            for name, memory in self.memory.items():
                self._cache.features(name, chunk, out=memory[start : start + count].numpy())
            flags[slot, :count] = valid_flags(self._cache, chunk, self._streams)

        mine = np.flatnonzero(readers.ranks == rank).tolist()
        list(self._threads.map(read, mine))
        return flags

    def flags_of_all(self, flags: Flags, readers: _Readers) -> Flags:
        """What `read` returned, of all processes: (chunks, rows of a chunk, streams) bool."""
        return self._exchange.gather(torch.from_numpy(flags)).numpy()[readers.gathered]

    def gather(self, readers: _Readers, memory: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """The rows of all chunks that were read, in every process.

        Args:
            readers: Who read them.
            memory: Where to put them, by stream.

        Returns:
            By stream, a view of that; chunks lie there as `readers.gathered` says.
        """
        count = readers.slots_each * self._cache.info.rows_per_chunk
        total = self._exchange.world * count
        return {
            name: self._exchange.gather(own[:count], memory[name][:total])
            for name, own in self.memory.items()
        }

    def close(self) -> None:
        """Stop the threads."""
        self._threads.shutdown(cancel_futures=True)


def _wait_for(coming: Future[Loaded]) -> None:
    """Wait for what writes into memory that is used again."""
    if not coming.cancel():
        coming.exception()
