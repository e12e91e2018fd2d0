"""Where the rows of a cache live while batches are picked from them.

Blocks of a plan come out in memory, one after the other: of all rows, which then stay in the memory
of a device, or of two blocks, whatever the size of the cache. This module must not know how batches
are cut.
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from sparc.common.cache.info import CacheInfo
from sparc.common.cache.reader import ActivationCache
from sparc.common.progress import progress
from sparc.common.timing.phases import Phase, Role
from sparc.common.timing.shares import Shares
from sparc.common.timing.stopwatch import Stopwatch
from sparc.train.config import RowChoice
from sparc.train.data.order import Block, RowOrder
from sparc.train.data.plan import Planned, RowNumbers

READING_THREADS = 2

Flags = npt.NDArray[np.bool_]


class Loaded(NamedTuple):
    """The rows that this process needs of a block, in memory, perhaps among others.

    Attributes:
        features: By stream, (rows, dim), as stored.
        needed: Which of these rows are needed, in the order of their use: (needed,) int64.
        present: Which streams the needed ones have, (needed, streams) bool.
    """

    features: Mapping[str, Tensor]
    needed: RowNumbers
    present: Flags


class Rows(Protocol):
    """Where rows live."""

    device: torch.device

    def blocks(self, plan: Iterator[Planned]) -> Iterator[Loaded]:
        """The blocks of a plan, one after the other, in memory.

        A block may be used until the next one is asked for.
        """
        ...

    def shares(self) -> tuple[Shares, ...]:
        """Where the time of threads that read has gone."""
        ...

    def close(self) -> None:
        """Stop threads."""
        ...


class Resident(NamedTuple):
    """All rows of a cache, in memory.

    Attributes:
        features: By stream, (rows, dim), as stored.
        valid: Which of the streams each row has, (rows, streams) bool.
    """

    features: dict[str, Tensor]
    valid: Flags

    @staticmethod
    def empty(cache: ActivationCache, streams: tuple[str, ...], device: torch.device) -> "Resident":
        """Memory for all rows."""
        rows = cache.info.rows
        features = {name: empty_rows(cache, name, rows, device) for name in streams}
        return Resident(features, np.empty((rows, len(streams)), dtype=np.bool_))


def load_all(cache: ActivationCache, streams: tuple[str, ...], device: torch.device) -> Resident:
    """All rows in the memory of a device, read by one process."""
    resident = Resident.empty(cache, streams, device)

    def load(chunk: int) -> int:
        rows = cache.info.chunk_rows(chunk)
        for name, features in resident.features.items():
            place = features[rows.start : rows.stop]
            if device.type == "cpu":
                cache.features(name, chunk, out=place.numpy())
            else:
                place.copy_(torch.from_numpy(cache.features(name, chunk)))
        resident.valid[rows.start : rows.stop] = valid_flags(cache, chunk, streams)
        return len(rows)

    with (
        progress(cache.info.rows, "loading") as bar,
        ThreadPoolExecutor(READING_THREADS) as threads,
    ):
        for loaded in threads.map(load, range(cache.info.chunks)):
            bar.update(loaded)
    return resident


class ResidentRows:
    """All rows in the memory of a device."""

    def __init__(
        self,
        info: CacheInfo,
        rows: RowChoice,
        resident: Resident,
        device: torch.device,
        *,
        rank: int = 0,
    ) -> None:
        self.device = device
        self._info = info
        self._choice: RowChoice = rows
        self._resident = resident
        self._rank = rank

    def blocks(self, plan: Iterator[Planned]) -> Iterator[Loaded]:
        """See `Rows.blocks`."""
        features, valid = self._resident
        for planned in plan:
            usable = []
            for chunk in planned.block.chunks:
                rows = self._info.chunk_rows(chunk)
                of_chunk = are_usable(valid[rows.start : rows.stop], self._choice)
                usable.append(rows.start + np.flatnonzero(of_chunk))
            needed = np.concatenate(usable)[planned.wanted[self._rank]]
            yield Loaded(features, needed, valid[needed])

    def shares(self) -> tuple[Shares, ...]:
        """See `Rows.shares`: nothing is read once all rows are there."""
        return ()

    def close(self) -> None:
        """Give the memory back."""
        self._resident.features.clear()


class StreamedRows:
    """Two blocks in main memory: one in use, the next being read. For a single process.

    Args:
        cache: The cache.
        streams: The streams to read.
        rows: Which rows are usable.
        order: The blocks.
        picking: Where the time of the thread goes that asks for blocks.
    """

    device = torch.device("cpu")

    def __init__(
        self,
        cache: ActivationCache,
        streams: tuple[str, ...],
        rows: RowChoice,
        order: RowOrder,
        *,
        picking: Stopwatch,
    ) -> None:
        self._cache = cache
        self._picking = picking
        self._times = Stopwatch(Role.READER, rest=Phase.IDLE)
        self._streams = streams
        self._choice: RowChoice = rows
        self._threads = ThreadPoolExecutor(READING_THREADS, "sparc-reading", self._times.start)
        size = min(order.block_chunks, cache.info.chunks) * cache.info.rows_per_chunk
        self._memory = [{name: empty_rows(cache, name, size) for name in streams} for _ in range(2)]

    def blocks(self, plan: Iterator[Planned]) -> Iterator[Loaded]:
        """See `Rows.blocks`."""
        coming: list[Future[tuple[RowNumbers, Flags]]] = []
        try:
            planned = next(plan)
            coming = self._begin(planned.block, self._memory[0])
            for number in itertools.count():
                with self._picking.at(Phase.STARVED):
                    usable, present = zip(*(future.result() for future in coming), strict=True)
                following = next(plan)
                coming = self._begin(following.block, self._memory[(number + 1) % 2])
                (wanted,) = planned.wanted
                yield Loaded(
                    self._memory[number % 2],
                    np.concatenate(usable)[wanted],
                    np.concatenate(present)[wanted],
                )
                planned = following
        finally:
            # Wait: these reads write into memory that the next call of this method uses.
            for future in coming:
                if not future.cancel():
                    future.exception()

    def shares(self) -> tuple[Shares, ...]:
        """See `Rows.shares`."""
        return (self._times.shares(),)

    def close(self) -> None:
        """Stop the threads."""
        self._threads.shutdown(cancel_futures=True)

    def _begin(
        self, block: Block, memory: Mapping[str, Tensor]
    ) -> list["Future[tuple[RowNumbers, Flags]]"]:
        return [
            self._threads.submit(self._read, chunk, place, memory)
            for place, chunk in enumerate(block.chunks)
        ]

    def _read(
        self, chunk: int, place: int, memory: Mapping[str, Tensor]
    ) -> tuple[RowNumbers, Flags]:
        """Read a chunk into its place in a block; return its usable rows and their streams.

        Unlike `ActivationCache.aligned` this copies nothing where some rows are not valid: they
        stay in the block, and no batch picks them.
        """
        with self._times.at(Phase.READ):
            return self._read_here(chunk, place, memory)

    def _read_here(
        self, chunk: int, place: int, memory: Mapping[str, Tensor]
    ) -> tuple[RowNumbers, Flags]:
        start = place * self._cache.info.rows_per_chunk
        count = len(self._cache.info.chunk_rows(chunk))
        for name in self._streams:
            target = memory[name][start : start + count].numpy()
            self._cache.features(name, chunk, out=target)
        valid = valid_flags(self._cache, chunk, self._streams)
        usable = np.flatnonzero(are_usable(valid, self._choice))
        return start + usable, valid[usable]


def empty_rows(
    cache: ActivationCache, stream: str, rows: int, device: torch.device | None = None
) -> Tensor:
    """Memory for rows of a stream, as they are stored."""
    info = cache.streams[stream]
    return torch.empty(rows, info.dim, dtype=getattr(torch, info.dtype), device=device)


def valid_flags(cache: ActivationCache, chunk: int, streams: Sequence[str]) -> Flags:
    """Which of the streams the rows of a chunk have, (rows, streams) bool."""
    return np.stack([cache.valid(name, chunk) for name in streams], axis=1)


def are_usable(valid: Flags, rows: RowChoice) -> Flags:
    """Which rows are trained on, (…, rows) bool, of those that have streams, (…, rows, streams)."""
    flags: Flags = (np.logical_and if rows == "all" else np.logical_or).reduce(valid, axis=-1)
    return flags


def block_bytes(cache: ActivationCache, streams: tuple[str, ...], block_chunks: int) -> int:
    """Memory of a block: chunks x rows per chunk x bytes per row, as stored. `stream` keeps two."""
    chunks = min(block_chunks, cache.info.chunks)
    return bytes_of(cache, streams, chunks * cache.info.rows_per_chunk)


def bytes_of(cache: ActivationCache, streams: tuple[str, ...], rows: int) -> int:
    """What rows of the streams take as they are stored."""
    row = sum(
        cache.streams[name].dim * np.dtype(cache.streams[name].dtype).itemsize for name in streams
    )
    return rows * row
