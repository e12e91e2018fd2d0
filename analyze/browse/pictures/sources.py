"""Where the pictures of a site come from: thumbnails in the cache, or else the dataset."""

import io
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

import numpy as np
from PIL import Image

from sparc.analyze.browse.gather.rows import ShownRows
from sparc.common.cache.reader import ActivationCache
from sparc.common.errors import SparcError
from sparc.extract.datasets.images import CacheImages

TILE = 96
"""Width and height of a tile in pixels."""

_QUALITY = 95  # Of small pictures that wait in memory: they are compressed again.


class Pictures(Protocol):
    """Small pictures of rows."""

    def read(self, rows: Sequence[int]) -> Mapping[int, Image.Image]:
        """By row, its picture, at most `TILE` wide and high; a row without one is left out."""
        ...


class DatasetPictures:
    """Pictures that are read from the dataset, each once.

    Args:
        images: The dataset's images.
        shown: The rows that may be asked for.
        workers: Threads.
    """

    def __init__(self, images: CacheImages, shown: ShownRows, workers: int) -> None:
        self._images, self._shown = images, shown
        self._workers = workers
        self._known: dict[str, bytes | None] = {}

    def read(self, rows: Sequence[int]) -> Mapping[int, Image.Image]:
        """See `Pictures`: an image that cannot be read leaves its rows out."""
        names = dict(zip(rows, self._shown.image_names(np.asarray(rows, np.int64)), strict=True))
        unknown = sorted({name for name in names.values() if name} - self._known.keys())
        with ThreadPoolExecutor(self._workers) as threads:
            self._known.update(zip(unknown, threads.map(self._small, unknown), strict=True))
        return {
            row: Image.open(io.BytesIO(content))
            for row, name in names.items()
            if name and (content := self._known[name]) is not None
        }

    def _small(self, name: str) -> bytes | None:
        try:
            image = self._images.open(name)
        except SparcError:
            return None
        image.thumbnail((TILE, TILE), Image.Resampling.LANCZOS)
        buffer = io.BytesIO()
        image.convert("RGB").save(buffer, format="JPEG", quality=_QUALITY, subsampling=0)
        return buffer.getvalue()


class Thumbnails:
    """The pictures that the cache keeps.

    Args:
        cache: The cache; it has thumbnails.
    """

    def __init__(self, cache: ActivationCache) -> None:
        self._thumbnails = cache.thumbnails

    def read(self, rows: Sequence[int]) -> Mapping[int, Image.Image]:
        """See `Pictures`."""
        return self._thumbnails.images(rows)


def open_pictures(
    cache: ActivationCache, shown: ShownRows, dataset: str, workers: int
) -> Pictures | str:
    """The pictures of a cache's rows; or why there are none, in words.

    A dataset that is named is read, else the cache's thumbnails, else the recorded dataset.

    Args:
        cache: The cache.
        shown: The rows that may be asked for.
        dataset: The dataset's folder if it has moved; empty: the recorded one.
        workers: Threads.

    Raises:
        DatasetError: A folder was given, and is no dataset.
    """
    if not len(shown.rows_with_image):
        return "the rows have no images"
    if _has_thumbnails(cache, dataset):
        return Thumbnails(cache)
    images = _dataset_images(cache, dataset)
    return images if isinstance(images, str) else DatasetPictures(images, shown, workers)


def has_pictures(cache: ActivationCache, dataset: str) -> bool:
    """Whether `open_pictures` has a place to find the pictures of a cache's rows in.

    Raises:
        DatasetError: A folder was given, and is no dataset.
    """
    return _has_thumbnails(cache, dataset) or not isinstance(_dataset_images(cache, dataset), str)


def _has_thumbnails(cache: ActivationCache, dataset: str) -> bool:
    return bool(cache.thumbnails.side) and not dataset


def _dataset_images(cache: ActivationCache, dataset: str) -> CacheImages | str:
    try:
        return CacheImages.of(cache, dataset)
    except SparcError as error:
        if dataset:
            raise
        return str(error)
