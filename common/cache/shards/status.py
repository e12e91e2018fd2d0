"""How far the shards of a cache are."""

from collections.abc import Iterator

from sparc.common.cache.reader import ActivationCache
from sparc.common.cache.shards.agreement import read_agreement
from sparc.common.cache.shards.locks import shards_at_work
from sparc.common.cache.shards.shard import Shard
from sparc.common.text import amount, shorten

_NAMED = 12


def lacking_shards(cache: ActivationCache, count: int) -> list[Shard]:
    """The shards, of a division into `count`, that some stream or thumbnails lack chunks of."""
    missing = {chunk for stream in cache.stream_names for chunk in cache.missing_chunks(stream)}
    if pictured := cache.thumbnails.chunks:
        missing |= set(range(cache.info.chunks)).difference(pictured)
    total = cache.info.chunks
    return sorted({Shard.of_chunk(chunk, count=count, total=total) for chunk in missing})


def describe_shards(cache: ActivationCache) -> Iterator[str]:
    """What is to be said of the shards of a cache, a line each; nothing where all are gathered."""
    agreement = read_agreement(cache.folder)
    if agreement is None:
        return
    at_work = shards_at_work(cache.folder)
    if at_work:
        yield f"at work   {_names(list(at_work))}, which {_are(len(at_work))} being written now"
    left = [s for s in lacking_shards(cache, agreement.shards) if s not in at_work]
    if left:
        yield (
            f"left      {_names(left)}, of which chunks are missing: run "
            f"{'it' if len(left) == 1 else 'them'}"
        )
    if not at_work and not left:
        yield f"shards    all are made; `sparc-extract finish {cache.folder}` gathers them"


def _names(shards: list[Shard]) -> str:
    names = ", ".join(map(str, shards[:_NAMED])) + (", …" if len(shards) > _NAMED else "")
    return f"{amount(len(shards), 'shard')}, {shorten(names, 200)}"


def _are(number: int) -> str:
    return "is" if number == 1 else "are"
