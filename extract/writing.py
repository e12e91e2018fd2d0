"""Writing chunks that have been encoded, each with what it takes over from the chunk before."""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc

from sparc.common.cache.features import bad_features
from sparc.common.cache.info import REJECT_PARTS
from sparc.common.cache.parts.names import part_file
from sparc.common.cache.parts.stream_writer import StreamWriter
from sparc.common.cache.reader import ActivationCache
from sparc.common.cache.thumbnails.writer import ThumbnailWriter
from sparc.extract.encoding.chunks import ChunkFeatures


class EncodedWriter:
    """Writes encoded chunks to a cache whose streams are open.

    Args:
        cache: The cache.
        streams: Writes the chunks of each stream.
        thumbnails: Writes thumbnails.
    """

    def __init__(
        self,
        cache: ActivationCache,
        streams: Mapping[str, StreamWriter],
        thumbnails: ThumbnailWriter,
    ) -> None:
        self._cache = cache
        self._streams = streams
        self._thumbnails = thumbnails

    def write(self, encoded: ChunkFeatures) -> None:
        """Write a chunk. Unless it has a lead, the chunk before must have been written.

        Raises:
            CacheError: A value does not fit float16.
        """
        chunk = encoded.chunk
        carried = 0 if chunk.lead else chunk.carried
        if chunk.thumbnail_side:
            self._thumbnails.write(chunk.index, encoded.thumbnails, carried=carried)
        for name in chunk.streams:
            stream = self._cache.stream(name)
            values, why = encoded.features[name], encoded.reasons[name]
            if carried and stream.modality == "image":
                self._carry(name, chunk.rows, carried, values, why)
            for row, reason in bad_features(values, chunk.rows.start, dtype=stream.dtype).items():
                why.setdefault(row, reason)
            self._streams[name].write(chunk.index, values, why, cut=encoded.cut.get(name))

    def _carry(
        self,
        stream: str,
        rows: range,
        carried: int,
        values: npt.NDArray[np.float32],
        reasons: dict[int, str],
    ) -> None:
        """Take over the feature, or the reason, of the image that began in the chunk before."""
        cache = self._cache
        before = rows.start // cache.info.rows_per_chunk - 1
        if cache.valid(stream, before)[-1]:
            values[:carried] = cache.features(stream, before)[-1]
            return
        part = part_file(REJECT_PARTS, stream, before)
        rejects = cache.rejects_so_far([part] if cache.folder.exists(part) else [])
        same = pc.and_(
            pc.equal(rejects.column("row"), rows.start - 1),
            pc.equal(rejects.column("stream"), stream),
        )
        (reason,) = rejects.filter(same).column("reason").to_pylist()
        reasons.update(dict.fromkeys(rows[:carried], reason))
