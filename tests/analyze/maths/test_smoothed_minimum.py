import numpy as np
import pytest

from sparc.analyze.maths.smoothed_minimum import minimum


@pytest.mark.parametrize("mean", [-30.0, -2.0, -0.4, 0.0, 1.0, 3.0, 30.0])
@pytest.mark.parametrize("sd", [0.5, 1.0, 7.0])
def test_slope_and_variance_are_those_of_draws(mean, sd):
    """min(a, b) - a of normal variables, whose difference alone matters, from 400,000 draws."""
    difference = mean + sd * np.random.default_rng(0).normal(size=400_000)
    smaller = minimum(np.float32([mean]), np.float32([sd**2]))
    assert smaller.first[0] == pytest.approx((difference > 0).mean(), abs=0.004)
    linear = 1 - smaller.first[0].astype(float)
    rest = np.minimum(difference, 0).var() - (linear * sd) ** 2
    assert smaller.rest[0] == pytest.approx(rest, abs=0.01 * sd**2)


def test_without_variance_the_smaller_one_is_certain():
    smaller = minimum(np.float32([-3, 0, 3]), np.float32([0, 0, -1e-9]))
    assert smaller.first == pytest.approx([0, 0.5, 1], abs=1e-12)
    assert smaller.rest == pytest.approx(0, abs=1e-9)
