"""Where the images of rows lie that somebody names by their files: one folder, and names in it."""

import os
from collections.abc import Sequence
from typing import NamedTuple

from sparc.common.errors import CacheError
from sparc.common.text import shorten


class ImageFiles(NamedTuple):
    """The files of images, as a cache records them.

    Attributes:
        folder: The absolute path of the smallest folder that holds them all.
        names: By row, the path within it, with `/` between its parts; None where a row has none.
    """

    folder: str
    names: list[str | None]


def locate(images: Sequence[str | os.PathLike[str] | None]) -> ImageFiles:
    """Where images lie.

    Args:
        images: By row, the image's file, or None. Links are followed now, not when images are read.

    Raises:
        CacheError: One is no path or no file, there is none, or no folder but the root holds all.
    """
    real = [None if image is None else _real(row, image) for row, image in enumerate(images)]
    files = [path for path in real if path is not None]
    if not files:
        raise CacheError("images: not a single row has one; leave them out")
    folder = os.path.commonpath([os.path.dirname(path) for path in files])
    if folder == os.path.dirname(folder):
        raise CacheError(
            f"images: {shorten(files[0], 160)} and the others have no folder in common: copy them "
            "into one, or leave images out"
        )
    names = [None if p is None else os.path.relpath(p, folder).replace(os.sep, "/") for p in real]
    return ImageFiles(folder, names)


def _real(row: int, image: str | os.PathLike[str]) -> str:
    if not isinstance(image, str | os.PathLike):
        kind = type(image).__name__  # type: ignore[unreachable]  # but not in a notebook
        raise CacheError(f"images: row {row} is a {kind}, not the path of a file: save it first")
    path = os.path.realpath(os.fspath(image))
    if not os.path.isfile(path):
        raise CacheError(f"images: row {row}: there is no file {shorten(os.fspath(image), 160)}")
    return path
