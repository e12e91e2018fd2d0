import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from sparc.analyze.maths import statistics


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


def without_each(values, figure, folds):
    """A figure of all values, and of those that are left without each of some equal folds."""
    fold = np.arange(len(values)) % folds
    return [figure(values), *(figure(values[fold != g]) for g in range(folds))]


def test_the_jackknife_of_a_mean_with_folds_of_one_is_the_interval_of_a_mean():
    values = np.random.default_rng(0).exponential(size=30)
    found = statistics.jackknife(without_each(values, np.mean, 30), 1 / 30)
    margin = stats.t.ppf(0.975, 29) * values.std(ddof=1) / np.sqrt(30)
    assert found.low == pytest.approx(values.mean() - margin)
    assert found.high == pytest.approx(values.mean() + margin)


@pytest.mark.parametrize("shares", [1.0, 0.1])
def test_intervals_hold_the_truth_as_often_as_they_say(shares):
    """A ratio of sums, whose folds hold all values or a tenth of them."""
    generator = np.random.default_rng(0)
    truth, held, width, estimates = 3.0, 0, [], []
    for _ in range(1000):
        y = generator.exponential(size=400)
        x = 3 * y + generator.normal(size=400)
        sums = np.stack([x, y])
        folds = 20
        size = int(400 * shares) // folds
        left = [np.delete(sums, np.s_[g * size : (g + 1) * size], axis=1) for g in range(folds)]
        figures = [a.sum() / b.sum() for a, b in [sums, *left]]
        found = statistics.jackknife(figures, size / 400)
        held += bool(found.low <= truth <= found.high)
        width.append(float(found.high - found.low))
        estimates.append(figures[0])
    assert 0.93 <= held / 1000 <= 0.97
    assert np.mean(width) == pytest.approx(2 * stats.t.ppf(0.975, 19) * np.std(estimates), rel=0.06)


def test_many_figures_at_once_and_what_is_not_defined():
    values = np.random.default_rng(0).normal(size=(40, 3))
    figures = np.array(without_each(values, lambda v: v.mean(axis=0), 20))
    figures[4, 1] = np.nan
    found = statistics.jackknife(figures, 1 / 20)
    for column in (0, 2):
        alone = statistics.jackknife(figures[:, column], 1 / 20)
        assert (found.low[column], found.high[column]) == (alone.low, alone.high)
    assert np.isnan(found.low[1])
    assert np.isnan(found.high[1])


def test_an_interval_ends_where_figures_end():
    found = statistics.jackknife([0.01, 0, 0.05, 0.02], 1 / 3, least=0, most=1)
    assert found.low == 0
    assert found.high > 0.03
    # Rounding may put a figure itself a little beyond.
    found = statistics.jackknife([1 + 1e-15, 0.9, 1, 1], 1 / 3, least=0, most=1)
    assert found.high == 1 + 1e-15


def test_nothing_to_leave_out_gives_no_interval():
    for figures in ([0.5], [0.5, 0.4]):
        assert np.isnan(statistics.jackknife(figures, 0.5)).all()


def test_means_of_what_is_known():
    found = statistics.mean_of_known(np.array([[1, np.nan, 3], [np.nan] * 3]))
    np.testing.assert_array_equal(found, [2, np.nan])
    assert statistics.nullable(found[1]) is None
    assert statistics.nullable(found[0]) == 2


@pytest.mark.parametrize(("found", "trials"), [(0, 7), (1, 7), (7, 7), (3, 60), (250, 500)])
def test_a_share_has_its_mid_p_interval(found, trials):
    interval = statistics.share_interval(found / trials, trials)

    def tail(share, side):
        return side(share) + stats.binom.pmf(found, trials, share) / 2

    if found > 0:
        more = tail(interval.low, lambda share: stats.binom.sf(found, trials, share))
        assert more == pytest.approx(0.025)
    else:
        assert interval.low == 0
    if found < trials:
        fewer = tail(interval.high, lambda share: stats.binom.cdf(found - 1, trials, share))
        assert fewer == pytest.approx(0.025)
    else:
        assert interval.high == 1


def test_a_share_that_is_not_defined_has_no_interval():
    assert np.isnan(statistics.share_interval(np.nan, 7)).all()
    assert np.isnan(statistics.jackknife_share([0.5, 0.5], 1.0, 1)).all()
    mean, interval = statistics.mean_share([1, 0], [3, 3])
    assert mean == 0.5
    assert np.isnan(interval).all()


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_a_share_of_none_or_all_is_as_uncertain_as_its_images_are_few(share):
    few, many = (statistics.jackknife_share([share] * 21, 1 / 20, images) for images in (30, 3000))
    assert few.low <= share <= few.high
    assert few.high - few.low == pytest.approx(1 - 0.05 ** (1 / 30))
    assert many.high - many.low == pytest.approx(1 - 0.05 ** (1 / 3000))


def test_what_was_not_seen_may_be_there():
    assert statistics.unseen_share(60_000) == pytest.approx(3 / 60_000, rel=0.01)
    assert statistics.unseen_share(1) == pytest.approx(0.95)
    assert statistics.unseen_share(0) == 1


def test_few_terms_that_decide_leave_few_degrees_of_freedom():
    normal = np.random.default_rng(0).normal(size=4000)
    assert statistics.degrees_of_freedom(normal) == pytest.approx(4000, rel=0.1)
    one = np.zeros(20)
    one[3] = 1
    kurtosis = stats.kurtosis(one, fisher=False)
    assert statistics.degrees_of_freedom(one) == pytest.approx(40 / (kurtosis - 1))
    assert statistics.degrees_of_freedom(np.ones(20)) == 19
