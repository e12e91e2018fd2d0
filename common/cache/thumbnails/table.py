"""The table that holds the thumbnails of a chunk: what it is called, and what it says of itself."""

from collections.abc import Sequence

import pyarrow as pa

from sparc.common.cache.info import THUMBNAILS, CacheInfo
from sparc.common.cache.thumbnails.sizes import LARGEST_SIDE, SMALLEST_SIDE
from sparc.common.documents import seal, unseal
from sparc.common.files.parquet import parquet_bytes

GROUP_ROWS = 64
"""Rows in every row group but the last: what is read where a single thumbnail is wanted."""

SCHEMA = pa.schema(
    [pa.field("row", pa.int64(), nullable=False), pa.field("thumbnail", pa.binary())]
)

_ABOUT = b"sparc_thumbnails"
"""The key of what a table says of itself, among the key-value metadata of Parquet."""


def thumbnail_file(chunk: int) -> str:
    """The file of a chunk's thumbnails."""
    return f"{THUMBNAILS}/{chunk:08d}.parquet"


def chunk_of(file: str) -> int | None:
    """The chunk whose thumbnails a file holds; None where the name is not such a file's."""
    number = file.removeprefix(f"{THUMBNAILS}/").removesuffix(".parquet")
    return int(number) if number.isdecimal() and thumbnail_file(int(number)) == file else None


def table_bytes(
    info: CacheInfo, chunk: int, thumbnails: Sequence[bytes | None], longest_side: int
) -> bytes:
    """The content of the file of a chunk.

    Args:
        info: What the cache is.
        chunk: Which chunk.
        thumbnails: By row of the chunk, the WebP file; None where the row has no picture.
        longest_side: What the thumbnails were scaled to, in pixels.
    """
    about = seal({"longest_side": longest_side, "manifest_digest": info.manifest_digest})
    rows = info.chunk_rows(chunk)
    table = pa.table(
        {"row": pa.array(rows, pa.int64()), "thumbnail": pa.array(thumbnails, pa.binary())},
        schema=SCHEMA.with_metadata({_ABOUT: about}),
    )
    return parquet_bytes(table, compression="none", group_rows=GROUP_ROWS, statistics=False)


def longest_side_of(schema: pa.Schema, info: CacheInfo) -> int:
    """The longest side of the thumbnails in a table that belongs to a cache.

    Raises:
        ValueError: It is the table of another cache, or does not say what it must.
    """
    if schema.names != SCHEMA.names or schema.types != SCHEMA.types:
        raise ValueError("it has other columns than it should")
    about = unseal((schema.metadata or {}).get(_ABOUT, b""))
    if about.get("manifest_digest") != info.manifest_digest:
        raise ValueError("it belongs to other rows than those of the cache")
    side = about.get("longest_side")
    if type(side) is not int or not SMALLEST_SIDE <= side <= LARGEST_SIDE:
        raise ValueError("it does not say how large its pictures are")
    return side
