"""Which latents are active on the same images, more often than chance would have it.

See `REPORT.md` for the table.
"""

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise, product
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from sparc.analyze.codes.code_rows import CodeRows, concatenate
from sparc.analyze.codes.code_sets import CodeSet
from sparc.analyze.codes.parts import Parts
from sparc.analyze.maths.exact_tests import benjamini_hochberg, upper_tail
from sparc.analyze.maths.reduction import Reducer

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

LEAST_IMAGES = 5
"""A pair is listed if both are active on so many images."""

LEAST_Z = 3.0
LARGEST_Q = 0.01

_BATCH = 16_384  # Images that are counted at a time.

_COUNTS = 2**24
"""Counts that a task holds, 64 MB of int32: the pairs of more latents than fit are counted in
several tasks."""

Integers = npt.NDArray[np.int64]


class Pairs(NamedTuple):
    """Pairs of latents, of a stream each; arrays of equal length.

    Attributes:
        first: The latent of the first stream.
        second: That of the second stream; the larger one, where this is the same stream.
        both: On how many images both are active.
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
        rows: How many images there are.
        active: On how many of them each latent is active, in the first stream and in the second.
        pairs: The pairs.
    """

    first: str
    second: str
    rows: int
    active: tuple[Integers, Integers]
    pairs: Pairs


class _Task(NamedTuple):
    stream: str
    other: str
    latents: range  # Of the stream; their partners are all latents of the other.


class _Shared(NamedTuple):
    parts: Parts
    counted: npt.NDArray[np.bool_]  # By row of the cache, whether it stands for its image.
    tasks: tuple[_Task, ...]
    partners: int


def find_pairs(
    parts: Parts, counted: npt.NDArray[np.int64], reducer: Reducer, *, partners: int
) -> list[StreamPairs]:
    """Find the pairs that meet more often than chance would have it.

    A task counts the pairs of some latents over all parts, so that counts never travel and memory
    does not grow with the rows.

    Args:
        parts: A set of codes that is not permuted.
        counted: The rows that count, one of each image.
        reducer: Runs the tasks.
        partners: A pair is kept if it is among so many of largest phi of one of its latents.

    Returns:
        Of each stream with itself and, where streams select alone, with each later stream.
    """
    flags = np.zeros(parts.cache.info.rows, dtype=np.bool_)
    flags[counted] = True
    shared = _Shared(parts, flags, tuple(_tasks(parts)), partners)
    found = reducer.reduce(_measure_task, _merge, shared, len(shared.tasks))
    return _merge([found])  # There may have been a single task, which nothing was merged with.


def table(found: Sequence[StreamPairs], code_set: CodeSet) -> pa.Table:
    """The pairs that are no accident, of schema `SCHEMA`."""
    pieces = [SCHEMA.empty_table()]
    for first, second, rows, active, pairs in found:
        a, b = active[0][pairs.first], active[1][pairs.second]
        tests = max(_tests(first == second, active), 1)
        q = benjamini_hochberg(upper_tail(pairs.both, rows, a, b), tests)
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
    for stream, other in product(parts.streams, repeat=2):
        # Selected together, the latents of two streams meet where those of one do.
        if stream == other or parts.code_set.mode == "independent":
            for start in range(0, parts.latents, block):
                yield _Task(stream, other, range(start, min(start + block, parts.latents)))


def _measure_task(shared: _Shared, number: int) -> list[StreamPairs]:
    """The strongest partners of some latents."""
    parts, task = shared.parts, shared.tasks[number]
    both = np.zeros((len(task.latents), parts.latents), np.int32)
    active = np.zeros((2, parts.latents), np.int64)
    rows = 0
    for codes in _batches(shared, task):
        rows += len(codes.rows)
        active += [
            np.bincount(codes.indices[s][codes.values[s] > 0], minlength=parts.latents)
            for s in (task.stream, task.other)
        ]
        _count(both, codes, task, parts.latents)
    pairs = _strongest(both, rows, active, task, shared.partners)
    found = StreamPairs(task.stream, task.other, rows, (active[0], active[1]), pairs)
    return [_in_order(found, parts.streams)]


def _batches(shared: _Shared, task: _Task) -> Iterator[CodeRows]:
    """The codes of one row of each image, of some parts at a time."""
    streams = tuple(dict.fromkeys((task.stream, task.other)))
    waiting: list[CodeRows] = []
    for part in range(len(shared.parts)):
        codes = shared.parts.codes(part, streams)
        waiting.append(codes.take(np.flatnonzero(shared.counted[codes.rows])))
        if part + 1 == len(shared.parts) or sum(len(x.rows) for x in waiting) >= _BATCH:
            yield concatenate(waiting)
            waiting = []


def _count(both: npt.NDArray[np.int32], codes: CodeRows, task: _Task, latents: int) -> None:
    """Add up what is active in the other stream on the rows of each latent of the first."""
    # What was selected but is not active counts as a latent beyond the last.
    partners = np.where(
        codes.values[task.other] > 0, codes.indices[task.other].astype(np.int64), latents
    )
    # A latent at a time: counts of one fit the processor's cache, those of all do not, and a
    # sparse product with as many entries as there are pairs takes several times as long.
    by_latent = codes.matrix(task.stream, latents)[
        :, task.latents.start : task.latents.stop
    ].tocsc()
    for line, (begin, end) in enumerate(pairwise(by_latent.indptr)):
        found = partners[by_latent.indices[begin:end]]
        both[line] += np.bincount(found.ravel(), minlength=latents + 1)[:latents]


def _strongest(
    both: npt.NDArray[np.int32], rows: int, active: Integers, task: _Task, partners: int
) -> Pairs:
    """Of each latent the partners of largest phi, ties going to the smaller latent."""
    # What `LEAST_Z` asks for, but for rounding: phi of the few that reach it is exact.
    mean = active[1] / rows * _ROUNDING
    deviation = LEAST_Z * np.sqrt(active[1] * (rows - active[1]) / rows) / rows * _ROUNDING
    found = []
    for latent, line in zip(task.latents, both, strict=True):
        a = int(active[0][latent])
        needed = a * mean + math.sqrt(a * (rows - a)) * deviation
        second = np.flatnonzero(line >= np.maximum(needed, LEAST_IMAGES))
        if task.stream == task.other:
            second = second[second != latent]
        meetings = line[second].astype(np.int64)
        phi = _phi(meetings, rows, a, active[1][second])
        order = np.argsort(-phi, kind="stable")[:partners]
        order = order[phi[order] * math.sqrt(rows) >= LEAST_Z]
        first = np.full(len(order), latent, np.int64)
        found.append(Pairs(first, second[order], meetings[order], phi[order]))
    return _concatenate(found)


_ROUNDING = 1 - 1e-9


def _phi(both: Integers, rows: int, first: int, second: Integers) -> npt.NDArray[np.float64]:
    """Pearson's correlation of two events; 0 where one of them always happens."""
    variances = float(first * (rows - first)) * (second * (rows - second))
    covariance = rows * both - first * second
    result: npt.NDArray[np.float64] = covariance / np.sqrt(np.maximum(variances, 1))
    return result


def _in_order(found: StreamPairs, streams: Sequence[str]) -> StreamPairs:
    """The same with the earlier stream first, or within one the smaller latent."""
    first, second, both, phi = found.pairs
    if found.first == found.second:
        smaller, larger = np.minimum(first, second), np.maximum(first, second)
        return found._replace(pairs=Pairs(smaller, larger, both, phi))
    if streams.index(found.first) < streams.index(found.second):
        return found
    swapped = Pairs(second, first, both, phi)
    return StreamPairs(found.second, found.first, found.rows, found.active[::-1], swapped)


def _merge(found: Sequence[list[StreamPairs]]) -> list[StreamPairs]:
    """All pairs of the same streams together, each once though both its latents list it."""
    groups: dict[tuple[str, str], list[StreamPairs]] = {}
    for each in (each for part in found for each in part):
        groups.setdefault((each.first, each.second), []).append(each)
    merged = []
    for blocks in groups.values():
        pairs = _concatenate([block.pairs for block in blocks])
        key = pairs.first * len(blocks[0].active[0]) + pairs.second
        merged.append(blocks[0]._replace(pairs=pairs.take(np.unique(key, return_index=True)[1])))
    return merged


def _concatenate(found: Sequence[Pairs]) -> Pairs:
    return Pairs(*(np.concatenate(columns) for columns in zip(*found, strict=True)))


def _tests(within: bool, active: tuple[Integers, Integers]) -> int:
    """How many pairs could have been listed."""
    first, second = (int(np.count_nonzero(each >= LEAST_IMAGES)) for each in active)
    return first * (first - 1) // 2 if within else first * second
