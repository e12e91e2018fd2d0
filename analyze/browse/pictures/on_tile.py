"""A map over what an encoder sees of an image, placed on the image's tile.

Encoders see the middle of an image, or the whole of it squeezed or padded, and a tile has margins
where the picture is not square. This module must not know what the maps show.
"""

import numpy as np
import numpy.typing as npt

from sparc.analyze.browse.pictures.sources import TILE
from sparc.analyze.localize.placement import Axis, Placement

CELLS = 24
"""Cells of a placed map across a tile: more than most encoders have places across an image."""


def on_tile(
    grid: npt.NDArray[np.float32], placement: Placement, picture: tuple[int, int]
) -> npt.NDArray[np.float32]:
    """A map in cells over a whole tile.

    Args:
        grid: (rows, columns) over what the encoder sees.
        placement: Where that lies on the image.
        picture: Width and height of the image's picture in pixels; on a tile it is at most as
            large as that, and in the middle.

    Returns:
        (CELLS, CELLS) float32, interpolated linearly; 0 outside the picture and where the encoder
        does not see it.
    """
    image = placement.vertical.size, placement.horizontal.size
    scale = min(TILE, max(picture)) / max(image)
    placed = Placement(*(_on_tile(axis, scale) for axis in placement))
    cells = placed.on_image(grid, (CELLS, CELLS))
    centres = (np.arange(CELLS) + 0.5) * (TILE / CELLS)
    rows, columns = (np.abs(centres - TILE / 2) < side * scale / 2 for side in image)
    shown = rows[:, None] & columns & ~np.isnan(cells)
    return np.where(shown, cells, np.float32(0))


def _on_tile(axis: Axis, scale: float) -> Axis:
    """An axis of the image, in pixels of the tile."""
    margin = (TILE - axis.size * scale) / 2
    return Axis(axis.start * scale + margin, axis.step * scale, axis.prepared, TILE)
