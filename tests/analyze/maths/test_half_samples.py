import numpy as np
import pytest

from sparc.analyze.maths import half_samples


def test_the_interval_of_a_mean_is_not_narrowed():
    design = half_samples.design()
    assert set(design[:30].sum(axis=1)) == {8}
    assert set(design[30:].sum(axis=1)) == {4}
    for start in range(0, 30, 2):
        assert (design[start] + design[start + 1] == 1).all()
    for start in range(30, 50, 4):
        assert (design[start : start + 4].sum(axis=0) == 1).all()
    for folds in (16, 20):  # Where there are more than 16, samples are made of the first.
        values = np.random.default_rng(0).normal(size=(folds, 3))
        samples = design @ values[:16] / design.sum(axis=1, keepdims=True)
        without = (values.sum(axis=0) - values[:16]) / (folds - 1)
        assert half_samples.narrowing(samples, without, 1 / folds) == pytest.approx(np.ones(3))


def test_a_figure_with_a_kink_is_narrowed_to_about_its_spread():
    """|S| / n of a sum S around zero: the jackknife's variance is more than twice the true one."""
    generator = np.random.default_rng(1)
    design = half_samples.design()
    sums = generator.normal(size=(16, 2000))
    whole = np.abs(sums.sum(axis=0)) / 16
    without = np.abs(sums.sum(axis=0) - sums) / 15
    samples = np.abs(design @ sums) / design.sum(axis=1, keepdims=True)
    jackknife = 15 / 16 * ((without - without.mean(axis=0)) ** 2).sum(axis=0)
    narrowed = half_samples.narrowing(samples, without, 1 / 16) ** 2 * jackknife
    assert jackknife.mean() > 2 * whole.var()
    assert whole.var() < narrowed.mean() < 0.85 * jackknife.mean()


def test_an_undefined_figure_is_not_narrowed():
    samples, without = np.random.default_rng(2).random((50, 2)), np.ones((16, 2))
    samples[4, 0] = np.nan
    without[3, 0] = 2
    assert half_samples.narrowing(samples, without, 1 / 16).tolist() == [1, 1]
