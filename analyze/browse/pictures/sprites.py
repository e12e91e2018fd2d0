"""Sprite sheets: the pictures of a latent in one file, tile by tile.

Pictures are drawn again from their pixels, so that nothing else of the files that they come from
gets into a site.
"""

import io
import math
from collections.abc import Mapping, Sequence

from PIL import Image, ImageDraw

from sparc.analyze.browse.pictures.sources import TILE

_QUALITY = 75
_EFFORT = 4  # Of 6: less is larger, more takes longer.
_FRAME = (128, 128, 128, 255)


def columns_of(tiles: int) -> int:
    """Tiles in a line of a sheet: it is about square."""
    return max(1, math.ceil(math.sqrt(tiles)))


def file_of(latent: int) -> str:
    """The file of a latent's sprite sheet in the site."""
    return f"images/{latent // 1000:03d}/{latent:05d}.webp"


def draw(rows: Sequence[int], pictures: Mapping[int, Image.Image]) -> bytes:
    """A sprite sheet as WebP; the same pictures give the same bytes.

    Args:
        rows: A row of each tile, in order.
        pictures: By row; one that is missing leaves an empty frame.
    """
    columns = columns_of(len(rows))
    size = columns * TILE, -(-len(rows) // columns) * TILE
    sheet = Image.new("RGBA", size, (0, 0, 0, 0))
    canvas = ImageDraw.Draw(sheet)
    for place, row in enumerate(rows):
        left, top = place % columns * TILE, place // columns * TILE
        picture = pictures.get(row)
        if picture is None:
            edges = (left + 2, top + 2, left + TILE - 3, top + TILE - 3)
            canvas.rectangle(edges, outline=_FRAME)
            continue
        small = _fit(picture)
        width, height = small.size
        sheet.paste(small, (left + (TILE - width) // 2, top + (TILE - height) // 2))
    buffer = io.BytesIO()
    sheet.save(buffer, format="WEBP", quality=_QUALITY, method=_EFFORT)
    return buffer.getvalue()


def _fit(picture: Image.Image) -> Image.Image:
    """The picture at most as large as a tile, in its proportions; no picture is enlarged."""
    small = picture.convert("RGB")
    small.thumbnail((TILE, TILE), Image.Resampling.LANCZOS)
    return small
