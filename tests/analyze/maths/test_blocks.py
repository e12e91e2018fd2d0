from functools import partial

import numpy as np
import pytest

from sparc.analyze.maths import blocks
from sparc.analyze.maths.blocks import BlockSums, ranges_of, reduce_blocks
from sparc.analyze.maths.reduction import Reducer

PARTS, BLOCKS = 23, 5
NUMBERS = np.random.default_rng(0).integers(0, 1000, (BLOCKS, PARTS))


def of_range(numbers, block, parts):
    return numbers[block, parts.start : parts.stop].sum()


def add(first, second):
    return first + second


def finish(finished, block, total):
    finished.append(block)
    return [(block, int(total))]


def merge(results):
    return [line for lines in results for line in lines]


@pytest.mark.parametrize("rows", [100, 1000, 5000, 10**6])
@pytest.mark.parametrize("scheduler", ["sync", "threads"])
def test_blocks_are_summed_over_all_ranges_and_finished_once(monkeypatch, rows, scheduler):
    monkeypatch.setattr(blocks, "ROWS", 1000)
    ranges = ranges_of(PARTS, rows)
    assert len(ranges) == {100: 1, 1000: 1, 5000: 5, 10**6: PARTS}[rows]
    assert [part for of in ranges for part in of] == list(range(PARTS))
    finished = []
    sums = BlockSums(of_range, add, partial(finish, finished), merge)
    actual = reduce_blocks(Reducer(scheduler, 2), sums, NUMBERS, BLOCKS, ranges)
    assert actual == [(block, NUMBERS[block].sum()) for block in range(BLOCKS)]
    assert sorted(finished) == list(range(BLOCKS))


def test_few_sums_wait_for_the_rest_of_their_block(monkeypatch):
    """However pieces are joined, all but the first and the last block are finished."""
    sums = BlockSums(of_range, add, partial(finish, []), merge)
    ranges = ranges_of(PARTS, blocks.ROWS * PARTS)
    pieces = [blocks._count(sums, ranges, NUMBERS, n) for n in range(BLOCKS * PARTS)]
    for begin, end in ((0, PARTS * 2 + 3), (5, PARTS * 4 - 2), (PARTS, PARTS * 2)):
        joined = blocks._merge(sums, PARTS, pieces[begin:end])
        waiting = [piece for piece in joined if isinstance(piece, blocks._Sum)]
        assert len(joined) <= 3
        assert len(waiting) == (begin % PARTS > 0) + (end % PARTS > 0)
