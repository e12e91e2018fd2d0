"""The images of a search side by side in one PNG."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
from PIL import Image

from sparc.analyze.report.output import write_png
from sparc.analyze.search.searcher import OWN_IMAGE
from sparc.analyze.search.tiles import GAP, LETTERS, LINE, LINES, TILE, Sheet, Tile, open_images
from sparc.common.cache.reader import ActivationCache
from sparc.common.text import shorten

_COLUMNS = 4


def draw(title: str, tiles: Sequence[Tile]) -> Image.Image:
    """The sheet.

    Args:
        title: A line above it. Text is shown as it is, cut where there is no room: escape it.
        tiles: From left to right and from top to bottom.
    """
    columns = max(1, min(_COLUMNS, len(tiles)))
    lines = -(-len(tiles) // columns)
    high = TILE + LINES * LINE + GAP
    head = 2 * GAP + LINE
    sheet = Sheet(columns * (TILE + GAP) + GAP, head + lines * high)
    sheet.write(title[: columns * LETTERS], GAP, GAP)
    for place, tile in enumerate(tiles):
        line, column = divmod(place, columns)
        sheet.place(tile, GAP + column * (TILE + GAP), head + line * high)
    return sheet.image


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
    images = list(open_images(table["row"].to_pylist(), table["image"].to_pylist(), cache, dataset))
    tiles = [
        Tile(
            image,
            [
                _tag(row),
                shorten(row["caption"] or row["sample_id"], LETTERS),
                shorten(", ".join(dict.fromkeys(row["names"])), LETTERS),
            ],
        )
        for image, row in zip(images, table.to_pylist(), strict=True)
    ]
    write_png(file, draw(shorten(title, 200), tiles))
    return sum(image is None for image in images)


def _tag(row: Mapping[str, Any]) -> str:
    which = OWN_IMAGE if row["own_image"] else f"row {row['row']}"
    return f"{row['score']:.3f}  {which}"
