"""Object masks from the segmentations of COCO's files: polygons and run lengths.

This module must not know where in a file segmentations are.
"""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from sparc.common import rle

LARGEST_MASK = 1 << 28
"""Pixels, or corners times rows of a polygon: a larger segmentation is refused, not filled."""

FARTHEST_CORNER = 1e7
"""Pixels from the image's corner; a corner farther away is refused."""


class Mask(NamedTuple):
    """A mask as run lengths; `tables.MASKS` explains the fields."""

    height: int
    width: int
    counts: rle.Counts


def read_segmentation(segmentation: Any, height: Any, width: Any) -> Mask:
    """The mask of an object.

    Args:
        segmentation: A list of polygons, each a flat list of x and y, whose union is the object; of
            a single polygon the outer list may be missing, and those of fewer than three corners
            add nothing. Or a JSON object with `size` and `counts`, the latter a list (as for
            crowds) or a string.
        height: Height of the image; run lengths have their own.
        width: Width of the image.

    Raises:
        ValueError: It is none of these, or does not fit its size.
        TypeError: A value is not a number.
    """
    if isinstance(segmentation, dict):
        height, width = segmentation.get("size", (None, None))
    height, width = _whole(height), _whole(width)
    if type(height) is not int or type(width) is not int:
        raise ValueError("a mask needs its image's height and width")
    if height < 1 or width < 1 or height * width > LARGEST_MASK:
        raise ValueError("the image's size is impossible")
    if isinstance(segmentation, dict):
        counts = segmentation.get("counts")
        runs = rle.decompress(counts) if isinstance(counts, str) else counts
        if not isinstance(runs, list):
            raise ValueError("counts must be a list or a string")
        return Mask(height, width, rle.checked(runs, height, width))
    return Mask(height, width, _polygon_counts(segmentation, height, width))


def _whole(value: Any) -> Any:
    """A whole number that is written as a float, as an integer; all else unchanged."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def fill_polygon(
    corners: npt.NDArray[np.float64], height: int, width: int
) -> npt.NDArray[np.bool_]:
    """The pixels whose centres are inside a polygon.

    Args:
        corners: (corners, 2) x and y, measured from the corner of the first pixel.
        height: Height of the mask.
        width: Width of the mask.

    Returns:
        (height, width) mask.
    """
    x, y = corners.T
    next_x, next_y = np.roll(x, -1), np.roll(y, -1)
    centres = np.arange(height) + 0.5
    # (edges, rows): does the edge pass this row of centres?
    crosses = (y[:, None] <= centres) != (next_y[:, None] <= centres)
    edge, row = np.nonzero(crosses)
    slope = (next_x[edge] - x[edge]) / (next_y[edge] - y[edge])
    crossing = x[edge] + (centres[row] - y[edge]) * slope
    # Inside and outside swap at the first centre to the right of each crossing.
    first = np.clip(np.ceil(crossing - 0.5), 0, width).astype(np.int64)
    changes = np.bincount(row * (width + 1) + first, minlength=height * (width + 1))
    passed = np.cumsum(changes.reshape(height, width + 1), axis=1)[:, :width]
    return np.asarray(passed % 2 == 1)


def _polygon_counts(polygons: Any, height: int, width: int) -> rle.Counts:
    """Run lengths of the union of polygons; only the part that they cover is computed."""
    shapes = []
    is_one = isinstance(polygons, list) and all(isinstance(n, int | float) for n in polygons)
    for polygon in [polygons] if is_one else polygons:
        numbers = np.asarray(polygon, np.float64)
        if numbers.ndim != 1 or len(numbers) % 2:
            raise ValueError("a polygon needs a list of x and y")
        if len(numbers) < 6:  # a point or a line has no pixels: the object's other polygons count
            continue
        if not (np.abs(numbers) < FARTHEST_CORNER).all():
            raise ValueError("a polygon lies nowhere near its image")
        if len(numbers) * height > LARGEST_MASK:
            raise ValueError("a polygon has too many corners")
        shapes.append(numbers.reshape(-1, 2))
    if not shapes:
        raise ValueError("a polygon needs three corners or more")
    corners = np.concatenate(shapes)
    limits = (width, height)
    left, top = np.clip(np.floor(corners.min(axis=0)), 0, limits).astype(np.int64)
    right, bottom = np.clip(np.ceil(corners.max(axis=0)), 0, limits).astype(np.int64)
    covered = np.zeros((bottom - top, right - left), np.bool_)
    for shape in shapes:
        covered |= fill_polygon(shape - (left, top), *covered.shape)
    columns, rows = np.nonzero(covered.T)
    return rle.encode_pixels((columns + left) * height + rows + top, height * width)
