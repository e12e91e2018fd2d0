"""The one door to the images of a cache's rows.

A cache only records where its images are, and neither the cache nor the dataset is trusted.
`CacheImages` opens an image by its recorded name through the reader of the dataset's format, so
that the rules of `SafeFolder` hold for every command: regular files inside the dataset, no link out
of it, no pipe or device, a bounded number of bytes and of pixels. (Files that the user names:
`sparc.common.images.files`.) This module must not know what the images are opened for.
"""

import os
from typing import TYPE_CHECKING

from PIL import Image

from sparc.common.cache.info import ARRAYS_DATASET, IMPORTED, CacheInfo
from sparc.common.errors import DatasetError, MissingFileError, setting
from sparc.common.files.paths import is_url
from sparc.common.images.decoding import ImageError, decode
from sparc.common.text import printable, shorten
from sparc.extract.datasets import open_dataset
from sparc.extract.datasets.base import Dataset, DatasetOptions, index_beside
from sparc.extract.datasets.formats.registry import AUTO, FORMATS

if TYPE_CHECKING:
    from sparc.common.cache.reader import ActivationCache

_SHOWN = 160
"""Characters of a recorded name in a message."""


class CacheImages:
    """The images of a cache's rows.

    Args:
        info: What the cache says of its dataset.
        location: The dataset's folder or URL now; empty: where it was, if that is on this machine:
            a URL that a cache names is not followed.
        index: What is known of its tar shards, where they lie behind URLs; see
            `DatasetOptions.dataset_index`.

    Attributes:
        location: The folder that is read.

    Raises:
        DatasetError: There is no such folder, or the cache was not made from a dataset.
    """

    def __init__(
        self, info: CacheInfo, location: str | os.PathLike[str] = "", *, index: str = ""
    ) -> None:
        given = os.fspath(location)
        if not given and info.dataset == ARRAYS_DATASET:
            raise DatasetError(
                "the cache was written from arrays without images: say with "
                f"{setting('--dataset')} where they are, or write it with `images`"
            )
        if not given and (is_url(info.dataset) or info.dataset.startswith("@")):
            raise DatasetError(
                f"the cache names the dataset {shorten(info.dataset, 200)}, which is a URL or a "
                f"list and is not followed: say where it is with {setting('--dataset')}"
            )
        self.location = given or info.dataset
        try:
            # Files that somebody named lie in a plain folder, whatever else is in it.
            plain = not given and info.dataset_format in (ARRAYS_DATASET, IMPORTED)
            self._dataset = _open(self.location, "folder" if plain else info.dataset_format, index)
        except DatasetError as error:
            raise (
                error if given else DatasetError(f"{printable(str(error))}; {_moved()}")
            ) from error

    @classmethod
    def of(cls, cache: "ActivationCache", location: str | os.PathLike[str] = "") -> "CacheImages":
        """The images of an opened cache; see the class."""
        return cls(cache.info, location, index=index_beside(cache.folder.location))

    def read(self, image_path: str | None) -> bytes:
        """The encoded bytes of an image. Thread-safe.

        Args:
            image_path: As the column `image` of the cache's rows has it.

        Raises:
            DatasetError: The row has no image, or the image is missing, is outside the dataset, is
                not a regular file or is too long.
        """
        if not image_path:
            raise DatasetError(f"{self.location}: the row has no image")
        try:
            return self._dataset.read_image(image_path)
        except MissingFileError as error:
            raise MissingFileError(
                f"{self.location}/{shorten(image_path, _SHOWN)} is not there: {_moved()}"
            ) from error

    def open(self, image_path: str | None) -> Image.Image:
        """An image, decoded: upright, in RGB, at full size. Thread-safe.

        Args:
            image_path: As for `read`.

        Raises:
            DatasetError: As for `read`.
            ImageError: It is broken, too large, or in no known format.
        """
        data = self.read(image_path)
        try:
            return decode(data)
        except ImageError as error:
            raise ImageError(f"{self.location}/{shorten(image_path or '', _SHOWN)}: {error}") from (
                error
            )


def _open(location: str, recorded_format: str, index: str) -> Dataset:
    chosen = recorded_format if recorded_format in FORMATS else AUTO
    return open_dataset(location, DatasetOptions(format=chosen, dataset_index=index))


def _moved() -> str:
    return f"if the dataset has moved, say where it is with {setting('--dataset')}"
