"""Images with lines below them, of which contact sheets are made.

An image that cannot be read leaves an empty frame, and the others are shown all the same.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from PIL import Image, ImageDraw, ImageFont, ImageOps

from sparc.common.cache.info import ARRAYS_DATASET
from sparc.common.cache.reader import ActivationCache
from sparc.common.cache.thumbnails.reader import Thumbnails
from sparc.common.errors import SparcError, setting
from sparc.common.text import amount
from sparc.extract.datasets.images import CacheImages

TILE = 200
"""Longer side of an image on the sheet, in pixels."""

GAP = 12
LINES = 3
LINE = 15
LETTERS = 32
"""Of a line below an image."""


class Tile(NamedTuple):
    """A place on the sheet: an image, None if it cannot be read, and lines below it."""

    image: Image.Image | None
    lines: Sequence[str]


class Sheet:
    """A white page to put tiles and lines on.

    Args:
        width: In pixels.
        height: In pixels.
    """

    def __init__(self, width: int, height: int) -> None:
        self.image = Image.new("RGB", (width, height), "white")
        self._canvas = ImageDraw.Draw(self.image)
        self._font = ImageFont.load_default(size=11)

    def write(self, text: str, left: int, top: int) -> None:
        """A line. Text is shown as it is: escape it."""
        self._canvas.text((left, top), text, fill="black", font=self._font)

    def place(self, tile: Tile, left: int, top: int) -> None:
        """A tile, of `TILE` by `TILE` pixels and the lines below; what has no room is cut."""
        if tile.image is None:
            edges = (left, top, left + TILE - 1, top + TILE - 1)
            self._canvas.rectangle(edges, outline="grey")
        else:
            image = tile.image.copy()
            image.thumbnail((TILE, TILE))
            width, height = image.size
            self.image.paste(image, (left + (TILE - width) // 2, top + (TILE - height) // 2))
        for number, line in enumerate(tile.lines[:LINES]):
            self.write(line[:LETTERS], left, top + TILE + 2 + number * LINE)


def unreadable(images: int, cache: ActivationCache) -> str:
    """What a person is told of images that could not be read, and what to do."""
    if cache.info.dataset == ARRAYS_DATASET:
        return (
            f"{amount(images, 'image')} left an empty frame: {cache.folder} was written from "
            "arrays without images; write it with images=, a file a row, to see them"
        )
    return (
        f"{amount(images, 'image')} could not be read and left an empty frame; the cache has no "
        f"thumbnails of them, so if the dataset has moved, say with {setting('--dataset')} where "
        "it is"
    )


def open_images(
    rows: Sequence[int], images: Sequence[str | None], cache: ActivationCache, dataset: str = ""
) -> Iterator[Image.Image | None]:
    """The images of some rows, from the dataset or else the cache's thumbnails of them.

    A sheet shows images larger than thumbnails are, so the dataset comes first, where it is.

    Args:
        rows: Rows of the cache.
        images: What the column `image` of these rows says.
        cache: The cache.
        dataset: The dataset's folder if it has moved; empty: the recorded one.

    Yields:
        By row, the image; None where neither has it.

    Raises:
        DatasetError: A folder was given, and is no dataset.
        DamagedCacheError: A thumbnail that is needed is damaged.
    """
    try:
        opened = CacheImages.of(cache, dataset)
    except SparcError:
        if dataset:
            raise
        opened = None
    thumbnails: dict[int, Image.Image] | None = None
    for row, image in zip(rows, images, strict=True):
        try:
            result = opened.open(image) if opened else None
        except SparcError:
            result = None
        if result is None:
            if thumbnails is None:  # all at once, which takes hardly longer than one
                thumbnails = _as_tiles(cache.thumbnails, rows)
            result = thumbnails.get(row)
        yield result


def _as_tiles(thumbnails: Thumbnails, rows: Sequence[int]) -> dict[int, Image.Image]:
    """By row, thumbnails as large as their images would be shown: small images stay small."""
    return {
        row: ImageOps.contain(image, (TILE, TILE)) if max(image.size) == thumbnails.side else image
        for row, image in thumbnails.images(rows).items()
    }
