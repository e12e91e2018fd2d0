"""Writing the chunks of a stream: what is said of a chunk, then its objects.

The stream has been opened, by whoever holds the cache. Any number of processes may write chunks of
it then, each whole ones: nothing here looks at what else the cache holds, or changes it.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import zarr

from sparc.common.cache.features import require_storable, rounded
from sparc.common.cache.info import ACTIVATIONS, ARRAYS_DATASET, CacheInfo
from sparc.common.cache.parts.cut import write_cut
from sparc.common.cache.parts.rejects import write_rejects
from sparc.common.errors import CacheError
from sparc.common.files.folder import Folder
from sparc.common.files.zarr_store import zarr_store
from sparc.common.streams.info import StreamInfo


class StreamWriter:
    """Writes the chunks of a stream whose metadata have been written.

    Args:
        folder: The cache's folder.
        info: What its `cache.json` says of the rows.
        rows: The rows table.
        stream: What the stream is.
    """

    def __init__(self, folder: Folder, info: CacheInfo, rows: pa.Table, stream: StreamInfo) -> None:
        self._folder = folder
        self._info = info
        self._rows = rows
        self._stream = stream
        group: Any = zarr.open_group(zarr_store(folder, ACTIVATIONS, read_only=False))[stream.name]
        config = {"write_empty_chunks": True}
        self._features: Any = group["features"].with_config(config)
        self._valid: Any = group["valid"].with_config(config)

    def write(
        self,
        chunk: int,
        features: npt.NDArray[Any],
        reasons: Mapping[int, str] | None = None,
        *,
        cut: int | None = None,
    ) -> None:
        """Write a chunk: from then on it is done.

        Args:
            chunk: Which chunk.
            features: (rows of the chunk, dim), any float type; rows with a reason are ignored.
            reasons: Why a row has no feature, by row of the cache. All other rows are valid.
            cut: How many of its captions were cut at the encoder's context; None does not say.

        Raises:
            CacheError: A value does not fit float16, or a valid feature is zero or not finite.
        """
        rows, name = self._info.chunk_rows(chunk), self._stream.name
        dtype = self._features.dtype
        if features.shape != (len(rows), self._features.shape[1]):
            raise CacheError(
                f"stream {name}, chunk {chunk}: features of shape {features.shape} where "
                f"({len(rows)}, {self._features.shape[1]}) belongs"
            )
        reasons = dict(reasons or {})
        valid = np.ones(len(rows), dtype=np.bool_)
        valid[[row - rows.start for row in reasons]] = False
        masked = np.where(valid[:, None], features, 0)
        is_array = self._info.made_from == ARRAYS_DATASET
        advice = 'give dtype="float32"' if is_array else "extract this stream with --dtype float32"
        require_storable(masked, valid, dtype, stream=name, first_row=rows.start, advice=advice)
        # Rejects first, flags last: a chunk with flags is done, and nothing of it is missing.
        write_rejects(self._folder, self._rows, name, chunk, reasons)
        if cut is not None:
            write_cut(self._folder, name, chunk, cut)
        stored = rounded(masked.astype(dtype), self._stream.keep_bits)
        self._features[rows.start : rows.stop] = stored
        self._valid[rows.start : rows.stop] = valid
