"""Intervals, against their definitions and by simulation."""

import numpy as np
import pytest
from scipy import stats

from sparc.analyze.maths import intervals


def without_each(values, figure, folds):
    """A figure of all values, then without each of some equal folds."""
    fold = np.arange(len(values)) % folds
    return [figure(values), *(figure(values[fold != g]) for g in range(folds))]


def test_the_jackknife_of_a_mean_with_folds_of_one_is_the_interval_of_a_mean():
    values = np.random.default_rng(0).exponential(size=30)
    interval = intervals.jackknife(without_each(values, np.mean, 30), 1 / 30)
    margin = stats.t.ppf(0.975, 29) * values.std(ddof=1) / np.sqrt(30)
    assert interval.low == pytest.approx(values.mean() - margin)
    assert interval.high == pytest.approx(values.mean() + margin)


@pytest.mark.parametrize("shares", [1.0, 0.1])
def test_the_jackknife_has_its_coverage(shares):
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
        interval = intervals.jackknife(figures, size / 400)
        held += bool(interval.low <= truth <= interval.high)
        width.append(float(interval.high - interval.low))
        estimates.append(figures[0])
    assert 0.93 <= held / 1000 <= 0.97
    assert np.mean(width) == pytest.approx(2 * stats.t.ppf(0.975, 19) * np.std(estimates), rel=0.06)


def test_many_figures_at_once_some_of_them_undefined():
    values = np.random.default_rng(0).normal(size=(40, 3))
    figures = np.array(without_each(values, lambda v: v.mean(axis=0), 20))
    figures[4, 1] = np.nan
    interval = intervals.jackknife(figures, 1 / 20)
    for column in (0, 2):
        single = intervals.jackknife(figures[:, column], 1 / 20)
        assert (interval.low[column], interval.high[column]) == (single.low, single.high)
    assert np.isnan(interval.low[1])
    assert np.isnan(interval.high[1])


def test_intervals_are_clipped_to_possible_values():
    interval = intervals.jackknife([0.01, 0, 0.05, 0.02], 1 / 3, least=0, most=1)
    assert interval.low == 0
    assert interval.high > 0.03
    # Rounding may put the figure itself slightly beyond.
    interval = intervals.jackknife([1 + 1e-15, 0.9, 1, 1], 1 / 3, least=0, most=1)
    assert interval.high == 1 + 1e-15


def test_fewer_than_two_folds_give_no_interval():
    for figures in ([0.5], [0.5, 0.4]):
        assert np.isnan(intervals.jackknife(figures, 0.5)).all()


def test_means_ignore_nan():
    means = intervals.mean_of_known(np.array([[1, np.nan, 3], [np.nan] * 3]))
    np.testing.assert_array_equal(means, [2, np.nan])
    assert intervals.nullable(means[1]) is None
    assert intervals.nullable(means[0]) == 2


@pytest.mark.parametrize(("successes", "trials"), [(0, 7), (1, 7), (7, 7), (3, 60), (250, 500)])
def test_a_share_has_its_mid_p_interval(successes, trials):
    interval = intervals.share_interval(successes / trials, trials)

    def tail(share, side):
        return side(share) + stats.binom.pmf(successes, trials, share) / 2

    if successes > 0:
        more = tail(interval.low, lambda share: stats.binom.sf(successes, trials, share))
        assert more == pytest.approx(0.025)
    else:
        assert interval.low == 0
    if successes < trials:
        fewer = tail(interval.high, lambda share: stats.binom.cdf(successes - 1, trials, share))
        assert fewer == pytest.approx(0.025)
    else:
        assert interval.high == 1


def test_an_undefined_share_has_no_interval():
    assert np.isnan(intervals.share_interval(np.nan, 7)).all()
    assert np.isnan(intervals.jackknife_share([0.5, 0.5], 1.0, 1)).all()
    mean, interval = intervals.mean_share([1, 0], [3, 3])
    assert mean == 0.5
    assert np.isnan(interval).all()


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_the_interval_of_a_share_of_0_or_1_narrows_with_the_images(share):
    few, many = (intervals.jackknife_share([share] * 21, 1 / 20, images) for images in (30, 3000))
    assert few.low <= share <= few.high
    assert few.high - few.low == pytest.approx(1 - 0.05 ** (1 / 30))
    assert many.high - many.low == pytest.approx(1 - 0.05 ** (1 / 3000))


def test_the_bound_on_what_was_not_observed():
    assert intervals.unseen_share(60_000) == pytest.approx(3 / 60_000, rel=0.01)
    assert intervals.unseen_share(1) == pytest.approx(0.95)
    assert intervals.unseen_share(0) == 1


def test_few_dominant_terms_leave_few_degrees_of_freedom():
    normal = np.random.default_rng(0).normal(size=4000)
    assert intervals.degrees_of_freedom(normal) == pytest.approx(4000, rel=0.1)
    one = np.zeros(20)
    one[3] = 1
    kurtosis = stats.kurtosis(one, fisher=False)
    assert intervals.degrees_of_freedom(one) == pytest.approx(40 / (kurtosis - 1))
    assert intervals.degrees_of_freedom(np.ones(20)) == 19
