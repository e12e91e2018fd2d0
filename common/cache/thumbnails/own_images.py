"""Thumbnails of the images that somebody named for the rows of features that they already had."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa

from sparc.common.cache import tables
from sparc.common.cache.info import CacheInfo
from sparc.common.cache.thumbnails.picture import thumbnail_of
from sparc.common.cache.thumbnails.writer import ThumbnailWriter
from sparc.common.errors import CacheError
from sparc.common.files.folder import Folder
from sparc.common.images.decoding import ImageError
from sparc.common.images.files import open_image_file
from sparc.common.progress import progress, say
from sparc.common.text import amount


def write_thumbnails(
    folder: Folder, info: CacheInfo, rows: pa.Table, images: str, longest_side: int
) -> None:
    """Write the thumbnails that a cache lacks; says how many images cannot be read, and why.

    Args:
        folder: The cache's folder.
        info: What its `cache.json` says.
        rows: Its rows, of schema `tables.ROWS`.
        images: The folder that the images of these rows lie in.
        longest_side: Of a thumbnail, in pixels.

    Raises:
        CacheError: A file is not there any more, or the disk that it was on.
    """
    writer = ThumbnailWriter(folder, info, longest_side)
    missing = writer.open(repair=True)
    same_image = tables.same_image(rows)
    failures: dict[str, str] = {}

    def thumbnail(name: str | None) -> bytes | None:
        if name is None:
            return None
        try:
            return thumbnail_of(open_image_file(Path(images, name)), longest_side)
        except ImageError as error:
            if _is_gone(error):
                raise CacheError(
                    f"images: {error}; run the same again once they are back"
                ) from error
            failures[name] = str(error)
            return None

    done = info.rows - sum(len(info.chunk_rows(chunk)) for chunk in missing)
    with (
        progress(info.rows, "thumbnails", initial=done) as bar,
        ThreadPoolExecutor(os.cpu_count()) as pool,
    ):
        for chunk in missing:
            span = info.chunk_rows(chunk)
            begins = np.flatnonzero(~same_image[span.start : span.stop])
            carried = int(begins[0]) if len(begins) else len(span)
            shown = rows["image"].slice(span.start + carried, len(span) - carried).to_pylist()
            of_row = dict(zip(span[carried:], shown, strict=True))
            names = list(dict.fromkeys(of_row.values()))
            made = dict(zip(names, pool.map(thumbnail, names), strict=True))
            by_row = {row: t for row, name in of_row.items() if (t := made[name]) is not None}
            writer.write(chunk, by_row, carried=carried)
            bar.update(len(span))
    if failures:
        first = failures[min(failures)]
        say(f"{amount(len(failures), 'image')} without a thumbnail; the first: {first}")


def _is_gone(error: ImageError) -> bool:
    """Whether a file that was there a moment ago is not: no image is to blame for that."""
    cause = error.__cause__
    return isinstance(cause, OSError) and not isinstance(cause, PermissionError)
