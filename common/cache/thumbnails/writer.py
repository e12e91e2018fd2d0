"""Writing the thumbnails of a cache, chunk by chunk, as its features are written."""

from collections.abc import Mapping

from sparc.common.cache.info import ARRAYS_DATASET, THUMBNAILS, CacheInfo
from sparc.common.cache.reader import ActivationCache
from sparc.common.cache.thumbnails.reader import Thumbnails
from sparc.common.cache.thumbnails.table import table_bytes, thumbnail_file
from sparc.common.cache.verify import check_thumbnails
from sparc.common.errors import CacheError
from sparc.common.files.folder import Folder
from sparc.common.progress import progress, say
from sparc.common.text import printable


class ThumbnailWriter:
    """Writes the thumbnails of a cache; a `ChunkWriter` must have begun it.

    Args:
        folder: The cache's folder.
        info: What its `cache.json` says.
        longest_side: Of a thumbnail, in pixels.
    """

    def __init__(self, folder: Folder, info: CacheInfo, longest_side: int) -> None:
        self._folder = folder
        self._info = info
        self._longest_side = longest_side
        self._reader = Thumbnails(folder, info)

    def open(self, *, repair: bool) -> list[int]:
        """Begin, or continue.

        Args:
            repair: Read every thumbnail that is there, and remove files that are damaged.

        Returns:
            The chunks whose thumbnails are still to be written, in order.

        Raises:
            CacheError: The cache has thumbnails of another size.
            DamagedCacheError: Those that it has cannot be read.
        """
        if repair and self._reader.chunks:
            self._remove_damaged()
        side = self._reader.side
        if side not in (0, self._longest_side):
            is_array = self._info.made_from == ARRAYS_DATASET
            raise CacheError(
                f"{self._folder} has thumbnails of {side} pixels, not {self._longest_side}: give "
                f"{'thumbnails=' if is_array else '--thumbnails '}{side}, or remove "
                f"{self._folder}/{THUMBNAILS} to make them again"
            )
        written = set(self._reader.chunks)
        return [chunk for chunk in range(self._info.chunks) if chunk not in written]

    def _remove_damaged(self) -> None:
        cache = ActivationCache(self._folder)
        with progress(self._info.rows, "verifying thumbnails") as bar:
            for damage in check_thumbnails(cache, checked=bar.update):
                say(printable(str(damage)))
                for name in damage.files:
                    self._folder.remove(name)

    def write(self, chunk: int, thumbnails: Mapping[int, bytes], *, carried: int) -> None:
        """Write the thumbnails of a chunk.

        Args:
            chunk: Which chunk.
            thumbnails: By row of the cache, the WebP file; a row without a picture is left out.
            carried: How many of its first rows show the last image of the chunk before: they take
                over the thumbnail stored there.
        """
        rows = self._info.chunk_rows(chunk)
        before = rows.start - 1
        last = self._reader.encoded([before]).get(before) if carried else None
        by_row = [last] * carried + [thumbnails.get(row) for row in rows[carried:]]
        content = table_bytes(self._info, chunk, by_row, self._longest_side)
        self._folder.write(thumbnail_file(chunk), content)
