"""Found pictures side by side in one PNG, as a person wants to see them.

A picture that cannot be read leaves an empty frame: the others are shown all the same.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
from PIL import Image, ImageDraw, ImageFont

from sparc.analyze.report.output import write_png
from sparc.analyze.search.searcher import OWN_PICTURE
from sparc.common.cache.reader import ActivationCache
from sparc.common.errors import SparcError
from sparc.common.text import shorten
from sparc.extract.datasets.images import CacheImages

TILE = 200
"""Longer side of a picture on the sheet, in pixels."""

_GAP = 12
_LINES = 3
_LINE = 15
_COLUMNS = 4
_LETTERS = 32


class Tile(NamedTuple):
    """A place on the sheet: a picture, None if it cannot be read, and lines below it."""

    picture: Image.Image | None
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
        if tile.picture is None:
            canvas.rectangle((left, top, left + TILE - 1, top + TILE - 1), outline="grey")
        else:
            picture = tile.picture.copy()
            picture.thumbnail((TILE, TILE))
            width, height = picture.size
            sheet.paste(picture, (left + (TILE - width) // 2, top + (TILE - height) // 2))
        for number, line in enumerate(tile.lines[:_LINES]):
            at = (left, top + TILE + 2 + number * _LINE)
            canvas.text(at, line[:_LETTERS], fill="black", font=font)
    return sheet


def contact_sheet(
    found: pa.Table, cache: ActivationCache, file: Path, *, title: str, dataset: str = ""
) -> int:
    """Write the sheet of a search.

    Args:
        found: A table of `sparc.analyze.search.searcher.SCHEMA`.
        cache: The cache whose pictures they are.
        file: The PNG file.
        title: What was looked for, and where.
        dataset: Where the dataset's folder is now; empty: where it was.

    Returns:
        How many pictures could not be read and are empty frames.
    """
    pictures = list(_pictures(found["image"].to_pylist(), cache, dataset))
    tiles = [
        Tile(
            picture,
            [
                _tag(row),
                shorten(row["caption"] or row["sample_id"], _LETTERS),
                shorten(", ".join(dict.fromkeys(row["names"])), _LETTERS),
            ],
        )
        for picture, row in zip(pictures, found.to_pylist(), strict=True)
    ]
    write_png(file, draw(shorten(title, 200), tiles))
    return sum(picture is None for picture in pictures)


def _tag(row: Mapping[str, Any]) -> str:
    which = OWN_PICTURE if row["own_picture"] else f"row {row['row']}"
    return f"{row['score']:.3f}  {which}"


def _pictures(
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
            found = opened.open(image) if opened else None
        except SparcError:
            found = None
        yield found
