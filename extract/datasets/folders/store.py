"""Files behind a URL, read whole or in parts, through the file systems of fsspec.

`sparc.common.files.remote` asks again for what fails, and this module compares the length of every
answer with what was asked for. A file that is opened stays the one that it was: on S3 every request
is made on that condition, elsewhere its size and its ETag, or what the store has instead, are
compared whenever it is opened.
"""

import threading
from collections.abc import Callable, Collection, Mapping
from typing import IO, Any, NamedTuple, TypeVar

from fsspec import AbstractFileSystem
from fsspec.spec import AbstractBufferedFile

from sparc.common.errors import DatasetError, MissingFileError, UnavailableError
from sparc.common.files.remote.answers import ShortReadError
from sparc.common.files.remote.filesystems import open_filesystem
from sparc.common.files.remote.requests import ask
from sparc.common.text import reason, shorten

_T = TypeVar("_T")

_MARKS = ("etag", "md5hash", "content-md5", "generation", "lastmodified", "last-modified", "mtime")
"""What stores call that which changes with a file's content, the best first, in lower case."""

_NO_LISTING = ("http", "https")


class Held(NamedTuple):
    """What a store says of a file.

    Attributes:
        size: In bytes.
        identity: A text that is another one when the file is.
    """

    size: int
    identity: str


class Store:
    """The files below a URL.

    Args:
        root: The URL, without a slash at its end.

    Raises:
        DatasetError: Its protocol is unknown, or the package for it is not installed.
    """

    def __init__(self, root: str) -> None:
        try:
            self._filesystem, below = open_filesystem(root)
        except (ImportError, ValueError) as error:
            raise DatasetError(f"cannot open {root}: {reason(error)}") from error
        self._root = below.rstrip("/")
        self.root = root
        protocol = self._filesystem.protocol
        names = (protocol,) if isinstance(protocol, str) else protocol
        self.lists = not set(names) & set(_NO_LISTING)
        """Whether the store can say what lies in a folder; web servers cannot."""

    def listing(self, folders: Collection[str] | None) -> Mapping[str, Held]:
        """The files, by path below the root.

        Args:
            folders: Only those that lie directly in these, which are empty or end in `/`; None:
                all.

        Raises:
            StoreError: The store refuses, or does not answer.
        """
        self._filesystem.invalidate_cache()
        if folders is None:
            listings = [self.asked(lambda: self._filesystem.find(self._root, detail=True), "")]
        else:
            listings = [self._files_in(folder) for folder in sorted(folders)]
        return {
            path.removeprefix(self._root).lstrip("/"): _held(details)
            for listed in listings
            for path, details in listed.items()
            if details.get("type") == "file" and not path.endswith("/")
        }

    def _files_in(self, folder: str) -> Mapping[str, Any]:
        where = f"{self._root}/{folder}".rstrip("/")
        entries = self.asked(lambda: self._filesystem.ls(where, detail=True), folder)
        return {entry["name"]: entry for entry in entries}

    def held(self, name: str) -> Held:
        """What the store says of a file now.

        Raises:
            MissingFileError: There is none.
            StoreError: The store refuses, or does not answer.
        """
        return self.asked(lambda: _held(self._filesystem.info(f"{self._root}/{name}")), name)

    def read(self, name: str, length: int) -> bytes:
        """The first bytes of a file, by one request.

        Args:
            name: The file.
            length: How many bytes; the file must have as many.

        Raises:
            DatasetError: As for `held`.
        """
        path = f"{self._root}/{name}"

        def once() -> bytes:
            content: bytes = self._filesystem.cat_file(path, start=0, end=length)
            return _whole(content, length)

        return self.asked(once, name) if length else b""

    def opened(self, name: str) -> "StoredParts":
        """Open a file to read parts of it.

        Raises:
            DatasetError: As for `held`.
        """
        return StoredParts(self, name)

    def open_once(self, name: str) -> tuple[IO[bytes], Held]:
        """One file object that fetches what it is asked for and nothing else, with what it is."""
        path = f"{self._root}/{name}"
        file = self._filesystem.open(path, "rb", block_size=1 << 20, cache_type="none")
        is_buffered = isinstance(file, AbstractBufferedFile)
        return file, _held(file.details if is_buffered else self._filesystem.info(path))

    def asked(self, request: Callable[[], _T], name: str) -> _T:
        """What the store answers to a request for a file that is safe to repeat."""
        return _asked(self._filesystem, request, f"{self.root}/{name}".rstrip("/"))


class StoredParts:
    """A file behind a URL, to read parts of it from several threads.

    Args:
        store: Where it lies.
        name: Its path there.
    """

    def __init__(self, store: Store, name: str) -> None:
        self._store = store
        self._name = name
        self._url = f"{store.root}/{name}"
        self._lock = threading.Lock()
        self._file, self._held = store.asked(lambda: store.open_once(name), name)
        if not store.lists:  # a web server shows only then whether it gives parts
            self.read(1, 1)

    @property
    def size(self) -> int:
        """Bytes of the file."""
        return self._held.size

    @property
    def identity(self) -> str:
        """A text that is another one when the file is."""
        return self._held.identity

    def read(self, offset: int, length: int) -> bytes:
        """The bytes from an offset; fewer where the file ends before.

        Raises:
            MissingFileError: The file is gone.
            UnavailableError: The file has changed.
            StoreError: The store refuses, or does not answer.
        """
        length = min(length, self.size - offset)
        if length <= 0:
            return b""
        return self._store.asked(lambda: self._read_once(offset, length), self._name)

    def _read_once(self, offset: int, length: int) -> bytes:
        try:
            return _whole(self._fetched(offset, length), length)
        except OSError as error:
            if type(error).__name__ == "FileExpired":  # of s3fs, which need not be installed
                raise changed(self._url, self._held.identity, "another one") from error
            raise

    def _fetched(self, offset: int, length: int) -> bytes:
        """What one request gives, on condition that the file is the one that was opened."""
        file = self._file
        if isinstance(file, AbstractBufferedFile):  # it may be asked by several threads at once
            return bytes(file.cache.fetcher(offset, offset + length))
        with self._lock:
            file.seek(offset)
            return file.read(length)


def changed(url: str, before: str, now: str) -> UnavailableError:
    """The error for a file that is not the one that it was."""
    return UnavailableError(
        f"{shorten(url, 300)} has changed while it was used ({before}; now {now}): nothing of the "
        "new one is taken; put the old one back, or make the cache again, with --overwrite"
    )


def _asked(filesystem: AbstractFileSystem, request: Callable[[], _T], url: str) -> _T:
    """What a store answers to a request that is safe to repeat.

    Raises:
        MissingFileError: There is no such file.
        UnavailableError: The file has changed, or is not given in parts.
        StoreError: The store refuses, or does not answer.
    """
    try:
        return ask(filesystem, request, doing="read", url=url)
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
        raise MissingFileError(f"{shorten(url, 300)} is not there") from error
    except ValueError as error:  # of a web server that knows no Range
        raise UnavailableError(
            f"{shorten(url, 300)} cannot be read in parts: {reason(error)}; copy the shards to "
            "this machine"
        ) from error


def _whole(content: bytes, length: int) -> bytes:
    if len(content) != length:
        raise ShortReadError(f"{len(content):,} of {length:,} bytes arrived")
    return content


def _held(details: Mapping[str, Any]) -> Held:
    """What a store's own words say of a file.

    Raises:
        ValueError: They do not say how long it is, as of files that a server makes on demand.
    """
    if details.get("size") is None:
        raise ValueError("its server does not say how long it is")
    size = int(details["size"])
    known = {key.lower(): value for key, value in details.items()}
    mark = next((str(known[name]).strip('"') for name in _MARKS if known.get(name)), "")
    return Held(size, f"{size} bytes, {mark}" if mark else f"{size} bytes")
