"""A folder, on this machine or behind an fsspec URL, whose files are written whole or not at all.

This is the one place that knows local paths from URLs. It must not know what the files mean.
"""

import hashlib
import os
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from fsspec.implementations.local import LocalFileSystem

from sparc.common.errors import SparcError, UnsafeError
from sparc.common.files.durable import is_aside, remove_whatever, write_durably, writing_durably
from sparc.common.files.paths import from_home
from sparc.common.files.remote.files import RemoteFiles
from sparc.common.files.remote.filesystems import open_filesystem
from sparc.common.files.safe_files import inside, open_regular, parts_of
from sparc.common.parsing import LARGEST
from sparc.common.text import size as shown_size

_BLOCK = 1 << 22
"""Bytes of a long file that are read at a time."""


def location_of(given: object, what: str) -> str:
    """Where something lies: a path or URL, or an object that was opened from one, such as a cache.

    Raises:
        SparcError: It is an object that lies nowhere, such as a model.
    """
    if isinstance(given, str | os.PathLike):
        return from_home(given)
    if isinstance(folder := getattr(given, "folder", None), Folder):
        return folder.location
    raise SparcError(f"{what}: give its folder or URL, not a {type(given).__name__}")


class Folder:
    """A folder given as a path or as an fsspec URL (`s3://bucket/cache`).

    What is in it may come from anybody. Names are held to stay in it, and on this machine no part
    of the way from the folder to a file may be a link: `UnsafeError` says which one is.

    Args:
        location: A path or URL. The folder need not exist.

    Raises:
        SparcError: The URL's protocol is unknown or its package is not installed.
    """

    def __init__(self, location: str | os.PathLike[str]) -> None:
        try:
            filesystem, root = open_filesystem(location)
        except (ImportError, ValueError) as error:
            raise SparcError(f"cannot open {location}: {error}") from error
        is_local = isinstance(filesystem, LocalFileSystem)
        self._root = root.rstrip("/") or "/"
        self._remote = None if is_local else RemoteFiles(filesystem, self._root)
        self.location = os.fspath(location)
        self.local = Path(root) if is_local else None
        """The folder's path on this machine; None behind a URL."""

    def __str__(self) -> str:
        return self.location

    def path(self, name: str = "") -> str:
        """The path of a file in this folder, as the file system spells it."""
        return f"{self._root}/{name}" if name else self._root

    @property
    def name(self) -> str:
        """The folder's own name, the last part of its path."""
        return self._root.rpartition("/")[2]

    def below(self, name: str) -> "Folder":
        """A subfolder, which need not exist.

        Raises:
            UnsafeError: A part of the way to a local one is a link, or the name leads out.
        """
        if self.local is not None:
            return Folder(self.inside(name))
        return Folder(f"{self.location.rstrip('/')}/{name}")

    @property
    def remote(self) -> RemoteFiles:
        """The files of a folder behind a URL."""
        assert self._remote is not None
        return self._remote

    def above(self) -> "Iterator[Folder]":
        """The folders that this one lies in, the nearest first; behind a URL up to the bucket."""
        if self.local is not None:
            yield from map(Folder, self.local.absolute().parents)
            return
        location = self.location.rstrip("/")
        for _ in range(self._root.strip("/").count("/")):
            location = location.rpartition("/")[0]
            yield Folder(location)

    def inside(self, name: str = "") -> Path:
        """The path of a file of a folder on this machine, whether it exists or not.

        Raises:
            UnsafeError: A part of the way is a link, or the name leads out of the folder.
        """
        assert self.local is not None
        return inside(self.local, name)

    def shown(self, name: str) -> str:
        """Where a file of this folder lies, for a person: its path, or its URL."""
        return self.path(name) if self.local is not None else f"{self.location.rstrip('/')}/{name}"

    def exists(self, name: str = "") -> bool:
        """Whether a file or folder of that name exists."""
        if self.local is not None:
            return self.inside(name).exists()
        return self.remote.exists(name)

    def create(self) -> None:
        """Make the folder and its parents.

        Raises:
            SparcError: A file is in the way, or nothing can be written there.
        """
        if self.local is None:
            self.remote.make_folder()
            return
        try:
            self.local.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise cannot_write(self, error) from error

    def read(self, name: str, *, largest: int = LARGEST) -> bytes:
        """The content of a file.

        Args:
            name: The file.
            largest: Most bytes that it may have.

        Raises:
            FileNotFoundError: There is no such file.
            UnsafeError: It is not a regular file, or too long.
        """
        if self.local is None:
            if (content := self.remote.read_at_most(name, largest)) is not None:
                return content
            raise UnsafeError(f"{self}/{name} has more than {shown_size(largest)}")
        with self.open(name, largest=largest) as file:
            content = file.read(largest + 1)
        if len(content) > largest:
            raise UnsafeError(f"{self}/{name} has more than {shown_size(largest)}")
        return content

    def read_end(self, name: str, count: int) -> bytes:
        """The last bytes of a file, or all of a shorter one.

        Raises:
            FileNotFoundError: There is no such file.
            UnsafeError: It is not a regular file.
        """
        if self.local is None:
            return self.remote.read_end(name, count)
        with self.open(name) as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - count))
            return file.read()

    def read_part(self, name: str, begin: int, end: int) -> bytes:
        """The bytes of a file from one place up to another, which it must have.

        Raises:
            FileNotFoundError: There is no such file.
            UnsafeError: It is not a regular file.
            OSError: It is shorter.
        """
        if self.local is None:
            return self.remote.read_range(name, begin, end)
        with self.open(name) as file:
            file.seek(begin)
            content = file.read(end - begin)
        if len(content) != end - begin:
            raise OSError(f"{self}/{name} ends before byte {end:,}")
        return content

    def digest(self, name: str, *, largest: int | None = None) -> str:
        """The SHA-256 of a file in lower-case hexadecimal.

        Args:
            name: The file.
            largest: Most bytes that it may have; None: any number.

        Raises:
            FileNotFoundError: There is no such file.
            UnsafeError: It is not a regular file, or too long.
        """
        sha256 = hashlib.sha256()
        with self.open(name, largest=largest) as file:
            while block := file.read(_BLOCK):
                sha256.update(block)
        return sha256.hexdigest()

    def open(
        self, name: str, *, largest: int | None = None, read_ahead: int | None = None
    ) -> IO[bytes]:
        """Open a file for reading.

        Args:
            name: The file.
            largest: Most bytes that it may have; None: any number.
            read_ahead: Bytes that are fetched at a time behind a URL; None: as its file system
                likes, which is much where little is wanted.

        Raises:
            FileNotFoundError: There is no such file, or the folder itself is a file.
            UnsafeError: It is not a regular file, or too long.
        """
        if self.local is not None:
            try:
                return open_regular(self.inside(name), largest=largest)
            except NotADirectoryError as error:
                raise FileNotFoundError(error.errno, error.strerror, error.filename) from error
        file = self.remote.open(name, read_ahead=read_ahead)
        if largest is not None and (length := file.seek(0, os.SEEK_END)) > largest:
            file.close()
            allowed = shown_size(largest)
            raise UnsafeError(
                f"{self}/{name} has {shown_size(length)}, more than the {allowed} it may have"
            )
        file.seek(0)
        return file

    def write(self, name: str, content: bytes) -> None:
        """Write a file so that it has either its old content or the new one, never a part.

        On a local disk: written aside, synced, renamed. Object stores put whole objects anyway.

        Raises:
            LockedError: This process has lost a lock of the folder, behind a URL.
            StoreError: The store behind the URL refuses or does not answer.
        """
        if self.local is None:
            self.remote.write(name, content)
            return
        self._remove_partial(name)
        write_durably(self._target(name), content)

    @contextmanager
    def writing(self, name: str) -> Iterator[Path]:
        """Let something that writes files write one, as durably as `write` does.

        Yields:
            The path to write to; what it holds at the end becomes the file.
        """
        if self.local is None:
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "file"
                yield path
                self.remote.write_file(name, path)
            return
        self._remove_partial(name)
        with writing_durably(self._target(name)) as path:
            yield path

    def _target(self, name: str) -> Path:
        """Where to write a local file: a link of that name is replaced, one on the way refused."""
        assert self.local is not None
        *above, last = parts_of(self.local, name)
        return self.inside("/".join(above)) / last

    def _remove_partial(self, name: str) -> None:
        """Remove what a killed writer of a local file left."""
        target = self._target(name)
        if not target.parent.is_dir():
            return
        for entry in os.listdir(target.parent):
            if entry.startswith(f"{target.name}.") and is_aside(entry):
                remove_whatever(target.parent / entry)

    def remove(self, name: str) -> None:
        """Remove a file or a folder; nothing happens where none exists. A link is no folder."""
        if self.local is not None:
            remove_whatever(self._target(name))
        else:
            self.remote.remove_below(name)

    def remove_files(self, names: Collection[str]) -> None:
        """Remove files, of which some may not exist; behind a URL many by one request."""
        if self.local is None:
            self.remote.remove_all(names)
            return
        for name in names:
            self.remove(name)

    def entries(self, below: str = "") -> list[str]:
        """Names of all files and folders that lie right in a subfolder, sorted.

        There are none where there is no such folder.
        """
        if self.local is not None:
            where = self.inside(below)
            return sorted(os.listdir(where)) if where.is_dir() else []
        return self.remote.entries(below)

    def files(self, below: str = "") -> list[str]:
        """Names of all files below a subfolder, relative to this folder, sorted.

        Whatever is no folder counts as a file, a link to one too: it is not followed.
        """
        if self.local is not None:
            return sorted(name for name, _ in self._entries(below))
        return sorted(self.sizes(below))

    def _entries(self, below: str) -> Iterator[tuple[str, "os.DirEntry[str]"]]:
        """All files below a subfolder of a local folder, by name relative to this folder."""
        # Several times faster than fsspec, which asks for the details of every file.
        waiting = [below]
        while waiting:
            where = waiting.pop()
            try:
                with os.scandir(self.inside(where)) as scanned:
                    entries = list(scanned)
            except (FileNotFoundError, NotADirectoryError):
                continue
            for entry in entries:
                name = f"{where}/{entry.name}" if where else entry.name
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(name)
                else:
                    yield name, entry

    def sizes(self, below: str = "") -> dict[str, int]:
        """Bytes of all files below a subfolder, by name relative to this folder."""
        if self.local is not None:
            sizes = {}
            for name, entry in self._entries(below):
                with suppress(FileNotFoundError):  # a partial file that was just renamed
                    sizes[name] = entry.stat(follow_symlinks=False).st_size
            return sizes
        return self.remote.sizes(below)

    def size(self) -> int:
        """Bytes of all files together."""
        return sum(self.sizes().values())

    def size_of(self, name: str) -> int:
        """Bytes of a file.

        Raises:
            FileNotFoundError: There is no such file.
            UnsafeError: It is not a regular file.
        """
        if self.local is None:
            return self.remote.size_of(name)
        with self.open(name) as file:
            return file.seek(0, os.SEEK_END)

    def remove_partial_files(self) -> None:
        """Remove what an interrupted process left half-written, files and folders.

        Only what bears the name that writing here gives: call it once the folder has been
        recognized. Object stores leave nothing.
        """
        if self.local is None:
            return
        for root, folders, names in os.walk(self.local):
            for name in (*folders, *names):
                if is_aside(name):
                    remove_whatever(Path(root, name))
            folders[:] = [name for name in folders if not is_aside(name)]


def cannot_write(folder: Folder, error: OSError) -> SparcError:
    """The error for a folder that cannot be written to."""
    reason = error.strerror or str(error)
    if isinstance(error, FileExistsError | NotADirectoryError):
        is_above = isinstance(error, NotADirectoryError)
        reason = "a folder that it lies in is a file" if is_above else "it is a file"
    return SparcError(f"cannot write to {folder}: {reason}; choose another folder")
