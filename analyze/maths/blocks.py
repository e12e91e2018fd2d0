"""Sums of which only a block fits into memory: each block is summed over ranges of parts.

Where counts of all pairs of latents are too large to be held, or to be sent part by part, a task
takes a block of them and reads the parts itself. With very many rows one task would take hours,
and few machines would have work: then a task reads a range of the parts, the sums of a block's
ranges are added up, and the block is finished where the last of them is added. Up to `ROWS` rows
there is one range, and nothing but what is left of a finished block leaves its task. This module
must not know what is summed.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Generic, NamedTuple, TypeVar

from sparc.analyze.maths.reduction import Reducer

T = TypeVar("T")
S = TypeVar("S")

ROWS = 1 << 22
"""Rows of a range, about: minutes to read."""


class BlockSums(NamedTuple, Generic[S, T]):
    """How the blocks of a sum are made; the functions must be picklable.

    Attributes:
        of_range: From what all tasks share, a block's number and a range of parts to their sum.
        add: The sum of consecutive ranges, which it leaves as they are.
        finish: From the number of a block and its sum over all parts to what is left of it.
        merge: Joins what is left of consecutive blocks.
    """

    of_range: Callable[[Any, int, range], S]
    add: Callable[[S, S], S]
    finish: Callable[[int, S], T]
    merge: Callable[[Sequence[T]], T]


class _Sum(NamedTuple, Generic[S]):
    """The sum of a block over some of its ranges."""

    block: int
    ranges: int
    sum: S


class _Finished(NamedTuple, Generic[T]):
    """What is left of some consecutive blocks."""

    result: T


_Pieces = list["_Sum[S] | _Finished[T]"]
"""In the order of blocks and ranges; only the first and the last one may be sums."""


def ranges_of(parts: int, rows: int) -> list[range]:
    """Consecutive ranges of parts, of about `ROWS` rows each.

    Args:
        parts: How many parts; at least one.
        rows: The rows of all parts together.
    """
    size = -(-parts // max(1, -(-rows // ROWS)))
    return [range(start, min(start + size, parts)) for start in range(0, parts, size)]


def reduce_blocks(
    reducer: Reducer, sums: BlockSums[S, T], shared: Any, blocks: int, ranges: Sequence[range]
) -> T:
    """Sum all blocks, and join what is left of them.

    Args:
        reducer: Runs the tasks.
        sums: How blocks are made.
        shared: What all tasks share, sent once to each worker.
        blocks: How many blocks; at least one.
        ranges: From `ranges_of`.
    """
    count = partial(_count, sums, ranges)
    merge = partial(_merge, sums, len(ranges))
    pieces = reducer.reduce(count, merge, shared, blocks * len(ranges))
    (finished,) = pieces
    assert isinstance(finished, _Finished)
    result: T = finished.result
    return result


def _count(
    sums: BlockSums[S, T], ranges: Sequence[range], shared: Any, number: int
) -> "_Pieces[S, T]":
    block, place = divmod(number, len(ranges))
    counted = sums.of_range(shared, block, ranges[place])
    if len(ranges) == 1:
        return [_Finished(sums.finish(block, counted))]
    return [_Sum(block, 1, counted)]


def _merge(
    sums: BlockSums[S, T], ranges: int, results: "Sequence[_Pieces[S, T]]"
) -> "_Pieces[S, T]":
    joined: list[_Sum[S] | _Finished[T]] = []
    for piece in (piece for pieces in results for piece in pieces):
        before = joined[-1] if joined else None
        if isinstance(piece, _Sum):
            whole = piece
            if isinstance(before, _Sum) and before.block == piece.block:
                joined.pop()
                whole = _Sum(
                    piece.block, before.ranges + piece.ranges, sums.add(before.sum, piece.sum)
                )
            if whole.ranges < ranges:
                joined.append(whole)
                continue
            piece = _Finished(sums.finish(whole.block, whole.sum))
            before = joined[-1] if joined else None
        if isinstance(before, _Finished):
            joined[-1] = _Finished(sums.merge([before.result, piece.result]))
        else:
            joined.append(piece)
    return joined
