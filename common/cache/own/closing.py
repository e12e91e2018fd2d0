"""What makes a cache out of the chunks and rows of all batches, once the last one is there."""

import dataclasses
from collections import Counter
from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from sparc.common.cache import tables
from sparc.common.cache.features import NOT_FINITE
from sparc.common.cache.info import (
    ACTIVATIONS,
    ARRAYS_DATASET,
    CLASSES_FILE,
    INFO_FILE,
    REJECTS_FILE,
    ROOT_DOCUMENT,
    ROWS_FILE,
    CacheInfo,
)
from sparc.common.cache.layout import root_document, stream_documents
from sparc.common.cache.manifest import Manifest
from sparc.common.cache.own.batch import WholeRows, whole_rows
from sparc.common.cache.own.begun import ChunkRows
from sparc.common.cache.own.chunks import ChunkedStream
from sparc.common.cache.own.values import note_on_not_finite
from sparc.common.cache.reader import ActivationCache
from sparc.common.cache.resume import (
    existing_stream,
    refuse_other_classes,
    refuse_other_dataset,
    stream_difference,
)
from sparc.common.cache.thumbnails.own_images import write_thumbnails
from sparc.common.errors import CacheError
from sparc.common.files.folder import Folder
from sparc.common.files.parquet import parquet_bytes
from sparc.common.progress import say
from sparc.common.streams.info import StreamInfo


class Closing:
    """Closes a cache to which batches were appended.

    Args:
        folder: The cache's folder.
        classes: A table of schema `tables.CLASSES`.
    """

    def __init__(self, folder: Folder, classes: pa.Table) -> None:
        self._folder = folder
        self._classes = classes
        self._rows: WholeRows | None = None

    def require_same_form(
        self, finished: CacheInfo, rows_per_chunk: int, streams: Sequence[StreamInfo]
    ) -> None:
        """Refuse to hold batches to a finished cache that is written in another form.

        Raises:
            CacheError: Its chunks, or its streams of these names, are others.
        """
        way_out = "choose another folder, or write over it with overwrite=True"
        if finished.rows_per_chunk != rows_per_chunk:
            raise CacheError(
                f"{self._folder} is a finished cache of {finished.rows_per_chunk:,} rows a chunk, "
                f"not {rows_per_chunk:,}: {way_out}"
            )
        cache = ActivationCache(self._folder)
        for stream in streams:
            if stream.name not in finished.streams:
                continue
            there = cache.stream(stream.name)
            origin = dataclasses.replace(
                stream.origin, features_sha256=there.origin.features_sha256
            )
            wanted = dataclasses.replace(stream, origin=origin)
            if (difference := stream_difference(there, wanted)) is not None:
                raise CacheError(
                    f"{self._folder} is a finished cache, and its stream {stream.name} differs "
                    f"({difference.what}: {difference.first!r} there, {difference.second!r} now): "
                    f"{way_out}"
                )

    def close(
        self,
        chunks: Sequence[ChunkRows],
        streams: Sequence[ChunkedStream],
        finished: CacheInfo | None,
        rows_per_chunk: int,
    ) -> None:
        """Write the tables and metadata of a cache whose chunks are written.

        Args:
            chunks: What is known of the rows of each.
            streams: The streams; their chunks are written.
            finished: What `cache.json` says where there is one: then the rows must be the same,
                and the streams are the same or join it.
            rows_per_chunk: Rows per chunk.

        Raises:
            CacheError: See `sparc.common.cache.own.writer.CacheWriter.close`.
        """
        notes = _notes(chunks, streams)
        rows = whole_rows([chunk.table for chunk in chunks])
        manifest = Manifest(
            dataset=rows.images or ARRAYS_DATASET,
            dataset_format=ARRAYS_DATASET,
            split="",
            rows=rows.table,
            classes=self._classes,
        )
        info = manifest.info(rows_per_chunk)
        if finished is not None:
            refuse_other_dataset(self._folder, finished, info, rows.table)
            refuse_other_classes(self._folder, self._classes)
            for stream in streams:
                if stream.name in finished.streams:
                    existing_stream(self._folder, finished, stream.info)
            info = finished
        self._put(ROWS_FILE, parquet_bytes(rows.table))
        self._put(CLASSES_FILE, parquet_bytes(self._classes))
        self._put(REJECTS_FILE, parquet_bytes(self._rejects(chunks, rows.table, finished)))
        for stream in streams:
            documents = stream_documents(
                stream.info,
                rows=info.rows,
                rows_per_chunk=rows_per_chunk,
                checksums=stream.checksums,
            )
            for name, content in documents.items():
                self._put(f"{ACTIVATIONS}/{stream.name}/{name}", content)
        names = dict.fromkeys((*info.streams, *(stream.name for stream in streams)))
        info = dataclasses.replace(info, streams=tuple(names))
        self._put(ROOT_DOCUMENT, root_document(info.to_document()))
        self._put(INFO_FILE, info.to_json())
        self._rows = rows
        for note in notes:
            say(note)

    def write_thumbnails(self, longest_side: int) -> None:
        """Write the thumbnails of a closed cache whose rows name images; 0 pixels: none."""
        if self._rows is not None and self._rows.images and longest_side:
            info, table = CacheInfo.read(self._folder), self._rows.table
            write_thumbnails(self._folder, info, table, self._rows.images, longest_side)

    def _rejects(
        self, chunks: Sequence[ChunkRows], rows: pa.Table, finished: CacheInfo | None
    ) -> pa.Table:
        """Why rows have no feature, in these streams and in others that the cache holds."""
        lines = [
            (row, stream, why)
            for chunk in chunks
            for stream, of_stream in chunk.reasons.items()
            for row, why in of_stream.items()
        ]
        numbers, streams, reasons = zip(*lines, strict=True) if lines else ((), (), ())
        ids = rows["sample_id"].take(pa.array(numbers, pa.int64()))
        table = pa.table([numbers, streams, ids, reasons], schema=tables.REJECTS)
        if finished is not None:
            before = ActivationCache(self._folder).rejects()
            ours = pa.array(sorted({stream for chunk in chunks for stream in chunk.reasons}))
            others = before.filter(pc.invert(pc.is_in(before["stream"], ours)))
            table = pa.concat_tables([others, table])
        return table.sort_by([("row", "ascending"), ("stream", "ascending")])

    def _put(self, name: str, content: bytes) -> None:
        """Write a file that does not say this already."""
        if not self._folder.exists(name) or self._folder.read(name) != content:
            self._folder.write(name, content)


def _notes(chunks: Sequence[ChunkRows], streams: Sequence[ChunkedStream]) -> list[str]:
    """What to say of features that hold NaN or infinity; a stream that has no others is refused."""
    rows = sum(len(chunk.table) for chunk in chunks)
    notes = []
    for stream in streams:
        reasons: Counter[str] = Counter()
        for chunk in chunks:
            reasons.update(chunk.reasons.get(stream.name, {}).values())
        notes.append(note_on_not_finite(stream.name, reasons[NOT_FINITE], rows))
    return [note for note in notes if note]
