import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparc.common import rle
from sparc.extract.datasets.masks import fill_polygon, read_segmentation


def pixels(segmentation, height, width):
    mask = read_segmentation(segmentation, height, width)
    assert mask.counts.dtype == np.int32
    return rle.decode(mask.counts, mask.height, mask.width)


@given(
    st.integers(-3, 12), st.integers(-3, 12), st.integers(1, 9), st.integers(1, 9), st.booleans()
)
def test_rectangles_cover_exactly_their_pixels(left, top, width, height, twice):
    right, bottom = left + width, top + height
    polygon = [left, top, right, top, right, bottom, left, bottom]
    expected = np.zeros((12, 15), bool)
    expected[max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)] = True
    mask = pixels([polygon] * (2 if twice else 1), 12, 15)
    np.testing.assert_array_equal(mask, expected)


def test_several_polygons_are_one_mask():
    first, second = [0, 0, 2, 0, 2, 2, 0, 2], [5, 3, 8, 3, 8, 6, 5, 6]
    assert int(pixels([first, second], 6, 8).sum()) == 4 + 9


@given(
    st.lists(st.tuples(st.floats(-2, 12), st.floats(-2, 12)), min_size=3, max_size=3, unique=True)
)
def test_triangles_cover_the_centres_inside_them(corners):
    a, b, c = np.array(corners)
    grid = np.stack(np.meshgrid(np.arange(10) + 0.5, np.arange(9) + 0.5), axis=-1)

    def side(p, q):
        return (q[0] - p[0]) * (grid[..., 1] - p[1]) - (q[1] - p[1]) * (grid[..., 0] - p[0])

    sides = np.stack([side(a, b), side(b, c), side(c, a)])
    inside = (sides > 1e-6).all(axis=0) | (sides < -1e-6).all(axis=0)
    outside = (sides > 1e-6).any(axis=0) & (sides < -1e-6).any(axis=0)
    filled = fill_polygon(np.array(corners), 9, 10)
    assert not (inside & ~filled).any()
    assert not (outside & filled).any()


def test_both_kinds_of_run_lengths():
    column = np.zeros((6, 8), bool)
    column[:, 1] = True
    for counts in ([6, 6, 36], "66T1"):
        mask = pixels({"size": [6, 8], "counts": counts}, None, None)
        np.testing.assert_array_equal(mask, column)


@pytest.mark.parametrize(
    "segmentation",
    [
        [[1, 2, 3]],
        [[1, 2, 3, 4, 5]],
        [[1, 2, 3, 4, 5, 6, 7]],
        [["x"] * 6],
        [[float("nan")] * 6],
        [[1e300] * 6],
        [5],
        5,
        "text",
        {"size": [6]},
        {"size": [6, 8]},
        {"size": [6, 8], "counts": [3, 4]},
        {"size": [6, 8], "counts": [60, -12]},
        {"size": [6, 8], "counts": "no"},
        {"size": [6, 8], "counts": [1.5, 46.5]},
        {"size": [1 << 20, 1 << 20], "counts": [1 << 40]},
        {"size": [0, 8], "counts": []},
        {"size": ["6", 8], "counts": [48]},
    ],
)
def test_anything_else_is_refused(segmentation):
    with pytest.raises((ValueError, TypeError)):
        read_segmentation(segmentation, 6, 8)


def test_polygons_need_their_image_s_size():
    with pytest.raises(ValueError, match="height and width"):
        read_segmentation([[0, 0, 1, 0, 1, 1]], None, 8)
