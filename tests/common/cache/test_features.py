import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from sparc.common.cache.features import find_faults


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_every_kind_of_value(dtype) -> None:
    smallest = np.nextafter(np.array(0, dtype), np.array(1, dtype))
    largest = np.finfo(dtype).max
    rows = [[0, 0], [-0.0, 0], [smallest, 0], [-largest, largest], [np.nan, 1], [0, -np.inf]]
    faults = find_faults(np.array(rows, dtype))
    assert faults.zero.tolist() == [True, True, False, False, False, False]
    assert faults.not_finite.tolist() == [False, False, False, False, True, True]


@given(
    arrays.arrays(
        st.sampled_from([np.float16, np.float32, np.float64]),
        st.tuples(st.integers(0, 400), st.integers(1, 700)),
        elements=st.sampled_from([0.0, -0.0, 1.0, -3.0, np.nan, np.inf]),
        fill=st.just(0.0),
    )
)
def test_it_says_what_numpy_says(values) -> None:
    for part in (values, values[::2], values[:, ::-1]):
        faults = find_faults(part)
        np.testing.assert_array_equal(faults.not_finite, ~np.isfinite(part).all(axis=1))
        np.testing.assert_array_equal(faults.zero, ~part.any(axis=1))
