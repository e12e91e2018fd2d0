"""Who writes to a cache: one process alone, or several shards at once.

A shard holds a lock of its own for as long as it works, and the cache's lock only while it begins.
Whoever holds the cache's lock and sees no shard's lock held is alone.
"""

import re
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from sparc.common.cache.info import SHARDS
from sparc.common.cache.resume import recognize
from sparc.common.cache.shards.shard import Shard
from sparc.common.errors import LockedError
from sparc.common.files.folder import Folder
from sparc.common.files.lock import exclusive, further_lock, holder_of
from sparc.common.text import listed

PATIENCE = 600.0
"""Seconds for which a shard waits while others begin, each of which takes a moment."""

_LOCK = re.compile(rf"{SHARDS}/([0-9]{{1,9}})-of-([0-9]{{1,9}})\.lock")
_NAMED = 4

_AT_ONCE = 64
"""Locks that are watched at a time."""


@contextmanager
def sole_writer(folder: Folder, *, patience: float = 0.0) -> Iterator[None]:
    """Hold a cache, or the start of one, for writing, with no shard at work.

    Args:
        folder: The cache's folder.
        patience: Seconds to wait for another holder of the cache's lock.

    Raises:
        LockedError: Another process, or a shard, is writing to it.
        CacheError: The folder holds something else.
    """
    with exclusive(folder, recognize, patience=patience):
        if at_work := _alive(folder, shards_at_work(folder)):
            raise LockedError(f"{folder} is being written by {in_words(at_work)}")
        yield


@contextmanager
def hold(folder: Folder, shard: Shard) -> Iterator[None]:
    """Hold a shard; begin to do so while you hold the cache's lock, and keep it as you let go.

    Raises:
        LockedError: Another process makes the shard.
    """
    with further_lock(folder, _lock_of(shard), f"shard {shard} of {folder}"):
        yield


def refuse_others(folder: Folder, shard: Shard) -> bool:
    """Refuse a shard that is at work already, or one beside those of another division.

    Returns:
        Whether no other shard is at work.

    Raises:
        LockedError: The message says who is at work.
    """
    at_work = shards_at_work(folder)
    in_the_way = {s: who for s, who in at_work.items() if s == shard or s.count != shard.count}
    alive = _alive(folder, in_the_way)
    if shard in alive:
        raise LockedError(f"{folder} is being written by {in_words({shard: alive[shard]})}")
    if alive:
        raise LockedError(
            f"{folder} is being written by {in_words(alive)}: wait for those, or divide "
            f"the work into {next(iter(alive)).count} shards as well"
        )
    return at_work.keys() <= in_the_way.keys()


def _alive(folder: Folder, at_work: Mapping[Shard, str]) -> dict[Shard, str]:
    """Those of some shards that are at work for certain, once that is known.

    Behind a URL the lock of a process that died is there until it runs out. All are watched at a
    time: where a store does not say how old a lock is, each takes as long as its lease.
    """
    if not at_work:
        return {}
    with ThreadPoolExecutor(min(len(at_work), _AT_ONCE), thread_name_prefix="locks") as pool:
        holders = pool.map(lambda shard: holder_of(folder, _lock_of(shard), wait=True), at_work)
        return {shard: who for shard, who in zip(at_work, holders, strict=True) if who is not None}


def _lock_of(shard: Shard) -> str:
    return f"{SHARDS}/{shard.number}-of-{shard.count}.lock"


def shards_at_work(folder: Folder) -> dict[Shard, str]:
    """The shards whose lock is held, with the process that holds it, in words.

    Behind a URL a process may have died less than a lease ago.
    """
    at_work = {}
    for name in folder.files(SHARDS):
        if match := _LOCK.fullmatch(name):
            holder = holder_of(folder, name)
            if holder is not None:
                at_work[Shard(int(match[2]), int(match[1]))] = holder
    return dict(sorted(at_work.items()))


def in_words(at_work: Mapping[Shard, str]) -> str:
    """Shards with who makes them, for a message."""
    first = [f"shard {shard} ({who})" for shard, who in list(at_work.items())[:_NAMED]]
    more = len(at_work) - len(first)
    return listed([*first, *([f"{more} more"] if more else [])])
