"""Why rows of a chunk have no feature, until it is gathered in one table."""

from collections.abc import Collection, Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sparc.common.cache import tables
from sparc.common.cache.info import REJECT_PARTS, REJECTS_FILE
from sparc.common.cache.parts.names import part_file
from sparc.common.files.folder import Folder


def write_rejects(
    folder: Folder, rows: pa.Table, stream: str, chunk: int, reasons: Mapping[int, str]
) -> None:
    """Record why rows of a chunk are not valid; a chunk of valid rows has no file.

    Args:
        folder: The cache's folder.
        rows: The rows table.
        stream: Which stream.
        chunk: Which chunk.
        reasons: By row of the cache.
    """
    if not reasons:
        return
    numbers = sorted(reasons)
    part = pa.table(
        {
            "row": numbers,
            "stream": [stream] * len(numbers),
            "sample_id": rows["sample_id"].take(numbers),
            "reason": [reasons[row] for row in numbers],
        },
        schema=tables.REJECTS,
    )
    tables.write_table(folder, part_file(REJECT_PARTS, stream, chunk), part)


def drop_rejects(
    folder: Folder, stream: str, chunks: Collection[int], *, rows_per_chunk: int
) -> None:
    """Remove the reasons of some chunks of a stream from the table, where there is one."""
    if not chunks or not folder.exists(REJECTS_FILE):
        return
    rejects = tables.read_table(folder, REJECTS_FILE, tables.REJECTS)
    chunk_of_reject = rejects.column("row").to_numpy() // rows_per_chunk
    of_stream = pc.equal(rejects.column("stream"), stream).to_numpy()
    kept = rejects.filter(pa.array(~(of_stream & np.isin(chunk_of_reject, list(chunks)))))
    if len(kept) < len(rejects):
        tables.write_table(folder, REJECTS_FILE, kept)
