from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparc.analyze.permutation import Permutation


def rows_of(counts):
    """The analysed rows of each chunk, by a number of their own."""
    ends = np.cumsum([0, *counts])
    return [np.arange(a, b) for a, b in pairwise(ends)]


def arrangement(permutation, stream):
    """Which row of a stream stands in each place, by the place's own number."""
    rows = rows_of(permutation.counts)
    result = {}
    for block, chunks in enumerate(permutation.blocks):
        places = np.concatenate([rows[chunk] for chunk in chunks])
        (moved, twice) = permutation.gather(block, stream, lambda c: [rows[c], rows[c] * 2])
        assert (twice == moved * 2).all()
        result.update(zip(places.tolist(), moved.tolist(), strict=True))
    return result


@given(
    counts=st.lists(st.integers(0, 5), min_size=1, max_size=12).filter(any),
    block_rows=st.integers(1, 70),
    seed=st.integers(0, 100),
)
def test_every_row_stands_in_one_place(counts, block_rows, seed):
    permutation = Permutation(counts=tuple(counts), block_rows=block_rows, seed=seed)
    used = [chunk for chunk, count in enumerate(counts) if count]
    assert sorted(chunk for block in permutation.blocks for chunk in block) == used
    for stream in range(3):
        found = arrangement(permutation, stream)
        assert sorted(found) == sorted(found.values()) == list(range(sum(counts)))


def test_streams_move_each_in_its_own_way_and_the_seed_decides():
    permutation = Permutation(counts=(50, 50), block_rows=100, seed=1)
    first, second = arrangement(permutation, 0), arrangement(permutation, 1)
    together = sum(first[place] == second[place] for place in first)
    assert together < 10
    assert arrangement(permutation, 0) == first
    other = Permutation(counts=(50, 50), block_rows=100, seed=2)
    assert arrangement(other, 0) != first


def test_one_block_is_exact_and_uniform():
    seen = Counter()
    for seed in range(3000):
        permutation = Permutation(counts=(2, 1), block_rows=4, seed=seed)
        assert permutation.exact
        seen[tuple(arrangement(permutation, 0)[place] for place in range(3))] += 1
    assert len(seen) == 6
    assert all(abs(count - 500) < 5 * np.sqrt(500) for count in seen.values())


@given(
    counts=st.lists(st.integers(0, 5), min_size=1, max_size=12).filter(any),
    block_rows=st.integers(1, 70),
)
def test_blocks_hold_as_many_rows_as_they_may(counts, block_rows):
    permutation = Permutation(counts=tuple(counts), block_rows=block_rows, seed=0)
    assert permutation.exact == (sum(counts) <= block_rows or sum(map(bool, counts)) == 1)
    held = [sum(counts[chunk] for chunk in block) for block in permutation.blocks]
    assert all(
        h <= block_rows or len(b) == 1 for h, b in zip(held, permutation.blocks, strict=True)
    )


def test_more_rows_than_a_block_are_mixed_from_chunks_all_over_the_set():
    permutation = Permutation(counts=(10,) * 40, block_rows=100, seed=0)
    assert not permutation.exact
    assert len(permutation.blocks) == 4
    for stream in range(2):
        for block in range(4):
            chunks = [piece.chunk for piece in permutation.pieces(block, stream)]
            assert len(chunks) == 10
            assert max(chunks) - min(chunks) > 15
    with pytest.raises(IndexError):
        permutation.pieces(4, 0)
