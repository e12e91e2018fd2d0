"""Where the pixels that an encoder sees lie in the original image.

A preprocessing is assumed only to shift and scale along the two axes, as resizing, cropping,
squashing and padding do. Images whose colours encode coordinates are passed through it, and the
colours of the result give the placement. This module must not know any encoder.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

Array = npt.NDArray[np.float64]
Transform = Callable[[Image.Image], Any]

_PASSES = 4
"""Each pass spreads the 256 levels of a colour over the span that the last one found visible."""
_SLACK = 2.0
"""Pixels and colour levels by which a pass may be wrong."""


class Axis(NamedTuple):
    """One axis of a placement: image = start + step * prepared, both counted from an edge.

    Attributes:
        start: Image coordinate of the prepared image's edge; negative under padding.
        step: Image pixels per prepared pixel.
        prepared: Size of the prepared image.
        size: Size of the original image.
    """

    start: float
    step: float
    prepared: int
    size: int


class Placement(NamedTuple):
    """Where a prepared image lies on the original one."""

    vertical: Axis
    horizontal: Axis

    def on_image(
        self, grid: npt.NDArray[Any], size: tuple[int, int] | None = None
    ) -> npt.NDArray[np.float32]:
        """Render a map over the prepared image on the original image.

        Args:
            grid: (rows, columns), cells of equal size over the prepared image.
            size: Width and height to render the original image at; its own by default.

        Returns:
            (height, width) float32, interpolated linearly between the cells' centres; NaN where
            the encoder does not see the image.
        """
        width, height = size or (self.horizontal.size, self.vertical.size)
        rows = _interpolation(self.vertical, grid.shape[0], height)
        columns = _interpolation(self.horizontal, grid.shape[1], width)
        return (rows @ grid.astype(np.float32) @ columns.T).astype(np.float32)


def find_placement(transform: Transform, size: tuple[int, int]) -> Placement:
    """Find where a preprocessing places images of some size.

    Args:
        transform: From a PIL image to (3, height, width) pixels, normalized by channel.
        size: Width and height of the image.

    Returns:
        The placement, to a fraction of an image pixel.
    """
    width, height = size
    black = _pass_through(transform, np.zeros((height, width, 3), np.uint8))
    white = _pass_through(transform, np.full((height, width, 3), 255, np.uint8))
    contrast = np.abs(white - black)
    # Padding has the same colour in both.
    visible = (contrast > contrast.max(axis=(1, 2), keepdims=True) / 2).all(axis=0)
    spans = [(0.0, float(width)), (0.0, float(height))]
    axes = [_stretched(visible.any(axis=0), width), _stretched(visible.any(axis=1), height)]
    for _ in range(_PASSES):
        passed = _pass_through(transform, _coordinates(width, height, spans))
        shares = (passed - black) / np.where(white == black, 1, white - black)
        for index in range(2):
            shown = np.where(visible, shares[index], np.nan)
            used = visible.any(axis=index)
            profile = np.full(len(used), np.nan)
            profile[used] = np.nanmean(np.compress(used, shown, axis=1 - index), axis=index)
            low, high = spans[index]
            fitted = _fit(profile, low, high, size[index])
            if fitted is not None:
                axes[index] = fitted
            spans[index] = _narrowed(axes[index], used, low, high)
    return Placement(vertical=axes[1], horizontal=axes[0])


def _pass_through(transform: Transform, pixels: npt.NDArray[np.uint8]) -> Array:
    return np.asarray(transform(Image.fromarray(pixels)), dtype=np.float64)


def _coordinates(
    width: int, height: int, spans: list[tuple[float, float]]
) -> npt.NDArray[np.uint8]:
    """An image whose red rises from left to right within a span, and green from top to bottom."""
    image = np.zeros((height, width, 3), np.uint8)
    image[:, :, 0] = _ramp(width, *spans[0])[None, :]
    image[:, :, 1] = _ramp(height, *spans[1])[:, None]
    return image


def _ramp(size: int, low: float, high: float) -> npt.NDArray[np.uint8]:
    shares = (np.arange(size) + 0.5 - low) / (high - low)
    levels: npt.NDArray[np.uint8] = np.rint(np.clip(shares, 0, 1) * 255).astype(np.uint8)
    return levels


def _stretched(used: npt.NDArray[np.bool_], size: int) -> Axis:
    """The assumption where no ramp can be fitted: the whole image fills the visible part."""
    places = np.flatnonzero(used)
    step = size / len(places)
    return Axis(-float(places[0]) * step, step, len(used), size)


def _fit(profile: Array, low: float, high: float, size: int) -> Axis | None:
    """The line through a profile of shares, without its ends, which resizing bends."""
    places = np.flatnonzero((profile > 0.1) & (profile < 0.9))
    if len(places) < 3 or np.ptp(profile[places]) == 0:
        return None
    step, offset = np.polyfit(places + 0.5, low + profile[places] * (high - low), 1)
    if step <= 0:
        return None
    return Axis(float(offset), float(step), len(profile), size)


def _narrowed(
    axis: Axis, used: npt.NDArray[np.bool_], low: float, high: float
) -> tuple[float, float]:
    places = np.flatnonzero(used)
    slack = _SLACK * (1 + (high - low) / 255)
    first = axis.start + axis.step * float(places[0])
    last = axis.start + axis.step * float(places[-1] + 1)
    return max(low, first - slack, 0.0), min(high, last + slack, float(axis.size))


def _interpolation(axis: Axis, cells: int, size: int) -> npt.NDArray[np.float32]:
    """The weight of each cell in each of `size` places: (size, cells); NaN outside."""
    image = (np.arange(size) + 0.5) * (axis.size / size)
    prepared = (image - axis.start) / axis.step
    cell = np.clip(prepared * cells / axis.prepared - 0.5, 0, cells - 1)
    before = np.floor(cell).astype(np.int64)
    share = cell - before
    weights = np.zeros((size, cells), np.float32)
    places = np.arange(size)
    weights[places, before] = 1 - share
    weights[places, np.minimum(before + 1, cells - 1)] += share
    weights[(prepared < 0) | (prepared > axis.prepared)] = np.nan
    return weights
