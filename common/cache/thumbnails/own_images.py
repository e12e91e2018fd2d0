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
from sparc.common.files.folder import Folder
from sparc.common.images.decoding import ImageError
from sparc.common.images.files import ImageFiles, open_image_file
from sparc.common.progress import progress, say
from sparc.common.text import amount


def write_thumbnails(
    folder: Folder, info: CacheInfo, rows: pa.Table, files: ImageFiles, longest_side: int
) -> None:
    """Write the thumbnails that a cache lacks; says how many images cannot be read, and why.

    Args:
        folder: The cache's folder.
        info: What its `cache.json` says.
        rows: Its rows, of schema `tables.ROWS`.
        files: The images of these rows.
        longest_side: Of a thumbnail, in pixels.
    """
    writer = ThumbnailWriter(folder, info, longest_side)
    missing = writer.open(repair=True)
    same_image = tables.same_image(rows)
    failures: list[str] = []

    def thumbnail(name: str) -> bytes | None:
        try:
            return thumbnail_of(open_image_file(Path(files.folder, name)), longest_side)
        except ImageError as error:
            failures.append(str(error))
            return None

    done = info.rows - sum(len(info.chunk_rows(chunk)) for chunk in missing)
    with (
        progress(info.rows, "thumbnails", initial=done) as bar,
        ThreadPoolExecutor(os.cpu_count()) as pool,
    ):
        for chunk in missing:
            span = info.chunk_rows(chunk)
            first = np.flatnonzero(~same_image[span.start : span.stop]) + span.start
            carried = (int(first[0]) if len(first) else span.stop) - span.start
            names = [files.names[row] for row in first]
            made = dict(
                zip(names, pool.map(lambda n: thumbnail(n) if n else None, names), strict=True)
            )
            by_row = {row: made[files.names[row]] for row in span[carried:]}
            writer.write(
                chunk, {row: t for row, t in by_row.items() if t is not None}, carried=carried
            )
            bar.update(len(span))
    if failures:
        say(f"{amount(len(failures), 'image')} without a thumbnail; the first: {failures[0]}")
