"""Reading batches from an activation cache: whole chunks in, shuffled float32 batches out.

`BatchReader` cuts batches along a `RowOrder`. Where the rows live meanwhile is its `residency`:

- `device`: all rows in the memory of the training device, picked there.
- `host`: all rows in main memory; a thread picks batches ahead of the trainer.
- `stream`: two blocks in main memory, whatever the size of the cache: one that batches are picked
  from and one that two threads read chunks into.

Residency changes where rows live, never which rows a batch has. This module must not know what
the batches are for.
"""

import itertools
import queue
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from sparc.common.cache.reader import ActivationCache
from sparc.common.errors import CacheError, ConfigError
from sparc.common.progress import progress
from sparc.train.config import Residency
from sparc.train.data.order import Block, RowOrder
from sparc.train.data.residency import choose_residency

READING_THREADS = 2
BATCHES_AHEAD = 4

SERIAL_VALUES = 32_000
"""The most values that torch converts on the calling thread alone (its grain is 32,768)."""


class Position(NamedTuple):
    """Where a reader stands: the batch that comes next.

    Attributes:
        epoch: Counted from 0.
        step: The batch of that epoch, counted from 0.
    """

    epoch: int
    step: int


class BatchReader:
    """An endless sequence of shuffled batches, epoch after epoch.

    Use it as a context manager, or call `close`: it owns threads.

    Args:
        cache: A complete cache.
        streams: The streams to read, in the order of the cache. Rows that are not valid in all of
            them are left out.
        batch_size: Rows of a batch, over all processes together.
        block_chunks: M, the chunks that are shuffled together.
        seed: Seed of the order of rows.
        residency: Where the rows live. `auto` chooses by their size.
        device: Where batches are wanted.
        rank: Which process this is.
        world: How many processes share every batch: each takes its own part of the rows.

    Raises:
        IncompleteCacheError: A chunk is missing.
        CacheError: No row is valid in all the streams.
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
        rank: int = 0,
        world: int = 1,
    ) -> None:
        cache.require_complete(streams)
        self.streams = streams
        self.device = device or torch.device("cpu")
        self.waited = 0.0
        """Seconds that the trainer has waited for batches so far."""
        self.order = RowOrder(
            usable=usable_rows(cache, streams),
            block_chunks=block_chunks,
            batch_size=batch_size,
            seed=seed,
        )
        if self.order.batch_rows % world:
            raise ConfigError(
                f"a batch of {self.order.batch_rows} rows cannot be shared by {world} processes: "
                "choose a --batch-size that they divide"
            )
        self._part = self.order.batch_rows // world
        self._rank = rank
        self.residency = choose_residency(
            residency, self.device, _bytes(cache, streams, cache.info.rows)
        )
        self.block_bytes = block_bytes(cache, streams, block_chunks)
        """Memory of a block; `stream` keeps two."""
        self._rows: _Rows
        if self.residency == "stream":
            self._rows = _StreamedRows(cache, streams, self.order)
        else:
            place = self.device if self.residency == "device" else torch.device("cpu")
            self._rows = _ResidentRows(cache, streams, place, quiet=rank > 0)
        self._dims = {name: cache.streams[name].dim for name in streams}
        self._dtypes = {name: getattr(torch, cache.streams[name].dtype) for name in streams}
        self._position = Position(0, 0)
        self._ahead: _Ahead | None = None
        self._direct: Iterator[dict[str, Tensor]] | None = None

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

    def next_batch(self) -> Mapping[str, Tensor]:
        """The next batch.

        Returns:
            By stream, (rows, dim) float32 on the device: this process's part of the batch. On a
            CPU the memory is used again by the next call.
        """
        started = time.perf_counter()
        if self._rows.device == self.device and self.device.type != "cpu":
            if self._direct is None:
                self._direct = self._picked(self._position, None)
            batch: Mapping[str, Tensor] = next(self._direct)
        else:
            if self._ahead is None:
                self._ahead = _Ahead(self, self._position)
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

    def buffers(self) -> dict[str, Tensor]:
        """Memory for a batch: float32; pinned and as stored where it goes on to a GPU."""
        place = self._rows.device
        if self.device.type == "cpu" or place.type != "cpu":
            return {
                name: torch.empty(self._part, dim, device=place) for name, dim in self._dims.items()
            }
        pinned = self.device.type == "cuda"
        return {
            name: torch.empty(self._part, dim, dtype=self._dtypes[name], pin_memory=pinned)
            for name, dim in self._dims.items()
        }

    def _picked(
        self, position: Position, pool: "queue.SimpleQueue[_Buffers | None] | None"
    ) -> Iterator[dict[str, Tensor]]:
        """Batches from a position on, in memory from the pool (new memory without one).

        Ends when the pool hands out None.
        """
        order, part = self.order, self._part
        epoch, step = position
        batch: dict[str, Tensor] | None = None
        for planned, loaded in self._rows.blocks(self._plan(position)):
            if planned.epoch != epoch:
                epoch, step = planned.epoch, 0
            block = planned.block
            end = block.first + block.rows
            shuffled = order.permutation(epoch, planned.number, block.rows)
            index = torch.from_numpy(loaded.usable[shuffled]).to(self._rows.device)
            while step < order.steps_per_epoch:
                # This process's part of the batch, as rows of the epoch.
                start = step * order.batch_rows + self._rank * part
                if batch is None:
                    batch = self._memory(pool)
                    if batch is None:
                        return
                low, high = max(start, block.first), min(start + part, end)
                if low < high:
                    picked = index[low - block.first : high - block.first]
                    for name in self.streams:
                        target = batch[name][low - start : high - start]
                        _pick(loaded.features[name], picked, target)
                if start + part > end:
                    break  # the rest of it lies in the next block
                yield batch
                batch = None
                step += 1

    def _plan(self, position: Position) -> Iterator["_Planned"]:
        """The blocks to read from a position on, epoch after epoch."""
        epoch, step = position
        begin = step * self.order.batch_rows
        while True:
            for number, block in enumerate(self.order.blocks(epoch)):
                if block.rows and block.first + block.rows > begin:
                    yield _Planned(epoch, number, block)
            epoch, begin = epoch + 1, 0

    def _memory(
        self, pool: "queue.SimpleQueue[_Buffers | None] | None"
    ) -> dict[str, Tensor] | None:
        if pool is None:
            return self.buffers()
        free = pool.get()
        if free is None:
            return None
        if free.copied is not None:
            free.copied.synchronize()
        return free.tensors


class _Planned(NamedTuple):
    """A block and when it is read."""

    epoch: int
    number: int
    block: Block


class _Buffers(NamedTuple):
    """Memory for a batch, and what must have happened before it may be written again."""

    tensors: dict[str, Tensor]
    copied: torch.cuda.Event | None


class _Ahead:
    """A thread that picks batches ahead of the trainer, in a ring of buffers."""

    def __init__(self, reader: BatchReader, position: Position) -> None:
        self._device = reader.device
        self._free: queue.SimpleQueue[_Buffers | None] = queue.SimpleQueue()
        self._full: queue.SimpleQueue[dict[str, Tensor] | BaseException] = queue.SimpleQueue()
        self._in_use: dict[str, Tensor] | None = None
        for _ in range(BATCHES_AHEAD + 1):
            self._free.put(_Buffers(reader.buffers(), None))
        self._batches = reader._picked(position, self._free)
        self._thread = threading.Thread(target=self._run, name="sparc-reader", daemon=True)
        self._thread.start()

    def next_batch(self) -> Mapping[str, Tensor]:
        if self._in_use is not None:
            self._free.put(_Buffers(self._in_use, None))
            self._in_use = None
        batch = self._full.get()
        if isinstance(batch, BaseException):
            self._full.put(batch)  # for whoever asks again
            raise batch
        if self._device.type == "cpu":
            self._in_use = batch
            return batch
        there = {name: t.to(self._device, non_blocking=True) for name, t in batch.items()}
        copied = None
        if self._device.type == "cuda":
            copied = torch.cuda.Event()  # type: ignore[no-untyped-call]
            copied.record(torch.cuda.current_stream(self._device))
        self._free.put(_Buffers(batch, copied))
        return {name: x.float() for name, x in there.items()}

    def close(self) -> None:
        self._free.put(None)
        # Buffers that are still in the pool come out before the None: a few batches at most.
        self._thread.join()

    def _run(self) -> None:
        try:
            for batch in self._batches:
                self._full.put(batch)
        except BaseException as error:
            self._full.put(error)


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


# ---------------------------------------------------------------------- where rows live


_Usable = npt.NDArray[np.int64]


class _Loaded(NamedTuple):
    """Rows in memory.

    Attributes:
        features: By stream, (rows, dim), as stored.
        usable: Which of these rows the block consists of: (rows of the block,) int64.
    """

    features: Mapping[str, Tensor]
    usable: _Usable


class _Rows(Protocol):
    """Where rows live."""

    device: torch.device

    def blocks(self, plan: Iterator[_Planned]) -> Iterator[tuple[_Planned, _Loaded]]:
        """The blocks of a plan, one after the other, in memory.

        A block may be used until the next one is asked for.
        """
        ...

    def close(self) -> None:
        """Stop threads."""
        ...


class _ResidentRows:
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
        self._features = {name: _empty(cache, name, cache.info.rows, device) for name in streams}
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

    def blocks(self, plan: Iterator[_Planned]) -> Iterator[tuple[_Planned, _Loaded]]:
        for planned in plan:
            usable = []
            for chunk in planned.block.chunks:
                rows = self._info.chunk_rows(chunk)
                usable.append(rows.start + np.flatnonzero(self._valid[rows.start : rows.stop]))
            yield planned, _Loaded(self._features, np.concatenate(usable))

    def close(self) -> None:
        self._features.clear()


class _StreamedRows:
    """Two blocks in main memory: one in use, the next being read."""

    device = torch.device("cpu")

    def __init__(self, cache: ActivationCache, streams: tuple[str, ...], order: RowOrder) -> None:
        self._cache = cache
        self._streams = streams
        self._threads = ThreadPoolExecutor(READING_THREADS, thread_name_prefix="sparc-reading")
        rows = min(order.block_chunks, cache.info.chunks) * cache.info.rows_per_chunk
        self._memory = [{name: _empty(cache, name, rows) for name in streams} for _ in range(2)]

    def blocks(self, plan: Iterator[_Planned]) -> Iterator[tuple[_Planned, _Loaded]]:
        coming: list[Future[_Usable]] = []
        try:
            planned = next(plan)
            coming = self._begin(planned.block, self._memory[0])
            for number in itertools.count():
                usable = np.concatenate([future.result() for future in coming])
                following = next(plan)
                coming = self._begin(following.block, self._memory[(number + 1) % 2])
                yield planned, _Loaded(self._memory[number % 2], usable)
                planned = following
        finally:
            # Wait: these reads write into memory that the next call of this method uses.
            for future in coming:
                if not future.cancel():
                    future.exception()

    def close(self) -> None:
        self._threads.shutdown(cancel_futures=True)

    def _begin(self, block: Block, memory: Mapping[str, Tensor]) -> list["Future[_Usable]"]:
        return [
            self._threads.submit(self._read, chunk, place, memory)
            for place, chunk in enumerate(block.chunks)
        ]

    def _read(self, chunk: int, place: int, memory: Mapping[str, Tensor]) -> _Usable:
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


def _empty(
    cache: ActivationCache, stream: str, rows: int, device: torch.device | None = None
) -> Tensor:
    info = cache.streams[stream]
    return torch.empty(rows, info.dim, dtype=getattr(torch, info.dtype), device=device)


# ---------------------------------------------------------------------- what there is to read


def usable_rows(cache: ActivationCache, streams: tuple[str, ...]) -> tuple[int, ...]:
    """How many rows of each chunk are valid in all the streams.

    Raises:
        CacheError: None is.
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
    """Memory of a block: chunks x rows a chunk x bytes of a row, as stored. `stream` keeps two."""
    chunks = min(block_chunks, cache.info.chunks)
    return _bytes(cache, streams, chunks * cache.info.rows_per_chunk)


def _bytes(cache: ActivationCache, streams: tuple[str, ...], rows: int) -> int:
    row = sum(
        cache.streams[name].dim * np.dtype(cache.streams[name].dtype).itemsize for name in streams
    )
    return rows * row
