"""Image files that somebody names: where they lie, as a cache records it, and what is in them.

A path that a person types may lead anywhere, but must end at a regular file of bounded size.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from sparc.common.errors import CacheError, UnsafeError
from sparc.common.files.safe_files import open_regular
from sparc.common.images.decoding import ImageError, decode
from sparc.common.text import shorten

LARGEST_IMAGE = 1 << 30
"""Most bytes of an image's file; a longer one is refused, not read."""


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
    real = [None if image is None else real_path(image, row) for row, image in enumerate(images)]
    files = [path for path in real if path is not None]
    if not files:
        raise CacheError("images: not a single row has one; leave them out")
    folder = common_folder(min(files), max(files))
    names = [None if p is None else os.path.relpath(p, folder).replace(os.sep, "/") for p in real]
    return ImageFiles(folder, names)


def common_folder(first: str, last: str) -> str:
    """The smallest folder that holds files.

    Args:
        first: The first of their absolute paths, sorted as texts.
        last: The last one. What begins both begins all between them.

    Raises:
        CacheError: It is the root.
    """
    folder = os.path.commonpath([os.path.dirname(first), os.path.dirname(last)])
    if folder == os.path.dirname(folder):
        raise CacheError(
            f"images: {shorten(first, 160)} and the others have no folder in common: copy them "
            "into one, or leave images out"
        )
    return folder


def real_path(image: str | os.PathLike[str], row: int) -> str:
    """The absolute path of a row's image, links followed.

    Raises:
        CacheError: It is no path, there is no such file, or its name is not UTF-8.
    """
    if not isinstance(image, str | os.PathLike):
        kind = type(image).__name__  # type: ignore[unreachable]  # but not in a notebook
        raise CacheError(f"images: row {row} is a {kind}, not the path of a file: save it first")
    path = os.path.realpath(os.fspath(image))
    if not os.path.isfile(path):
        raise CacheError(f"images: row {row}: there is no file {shorten(os.fspath(image), 160)}")
    try:
        path.encode()
    except UnicodeEncodeError as error:
        name = shorten(os.fsencode(path).decode(errors="replace"), 160)
        raise CacheError(f"images: row {row}: {name} is not named in UTF-8: rename it") from error
    return path


def open_image_file(path: str | os.PathLike[str]) -> Image.Image:
    """An image file that the user named, decoded: upright, in RGB, at full size.

    Args:
        path: It may lead through links, but must end at a regular file.

    Raises:
        ImageError: There is no such file, or it is a folder, pipe or device, too long, broken,
            too large, or in no known format.
    """
    try:
        real = Path(os.path.realpath(path))
        if real.is_dir():
            raise ImageError(f"{path} is a folder: give the images in it")
        with open_regular(real, largest=LARGEST_IMAGE) as file:
            return decode(file.read(LARGEST_IMAGE + 1))
    except FileNotFoundError as error:
        raise ImageError(f"there is no image {path}") from error
    except UnsafeError as error:
        raise ImageError(f"{path} is not a regular file of an image's size") from error
    except (OSError, ValueError) as error:
        raise ImageError(f"cannot read the image {path}: {error}") from error
    except ImageError as error:
        message = str(error)
        raise error if str(path) in message else ImageError(f"{path}: {message}") from error
