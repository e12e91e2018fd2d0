"""How masks are brought to the size at which maps are compared."""

import numpy as np
import pytest

from sparc.analyze.localize.scoring import ScoredPicture, _compared_size, _resized

PICTURE = ScoredPicture("p", "p.png", {})


@pytest.mark.parametrize("inverted", [False, True])
@pytest.mark.parametrize("at", [(0, 0), (5, 3), (767, 1023), (401, 512)])
def test_an_object_of_one_pixel_keeps_a_place(at, inverted):
    mask = np.zeros((768, 1024), bool)
    mask[at] = True
    size = _compared_size(1024, 768)
    small = _resized(~mask if inverted else mask, size, PICTURE) ^ inverted
    assert small.shape == (384, 512)
    assert np.argwhere(small).tolist() == [[at[0] // 2, at[1] // 2]]


def test_a_large_object_is_looked_up_at_the_centres():
    mask = np.random.default_rng(0).random((90, 60)) < 0.5
    assert np.array_equal(_resized(mask, (20, 30), PICTURE), mask[1::3, 1::3])
    assert np.array_equal(_resized(mask, (60, 90), PICTURE), mask)
