"""How masks are brought to the size at which maps are compared."""

import numpy as np
import pytest

from sparc.analyze.localize.scoring.scored_images import (
    ScoredImage,
    _with_ancestors,
    compared_size,
    draw_absent,
    resized,
)

IMAGE = ScoredImage("p", "p.png", {})


@pytest.mark.parametrize("inverted", [False, True])
@pytest.mark.parametrize("at", [(0, 0), (5, 3), (767, 1023), (401, 512)])
def test_an_object_of_one_pixel_keeps_a_place(at, inverted):
    mask = np.zeros((768, 1024), bool)
    mask[at] = True
    size = compared_size(1024, 768)
    small = resized(~mask if inverted else mask, size, IMAGE) ^ inverted
    assert small.shape == (384, 512)
    assert np.argwhere(small).tolist() == [[at[0] // 2, at[1] // 2]]


def test_a_large_object_is_looked_up_at_the_centres():
    mask = np.random.default_rng(0).random((90, 60)) < 0.5
    assert np.array_equal(resized(mask, (20, 30), IMAGE), mask[1::3, 1::3])
    assert np.array_equal(resized(mask, (60, 90), IMAGE), mask)


def test_known_classes_are_never_drawn_as_absent():
    parents = {0: None, 1: 0, 2: 1, 3: 0}
    assert _with_ancestors({2}, parents) == {0, 1, 2}
    images = [
        ScoredImage("a", "a", dict.fromkeys((2, 3)), _with_ancestors({2, 3}, parents)),
        ScoredImage("b", "b", {1: None}, _with_ancestors({1}, parents)),
        ScoredImage("c", "c", dict.fromkeys(range(4, 30)), frozenset(range(4, 30))),
    ]
    drawn = draw_absent(images, 0)
    assert [len(some) for some in drawn] == [10, 10, 3]
    assert not {*drawn[0]} & {1, 2, 3}
    assert {*drawn[2]} == {1, 2, 3}
    assert drawn == draw_absent(images, 0)
