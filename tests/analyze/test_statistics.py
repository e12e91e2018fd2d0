import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from sparc.analyze import statistics


@given(data=st.data(), total=st.integers(1, 400))
def test_the_upper_tail_is_the_hypergeometric_one(data, total):
    good = data.draw(st.integers(0, total))
    drawn = data.draw(st.integers(0, total))
    found = np.arange(-1, min(good, drawn) + 2)
    expected = stats.hypergeom.sf(found - 1, total, good, drawn)
    np.testing.assert_allclose(
        statistics.upper_tail(found, total, good, drawn), expected, rtol=1e-7, atol=1e-13
    )


@pytest.mark.parametrize(
    ("found", "total", "good", "drawn"),
    [(90, 1_000_000, 300, 20_000), (100_500, 1_000_000, 200_000, 500_000), (40, 10**6, 40, 40)],
)
def test_a_million_things(found, total, good, drawn):
    expected = stats.hypergeom.logsf(found - 1, total, good, drawn)
    found_tail = statistics.upper_tail(found, total, good, drawn)
    assert np.log(found_tail) == pytest.approx(expected, rel=1e-6)


def test_the_two_sided_test_of_a_hand_made_table():
    # A lady tasting tea: 3 of 4 right. One tail is 17 / 70.
    assert statistics.fisher(3, 8, 4, 4) == pytest.approx(2 * 17 / 70)
    assert statistics.fisher(1, 8, 4, 4) == pytest.approx(2 * 17 / 70)
    assert statistics.fisher(2, 8, 4, 4) == 1


@given(seed=st.integers(0, 10_000))
def test_the_two_sided_test_bounds_the_one_of_scipy(seed):
    generator = np.random.default_rng(seed)
    a, b, c, d = generator.integers(0, 40, 4).tolist()
    p = float(statistics.fisher(a, a + b + c + d, a + b, a + c))
    tails = [
        stats.fisher_exact([[a, b], [c, d]], alternative=side).pvalue
        for side in ("less", "greater")
    ]
    assert p == pytest.approx(min(1, 2 * min(tails)), rel=1e-7)
    assert p == pytest.approx(float(statistics.fisher(a, a + b + c + d, a + c, a + b)), rel=1e-9)


@given(p=st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_adjusted_p_values_are_those_of_scipy(p):
    found = statistics.adjust(np.array(p))
    np.testing.assert_allclose(found, stats.false_discovery_control(p), rtol=1e-12)


def test_tests_that_have_no_p_value_count_as_ones():
    p = np.array([1e-5, 0.3, 1e-4])
    whole = stats.false_discovery_control([*p, *[1.0] * 97])
    found = statistics.adjust(p, 100)
    np.testing.assert_allclose(found[[0, 2]], whole[[0, 2]])
    assert found[1] >= whole[1]


def test_nothing_to_adjust():
    assert len(statistics.adjust(np.array([]))) == 0


@given(seed=st.integers(0, 10_000))
def test_odds_ratios_and_their_intervals(seed):
    a, b, c, d = np.random.default_rng(seed).integers(0, 9, 4).tolist()
    found = statistics.odds_ratio(a, a + b + c + d, a + b, a + c)
    table = np.array([[a, b], [c, d]]) + 0.5
    log_odds = np.log(table[0, 0] * table[1, 1] / (table[0, 1] * table[1, 0]))
    assert found.log_odds == pytest.approx(log_odds)
    error = np.sqrt((1 / table).sum())
    assert found.low == pytest.approx(log_odds - 1.959963984540054 * error)
    assert found.high == pytest.approx(log_odds + 1.959963984540054 * error)
    assert found.error == pytest.approx(error)
