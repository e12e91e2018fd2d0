"""Where the rows of a cache live while batches are picked from them.

Blocks of a plan come out in memory, one after the other: of all rows, which then stay in the memory
of a device, or of two blocks, whatever the size of the cache. This module must not know how batches
are cut.
"""

import itertools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from sparc.common.cache.reader import ActivationCache
from sparc.common.errors import CacheError, setting
from sparc.common.progress import progress
from sparc.train.config import RowChoice
from sparc.train.data.order import Block, RowOrder

READING_THREADS = 2
FEW_ROWS = 300
"""Fewer rows to learn from are called few."""


_RowNumbers = npt.NDArray[np.int64]
_Flags = npt.NDArray[np.bool_]


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
        present: Which streams those have, (rows of the block, streams) bool.
    """

    features: Mapping[str, Tensor]
    usable: _RowNumbers
    present: _Flags


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
        rows: RowChoice,
        device: torch.device,
        *,
        quiet: bool,
    ) -> None:
        self.device = device
        self._choice: RowChoice = rows
        self._info = cache.info
        self._features = {name: _memory(cache, name, cache.info.rows, device) for name in streams}
        self._valid = np.empty((cache.info.rows, len(streams)), dtype=np.bool_)
        with (
            progress(cache.info.rows, "Loading", quiet=quiet) as bar,
            ThreadPoolExecutor(READING_THREADS) as threads,
        ):
            for loaded in threads.map(lambda c: self._load(cache, c), range(cache.info.chunks)):
                bar.update(loaded)

    def _load(self, cache: ActivationCache, chunk: int) -> int:
        rows = cache.info.chunk_rows(chunk)
        for name, features in self._features.items():
            place = features[rows.start : rows.stop]
            if self.device.type == "cpu":
                cache.features(name, chunk, out=place.numpy())
            else:
                place.copy_(torch.from_numpy(cache.features(name, chunk)))
        self._valid[rows.start : rows.stop] = valid_flags(cache, chunk, tuple(self._features))
        return len(rows)

    def blocks(self, plan: Iterator[Planned]) -> Iterator[tuple[Planned, Loaded]]:
        """See `Rows.blocks`."""
        for planned in plan:
            usable = []
            for chunk in planned.block.chunks:
                rows = self._info.chunk_rows(chunk)
                valid = self._valid[rows.start : rows.stop]
                usable.append(rows.start + np.flatnonzero(are_usable(valid, self._choice)))
            of_block = np.concatenate(usable)
            yield planned, Loaded(self._features, of_block, self._valid[of_block])

    def close(self) -> None:
        """Give the memory back."""
        self._features.clear()


class StreamedRows:
    """Two blocks in main memory: one in use, the next being read."""

    device = torch.device("cpu")

    def __init__(
        self, cache: ActivationCache, streams: tuple[str, ...], rows: RowChoice, order: RowOrder
    ) -> None:
        self._cache = cache
        self._streams = streams
        self._choice: RowChoice = rows
        self._threads = ThreadPoolExecutor(READING_THREADS, thread_name_prefix="sparc-reading")
        size = min(order.block_chunks, cache.info.chunks) * cache.info.rows_per_chunk
        self._memory = [{name: _memory(cache, name, size) for name in streams} for _ in range(2)]

    def blocks(self, plan: Iterator[Planned]) -> Iterator[tuple[Planned, Loaded]]:
        """See `Rows.blocks`."""
        coming: list[Future[tuple[_RowNumbers, _Flags]]] = []
        try:
            planned = next(plan)
            coming = self._begin(planned.block, self._memory[0])
            for number in itertools.count():
                usable, present = zip(*(future.result() for future in coming), strict=True)
                following = next(plan)
                coming = self._begin(following.block, self._memory[(number + 1) % 2])
                memory = self._memory[number % 2]
                yield planned, Loaded(memory, np.concatenate(usable), np.concatenate(present))
                planned = following
        finally:
            # Wait: these reads write into memory that the next call of this method uses.
            for future in coming:
                if not future.cancel():
                    future.exception()

    def close(self) -> None:
        """Stop the threads."""
        self._threads.shutdown(cancel_futures=True)

    def _begin(
        self, block: Block, memory: Mapping[str, Tensor]
    ) -> list["Future[tuple[_RowNumbers, _Flags]]"]:
        return [
            self._threads.submit(self._read, chunk, place, memory)
            for place, chunk in enumerate(block.chunks)
        ]

    def _read(
        self, chunk: int, place: int, memory: Mapping[str, Tensor]
    ) -> tuple[_RowNumbers, _Flags]:
        """Read a chunk into its place in a block; return its usable rows and their streams.

        Unlike `ActivationCache.aligned` this copies nothing where some rows are not valid: they
        stay in the block, and no batch picks them.
        """
        start = place * self._cache.info.rows_per_chunk
        count = len(self._cache.info.chunk_rows(chunk))
        for name in self._streams:
            target = memory[name][start : start + count].numpy()
            self._cache.features(name, chunk, out=target)
        valid = valid_flags(self._cache, chunk, self._streams)
        usable = np.flatnonzero(are_usable(valid, self._choice))
        return start + usable, valid[usable]


def _memory(
    cache: ActivationCache, stream: str, rows: int, device: torch.device | None = None
) -> Tensor:
    info = cache.streams[stream]
    return torch.empty(rows, info.dim, dtype=getattr(torch, info.dtype), device=device)


def valid_flags(cache: ActivationCache, chunk: int, streams: Sequence[str]) -> _Flags:
    """Which of the streams the rows of a chunk have, (rows, streams) bool."""
    return np.stack([cache.valid(name, chunk) for name in streams], axis=1)


def are_usable(valid: _Flags, rows: RowChoice) -> _Flags:
    """Which rows are trained on, (rows,) bool, from the streams that they have."""
    flags: _Flags = (np.logical_and if rows == "all" else np.logical_or).reduce(valid, axis=1)
    return flags


class RowCounts(NamedTuple):
    """How many rows of a cache are trained on, and which streams rows have."""

    by_chunk: tuple[int, ...]
    """Usable rows of each chunk."""
    by_streams: Mapping[tuple[str, ...], int]
    """Rows, usable or not, by the streams that they have; most first, none with no stream."""
    all_complete: bool
    """Whether all usable rows have all streams."""
    pair_rows: int
    """Rows that every pair of streams has, at least."""


def count_rows(cache: ActivationCache, streams: tuple[str, ...], rows: RowChoice) -> RowCounts:
    """Count the rows that are trained on.

    Args:
        cache: The cache.
        streams: The streams to train on.
        rows: Which rows those are.

    Raises:
        CacheError: No row is, or with `any` no row has one of the streams.
    """

    def count(chunk: int) -> tuple[int, Counter[tuple[str, ...]]]:
        valid = valid_flags(cache, chunk, streams)
        sets, counts = np.unique(valid, axis=0, return_counts=True)
        names = [tuple(np.array(streams, dtype=object)[has]) for has in sets]
        of_sets = zip(names, counts.tolist(), strict=True)
        return int(are_usable(valid, rows).sum()), Counter(dict(of_sets))

    with ThreadPoolExecutor(READING_THREADS) as threads:
        by_chunk, by_streams = zip(*threads.map(count, range(cache.info.chunks)), strict=True)
    total = sum(by_streams, Counter[tuple[str, ...]]())
    del total[()]
    why = f"`sparc-extract inspect {cache.folder}` says why rows were rejected"
    if not sum(by_chunk):
        raise CacheError(
            f"{cache.folder}: no row is valid in all of {', '.join(streams)}; {why}"
            if rows == "all"
            else f"{cache.folder}: no row is valid in one of {', '.join(streams)}; {why}"
        )
    if empty := [name for name in streams if not any(name in names for names in total)]:
        raise CacheError(
            f"{cache.folder}: no row is valid in {empty[0]}; {why}, and naming the others with "
            f"{setting('--stream', 'streams=')} leaves it out"
        )
    complete = rows == "all" or set(total) == {streams}
    pair_rows = min(
        sum(n for has, n in total.items() if {first, second} <= {*has})
        for first in streams
        for second in streams
    )
    return RowCounts(by_chunk, dict(total.most_common()), complete, pair_rows)


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
