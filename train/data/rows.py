"""Where the rows of a cache live while batches are picked from them.

Blocks of a plan come out in memory, one after the other: of all rows, which then stay in the memory
of a device, or of two blocks, whatever the size of the cache. This module must not know how batches
are cut.
"""

import itertools
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from sparc.common.cache.reader import ActivationCache
from sparc.common.errors import CacheError
from sparc.common.progress import progress
from sparc.train.data.order import Block, RowOrder

READING_THREADS = 2


_RowNumbers = npt.NDArray[np.int64]


class Planned(NamedTuple):
    """A block, and when it is read: which block of which epoch, counted from 0."""

    epoch: int
    number: int
    block: Block


class Loaded(NamedTuple):
    """The rows of a block in memory, among others.

    Attributes:
        features: By stream, (rows, dim), as stored.
        usable: Which of these rows the block consists of: (rows of the block,) int64.
    """

    features: Mapping[str, Tensor]
    usable: _RowNumbers


class Rows(Protocol):
    """Where rows live."""

    device: torch.device

    def blocks(self, plan: Iterator[Planned]) -> Iterator[tuple[Planned, Loaded]]:
        """The blocks of a plan, one after the other, in memory.

        A block may be used until the next one is asked for.
        """
        ...

    def close(self) -> None:
        """Stop threads."""
        ...


class ResidentRows:
    """All rows in the memory of a device."""

    def __init__(
        self,
        cache: ActivationCache,
        streams: tuple[str, ...],
        device: torch.device,
        *,
        quiet: bool,
    ) -> None:
        self.device = device
        self._info = cache.info
        self._features = {name: _memory(cache, name, cache.info.rows, device) for name in streams}
        self._valid = np.empty(cache.info.rows, dtype=np.bool_)
        with (
            progress(cache.info.rows, "Loading", quiet=quiet) as bar,
            ThreadPoolExecutor(READING_THREADS) as threads,
        ):
            for rows in threads.map(lambda c: self._load(cache, c), range(cache.info.chunks)):
                bar.update(rows)

    def _load(self, cache: ActivationCache, chunk: int) -> int:
        rows = cache.info.chunk_rows(chunk)
        for name, features in self._features.items():
            place = features[rows.start : rows.stop]
            if self.device.type == "cpu":
                cache.features(name, chunk, out=place.numpy())
            else:
                place.copy_(torch.from_numpy(cache.features(name, chunk)))
        self._valid[rows.start : rows.stop] = cache.valid_in_all(chunk, tuple(self._features))
        return len(rows)

    def blocks(self, plan: Iterator[Planned]) -> Iterator[tuple[Planned, Loaded]]:
        """See `Rows.blocks`."""
        for planned in plan:
            usable = []
            for chunk in planned.block.chunks:
                rows = self._info.chunk_rows(chunk)
                usable.append(rows.start + np.flatnonzero(self._valid[rows.start : rows.stop]))
            yield planned, Loaded(self._features, np.concatenate(usable))

    def close(self) -> None:
        """Give the memory back."""
        self._features.clear()


class StreamedRows:
    """Two blocks in main memory: one in use, the next being read."""

    device = torch.device("cpu")

    def __init__(self, cache: ActivationCache, streams: tuple[str, ...], order: RowOrder) -> None:
        self._cache = cache
        self._streams = streams
        self._threads = ThreadPoolExecutor(READING_THREADS, thread_name_prefix="sparc-reading")
        rows = min(order.block_chunks, cache.info.chunks) * cache.info.rows_per_chunk
        self._memory = [{name: _memory(cache, name, rows) for name in streams} for _ in range(2)]

    def blocks(self, plan: Iterator[Planned]) -> Iterator[tuple[Planned, Loaded]]:
        """See `Rows.blocks`."""
        coming: list[Future[_RowNumbers]] = []
        try:
            planned = next(plan)
            coming = self._begin(planned.block, self._memory[0])
            for number in itertools.count():
                usable = np.concatenate([future.result() for future in coming])
                following = next(plan)
                coming = self._begin(following.block, self._memory[(number + 1) % 2])
                yield planned, Loaded(self._memory[number % 2], usable)
                planned = following
        finally:
            # Wait: these reads write into memory that the next call of this method uses.
            for future in coming:
                if not future.cancel():
                    future.exception()

    def close(self) -> None:
        """Stop the threads."""
        self._threads.shutdown(cancel_futures=True)

    def _begin(self, block: Block, memory: Mapping[str, Tensor]) -> list["Future[_RowNumbers]"]:
        return [
            self._threads.submit(self._read, chunk, place, memory)
            for place, chunk in enumerate(block.chunks)
        ]

    def _read(self, chunk: int, place: int, memory: Mapping[str, Tensor]) -> _RowNumbers:
        """Read a chunk into its place in a block; return its usable rows.

        Unlike `ActivationCache.aligned` this copies nothing where some rows are not valid: they
        stay in the block, and no batch picks them.
        """
        start = place * self._cache.info.rows_per_chunk
        count = len(self._cache.info.chunk_rows(chunk))
        for name in self._streams:
            target = memory[name][start : start + count].numpy()
            self._cache.features(name, chunk, out=target)
        valid = self._cache.valid_in_all(chunk, self._streams)
        return start + np.flatnonzero(valid)


def _memory(
    cache: ActivationCache, stream: str, rows: int, device: torch.device | None = None
) -> Tensor:
    info = cache.streams[stream]
    return torch.empty(rows, info.dim, dtype=getattr(torch, info.dtype), device=device)


def usable_rows(cache: ActivationCache, streams: tuple[str, ...]) -> tuple[int, ...]:
    """The number of rows of each chunk that are valid in all the streams.

    Raises:
        CacheError: No row is.
    """
    with ThreadPoolExecutor(READING_THREADS) as threads:
        counts = tuple(
            threads.map(
                lambda chunk: int(cache.valid_in_all(chunk, streams).sum()),
                range(cache.info.chunks),
            )
        )
    if not sum(counts):
        raise CacheError(
            f"{cache.folder}: no row is valid in all of {', '.join(streams)}; "
            f"`sparc-extract inspect {cache.folder}` says why rows were rejected"
        )
    return counts


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
