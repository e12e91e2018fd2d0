"""How many rows of a cache are trained on, and which streams rows have."""

import json
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

from sparc.common.cache.reader import ActivationCache
from sparc.common.errors import CacheError, setting
from sparc.train.config import RowChoice
from sparc.train.data.rows import READING_THREADS, are_usable, valid_flags
from sparc.train.distributed.exchange import Exchange
from sparc.train.distributed.processes import gather_bytes

FEW_ROWS = 300
"""Fewer rows to learn from are called few."""


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


class _OfChunk(NamedTuple):
    """Of a chunk, its usable rows, and how many rows have which streams, by their places."""

    usable: int
    sets: list[tuple[list[int], int]]


def count_rows(
    cache: ActivationCache,
    streams: tuple[str, ...],
    rows: RowChoice,
    exchange: Exchange | None = None,
) -> RowCounts:
    """Count the rows that are trained on.

    Args:
        cache: The cache.
        streams: The streams to train on.
        rows: Which rows those are.
        exchange: The processes, of which each counts its share of the chunks; None: one does.

    Raises:
        CacheError: No row is, or with `any` no row has one of the streams.
    """
    of_chunks = _of_chunks(cache, streams, rows, exchange)
    total: Counter[tuple[str, ...]] = Counter()
    for of_chunk in of_chunks:
        for places, count in of_chunk.sets:
            total[tuple(streams[place] for place in places)] += count
    del total[()]
    by_chunk = tuple(of_chunk.usable for of_chunk in of_chunks)
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


def _of_chunks(
    cache: ActivationCache,
    streams: tuple[str, ...],
    rows: RowChoice,
    exchange: Exchange | None,
) -> list[_OfChunk]:
    """What is counted in every chunk, in order."""

    def count(chunk: int) -> _OfChunk:
        valid = valid_flags(cache, chunk, streams)
        sets, counts = np.unique(valid, axis=0, return_counts=True)
        places = [np.flatnonzero(has).tolist() for has in sets]
        usable = int(are_usable(valid, rows).sum())
        return _OfChunk(usable, list(zip(places, counts.tolist(), strict=True)))

    chunks = range(cache.info.chunks)
    mine = chunks if exchange is None else chunks[exchange.rank :: exchange.world]
    with ThreadPoolExecutor(READING_THREADS) as threads:
        counted = list(threads.map(count, mine))
    if exchange is None:
        return counted
    said = gather_bytes(exchange.gather, json.dumps(counted).encode())
    of_processes = [[_OfChunk(*entry) for entry in json.loads(text)] for text in said]
    return [of_processes[chunk % exchange.world][chunk // exchange.world] for chunk in chunks]
