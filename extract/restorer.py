"""Restores from the dataset what a cache has lost of what it says about its rows.

A cache records why rows have no feature and how many captions were cut. Most of what is lost can be
told from the dataset; chunks whose reasons cannot are encoded again.
"""

from collections.abc import Callable, Sequence

from sparc.common.cache.writer import ChunkWriter
from sparc.common.progress import say
from sparc.common.text import amount
from sparc.extract.encoders.encoder import Encoders
from sparc.extract.encoding.chunk_work import NO_CAPTION
from sparc.extract.encoding.chunks import ChunkTable
from sparc.extract.encoding.loader import ImageLoader

IMAGES_AT_ONCE = 64
"""Loaded at a time, to see what is wrong with them."""


class Restorer:
    """Restores what an existing cache has lost.

    Args:
        writer: The cache, with its streams opened.
        table: The dataset's rows.
        encoders: Gives those of the streams; called only if something has been lost.
        loader: Loads images.
    """

    def __init__(
        self,
        writer: ChunkWriter,
        table: ChunkTable,
        encoders: Callable[[], Encoders],
        loader: ImageLoader,
    ) -> None:
        self._writer = writer
        self._table = table
        self._encoders = encoders
        self._loader = loader

    def restore_reasons(self, stream: str, *, thorough: bool) -> list[int]:
        """Restore why rows have no feature, where it is not recorded.

        Args:
            stream: Which stream.
            thorough: Look even if the table of rejects exists.

        Returns:
            The chunks whose reasons cannot be restored: they are removed, to be encoded again.
        """
        rows = self._writer.unexplained(stream, thorough=thorough)
        if not rows:
            return []
        reasons = self._reasons(stream, rows)
        per_chunk = self._writer.info.rows_per_chunk
        lost = sorted({row // per_chunk for row in rows if row not in reasons})
        self._writer.discard(stream, lost)
        self._writer.explain(
            stream, {row: why for row, why in reasons.items() if row // per_chunk not in lost}
        )
        say(
            f"stream {stream}: it was lost why {amount(len(rows), 'row')} had no feature; restored "
            f"from the dataset, {amount(len(lost), 'chunk')} to be encoded again"
        )
        return lost

    def restore_cut(self, stream: str) -> None:
        """Count how many captions of a text stream were cut, where it is not recorded."""
        counts = {}
        for chunk in self._writer.uncounted(stream):
            rows = self._writer.info.chunk_rows(chunk)
            captions = [text for _, text in self._table.chunk(chunk, rows, [stream]).captions]
            encoder = self._encoders().texts[stream] if captions else None
            counts[chunk] = encoder.count_cut(captions) if encoder is not None else 0
        self._writer.count_cut(stream, counts)

    def _reasons(self, stream: str, rows: Sequence[int]) -> dict[int, str]:
        """Why rows can have no feature; rows for which the dataset gives no reason are left out."""
        inputs = [self._table.inputs(row) for row in rows]
        if self._writer.cache.stream(stream).modality == "text":
            pairs = zip(rows, inputs, strict=True)
            return {row: NO_CAPTION for row, (_, text) in pairs if not (text and text.strip())}
        encoders = {stream: self._encoders().images[stream]}
        reasons: dict[int, str] = {}
        for first in range(0, len(rows), IMAGES_AT_ONCE):
            part = slice(first, first + IMAGES_AT_ONCE)
            loads = self._loader.submit([path for path, _ in inputs[part]], encoders)
            for row, load in zip(rows[part], loads, strict=True):
                if (reason := load.result().reason) is not None:
                    reasons[row] = reason
        return reasons
