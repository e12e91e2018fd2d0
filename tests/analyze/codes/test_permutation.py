import pickle
from collections import Counter
from itertools import combinations, pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparc.analyze.codes.permutation import Permutation


def make(counts, sizes, block_rows, seed=0):
    return Permutation(
        counts=tuple(counts), sizes=np.array(sizes, np.int32), block_rows=block_rows, seed=seed
    )


def rows_of(counts):
    """The analysed rows of each chunk, numbered over all chunks."""
    ends = np.cumsum([0, *counts])
    return [np.arange(a, b) for a, b in pairwise(ends)]


def arrangement(permutation, stream):
    """The row of a stream in each place."""
    rows = rows_of(permutation.counts)
    result = {}
    for block, chunks in enumerate(permutation.blocks):
        places = np.concatenate([rows[chunk] for chunk in chunks])
        (moved, twice) = permutation.gather(block, stream, lambda c: [rows[c], rows[c] * 2])
        assert (twice == moved * 2).all()
        result.update(zip(places.tolist(), moved.tolist(), strict=True))
    return [result[place] for place in range(len(result))]


@st.composite
def sets(draw):
    """Images of one to four rows, cut into chunks anywhere, empty ones too."""
    sizes = draw(st.lists(st.integers(1, 4), min_size=1, max_size=30))
    rows = sum(sizes)
    cuts = sorted(draw(st.lists(st.integers(0, rows), max_size=8)))
    return np.diff([0, *cuts, rows]).tolist(), sizes


@given(made=sets(), block_rows=st.integers(1, 70), seed=st.integers(0, 100))
def test_images_move_whole_to_images_with_the_same_number_of_rows(made, block_rows, seed):
    counts, sizes = made
    permutation = make(counts, sizes, block_rows, seed)
    used = [chunk for chunk, count in enumerate(counts) if count]
    assert sorted(chunk for block in permutation.blocks for chunk in block) == used
    ends = np.cumsum(sizes)
    spans = [tuple(range(end - size, end)) for end, size in zip(ends, sizes, strict=True)]
    for stream in range(3):
        actual = arrangement(permutation, stream)
        assert sorted(actual) == list(range(sum(sizes)))
        moved = [tuple(actual[place] for place in span) for span in spans]
        assert sorted(moved) == spans


@given(made=sets(), seed=st.integers(0, 100))
def test_no_image_keeps_its_place_or_meets_itself(made, seed):
    counts, sizes = made
    permutation = make(counts, sizes, sum(sizes), seed)
    assert permutation.exact
    image_of = np.repeat(np.arange(len(sizes)), sizes)
    alike = Counter(sizes)
    assert permutation.inseparable(3) == sum(n for n in alike.values() if n <= 3)
    stand = [image_of, *(image_of[arrangement(permutation, stream)] for stream in range(3))]
    for place, image in enumerate(image_of):
        if alike[sizes[image]] > 3:
            assert all(a[place] != b[place] for a, b in combinations(stand, 2))


def test_an_image_alone_in_its_stratum_stays():
    permutation = make((5, 5), (2, 2, 3, 2, 1), 10)
    actual = arrangement(permutation, 0)
    assert actual[4:7] == [4, 5, 6]
    assert actual[9] == 9
    assert permutation.inseparable(2) == 2


def test_the_seed_decides_and_other_processes_permute_alike():
    permutation = make((50, 50), [2] * 50, 100, seed=1)
    first, second = arrangement(permutation, 0), arrangement(permutation, 1)
    assert first != second
    assert arrangement(make((50, 50), [2] * 50, 100, seed=1), 0) == first
    assert arrangement(make((50, 50), [2] * 50, 100, seed=2), 0) != first
    sent = pickle.dumps(permutation)
    assert arrangement(pickle.loads(sent), 1) == second
    assert len(sent) < 1000  # what follows from the fields does not travel


def test_one_block_is_exact_and_uniform():
    """Four images have (4 - 1)! = 6 rings, in each of which an image is moved to the next place."""
    counts = Counter()
    for seed in range(3000):
        permutation = make((4, 2), [1, 1, 2, 1, 1], 6, seed)
        assert permutation.exact
        places = arrangement(permutation, 0)
        assert places[2:4] == [2, 3]
        counts[tuple(places)] += 1
    assert len(counts) == 6
    assert all(abs(count - 500) < 5 * np.sqrt(500) for count in counts.values())


@given(
    counts=st.lists(st.integers(0, 5), min_size=1, max_size=12).filter(any),
    block_rows=st.integers(1, 70),
)
def test_blocks_are_as_large_as_allowed(counts, block_rows):
    permutation = make(counts, [1] * sum(counts), block_rows)
    assert permutation.exact == (sum(counts) <= block_rows or sum(map(bool, counts)) == 1)
    held = [sum(counts[chunk] for chunk in block) for block in permutation.blocks]
    assert all(
        h <= block_rows or len(b) == 1 for h, b in zip(held, permutation.blocks, strict=True)
    )


@pytest.mark.parametrize("captions", [1, 3])
def test_more_rows_than_a_block_are_mixed_from_chunks_all_over_the_set(captions):
    permutation = make((30,) * 40, [captions] * (1200 // captions), 300)
    assert not permutation.exact
    assert len(permutation.blocks) == 4
    rows = rows_of(permutation.counts)
    for stream in range(2):
        for block in range(4):
            chunks = []
            permutation.gather(block, stream, lambda c, read=chunks: (read.append(c), [rows[c]])[1])
            assert len(chunks) == 10
            assert max(chunks) - min(chunks) > 15


def test_images_across_chunks_cost_few_more_reads_than_whole_ones():
    permutation = make((32,) * 40, [5] * 256, 320)
    rows = rows_of(permutation.counts)
    for block in range(len(permutation.blocks)):
        chunks = []
        permutation.gather(block, 0, lambda c, read=chunks: (read.append(c), [rows[c]])[1])
        assert len(chunks) == len(set(chunks)) <= 3 * 10 + 2
