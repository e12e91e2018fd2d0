"""The smallest effect that would be found, against the test itself."""

import numpy as np
import pytest

from sparc.analyze.bias.detectable import least_images
from sparc.analyze.bias.latents import LEAST_IMAGES
from sparc.analyze.maths.exact_tests import benjamini_hochberg, fisher


@pytest.mark.parametrize(
    ("held", "known", "tested"), [(3, 19, 20), (3, 19, 1), (6, 300, 380), (40, 300, 512)]
)
def test_it_is_what_the_test_finds_and_no_less(held, known, tested):
    least = least_images(held, known, tested, 0.05)

    def found(both):
        others = max(LEAST_IMAGES - both, 0)
        p = np.ones(tested)  # of all other latents nothing is found
        p[0] = fisher(both, known, both + others, held)
        return benjamini_hochberg(p)[0] <= 0.05

    assert found(held) == (least is not None)
    if least is not None:
        assert found(least)
        assert least == 1 or not found(least - 1)


def test_three_of_nineteen_images_show_nothing():
    assert least_images(3, 19, 20, 0.05) is None
