"""Reading the thumbnails of some rows, wherever in the cache they lie.

A thumbnail that is not the one that was written is an error, never a picture.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cached_property
from itertools import groupby

import pyarrow as pa
from PIL import Image

from sparc.common.cache.info import THUMBNAILS, CacheInfo, damaged
from sparc.common.cache.thumbnails.picture import picture_of
from sparc.common.cache.thumbnails.table import (
    GROUP_ROWS,
    chunk_of,
    longest_side_of,
    thumbnail_file,
)
from sparc.common.errors import CacheError, DamagedCacheError
from sparc.common.files.folder import Folder
from sparc.common.files.parquet import ParquetTable
from sparc.common.images.decoding import ImageError
from sparc.common.text import reason

_THREADS = 8
"""Files read at once: behind a URL, most of the time is waiting."""

_READ_AHEAD = 1 << 18
"""Bytes behind a URL that are fetched at a time: more than a row group or a footer mostly takes."""


class Thumbnails:
    """The thumbnails of a cache.

    Args:
        folder: The cache's folder.
        info: What its `cache.json` says.
    """

    def __init__(self, folder: Folder, info: CacheInfo) -> None:
        self._folder = folder
        self._info = info

    @property
    def chunks(self) -> list[int]:
        """The chunks that have a file of thumbnails, in order."""
        sizes = self._folder.sizes(THUMBNAILS)
        numbers = (chunk_of(name) for name, size in sizes.items() if size)
        return sorted(n for n in numbers if n is not None and n < self._info.chunks)

    @cached_property
    def side(self) -> int:
        """The longest side of the thumbnails in pixels; 0 where the cache has none.

        Raises:
            DamagedCacheError: No file of thumbnails can be read.
        """
        damage = None
        for chunk in self.chunks:
            try:
                with self._opened(chunk) as (_, side):
                    return side
            except DamagedCacheError as error:
                damage = damage or error
        if damage is not None:
            raise damage
        return 0

    def encoded(self, rows: Iterable[int]) -> dict[int, bytes]:
        """The thumbnails of some rows as WebP files.

        Args:
            rows: Rows of the cache, in any order; all that are wanted at once are read fastest.

        Returns:
            By row; a row without a thumbnail is left out.

        Raises:
            IndexError: The cache has no such row.
            DamagedCacheError: A thumbnail is not what was written.
        """
        by_chunk: dict[int, list[int]] = defaultdict(list)
        for row in sorted({int(row) for row in rows}):
            if not 0 <= row < self._info.rows:
                raise IndexError(f"row {row} of {self._info.rows}")
            by_chunk[row // self._info.rows_per_chunk].append(row)
        with ThreadPoolExecutor(_THREADS) as pool:
            parts = pool.map(self._of_chunk, by_chunk, by_chunk.values())
            return {row: thumbnail for part in parts for row, thumbnail in part.items()}

    def images(self, rows: Iterable[int]) -> dict[int, Image.Image]:
        """The thumbnails of some rows, decoded: in RGB. See `encoded`."""
        pictures = {}
        for row, thumbnail in self.encoded(rows).items():
            try:
                pictures[row] = picture_of(thumbnail)
            except ImageError as error:
                chunk = row // self._info.rows_per_chunk
                raise self._damaged(chunk, f"row {row}: {error}") from error
        return pictures

    def fault(self, chunk: int) -> str | None:
        """What is wrong with the file of a chunk or a picture in it; None where nothing is."""
        rows = self._info.chunk_rows(chunk)
        try:
            with self._opened(chunk) as (table, side):
                if side != self.side:
                    return (
                        f"its pictures are scaled to {side} pixels, those of others to {self.side}"
                    )
                thumbnails = self._thumbnails(table, chunk, rows)
            for row, thumbnail in thumbnails.items():
                try:
                    picture = picture_of(thumbnail)
                except ImageError as error:
                    return f"row {row}: {error}"
                if max(picture.size) > side:
                    return f"row {row}: the picture is larger than {side} pixels"
        except FileNotFoundError:
            return "it has not been written"
        except DamagedCacheError as error:
            return reason(error.__cause__ or error)
        return None

    # ------------------------------------------------------------------ files

    def _of_chunk(self, chunk: int, rows: Iterable[int]) -> Mapping[int, bytes]:
        """The thumbnails of rows of one chunk, ascending; none where it has no file."""
        try:
            with self._opened(chunk) as (table, _):
                return self._thumbnails(table, chunk, rows)
        except FileNotFoundError:
            return {}

    def _thumbnails(
        self, table: ParquetTable, chunk: int, rows: Iterable[int]
    ) -> Mapping[int, bytes]:
        """The thumbnails of rows of a chunk, ascending, in its table."""
        first = self._info.chunk_rows(chunk).start
        thumbnails: dict[int, bytes] = {}
        for number, wanted in groupby(rows, lambda row: (row - first) // GROUP_ROWS):
            group = self._group(table, chunk, number)
            for row in wanted:
                thumbnail = group[row - first - number * GROUP_ROWS].as_py()
                if thumbnail is not None:
                    thumbnails[row] = thumbnail
        return thumbnails

    def _group(self, table: ParquetTable, chunk: int, number: int) -> pa.ChunkedArray:
        """The thumbnails in a row group, held to be those of its rows."""
        rows = self._info.chunk_rows(chunk)[number * GROUP_ROWS :][:GROUP_ROWS]
        group = table.group(number)
        if group["row"].to_pylist() != list(rows):
            raise ValueError(f"its row group {number} does not hold rows {rows[0]} to {rows[-1]}")
        return group["thumbnail"]

    @contextmanager
    def _opened(self, chunk: int) -> Iterator[tuple[ParquetTable, int]]:
        """The table of a chunk and its longest side; what goes wrong inside the context is damage.

        Raises:
            FileNotFoundError: The chunk has no file.
        """
        try:
            with self._folder.open(thumbnail_file(chunk), read_ahead=_READ_AHEAD) as file:
                table = ParquetTable(file)
                yield table, longest_side_of(table.schema, self._info)
        except FileNotFoundError:
            raise
        except PermissionError as error:
            where = f"{self._folder}/{thumbnail_file(chunk)}"
            raise CacheError(f"cannot read {where}: {error.strerror}") from error
        except (pa.ArrowException, OSError, KeyError, ValueError) as error:
            raise self._damaged(chunk, reason(error)) from error

    def _damaged(self, chunk: int, what: str) -> DamagedCacheError:
        where = f"{thumbnail_file(chunk)} is damaged"
        return damaged(self._folder, self._info, f"{where}: {what}")
