"""Tests of stratified tables, against convolutions written out."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from sparc.analyze.maths import exact_tests, stratified


def random_tables(seed, tests, strata, most):
    """Margins (tests, strata) and cells that they allow."""
    generator = np.random.default_rng(seed)
    total = generator.integers(1, most, (tests, strata))
    first, second = (generator.integers(0, total + 1) for _ in range(2))
    least, largest = np.maximum(0, first + second - total), np.minimum(first, second)
    return generator.integers(least, largest + 1), total, first, second


def convolved(total, first, second):
    """The whole distribution of the sum of hypergeometric variables."""
    mass = np.ones(1)
    for n, k, d in zip(total, first, second, strict=True):
        mass = np.convolve(mass, stats.hypergeom.pmf(np.arange(min(k, d) + 1), n, k, d))
    return mass


@settings(max_examples=25)
@given(seed=st.integers(0, 10_000), strata=st.integers(1, 5), most=st.integers(2, 60))
def test_tails_are_those_of_the_convolution(seed, strata, most):
    both, total, first, second = random_tables(seed, 20, strata, most)
    observed = both.sum(axis=1)
    upper = stratified.upper_tail(observed, total, first, second)
    two_sided = stratified.fisher(observed, total, first, second)
    for i, count in enumerate(observed):
        mass = convolved(total[i], first[i], second[i])
        more, fewer = mass[count:].sum(), mass[: count + 1].sum()
        assert upper[i] == pytest.approx(more, rel=1e-7, abs=1e-13)
        assert two_sided[i] == pytest.approx(min(1, 2 * min(more, fewer)), rel=1e-7)


@settings(max_examples=25)
@given(seed=st.integers(0, 10_000), most=st.integers(2, 2000))
def test_one_stratum_is_the_test_without_strata(seed, most):
    both, total, first, second = random_tables(seed, 10, 1, most)
    margins = total[:, 0], first[:, 0], second[:, 0]
    observed = both[:, 0]
    assert stratified.fisher(observed, total, first, second) == pytest.approx(
        exact_tests.fisher(observed, *margins), rel=1e-9
    )
    mine = stratified.odds_ratio(both, total, first, second)
    for name in ("log_odds", "low", "high"):
        expected = getattr(exact_tests.odds_ratio(observed, *margins), name)
        assert getattr(mine, name) == pytest.approx(expected, rel=1e-9, abs=1e-9)


def test_a_stratum_without_variation_changes_nothing():
    both, total, first, second = random_tables(3, 50, 2, 40)
    wider = [np.hstack([x, extra]) for x, extra in zip(
        (both, total, first, second),
        (np.full((50, 1), 7), np.full((50, 1), 30), np.full((50, 1), 30), np.full((50, 1), 7)),
        strict=True,
    )]  # fmt: skip
    plain = stratified.fisher(both.sum(axis=1), total, first, second)
    assert stratified.fisher(wider[0].sum(axis=1), *wider[1:]) == pytest.approx(plain, rel=1e-9)
    varies = ((first > 0) & (first < total) & (second > 0) & (second < total)).any(axis=1)
    ratios = [stratified.odds_ratio(*x) for x in ((both, total, first, second), wider)]
    assert ratios[1].low[varies] == pytest.approx(ratios[0].low[varies])


def test_tails_of_many_items_keep_their_digits():
    """Far out, where a distribution that is held as it is has only rounding left."""
    total = np.array([[50_000, 30_000]])
    first, second = np.array([[900, 1500]]), np.array([[20_000, 9_000]])
    x = [np.arange(min(k, d) + 1) for k, d in zip(first[0], second[0], strict=True)]
    logs = [stats.hypergeom.logpmf(x[s], total[0, s], first[0, s], second[0, s]) for s in range(2)]
    for observed in (820, 1000, 1200, 1500):
        rest = np.clip(observed - x[0], 0, len(x[1]))
        tails = np.append(np.logaddexp.accumulate(logs[1][::-1])[::-1], -np.inf)
        expected = np.logaddexp.reduce(logs[0] + tails[rest])
        mine = np.log(stratified.upper_tail([observed], total, first, second)[0])
        assert mine == pytest.approx(expected, rel=1e-6)


@settings(max_examples=20)
@given(seed=st.integers(0, 10_000), strata=st.integers(1, 3), most=st.integers(3, 40))
def test_larger_odds_against_all_divisions_of_the_sum(seed, strata, most):
    sides = [random_tables(seed + i, 20, strata, most) for i in (0, 50_000)]
    observed = [side[0].sum(axis=1) for side in sides]
    p = stratified.larger_odds(
        tuple(observed), *(tuple(side[i] for side in sides) for i in (1, 2, 3))
    )
    for i in range(20):
        one, other = (convolved(*(side[j][i] for j in (1, 2, 3))) for side in sides)
        both = observed[0][i] + observed[1][i]
        shares = np.array([
            one[x] * other[both - x] if both - x < len(other) else 0.0
            for x in range(min(both + 1, len(one)))
        ])  # fmt: skip
        expected = shares[observed[0][i] :].sum() / shares.sum()
        if p[i] < 1:
            assert p[i] == pytest.approx(expected, rel=1e-6)
        else:
            assert expected > 0.3  # p is 1 where the first set has no larger odds


def test_the_common_odds_ratio_of_a_published_table():
    """Breslow and Day (1980), volume 1, table 4.1 by age: alcohol and oesophageal cancer."""
    a, b = np.array([1, 4, 25, 42, 19, 5]), np.array([0, 5, 21, 34, 36, 8])
    c, d = np.array([9, 26, 29, 27, 18, 0]), np.array([106, 164, 138, 139, 88, 31])
    mine = stratified.odds_ratio(a, a + b + c + d, a + b, a + c)
    assert np.exp(mine.log_odds) == pytest.approx(5.158, abs=0.1)  # half a case is added
    assert mine.error == pytest.approx(0.19, abs=0.005)


def test_the_interval_covers_the_planted_ratio():
    generator = np.random.default_rng(2)
    total = np.array([400, 200, 60, 20])
    first, covered, runs = np.array([40, 60, 30, 12]), 0, 1000
    base = np.array([0.1, 0.2, 0.4, 0.6])
    odds = 2.5 * base / (1 - base)
    with_first = generator.binomial(first, odds / (1 + odds), (runs, 4))
    without = generator.binomial(total - first, base, (runs, 4))
    ratio = stratified.odds_ratio(with_first, total, first, with_first + without)
    covered = np.mean((ratio.low <= np.log(2.5)) & (ratio.high >= np.log(2.5)))
    assert 0.93 <= covered <= 0.97
