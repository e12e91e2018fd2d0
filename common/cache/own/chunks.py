"""The chunks of a stream that is appended to: filled by batches, written when they are full.

A chunk is an uncompressed object (section 4 of `CACHE.md`), so it is made without Zarr, and before
the number of rows is known.
"""

import dataclasses
import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from sparc.common.cache.features import as_stored, bad_features, require_storable
from sparc.common.cache.info import chunk_files
from sparc.common.cache.layout import ARRAYS, CHECKSUM_BYTES, Checksums
from sparc.common.cache.own.begun import AppendedStream, Begun
from sparc.common.cache.own.values import require_same_features
from sparc.common.cache.plain_chunks import is_sound, plain_object
from sparc.common.errors import CacheError
from sparc.common.files.folder import Folder
from sparc.common.streams.info import StreamInfo
from sparc.common.streams.origin import StreamOrigin

_FLOAT32 = 'give dtype="float32"'


@dataclasses.dataclass(frozen=True)
class Checked:
    """Features of a batch that a cache may hold.

    Attributes:
        stored: (rows, dim) in the stored type; zeros where a row has none.
        reasons: By row of the cache, why it has none.
    """

    stored: npt.NDArray[Any]
    reasons: Mapping[int, str]


class ChunkedStream:
    """Fills and writes the chunks of a stream.

    Args:
        folder: The cache's folder.
        stream: The stream.
        begun: How the cache is written.
    """

    def __init__(self, folder: Folder, stream: AppendedStream, begun: Begun) -> None:
        self.name = stream.name
        self.checksums: Checksums = {name: [] for name in ARRAYS}
        """What the chunks so far end in."""
        self._folder = folder
        self._stream = stream
        self._begun = begun
        self._dtype = np.dtype(begun.dtype).newbyteorder("<")
        self._features = np.zeros((begun.rows_per_chunk, stream.dim), self._dtype)
        self._valid = np.zeros(begun.rows_per_chunk, np.bool_)
        self._reasons: dict[int, str] = {}
        self._last: npt.NDArray[Any] | None = None
        self._digest = hashlib.sha256()

    @property
    def info(self) -> StreamInfo:
        """What the stream is, with the digest of the features of all chunks so far."""
        return StreamInfo(
            name=self.name,
            modality=self._stream.modality,
            dim=self._stream.dim,
            dtype=self._begun.dtype,
            origin=StreamOrigin(spec="array", features_sha256=self._digest.hexdigest()),
        )

    def check(
        self, features: npt.NDArray[Any], first_row: int, same_image: npt.NDArray[np.bool_]
    ) -> Checked:
        """Features of a batch as they will be stored.

        Args:
            features: (rows, dim).
            first_row: The row of the cache that the first one is of.
            same_image: (rows,) whether a row has the image of the row before.

        Raises:
            CacheError: One does not fit float16, or is not that of another row of the same image.
        """
        reasons = bad_features(features, first_row, dtype=self._begun.dtype)
        valid = np.ones(len(features), np.bool_)
        valid[[row - first_row for row in reasons]] = False
        masked = features if valid.all() else np.where(valid[:, None], features, 0)
        require_storable(
            masked, valid, self._dtype, stream=self.name, first_row=first_row, advice=_FLOAT32
        )
        stored = as_stored(masked, self._dtype)
        if self._stream.modality == "image" and same_image.any():
            before = stored[:0] if self._last is None else self._last
            require_same_features(
                self.info,
                np.concatenate([before, stored]),
                np.concatenate([np.zeros(len(before), np.bool_), same_image]),
                first_row=first_row - len(before),
            )
        return Checked(stored, reasons)

    def fill(self, at: int, part: slice, batch: Checked, first_row: int) -> None:
        """Put rows of a batch into the chunk that is being filled.

        Args:
            at: The row of the chunk that the first one becomes.
            part: Which rows of the batch.
            batch: The features of the batch.
            first_row: The row of the cache that is the first of the batch.
        """
        rows = slice(at, at + part.stop - part.start)
        self._features[rows] = batch.stored[part]
        self._valid[rows] = True
        span = range(first_row + part.start, first_row + part.stop)
        reasons = {row: why for row, why in batch.reasons.items() if row in span}
        self._valid[[at + row - span.start for row in reasons]] = False
        self._reasons |= reasons
        self._last = batch.stored[part.stop - 1 : part.stop].copy()

    def write(self, chunk: int, rows: int, *, keeps: bool) -> Mapping[int, str]:
        """Write the chunk that is full, or hold what is written to it.

        Args:
            chunk: Which chunk.
            rows: How many rows it has.
            keeps: Whether the chunk was written before, so that it must be the same unless it is
                damaged.

        Returns:
            Why rows of it have no feature.

        Raises:
            CacheError: What was written holds other features.
        """
        values = self._features[:rows], self._valid[:rows]
        for name, file, array in zip(ARRAYS, chunk_files(self.name, chunk), values, strict=True):
            content = plain_object(array, self._begun.rows_per_chunk)
            self._put(file, content, chunk, keeps=keeps)
            self.checksums[name].append(_checksum(content))
        self._digest.update(self._features[:rows].data)
        reasons, self._reasons = self._reasons, {}
        return reasons

    def _put(self, file: str, content: bytes, chunk: int, *, keeps: bool) -> None:
        stored = self._stored(file, len(content))
        if stored == content:
            return
        if keeps and stored is not None:
            raise CacheError(
                f"{self._folder} holds other features of stream {self.name} (chunk {chunk} "
                "differs): choose another folder, or write over it with overwrite=True"
            )
        self._folder.write(file, content)

    def keep(self, chunk: int, rows: int) -> bool:
        """Count a chunk that was written before, without its rows being given again.

        Args:
            chunk: Which chunk: the one after those so far.
            rows: How many rows it has.

        Returns:
            Whether it can be kept; one that is damaged cannot.
        """
        files = chunk_files(self.name, chunk)
        length = self._begun.rows_per_chunk * self._stream.dim * self._dtype.itemsize
        lengths = length + CHECKSUM_BYTES, self._begun.rows_per_chunk + CHECKSUM_BYTES
        contents = [self._stored(f, size) for f, size in zip(files, lengths, strict=True)]
        if contents[0] is None or contents[1] is None:
            return False
        for name, content in zip(ARRAYS, contents, strict=True):
            self.checksums[name].append(_checksum(content or b""))
        width = self._stream.dim * self._dtype.itemsize
        self._digest.update(contents[0][: rows * width])
        last = contents[0][(rows - 1) * width : rows * width]
        self._last = np.frombuffer(last, self._dtype)[None]
        return True

    def _stored(self, file: str, length: int) -> bytes | None:
        """A sound object of that length; None where there is none."""
        try:
            if self._folder.size_of(file) != length:
                return None
            content = self._folder.read(file, largest=length)
        except FileNotFoundError:
            return None
        return content if is_sound(content) else None


def _checksum(content: bytes) -> int:
    return int.from_bytes(content[-CHECKSUM_BYTES:], "little")
