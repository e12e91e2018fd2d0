import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from sparc.common import rle

masks = arrays(np.bool_, st.tuples(st.integers(1, 12), st.integers(1, 12)))


@given(masks)
def test_round_trip(mask):
    counts = rle.encode(mask)
    np.testing.assert_array_equal(rle.decode(counts, *mask.shape), mask)
    assert rle.decompress(rle.compress(counts)) == counts.tolist()
    # Runs are as long as can be: only the first, of zeros, may be empty.
    assert (counts[1:] > 0).all()


def test_runs_go_column_by_column_and_begin_with_zeros():
    mask = np.array([[1, 0, 0], [1, 1, 0]], bool)
    assert rle.encode(mask).tolist() == [0, 2, 1, 1, 2]


@pytest.mark.parametrize(
    ("counts", "text"),
    [
        ([3, 2], "32"),
        ([0, 5, 40], "05X1"),
        ([1, 2, 3, 1], "123O"),
        ([100_000, 1, 2, 1], None),
    ],
)
def test_strings_worked_out_by_hand(counts, text):
    if text is not None:
        assert rle.compress(counts) == text
    assert rle.decompress(rle.compress(counts)) == counts


@given(st.lists(st.integers(0, 2**31 - 1), max_size=12))
def test_strings_of_any_runs(counts):
    assert rle.decompress(rle.compress(counts)) == counts


@pytest.mark.parametrize("text", ["X", "é", " ", "\x7f" * 3, "XXXXXXXXXX1"])
def test_other_strings_are_refused(text):
    with pytest.raises(ValueError, match="run-length"):
        rle.decompress(text)


@pytest.mark.parametrize("counts", [[3], [7, -1], [10], ["6"], [6.0], [[6]], [2**40, -(2**40) + 6]])
def test_other_runs_are_refused(counts):
    with pytest.raises(ValueError, match="run"):
        rle.decode(counts, 2, 3)
