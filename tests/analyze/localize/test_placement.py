"""Coordinates pushed through real preprocessings, against their arithmetic."""

import numpy as np
import pytest
import timm.data
from open_clip.transform import image_transform

from sparc.analyze.localize.placement import Axis, Placement, find_placement


def timm_transform(**options):
    usual = {
        "input_size": (3, 96, 96),
        "interpolation": "bicubic",
        "crop_pct": 0.875,
        "mean": (0.5, 0.4, 0.3),
        "std": (0.2, 0.3, 0.1),
    }
    return timm.data.create_transform(**{**usual, **options}, is_training=False)


def centred(size: int, visible: float) -> tuple[float, float]:
    return (size - visible) / 2, (size + visible) / 2


# The visible part of an image: (width, height) -> ((left, right), (top, bottom)).
def shortest(crop: float):
    return lambda w, h: (centred(w, crop * min(w, h)), centred(h, crop * min(w, h)))


def longest(w, h):
    # The shorter side becomes a whole number of pixels.
    scales = [side / max(1, round(96 * side / max(w, h))) for side in (w, h)]
    return centred(w, 96 * scales[0]), centred(h, 96 * scales[1])


def all_of_it(w, h):
    return (0, w), (0, h)


@pytest.mark.parametrize(
    ("transform", "expected"),
    [
        (timm_transform(), shortest(96 / 109)),  # resized to floor(96 / 0.875)
        (timm_transform(crop_mode="border", crop_pct=1.0), longest),
        (timm_transform(crop_mode="squash", crop_pct=1.0), all_of_it),
        (image_transform(96, is_train=False), shortest(1.0)),
        (image_transform(96, is_train=False, resize_mode="longest"), longest),
        (image_transform(96, is_train=False, resize_mode="squash"), all_of_it),
    ],
    ids=["crop", "pad", "squash", "clip crop", "clip pad", "clip squash"],
)
@pytest.mark.parametrize("size", [(96, 96), (160, 120), (50, 90), (400, 50), (20, 1000)])
def test_every_preprocessing_is_measured_to_a_fraction_of_a_pixel(transform, expected, size):
    if expected is longest and size == (20, 1000):
        pytest.skip("the shorter side would be less than a pixel: refused by the preprocessing")
    placement = find_placement(transform, size)
    assert (placement.horizontal.size, placement.vertical.size) == size
    for axis, (start, end) in zip(
        (placement.horizontal, placement.vertical), expected(*size), strict=True
    ):
        assert axis.prepared == 96
        # Padding an odd number of pixels puts an image half a pixel off the centre.
        tolerance = 0.02 * (end - start) / 2 + 0.2
        assert axis.start == pytest.approx(start, abs=tolerance)
        assert axis.start + axis.step * axis.prepared == pytest.approx(end, abs=tolerance)


def test_a_side_of_one_pixel_is_its_own_place():
    placement = find_placement(image_transform(96, is_train=False), (1, 150))
    assert placement.horizontal.start == pytest.approx(0, abs=1e-6)
    assert placement.horizontal.step * 96 == pytest.approx(1)
    values = placement.on_image(np.arange(9.0).reshape(3, 3))
    assert values.shape == (150, 1)
    assert np.isfinite(values).sum() in (1, 2)  # it sees a square of one pixel's width


def test_a_map_lies_on_the_original_image():
    # An image of 8 x 4, of which the middle square is visible, enlarged by 2.
    placement = Placement(Axis(0.0, 0.5, 8, 4), Axis(2.0, 0.5, 8, 8))
    grid = np.array([[1.0, 2.0], [3.0, 4.0]])
    values = placement.on_image(grid)
    assert values.shape == (4, 8)
    assert np.isnan(values[:, [0, 1, 6, 7]]).all()
    assert np.isfinite(values[:, 2:6]).all()
    assert values[0, 2] == 1
    assert values[3, 5] == 4
    assert values[0, 5] == 2
    np.testing.assert_allclose(values[0, 2:6], [1, 1.25, 1.75, 2])
    assert placement.on_image(grid, (4, 2)).shape == (2, 4)
