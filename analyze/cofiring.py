"""Which latents are active on the same pictures, more often than chance would have it.

See `REPORT.md` for the table.
"""

import math
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import combinations_with_replacement, pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from sparc.analyze.codes import CodeRows, CodeSet, concatenate
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

LEAST_Z = 3.0
LARGEST_Q = 0.01

_BATCH = 16_384  # Pictures that are counted at a time.

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
    both = np.zeros((len(task.latents), parts.latents), np.int32)
    active = np.zeros((2, parts.latents), np.int64)
    rows = 0
    for codes in _batches(shared, task):
        rows += len(codes.rows)
        active += [
            np.bincount(codes.indices[s][codes.values[s] > 0], minlength=parts.latents)
            for s in (task.first, task.second)
        ]
        _count(both, codes, task, parts.latents)
    pairs = _pairs(both, rows, active, task, shared.partners)
    return [StreamPairs(task.first, task.second, rows, (active[0], active[1]), pairs)]


def _batches(shared: _Shared, task: _Task) -> Iterator[CodeRows]:
    """The codes of one row of each picture, of some parts at a time."""
    streams = tuple(dict.fromkeys((task.first, task.second)))
    waiting: list[CodeRows] = []
    for part in range(len(shared.parts)):
        codes = shared.parts.codes(part, streams)
        waiting.append(codes.take(np.flatnonzero(shared.counted[codes.rows])))
        if part + 1 == len(shared.parts) or sum(len(x.rows) for x in waiting) >= _BATCH:
            yield concatenate(waiting)
            waiting = []


def _count(both: npt.NDArray[np.int32], codes: CodeRows, task: _Task, latents: int) -> None:
    """Add up what is active in the second stream on the rows of each latent of the first."""
    # What was selected but is not active counts as a latent beyond the last.
    partners = np.where(
        codes.values[task.second] > 0, codes.indices[task.second].astype(np.int64), latents
    )
    # A latent at a time: counts of one fit the processor's cache, those of all do not, and a
    # sparse product with as many entries as there are pairs takes several times as long.
    by_latent = codes.matrix(task.first, latents)[:, task.latents.start : task.latents.stop].tocsc()
    for line, (begin, end) in enumerate(pairwise(by_latent.indptr)):
        found = partners[by_latent.indices[begin:end]]
        both[line] += np.bincount(found.ravel(), minlength=latents + 1)[:latents]


def _pairs(
    both: npt.NDArray[np.int32], rows: int, active: Integers, task: _Task, partners: int
) -> Pairs:
    """The strongest pairs of what a task has counted."""
    within = task.first == task.second
    found = []
    step = max(1, _TESTED // both.shape[1])
    for line in range(0, len(both), step):
        some = both[line : line + step]
        latents = np.arange(len(some)) + task.latents[line]
        at, second = _often(some, rows, active[0][latents], active[1])
        first, meetings = latents[at], some[at, second].astype(np.int64)
        phi = _phi(meetings, rows, active[0][first], active[1][second])
        kept = phi * np.sqrt(rows) >= LEAST_Z
        if within:  # every pair was counted from either side
            kept &= first < second
        pairs = Pairs(first, second, meetings, phi).take(np.flatnonzero(kept))
        found.append(_strongest(pairs, partners, within=within))
    return _strongest(_concatenate(found), partners, within=within)


def _often(
    both: npt.NDArray[np.int32], rows: int, first: Integers, second: Integers
) -> tuple[Integers, Integers]:
    """Where counts reach `LEAST_PICTURES` and, but for rounding, `LEAST_Z`: lines and columns."""
    mean = second / rows * _ROUNDING
    deviation = LEAST_Z * np.sqrt(second * (rows - second) / rows) / rows * _ROUNDING
    found = []
    # A line at a time stays in the processor's cache.
    for line, a in zip(both, first.tolist(), strict=True):
        needed = a * mean + math.sqrt(a * (rows - a)) * deviation
        found.append(np.flatnonzero(line >= np.maximum(needed, LEAST_PICTURES)))
    lines = np.repeat(np.arange(len(both)), [len(columns) for columns in found])
    return lines, np.concatenate(found)


_ROUNDING = 1 - 1e-9


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
