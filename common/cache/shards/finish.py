"""Gathering what the shards of a cache have made, so that it is as one process would leave it."""

import os
from collections.abc import Sequence

from sparc.common.cache.info import finish_advice
from sparc.common.cache.reader import ActivationCache
from sparc.common.cache.shards.locks import PATIENCE, sole_writer
from sparc.common.cache.writer import ChunkWriter
from sparc.common.errors import DamagedCacheError, IncompleteCacheError
from sparc.common.files.folder import Folder
from sparc.common.text import amount, shorten


def finish(
    location: str | os.PathLike[str] | Folder, *, streams: Sequence[str] = ()
) -> ActivationCache:
    """Gather the shards of a cache. Nothing happens where that has been done.

    Args:
        location: The cache's folder or URL.
        streams: The streams to gather; all of them where none is named.

    Raises:
        IncompleteCacheError: Chunks have not been written.
        LockedError: A shard is at work.
        CacheError: There is no cache, or what is known of its chunks is lost.
    """
    cache = ActivationCache(location)
    folder = cache.folder
    with sole_writer(folder, patience=PATIENCE):
        cache = ActivationCache(folder)
        _require_whole(cache, streams)
        folder.remove_partial_files()
        writer = ChunkWriter(folder, cache.info, cache.rows(), repair=False)
        for name in cache.choose(streams):
            writer.open_stream(cache.stream(name))
            _require_known(writer, cache, name)
        writer.finish()
    return ActivationCache(folder)


def _require_whole(cache: ActivationCache, streams: Sequence[str]) -> None:
    """Refuse streams, or thumbnails, of which chunks are missing."""
    cache.require_complete(streams)
    pictured = cache.thumbnails.chunks
    if pictured and len(pictured) < cache.info.chunks:
        missing = amount(cache.info.chunks - len(pictured), "chunk")
        raise IncompleteCacheError(
            f"{cache.folder} is incomplete: {missing} of thumbnails are missing; "
            + finish_advice(cache.folder, cache.info.made_from)
        )


def _require_known(writer: ChunkWriter, cache: ActivationCache, stream: str) -> None:
    """Refuse a stream of which the dataset, which is not at hand here, has to be asked again."""
    lost = []
    if rows := writer.unexplained(stream, thorough=False):
        lost.append(f"why {amount(len(rows), 'row')} have no feature")
    if cache.stream(stream).modality == "text" and (chunks := writer.uncounted(stream)):
        lost.append(f"how many captions of {amount(len(chunks), 'chunk')} were cut")
    if lost:
        raise DamagedCacheError(
            f"{cache.folder}: of stream {shorten(stream, 60)} it was lost {' and '.join(lost)}: "
            "run its `sparc-extract run` once more without --shard, which reads the dataset again"
        )
