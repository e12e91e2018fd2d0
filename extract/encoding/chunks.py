"""What a chunk of rows needs from the encoders, and what they give for it.

Knows only the rows table: no image is opened here and no model is known.
"""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from sparc.common.cache import tables
from sparc.common.cache.info import CacheInfo
from sparc.common.errors import DatasetError
from sparc.common.streams.info import Modality
from sparc.extract.encoders import StreamSpec

PLACE = "place"
"""The column of rows that are places of images: which place of its image a row is, from 0."""


@dataclasses.dataclass(frozen=True)
class ChunkImage:
    """An image of a chunk and the rows of the cache that show it.

    Attributes:
        path: Its path in the dataset; None where the rows have no image.
        rows: Consecutive rows of one chunk.
    """

    path: str | None
    rows: range


@dataclasses.dataclass(frozen=True)
class Chunk:
    """A chunk that some streams still lack, and what they need for it.

    Attributes:
        index: Which chunk of the cache.
        rows: Its rows.
        streams: The streams that lack it.
        thumbnail_side: Longest side in pixels of the thumbnails that it lacks; 0: it lacks none.
        carried: How many of its first rows show the last image of the chunk before.
        lead: The images that were encoded together with that one, and it as the last of them, whose
            rows here are the carried ones; the others have none. Where there is no lead, the
            carried rows take over the feature, and the thumbnail, stored in the chunk before.
        images: The images that begin in this chunk, in row order.
        captions: Its rows that have a caption, in row order, with the caption; where rows are
            places, the first row of each image.
        places: Which place of its image each row is; empty where rows are whole images.
        places_per_image: How many consecutive rows are places of one image; 1 where rows are whole
            images.
    """

    index: int
    rows: range
    streams: tuple[str, ...]
    thumbnail_side: int
    carried: int
    lead: tuple[ChunkImage, ...]
    images: tuple[ChunkImage, ...]
    captions: tuple[tuple[int, str], ...]
    places: tuple[int, ...] = ()
    places_per_image: int = 1


class ChunkFeatures(NamedTuple):
    """What the encoders made of a chunk, before it is written.

    Attributes:
        chunk: Which chunk, and for which streams.
        features: By stream, (rows of the chunk, dim) float32; zeros where there is a reason, and
            in the rows that the chunk takes over from the one before.
        reasons: By stream, why a row of the cache has no feature.
        cut: By text stream, how many captions were longer than the encoder's context.
        thumbnails: By row of the cache, the thumbnail of an image that begins in this chunk, or in
            its lead, if the chunk lacks thumbnails and the image could be decoded.
    """

    chunk: Chunk
    features: dict[str, npt.NDArray[np.float32]]
    reasons: dict[str, dict[int, str]]
    cut: dict[str, int]
    thumbnails: dict[int, bytes]


class ChunkTable:
    """The rows of a dataset, cut into chunks.

    Args:
        rows: A table of schema `sparc.common.cache.tables.ROWS`.
        places_per_image: How many consecutive rows are places of one image, as the column `PLACE`
            says; 0 where rows are whole images. No chunk divides an image into two then.
    """

    def __init__(self, rows: pa.Table, *, places_per_image: int = 0) -> None:
        self._rows = rows
        self._places_per_image = places_per_image
        if places_per_image:
            self._first = np.arange(0, len(rows), places_per_image)
        else:
            self._first = _first_rows(rows)

    @property
    def distinct_images(self) -> int:
        """Number of distinct images."""
        return len(self._first)

    def inputs(self, row: int) -> tuple[str | None, str | None]:
        """The image and the caption of a row, where it has them."""
        return self._rows.column("image")[row].as_py(), self._rows.column("caption")[row].as_py()

    def chunk(
        self,
        index: int,
        rows: range,
        streams: Sequence[str],
        *,
        thumbnail_side: int = 0,
        lead: int = 0,
    ) -> Chunk:
        """What those streams, and thumbnails of that size, need for a chunk of those rows.

        Args:
            index: Which chunk.
            rows: Its rows.
            streams: The streams.
            thumbnail_side: Of the thumbnails; 0: none.
            lead: Images per batch, where the chunk before cannot be relied on: an image that
                continues here is encoded once more, in its place in its batch. 0: no lead.
        """
        low, high = np.searchsorted(self._first, (rows.start, rows.stop))
        starts = [int(row) for row in self._first[low:high]]
        part = self._rows.slice(rows.start, len(rows))
        paths = part.column("image").to_pylist()
        captions = part.column("caption").to_pylist()
        ends = [*starts[1:], rows.stop] if starts else []
        carried = (starts[0] if starts else rows.stop) - rows.start
        return Chunk(
            index=index,
            rows=rows,
            streams=tuple(streams),
            thumbnail_side=thumbnail_side,
            carried=carried,
            lead=self._lead(index, rows, carried, lead) if carried and lead else (),
            images=tuple(
                ChunkImage(paths[start - rows.start], range(start, end))
                for start, end in zip(starts, ends, strict=True)
            ),
            captions=tuple(
                (row, text)
                for row, text in zip(rows, captions, strict=True)
                if text and text.strip() and not row % (self._places_per_image or 1)
            ),
            places=tuple(part.column(PLACE).to_pylist()) if self._places_per_image else (),
            places_per_image=self._places_per_image or 1,
        )

    def _lead(
        self, index: int, rows: range, carried: int, batch_size: int
    ) -> tuple[ChunkImage, ...]:
        """The last batch of the chunk in which the image begins that continues in `rows`."""
        end = int(np.searchsorted(self._first, rows.start))
        rows_per_chunk = rows.start // index
        begin = int(self._first[end - 1]) // rows_per_chunk * rows_per_chunk
        low = int(np.searchsorted(self._first, begin))
        low += (end - 1 - low) // batch_size * batch_size
        paths = self._rows.column("image").take(self._first[low:end]).to_pylist()
        here, nowhere = rows[:carried], rows[:0]
        return (*(ChunkImage(path, nowhere) for path in paths[:-1]), ChunkImage(paths[-1], here))


@dataclasses.dataclass(frozen=True)
class Work:
    """The chunks that lack something: what a job gives to its executor.

    Iterating makes the chunks one by one, in order, since each holds its captions.
    """

    table: ChunkTable
    """The rows."""
    info: CacheInfo
    """What the cache is: how its rows are divided."""
    streams: Mapping[int, Sequence[str]]
    """The streams that lack a chunk, by its index, in order; none where thumbnails are all."""
    thumbnails: frozenset[int] = frozenset()
    """The chunks that lack thumbnails, all of them in `streams`."""
    thumbnail_side: int = 0
    """Longest side of these thumbnails, in pixels."""
    batch_size: int = 0
    """Images that are encoded together."""
    detached: frozenset[int] = frozenset()
    """The chunks that take nothing over from the chunk before, which another process makes."""

    @property
    def rows(self) -> int:
        """How many rows the chunks have."""
        return self._rows(self.streams)

    @property
    def rows_to_encode(self) -> int:
        """How many rows the chunks have that some stream lacks."""
        return self._rows(index for index, streams in self.streams.items() if streams)

    @property
    def rows_pictured(self) -> int:
        """How many rows the chunks have that lack thumbnails."""
        return self._rows(self.thumbnails)

    def __iter__(self) -> Iterator[Chunk]:
        for index, streams in self.streams.items():
            side = self.thumbnail_side if index in self.thumbnails else 0
            rows = self.info.chunk_rows(index)
            lead = self.batch_size if index in self.detached else 0
            yield self.table.chunk(index, rows, streams, thumbnail_side=side, lead=lead)

    def _rows(self, chunks: Iterable[int]) -> int:
        return sum(len(self.info.chunk_rows(index)) for index in chunks)


def lacking(
    missing: Mapping[str, Sequence[int]], thumbnails: Iterable[int] = ()
) -> dict[int, list[str]]:
    """Which streams lack a chunk, by chunk in order.

    Args:
        missing: The chunks that each stream lacks.
        thumbnails: The chunks that lack thumbnails; they are listed even if no stream lacks them.
    """
    streams: dict[int, list[str]] = {chunk: [] for chunk in thumbnails}
    for name, chunks in missing.items():
        for chunk in chunks:
            streams.setdefault(chunk, []).append(name)
    return dict(sorted(streams.items()))


_INPUTS: Mapping[Modality, tuple[str, str]] = MappingProxyType(
    {"image": ("image", "an image"), "text": ("caption", "a caption")}
)
"""By a stream's modality the column of what it encodes, and how a person calls that."""


def has_input(rows: pa.Table, spec: StreamSpec) -> bool:
    """Whether any row of a dataset has what a stream encodes.

    Args:
        rows: A table of schema `sparc.common.cache.tables.ROWS`.
        spec: The stream.
    """
    column, _ = _INPUTS[spec.modality]
    return bool(rows.column(column).null_count < len(rows))


def require_inputs(rows: pa.Table, specs: Mapping[str, StreamSpec]) -> None:
    """Refuse streams for which a dataset has no input at all.

    Args:
        rows: A table of schema `sparc.common.cache.tables.ROWS`.
        specs: The streams, by name.

    Raises:
        DatasetError: A stream needs images, or captions, and no row has one.
    """
    for name, spec in specs.items():
        if not has_input(rows, spec):
            _, what = _INPUTS[spec.modality]
            raise DatasetError(
                f"stream {name} needs {what}, but no row of the dataset has one: leave the stream "
                "out, or name what has it with --table or --format"
            )


def _first_rows(rows: pa.Table) -> npt.NDArray[np.int64]:
    """The rows at which a new image begins, in order, row 0 included."""
    same = [tables.same_as_before(rows[name]) for name in ("sample_id", "image")]
    return np.flatnonzero(~np.logical_and.reduce(same))
