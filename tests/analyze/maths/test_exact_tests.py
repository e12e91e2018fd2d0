"""Exact tests and odds ratios, against SciPy and formulas written out."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from sparc.analyze.maths import exact_tests


@given(data=st.data(), total=st.integers(1, 400))
def test_the_upper_tail_is_the_hypergeometric_one(data, total):
    first = data.draw(st.integers(0, total))
    second = data.draw(st.integers(0, total))
    both = np.arange(-1, min(first, second) + 2)
    expected = stats.hypergeom.sf(both - 1, total, first, second)
    np.testing.assert_allclose(
        exact_tests.upper_tail(both, total, first, second), expected, rtol=1e-7, atol=1e-13
    )


@pytest.mark.parametrize(
    ("both", "total", "first", "second"),
    [(90, 1_000_000, 300, 20_000), (100_500, 1_000_000, 200_000, 500_000), (40, 10**6, 40, 40)],
)
def test_the_upper_tail_of_a_million_items(both, total, first, second):
    expected = stats.hypergeom.logsf(both - 1, total, first, second)
    tail = exact_tests.upper_tail(both, total, first, second)
    assert np.log(tail) == pytest.approx(expected, rel=1e-6)


def test_the_two_sided_test_of_a_hand_made_table():
    # A lady tasting tea: 3 of 4 right. One tail is 17 / 70.
    assert exact_tests.fisher(3, 8, 4, 4) == pytest.approx(2 * 17 / 70)
    assert exact_tests.fisher(1, 8, 4, 4) == pytest.approx(2 * 17 / 70)
    assert exact_tests.fisher(2, 8, 4, 4) == 1


@given(seed=st.integers(0, 10_000))
def test_the_two_sided_test_bounds_the_one_of_scipy(seed):
    generator = np.random.default_rng(seed)
    a, b, c, d = generator.integers(0, 40, 4).tolist()
    p = float(exact_tests.fisher(a, a + b + c + d, a + b, a + c))
    tails = [
        stats.fisher_exact([[a, b], [c, d]], alternative=side).pvalue
        for side in ("less", "greater")
    ]
    assert p == pytest.approx(min(1, 2 * min(tails)), rel=1e-7)
    assert p == pytest.approx(float(exact_tests.fisher(a, a + b + c + d, a + c, a + b)), rel=1e-9)


@given(p=st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_adjusted_p_values_are_those_of_scipy(p):
    adjusted = exact_tests.benjamini_hochberg(np.array(p))
    np.testing.assert_allclose(adjusted, stats.false_discovery_control(p), rtol=1e-12)


def test_further_tests_count_as_not_significant():
    p = np.array([1e-5, 0.3, 1e-4])
    whole = stats.false_discovery_control([*p, *[1.0] * 97])
    adjusted = exact_tests.benjamini_hochberg(p, 100)
    np.testing.assert_allclose(adjusted[[0, 2]], whole[[0, 2]])
    assert adjusted[1] >= whole[1]


def test_no_p_value_to_adjust():
    assert len(exact_tests.benjamini_hochberg(np.array([]))) == 0


@given(seed=st.integers(0, 10_000))
def test_odds_ratios_and_their_intervals(seed):
    a, b, c, d = np.random.default_rng(seed).integers(0, 9, 4).tolist()
    ratio = exact_tests.odds_ratio(a, a + b + c + d, a + b, a + c)
    table = np.array([[a, b], [c, d]]) + 0.5
    log_odds = np.log(table[0, 0] * table[1, 1] / (table[0, 1] * table[1, 0]))
    assert ratio.log_odds == pytest.approx(log_odds)
    error = np.sqrt((1 / table).sum())
    assert ratio.low == pytest.approx(log_odds - 1.959963984540054 * error)
    assert ratio.high == pytest.approx(log_odds + 1.959963984540054 * error)
    assert ratio.error == pytest.approx(error)
