"""Files behind a URL, read whole or in parts, through the file systems of fsspec.

Stores drop requests, refuse them under load and end answers early. So what fails for a moment is
asked again, the length of every answer is compared with what was asked for, and a file that is
opened stays the one that it was: on S3 every request is made on that condition, elsewhere its size
and its ETag, or what the store has instead, are compared whenever it is opened.
"""

import errno
import random
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import IO, Any, NamedTuple, TypeVar

import fsspec
from fsspec.spec import AbstractBufferedFile

from sparc.common.errors import DatasetError, MissingFileError, UnavailableError
from sparc.common.text import reason, shorten

_T = TypeVar("_T")

_TRIES = 8
_LONGEST_WAIT = 20.0
"""Seconds between two tries: they double from a fifth of a second, and all take a minute."""

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
            self._filesystem, below = fsspec.core.url_to_fs(root)
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
            UnavailableError: The store cannot be read.
        """
        self._filesystem.invalidate_cache()
        if folders is None:
            listings = [self._asked(lambda: self._filesystem.find(self._root, detail=True), "")]
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
        entries = self._asked(lambda: self._filesystem.ls(where, detail=True), folder)
        return {entry["name"]: entry for entry in entries}

    def held(self, name: str) -> Held:
        """What the store says of a file now.

        Raises:
            MissingFileError: There is none.
            UnavailableError: The store cannot be read.
        """
        return self._asked(lambda: _held(self._filesystem.info(f"{self._root}/{name}")), name)

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

        return self._asked(once, name) if length else b""

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

    def _asked(self, once: Callable[[], _T], name: str) -> _T:
        return persistently(once, f"{self.root}/{name}".rstrip("/"))


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
        self._idle: list[IO[bytes]] = []
        first, self._held = persistently(lambda: store.open_once(name), self._url)
        self._idle.append(first)
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
            UnavailableError: The file has changed, or the store cannot be read.
        """
        length = min(length, self.size - offset)
        if length <= 0:
            return b""
        return persistently(lambda: self._read_once(offset, length), self._url)

    def _read_once(self, offset: int, length: int) -> bytes:
        with self._borrowed() as file:
            file.seek(offset)
            return _whole(file.read(length), length)

    @contextmanager
    def _borrowed(self) -> Iterator[IO[bytes]]:
        """A file object that no other thread uses; one at which something failed is not kept."""
        with self._lock:
            file = self._idle.pop() if self._idle else None
        if file is None:
            file, held = self._store.open_once(self._name)
            if held != self._held:
                raise changed(self._url, self._held.identity, held.identity)
        if not isinstance(file, AbstractBufferedFile):  # all who open it share its position
            with self._lock:
                yield file
                self._idle.append(file)
            return
        yield file
        with self._lock:
            self._idle.append(file)


def changed(url: str, before: str, now: str) -> UnavailableError:
    """The error for a file that is not the one that it was."""
    return UnavailableError(
        f"{shorten(url, 300)} has changed while it was used ({before}; now {now}): nothing of the "
        "new one is taken; put the old one back, or make the cache again, with --overwrite"
    )


def persistently(once: Callable[[], _T], url: str) -> _T:
    """Do what may fail for a moment until it succeeds.

    Args:
        once: What to do. It is safe to repeat.
        url: What it concerns, for messages.

    Raises:
        MissingFileError: There is no such file.
        UnavailableError: It may not be read, has changed, or failed each time for about a minute.
    """
    shown = shorten(url, 300)
    wait = 0.2
    for further in reversed(range(_TRIES)):
        try:
            return once()
        except DatasetError:
            raise
        except FileNotFoundError as error:
            raise MissingFileError(f"{shown} is not there") from error
        except PermissionError as error:
            raise UnavailableError(
                f"{shown} may not be read from here: {reason(error)}; check the credentials in the "
                "environment, and run the same command again"
            ) from error
        except ValueError as error:  # a web server that knows no Range
            raise UnavailableError(
                f"{shown} cannot be read in parts: {reason(error)}; copy the shards to this machine"
            ) from error
        except Exception as error:  # of the store's own library, which may be any
            if getattr(error, "errno", None) == errno.EBUSY:  # `FileExpired` of s3fs
                raise changed(url, "as it was opened", "another one") from error
            if not further or _is_final(error):
                raise UnavailableError(
                    f"{shown} cannot be read: {reason(error)}; run the same command again once it "
                    "can, to continue where it stopped"
                ) from error
            time.sleep(wait * random.uniform(0.5, 1.0))
            wait = min(2 * wait, _LONGEST_WAIT)
    raise AssertionError("unreachable")


def _is_final(error: Exception) -> bool:
    """Whether asking again will not help: there are no credentials, or the URL is malformed."""
    return type(error).__name__ in ("NoCredentialsError", "InvalidURL", "ParamValidationError")


def _whole(content: bytes, length: int) -> bytes:
    if len(content) != length:
        raise OSError(errno.EIO, f"{len(content):,} of {length:,} bytes came")
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
