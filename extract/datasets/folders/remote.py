"""A dataset's folder behind a URL."""

import io
import posixpath
import tempfile
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import IO

from sparc.common.errors import DatasetError, MissingFileError, StoreError, UnavailableError
from sparc.common.files.remote.open_file import OpenObject
from sparc.common.images.files import LARGEST_IMAGE
from sparc.common.progress import say
from sparc.common.text import amount, shorten, size
from sparc.extract.datasets.folders.locations import Location
from sparc.extract.datasets.folders.small_files import SmallFiles
from sparc.extract.datasets.folders.store import Held, Store, StoredParts
from sparc.extract.datasets.safe_folder import ColumnFile, SafeFolder, is_hidden, split_suffix

LARGEST_COPY = 1 << 33
"""Most bytes of a file that is copied to this machine, as tables are: not images, nor shards."""

_AT_ONCE = 1 << 23
"""Bytes of such a file that are asked for at once."""

_READ_BY_PARTS = (".parquet",)
_READ_AHEAD = 1 << 16
"""Bytes of a file of columns that are fetched where fewer are asked for."""

_LARGEST_SMALL = 1 << 16
"""Most bytes of a file that is fetched together with others."""

_KEPT_OPEN = 64
"""Files that stay open, those that were used last."""


class RemoteFolder(SafeFolder):
    """A folder behind a URL of any file system that fsspec knows.

    Credentials are those of this process: its environment, or the files that the store's own
    programs use. Tables, lists and JSON are copied to a temporary folder when they are read; images
    and parts of shards are asked for one by one.

    Args:
        location: The URL of a folder, or the shards behind URLs.

    Raises:
        DatasetError: The URL's protocol is unknown, or a web server cannot list the folder.
    """

    def __init__(self, location: Location) -> None:
        super().__init__(location.name)
        self._store = Store(location.root)
        self._chosen = location.chosen
        if not self._store.lists and location.chosen is None:
            raise DatasetError(
                f"{self}: a web server does not list what it has: name the shards, such as "
                f"'{shorten(location.root, 200)}/{{00000..00099}}.tar', or copy the folder to this "
                "machine"
            )
        self._lock = threading.Lock()
        self._open: OrderedDict[str, StoredParts] = OrderedDict()
        self._copies: dict[str, Path] = {}
        self._listed: Mapping[str, Held | None] | None = None

    @property
    def root(self) -> str:
        """The URL of the folder itself."""
        return self._store.root

    def _list(self) -> list[str]:
        files = []
        hidden: dict[str, None] = {}
        badly_named = 0
        self._listed = self._listing()
        for file in self._listed:
            parts = file.split("/")
            if not _is_name(file):
                badly_named += 1
            elif self._chosen is not None and not self._chosen.holds(file):
                continue
            elif any(map(is_hidden, parts)):  # what lies in a hidden folder is not counted
                first = next(number for number, part in enumerate(parts) if is_hidden(part))
                hidden["/".join(parts[: first + 1])] = None
            else:
                files.append(file)
        self.hidden.extend(hidden)
        if badly_named:
            say(f"{self}: {amount(badly_named, 'name')} left out that lead out of the folder")
        if self._chosen is not None:
            self._chosen.require(files)
        if not files:
            raise DatasetError(f"there is nothing below {self.root}")
        return files

    def _listing(self) -> Mapping[str, Held | None]:
        """What the store says of the files, or nothing where it does not list them."""
        if self._chosen is None:
            return self._store.listing(None)
        if self._store.lists:
            try:
                return self._store.listing(self._chosen.folders)
            except StoreError as error:
                if not isinstance(error.__cause__, PermissionError):
                    raise
                say(f"{self}: the folder may not be listed, so files beside the shards are unknown")
        return dict.fromkeys(self._chosen.files)

    def held(self, name: str) -> Held:
        """What the store says of a file.

        Raises:
            MissingFileError: It does not exist.
            DatasetError: Its name leads out of the folder.
        """
        if not _is_name(name):
            raise self._leaving(name)
        if self._listed is None:  # processes that read images alone list nothing
            return self._store.held(name)
        if name not in self._listed:
            raise MissingFileError(f"{self}: {shorten(name, 200)} is not there")
        return self._listed[name] or self._store.held(name)

    def _leaving(self, name: str) -> DatasetError:
        return DatasetError(f"{self}: {shorten(name, 200)} leaves the dataset's folder")

    def locate(self, name: str) -> Path:
        """A copy of a file on this machine, which lasts as long as this object."""
        with self._lock:
            if name not in self._copies:
                self._copies[name] = self._copied(name, len(self._copies))
            return self._copies[name]

    def _copied(self, name: str, number: int) -> Path:
        held = self.held(name)
        if held.size > LARGEST_COPY:
            raise DatasetError(
                f"{self}: {shorten(name, 200)} has {size(held.size)}, more than "
                f"{size(LARGEST_COPY)}: copy the dataset to this machine"
            )
        path = Path(self._temporary.name) / f"{number}{posixpath.splitext(name)[1]}"
        parts = self._store.opened(name)
        try:
            with path.open("wb") as copy:
                for offset in range(0, parts.size, _AT_ONCE):
                    copy.write(parts.read(offset, _AT_ONCE))
        except OSError as error:
            raise UnavailableError(
                f"cannot copy {self.root}/{shorten(name, 200)} to {path.parent}: {error.strerror}; "
                "TMPDIR names another folder for it"
            ) from error
        return path

    @cached_property
    def _temporary(self) -> "tempfile.TemporaryDirectory[str]":
        return tempfile.TemporaryDirectory(prefix="sparc-copied-")

    def read(self, name: str, *, largest: int = LARGEST_IMAGE) -> bytes:
        """The content of a file; see `SafeFolder.read`."""
        held = self.held(name)
        self.opened.add(name)
        return self._content(name, held, largest)

    def read_beside(self, name: str, *, largest: int) -> bytes:
        """As `read`, for one of many small files; see `SafeFolder.read_beside`."""
        if self.held(name).size > min(largest, _LARGEST_SMALL):
            return self.read(name, largest=largest)
        self.opened.add(name)
        return self._small_files.read(name)

    @cached_property
    def _small_files(self) -> SmallFiles:
        small = [name for name in self.files if self.held(name).size <= _LARGEST_SMALL]
        return SmallFiles(small, lambda name: self._store.read(name, self.held(name).size))

    def read_image(self, name: str) -> bytes:
        """As `read`, for the image of a row; see `SafeFolder.read_image`."""
        return self._content(name, self.held(name), LARGEST_IMAGE)

    def _content(self, name: str, held: Held, largest: int) -> bytes:
        if held.size > largest:
            raise DatasetError(
                f"{self}: {shorten(name, 200)} has {size(held.size)}, more than {size(largest)}"
            )
        return self._store.read(name, held.size)

    def columns_of(self, name: str) -> ColumnFile:
        """A file of columns, read by parts; see `SafeFolder.columns_of`."""
        suffix = split_suffix(name)[1]
        if suffix not in _READ_BY_PARTS:
            raise DatasetError(
                f"{self}: {shorten(name, 200)} is read through the memory of this machine: copy "
                "the dataset here, or save it with to_parquet of datasets"
            )
        return ColumnFile(suffix, lambda: self._opened_in_parts(name))

    def _opened_in_parts(self, name: str) -> IO[bytes]:
        parts = self._parts(name)
        opened = OpenObject(parts.size, lambda start, stop: parts.read(start, stop - start))
        return io.BufferedReader(opened, _READ_AHEAD)

    @contextmanager
    def parts(self, name: str) -> Iterator[StoredParts]:
        """Open a file to read parts of it; see `SafeFolder.parts`. It stays open for a while."""
        self.opened.add(name)
        yield self._parts(name)

    def _parts(self, name: str) -> StoredParts:
        with self._lock:
            parts = self._open.get(name)
        if parts is None:
            if not _is_name(name):
                raise self._leaving(name)
            parts = self._store.opened(name)
        with self._lock:
            self._open[name] = parts
            self._open.move_to_end(name)
            while len(self._open) > _KEPT_OPEN:
                self._open.popitem(last=False)
        return parts

    def head(self, name: str, size: int) -> bytes:
        """The first bytes of a file; see `SafeFolder.head`."""
        try:
            return self._store.read(name, min(size, self.held(name).size))
        except (DatasetError, StoreError):
            return b""

    def name_of(self, path: Path) -> str:
        """What to call a file that the user names: it lies elsewhere."""
        return str(path)

    def failure(self, what: str, error: OSError) -> DatasetError:
        """The error to raise for a file that cannot be read; see `SafeFolder.failure`."""
        return UnavailableError(
            f"{self}: {what}: {error.strerror}; run the same command again once it can be read, to "
            "continue where it stopped"
        )


def _is_name(file: str) -> bool:
    """Whether a name stays below the folder that it is in."""
    return not any(part in ("", ".", "..") or "\0" in part for part in file.split("/"))
