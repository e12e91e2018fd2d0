"""The images of a search side by side in one PNG.

An image that cannot be read leaves an empty frame, and the others are shown all the same.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
from PIL import Image, ImageDraw, ImageFont

from sparc.analyze.report.output import write_png
from sparc.analyze.search.searcher import OWN_IMAGE
from sparc.common.cache.reader import ActivationCache
from sparc.common.errors import SparcError
from sparc.common.text import shorten
from sparc.extract.datasets.images import CacheImages

TILE = 200
"""Longer side of an image on the sheet, in pixels."""

_GAP = 12
_LINES = 3
_LINE = 15
_COLUMNS = 4
_LETTERS = 32


class Tile(NamedTuple):
    """A place on the sheet: an image, None if it cannot be read, and lines below it."""

    image: Image.Image | None
    lines: Sequence[str]


def draw(title: str, tiles: Sequence[Tile]) -> Image.Image:
    """The sheet.

    Args:
        title: A line above it. Text is shown as it is, cut where there is no room: escape it.
        tiles: From left to right and from top to bottom.
    """
    columns = max(1, min(_COLUMNS, len(tiles)))
    lines = -(-len(tiles) // columns)
    high = TILE + _LINES * _LINE + _GAP
    head = 2 * _GAP + _LINE
    sheet = Image.new("RGB", (columns * (TILE + _GAP) + _GAP, head + lines * high), "white")
    canvas = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(size=11)
    canvas.text((_GAP, _GAP), title[: columns * _LETTERS], fill="black", font=font)
    for place, tile in enumerate(tiles):
        left = _GAP + place % columns * (TILE + _GAP)
        top = head + place // columns * high
        if tile.image is None:
            canvas.rectangle((left, top, left + TILE - 1, top + TILE - 1), outline="grey")
        else:
            image = tile.image.copy()
            image.thumbnail((TILE, TILE))
            width, height = image.size
            sheet.paste(image, (left + (TILE - width) // 2, top + (TILE - height) // 2))
        for number, line in enumerate(tile.lines[:_LINES]):
            at = (left, top + TILE + 2 + number * _LINE)
            canvas.text(at, line[:_LETTERS], fill="black", font=font)
    return sheet


def contact_sheet(
    table: pa.Table, cache: ActivationCache, file: Path, *, title: str, dataset: str = ""
) -> int:
    """Write the sheet of a search.

    Args:
        table: Of schema `sparc.analyze.search.searcher.SCHEMA`.
        cache: The cache whose images they are.
        file: The PNG file.
        title: The stream and the query.
        dataset: The dataset's folder if it has moved; empty: the recorded one.

    Returns:
        Number of images that could not be read: empty frames.
    """
    images = list(_images(table["image"].to_pylist(), cache, dataset))
    tiles = [
        Tile(
            image,
            [
                _tag(row),
                shorten(row["caption"] or row["sample_id"], _LETTERS),
                shorten(", ".join(dict.fromkeys(row["names"])), _LETTERS),
            ],
        )
        for image, row in zip(images, table.to_pylist(), strict=True)
    ]
    write_png(file, draw(shorten(title, 200), tiles))
    return sum(image is None for image in images)


def _tag(row: Mapping[str, Any]) -> str:
    which = OWN_IMAGE if row["own_image"] else f"row {row['row']}"
    return f"{row['score']:.3f}  {which}"


def _images(
    images: Sequence[str | None], cache: ActivationCache, location: str
) -> Iterator[Image.Image | None]:
    try:
        opened = CacheImages(cache.info, location)
    except SparcError:
        if location:
            raise
        opened = None
    for image in images:
        try:
            result = opened.open(image) if opened else None
        except SparcError:
            result = None
        yield result
