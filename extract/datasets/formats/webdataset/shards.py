"""The shards of a dataset: what they hold, and the bytes of their members.

On a disk a shard is looked into whenever that is needed. Behind a URL that would be megabytes each
time: there a shard is read through once, what is known of it may be kept (`kept`), and images are
fetched ahead (`read_ahead`).
"""

import random
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Protocol, TypeVar

from sparc.common.errors import DatasetError, MissingFileError, UnavailableError
from sparc.common.progress import progress
from sparc.extract.datasets.folders.read_ahead import Part, ReadAhead
from sparc.extract.datasets.folders.remote import RemoteFolder
from sparc.extract.datasets.folders.store import StoredParts, changed
from sparc.extract.datasets.formats.webdataset.archive import (
    Extent,
    ShardIndex,
    index_shard,
    opened_shard,
)
from sparc.extract.datasets.formats.webdataset.contents import is_read
from sparc.extract.datasets.formats.webdataset.forward import ForwardParts
from sparc.extract.datasets.formats.webdataset.kept import KeptShards, KnownShard
from sparc.extract.datasets.safe_folder import LARGEST_TEXT, FileParts, SafeFolder

_T = TypeVar("_T")

_AT_ONCE = 8
"""Shards that are read through at once: each takes up to `forward.LARGEST_BLOCK` of memory."""

_LARGEST_TEXTS = 1 << 28
"""Most bytes of a shard's texts that are kept; what goes beyond is fetched when it is wanted."""

Read = Callable[[Extent], bytes]
"""Gives the bytes of a member."""


@dataclass(frozen=True)
class ListedShard:
    """A shard while rows are made of it.

    Attributes:
        index: Its members.
        opened: Opens it to read the members beside the images.
    """

    index: ShardIndex
    opened: Callable[[], AbstractContextManager[Read]]


class Shards(Protocol):
    """The shards of a dataset, wherever they lie."""

    def listed(self, shards: Sequence[str]) -> Iterator[ListedShard]:
        """What some of them hold, in their order.

        Raises:
            DatasetError: The dataset cannot be read any more.
        """
        ...

    def index(self, shard: str) -> ShardIndex:
        """The members of one, to find its images."""
        ...

    def expect(self, images: Iterable[Part]) -> None:
        """Say which images are read soon, in about this order."""
        ...

    def forget(self) -> None:
        """Fetch nothing more of what was expected."""
        ...

    def read(self, image: Part) -> bytes:
        """The bytes of an image. Thread-safe.

        Raises:
            DatasetError: The shard cannot be read any more, or has changed.
        """
        ...


def shards_of(folder: SafeFolder, kept_in: str) -> Shards:
    """The shards of a dataset.

    Args:
        folder: The dataset.
        kept_in: Where what is known of shards behind URLs is kept; empty: nowhere.
    """
    if isinstance(folder, RemoteFolder):
        return StoredShards(folder, KeptShards(kept_in, folder.root) if kept_in else None)
    return LocalShards(folder)


class LocalShards:
    """Shards in a folder of this machine."""

    def __init__(self, folder: SafeFolder) -> None:
        self._folder = folder

    def listed(self, shards: Sequence[str]) -> Iterator[ListedShard]:
        """What some of them hold; see `Shards`."""
        for shard in shards:
            yield ListedShard(self.index(shard), partial(opened_shard, self._folder, shard))

    def index(self, shard: str) -> ShardIndex:
        """The members of one; see `Shards`."""
        return index_shard(self._folder, shard)

    def expect(self, images: Iterable[Part]) -> None:
        """Nothing is read ahead: the operating system does that."""

    def forget(self) -> None:
        """Nothing was read ahead."""

    def read(self, image: Part) -> bytes:
        """The bytes of an image; see `Shards`."""
        with opened_shard(self._folder, image.file) as read:
            return read(Extent(image.offset, image.size))


class StoredShards:
    """Shards behind a URL.

    Args:
        folder: The dataset.
        kept: Where what is known of them is kept; None: nowhere.
    """

    def __init__(self, folder: RemoteFolder, kept: KeptShards | None) -> None:
        self._folder = folder
        self._kept = kept
        self._identities: dict[str, str] = {}
        self._ahead = ReadAhead(self._fetch)
        self._stopping = threading.Event()

    def listed(self, shards: Sequence[str]) -> Iterator[ListedShard]:
        """What some of them hold, several read at once; see `Shards`."""
        with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="shards") as pool:
            try:
                if self._kept is not None:
                    self._keep(pool, self._kept, shards)
                for shard, known in zip(shards, _in_order(pool, self._known, shards), strict=True):
                    self._refuse_changed(shard, known)
                    yield ListedShard(known.index, partial(self._opened, shard, known))
            finally:  # an interruption does not wait for shards of gigabytes
                self._stopping.set()
                pool.shutdown(cancel_futures=True)
                self._stopping.clear()

    def _keep(self, pool: ThreadPoolExecutor, kept: KeptShards, shards: Sequence[str]) -> None:
        """Read through all shards of which nothing is kept.

        Commands that begin at once take them in orders of their own, and each looks whether
        another one was there first: so they divide them.
        """
        present = kept.names()
        missing = [shard for shard in shards if shard not in present]
        if not missing:
            return
        order = random.sample(missing, len(missing))
        with progress(len(missing), "reading shards", unit="shards") as bar:
            for _ in _in_order(pool, partial(self._keep_one, kept), order):
                bar.update()

    def _keep_one(self, kept: KeptShards, shard: str) -> None:
        if not kept.holds(shard):
            kept.save(shard, self._scanned(shard))

    def index(self, shard: str) -> ShardIndex:
        """The members of one; see `Shards`."""
        return self._known(shard).index

    def expect(self, images: Iterable[Part]) -> None:
        """Begin to fetch images, neighbours by one request; see `Shards`."""
        self._ahead.expect(images)

    def forget(self) -> None:
        """Fetch nothing more of what was expected; see `Shards`."""
        self._ahead.forget()

    def read(self, image: Part) -> bytes:
        """The bytes of an image; see `Shards`."""
        return self._ahead.take(image)

    def _known(self, shard: str) -> KnownShard:
        known = self._kept.load(shard) if self._kept is not None else None
        if known is None:
            known = self._scanned(shard)
            if self._kept is not None:
                self._kept.save(shard, known)
        self._identities[shard] = known.identity
        return known

    def _scanned(self, shard: str) -> KnownShard:
        scan = _Scan(self._stopping)
        index = index_shard(self._folder, shard, through=scan.through, met=scan.met)
        with self._folder.parts(shard) as parts:
            return KnownShard(parts.identity, index, scan.texts)

    def _refuse_changed(self, shard: str, known: KnownShard) -> None:
        """Refuse a shard of which another one is known: rows would be of the one or the other."""
        now = self._folder.held(shard).identity
        if self._kept is not None and known.identity != now:
            raise DatasetError(
                f"{self._folder.root}/{shard} has changed since its images were listed "
                f"({known.identity}; now {now}): put the old one back; or remove "
                f"{self._kept.file(shard)}, and make the cache again, with --overwrite"
            )

    @contextmanager
    def _opened(self, shard: str, known: KnownShard) -> Iterator[Read]:
        def read(extent: Extent) -> bytes:
            text = known.texts.get(extent.offset)
            return self._fetch(shard, *extent) if text is None else text

        yield read

    def _fetch(self, shard: str, offset: int, size: int) -> bytes:
        with self._still_there(shard) as parts:
            before = self._identities.get(shard, parts.identity)
            if parts.identity != before:
                raise changed(f"{self._folder.root}/{shard}", before, parts.identity)
            content = parts.read(offset, size)
        if len(content) != size:
            raise DatasetError(f"{self._folder}: {shard} was cut off")
        return content

    @contextmanager
    def _still_there(self, shard: str) -> Iterator[StoredParts]:
        """A shard to read images of: that it is gone is not the fault of an image."""
        try:
            with self._folder.parts(shard) as parts:
                yield parts
        except MissingFileError as error:
            raise UnavailableError(
                f"{self._folder.root}/{shard} is not there any more; put it back, and run the same "
                "command again to continue where it stopped"
            ) from error


class _Scan:
    """Gathers the texts of a shard while it is read through.

    Args:
        stopping: Once this is set, nobody waits for the shard any more.
    """

    def __init__(self, stopping: threading.Event) -> None:
        self._stopping = stopping
        self.texts: dict[int, bytes] = {}
        self._bytes = 0
        self._parts: FileParts | None = None

    def through(self, parts: FileParts) -> FileParts:
        """The shard, read from its front to its back."""
        self._parts = ForwardParts(parts)
        return self._parts

    def met(self, name: str, extent: Extent) -> None:
        """Read a member, if it may say something of an image."""
        if self._stopping.is_set():
            raise CancelledError
        if self._parts is None or extent.size > LARGEST_TEXT or not is_read(name):
            return
        if self._bytes + extent.size <= _LARGEST_TEXTS:
            self.texts[extent.offset] = self._parts.read(*extent)
            self._bytes += extent.size


def _in_order(
    pool: ThreadPoolExecutor, work: Callable[[str], _T], shards: Sequence[str]
) -> Iterator[_T]:
    """The results of some work for shards, in their order, a few ahead of the caller."""
    coming: deque[Future[_T]] = deque()
    for shard in shards:
        coming.append(pool.submit(work, shard))
        if len(coming) > _AT_ONCE:
            yield coming.popleft().result()
    while coming:
        yield coming.popleft().result()
