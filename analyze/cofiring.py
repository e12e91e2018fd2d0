"""Which latents are active on the same pictures, more often than chance would have it.

See `REPORT.md` for the table.
"""

from collections.abc import Iterator, Sequence
from functools import partial
from itertools import combinations_with_replacement
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from scipy import sparse

from sparc.analyze.codes import CodeSet
from sparc.analyze.parts import Parts
from sparc.analyze.reduction import Executor
from sparc.analyze.statistics import adjust, upper_tail

SCHEMA = pa.schema(
    [
        pa.field("mode", pa.string(), nullable=False),
        pa.field("first", pa.string(), nullable=False),
        pa.field("second", pa.string(), nullable=False),
        pa.field("first_latent", pa.int32(), nullable=False),
        pa.field("second_latent", pa.int32(), nullable=False),
        pa.field("pictures_both", pa.int64(), nullable=False),
        pa.field("pictures_first", pa.int64(), nullable=False),
        pa.field("pictures_second", pa.int64(), nullable=False),
        pa.field("expected", pa.float64(), nullable=False),
        pa.field("lift", pa.float64(), nullable=False),
        pa.field("jaccard", pa.float64(), nullable=False),
        pa.field("phi", pa.float64(), nullable=False),
        pa.field("q", pa.float64(), nullable=False),
    ]
)

LEAST_PICTURES = 5
"""A pair is listed if both are active on so many pictures."""

LARGEST_Q = 0.01

_BATCH = 4096  # Pictures a product.

_COUNTS = 2**24
"""Counts that a task holds, 64 MB of int32: the pairs of more latents than fit are counted in
several tasks."""

_TESTED = 2**20  # Counts that are looked through at a time.

Integers = npt.NDArray[np.int64]


class Pairs(NamedTuple):
    """Pairs of latents, of a stream each; arrays of equal length.

    Attributes:
        first: The latent of the first stream.
        second: That of the second stream; the larger one, where this is the same stream.
        both: On how many pictures both are active.
        phi: Pearson's correlation of their being active.
    """

    first: Integers
    second: Integers
    both: Integers
    phi: npt.NDArray[np.float64]

    def take(self, positions: npt.NDArray[np.integer]) -> "Pairs":
        """Some of the pairs, by position."""
        return Pairs(*(column[positions] for column in self))


class StreamPairs(NamedTuple):
    """The strongest pairs of the latents of two streams, or of one.

    Attributes:
        first: A stream.
        second: A later stream, or the same.
        rows: How many pictures there are.
        active: On how many of them each latent is active, in the first stream and in the second.
        pairs: The pairs.
    """

    first: str
    second: str
    rows: int
    active: tuple[Integers, Integers]
    pairs: Pairs


class _Task(NamedTuple):
    first: str
    second: str
    latents: range  # Of the first stream.


class _Shared(NamedTuple):
    parts: Parts
    counted: npt.NDArray[np.bool_]  # By row of the cache, whether it stands for its picture.
    tasks: tuple[_Task, ...]
    partners: int


def measure(
    parts: Parts, counted: npt.NDArray[np.int64], reducer: Executor, *, partners: int
) -> list[StreamPairs]:
    """Find the pairs that meet more often than chance would have it.

    A task counts the pairs of some latents over all parts, so that counts never travel and memory
    does not grow with the rows.

    Args:
        parts: A set of codes that is not permuted.
        counted: The rows that count, one of each picture.
        reducer: Runs the tasks.
        partners: A pair is kept if it is among so many of largest phi of one of its latents.

    Returns:
        Of each stream with itself and, where streams select alone, with each later stream.
    """
    flags = np.zeros(parts.cache.info.rows, dtype=np.bool_)
    flags[counted] = True
    shared = _Shared(parts, flags, tuple(_tasks(parts)), partners)
    return reducer.reduce(_count_task, partial(_merge, partners), shared, len(shared.tasks))


def table(found: Sequence[StreamPairs], code_set: CodeSet) -> pa.Table:
    """The pairs that are no accident, of schema `SCHEMA`."""
    pieces = [SCHEMA.empty_table()]
    for first, second, rows, active, pairs in found:
        a, b = active[0][pairs.first], active[1][pairs.second]
        q = adjust(upper_tail(pairs.both, rows, a, b), max(_tests(first == second, active), 1))
        expected = a * (b / rows)
        columns = {
            "mode": [code_set.mode] * len(a),
            "first": [first] * len(a),
            "second": [second] * len(a),
            "first_latent": pairs.first.astype(np.int32),
            "second_latent": pairs.second.astype(np.int32),
            "pictures_both": pairs.both,
            "pictures_first": a,
            "pictures_second": b,
            "expected": expected,
            "lift": pairs.both / expected,
            "jaccard": pairs.both / (a + b - pairs.both),
            "phi": pairs.phi,
            "q": q,
        }
        listed = pa.table(columns, schema=SCHEMA).filter(pa.array(q <= LARGEST_Q))
        pieces.append(listed.sort_by([("first_latent", "ascending"), ("phi", "descending")]))
    return pa.concat_tables(pieces)


def _tasks(parts: Parts) -> Iterator[_Task]:
    block = max(1, _COUNTS // parts.latents)
    for first, second in combinations_with_replacement(parts.streams, 2):
        # Selected together, the latents of two streams meet where those of one do.
        if first == second or parts.code_set.mode == "independent":
            for start in range(0, parts.latents, block):
                latents = range(start, min(start + block, parts.latents))
                yield _Task(first, second, latents)


def _count_task(shared: _Shared, number: int) -> list[StreamPairs]:
    parts, task = shared.parts, shared.tasks[number]
    start, stop = task.latents.start, task.latents.stop
    # Within a stream a pair is counted once, with the smaller latent first.
    offset = start if task.first == task.second else 0
    both = np.zeros((stop - start, parts.latents - offset), np.int32)
    active = np.zeros((2, parts.latents), np.int64)
    rows = 0
    for part in range(len(parts)):
        codes = parts.codes(part, tuple(dict.fromkeys((task.first, task.second))))
        counted = np.flatnonzero(shared.counted[codes.rows])
        rows += len(counted)
        for begin in range(0, len(counted), _BATCH):
            batch = codes.take(counted[begin : begin + _BATCH])
            first, second = (
                (batch.matrix(stream, parts.latents) > 0).astype(np.int32)
                for stream in (task.first, task.second)
            )
            active += [np.bincount(x.indices, minlength=parts.latents) for x in (first, second)]
            _add_to(both, first[:, start:stop].T.tocsr() @ second[:, offset:])
    pairs = _pairs(both, rows, active, start, offset, task.first == task.second, shared.partners)
    return [StreamPairs(task.first, task.second, rows, (active[0], active[1]), pairs)]


def _add_to(total: npt.NDArray[np.int32], counts: sparse.csr_matrix) -> None:
    lines = np.repeat(np.arange(counts.shape[0]), np.diff(counts.indptr))
    total[lines, counts.indices] += counts.data


def _pairs(
    both: npt.NDArray[np.int32],
    rows: int,
    active: Integers,
    start: int,
    offset: int,
    within: bool,
    partners: int,
) -> Pairs:
    """The strongest pairs of a block of counts, whose corner is the pair (start, offset)."""
    found = []
    step = max(1, _TESTED // both.shape[1])
    for line in range(0, len(both), step):
        some = both[line : line + step]
        first, second = np.nonzero(some >= LEAST_PICTURES)
        meetings = some[first, second].astype(np.int64)
        first, second = first + (start + line), second + offset
        phi = _phi(meetings, rows, active[0][first], active[1][second])
        kept = (phi > 0) & (second > first) if within else phi > 0
        pairs = Pairs(first, second, meetings, phi).take(np.flatnonzero(kept))
        found.append(_strongest(pairs, partners, within=within))
    return _strongest(_concatenate(found), partners, within=within)


def _phi(both: Integers, rows: int, first: Integers, second: Integers) -> npt.NDArray[np.float64]:
    """Pearson's correlation of two events; 0 where one of them always happens."""
    variances = (first * (rows - first)).astype(np.float64) * (second * (rows - second))
    covariance = rows * both - first * second
    result: npt.NDArray[np.float64] = covariance / np.sqrt(np.maximum(variances, 1))
    return result


def _strongest(pairs: Pairs, partners: int, *, within: bool) -> Pairs:
    """The pairs that are among the first of one of their latents, by descending phi.

    What falls out of the lists over some pairs would fall out of those over all pairs.
    """
    order = np.lexsort((pairs.second, pairs.first, -pairs.phi))
    pairs = pairs.take(order)
    if within:
        # Both latents are of one stream, and have one list each.
        position = np.tile(np.arange(len(order)), 2)
        latents = np.concatenate([pairs.first, pairs.second])
        by_rank = np.argsort(position, kind="stable")
        kept = position[by_rank][_rank(latents[by_rank]) < partners]
    else:
        ranks = np.minimum(_rank(pairs.first), _rank(pairs.second))
        kept = np.flatnonzero(ranks < partners)
    return pairs.take(np.unique(kept))


def _rank(latents: Integers) -> Integers:
    """For each entry, how many entries of the same latent come before it."""
    order = np.argsort(latents, kind="stable")
    ordered = latents[order]
    result = np.empty_like(order)
    result[order] = np.arange(len(order)) - np.searchsorted(ordered, ordered, side="left")
    return result


def _merge(partners: int, found: Sequence[list[StreamPairs]]) -> list[StreamPairs]:
    groups: dict[tuple[str, str], list[StreamPairs]] = {}
    for each in (each for part in found for each in part):
        groups.setdefault((each.first, each.second), []).append(each)
    return [
        blocks[0]._replace(
            pairs=_strongest(
                _concatenate([block.pairs for block in blocks]), partners, within=first == second
            )
        )
        for (first, second), blocks in groups.items()
    ]


def _concatenate(found: Sequence[Pairs]) -> Pairs:
    return Pairs(*(np.concatenate(columns) for columns in zip(*found, strict=True)))


def _tests(within: bool, active: tuple[Integers, Integers]) -> int:
    """How many pairs could have been listed."""
    first, second = (int(np.count_nonzero(each >= LEAST_PICTURES)) for each in active)
    return first * (first - 1) // 2 if within else first * second
