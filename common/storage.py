"""A folder, on this machine or behind an fsspec URL, whose files are written whole or not at all.

This is the one place that knows about local paths, URLs and how to make a write atomic. It must
not know what the files mean.
"""

import glob
import hashlib
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import fsspec
from fsspec.implementations.local import LocalFileSystem

from sparc.common.errors import SparcError

PARTIAL = ".partial"
"""The ending of a file that is being written. Zarr's local store uses the same one."""


class Folder:
    """A folder given as a path or as an fsspec URL (`s3://bucket/cache`).

    Args:
        location: A path or URL. The folder need not exist.

    Raises:
        SparcError: The URL's protocol is unknown or its package is not installed.
    """

    def __init__(self, location: str | os.PathLike[str]) -> None:
        try:
            filesystem, root = fsspec.core.url_to_fs(os.fspath(location))
        except (ImportError, ValueError) as error:
            raise SparcError(f"cannot open {location}: {error}") from error
        self._filesystem = filesystem
        self._root = root.rstrip("/") or "/"
        self.location = os.fspath(location)
        self.local = Path(root) if isinstance(filesystem, LocalFileSystem) else None
        """The folder's path on this machine; None behind a URL."""

    def __str__(self) -> str:
        return self.location

    def path(self, name: str = "") -> str:
        """The path of a file in this folder, as the file system spells it."""
        return f"{self._root}/{name}" if name else self._root

    def exists(self, name: str = "") -> bool:
        """Whether a file or folder of that name is there."""
        return bool(self._filesystem.exists(self.path(name)))

    def create(self) -> None:
        """Make the folder and its parents.

        Raises:
            SparcError: A file is in the way, or nothing can be written there.
        """
        try:
            self._filesystem.makedirs(self._root, exist_ok=True)
        except OSError as error:
            raise cannot_write(self, error) from error

    def read(self, name: str) -> bytes:
        """The content of a file.

        Raises:
            FileNotFoundError: There is no such file.
        """
        return bytes(self._filesystem.cat_file(self.path(name)))

    def read_end(self, name: str, count: int) -> bytes:
        """The last bytes of a file, or all of a shorter one.

        Raises:
            FileNotFoundError: There is no such file.
        """
        with self.open(name) as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - count))
            return file.read()

    def open(self, name: str) -> IO[bytes]:
        """Open a file for reading."""
        return self._filesystem.open(self.path(name), "rb")  # type: ignore[no-any-return]

    def write(self, name: str, content: bytes) -> None:
        """Write a file so that it has either its old content or the new one, never a part.

        On a local disk: written aside, synced, renamed. Object stores put whole objects anyway.
        """
        if self.local is None:
            self._filesystem.pipe_file(self.path(name), content)
            return
        self._remove_partial(name)
        write_durably(self.local / name, content)

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
                self._filesystem.put_file(str(path), self.path(name))
            return
        self._remove_partial(name)
        with _writing_durably(self.local / name) as path:
            yield path

    def _remove_partial(self, name: str) -> None:
        """Remove what a killed writer of a local file left."""
        assert self.local is not None
        target = self.local / name
        for left in target.parent.glob(f"{glob.escape(target.name)}.*{PARTIAL}"):
            if left.is_dir():
                shutil.rmtree(left)
            else:
                left.unlink(missing_ok=True)

    def remove(self, name: str) -> None:
        """Remove a file or a folder; nothing happens where there is none."""
        if self.exists(name):
            self._filesystem.rm(self.path(name), recursive=True)

    def files(self, below: str = "") -> list[str]:
        """Names of all files below a subfolder, relative to this folder, sorted."""
        if self.local is not None:
            # Several times faster than fsspec, which asks for the details of every file.
            found = os.walk(self.local / below)
            paths = (os.path.join(root, name) for root, _, names in found for name in names)
            return sorted(Path(os.path.relpath(path, self.local)).as_posix() for path in paths)
        return sorted(self.sizes(below))

    def sizes(self, below: str = "") -> dict[str, int]:
        """Bytes of all files below a subfolder, by name relative to this folder."""
        if self.local is not None:
            found_here = {}
            for name in self.files(below):
                with suppress(FileNotFoundError):  # a partial file that was just renamed
                    found_here[name] = (self.local / name).stat().st_size
            return found_here
        root = self.path(below)
        # Zarr writes through a connection of its own, which this one's listings know nothing of.
        self._filesystem.invalidate_cache()
        if not self._filesystem.exists(root):
            return {}
        found = self._filesystem.find(root, detail=True)
        return {
            path.removeprefix(self._root).lstrip("/"): int(details["size"])
            for path, details in found.items()
        }

    def size(self) -> int:
        """Bytes of all files together."""
        return sum(self.sizes().values())

    def remove_partial_files(self) -> None:
        """Remove what an interrupted process left half-written, files and folders.

        Object stores leave nothing.
        """
        if self.local is None:
            return
        for root, folders, names in os.walk(self.local):
            for name in folders:
                if name.endswith(PARTIAL):
                    shutil.rmtree(os.path.join(root, name))
            for name in names:
                if name.endswith(PARTIAL):
                    os.unlink(os.path.join(root, name))
            folders[:] = [name for name in folders if not name.endswith(PARTIAL)]

    def zarr_store(self, name: str, *, read_only: bool) -> Any:
        """A Zarr store over a subfolder."""
        from zarr.storage import FsspecStore

        if self.local is not None:
            from sparc.common.durable_store import DurableStore

            return DurableStore(self.local / name, read_only=read_only)
        return FsspecStore.from_url(f"{self.location.rstrip('/')}/{name}", read_only=read_only)


def cannot_write(folder: Folder, error: OSError) -> SparcError:
    """What to tell a person whose folder cannot be begun."""
    reason = error.strerror or str(error)
    return SparcError(f"cannot write to {folder}: {reason}; choose another folder")


def write_durably(target: Path, content: Any) -> None:
    """Write a file aside, sync it and rename it, so that it is whole whatever crashes.

    Args:
        target: The file; folders that are missing are made.
        content: Bytes, or anything that lends its memory as such.
    """
    _make_folder(target.parent)
    aside = _aside(target)
    try:
        with aside.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(target)
    except OSError as error:
        # A full disk says so without saying where.
        raise OSError(error.errno, error.strerror, str(target)) from error
    finally:
        aside.unlink(missing_ok=True)
    sync_folder(target.parent)


@contextmanager
def _writing_durably(target: Path) -> Iterator[Path]:
    """A path to write a file to, in a folder of its own where other files may pass by."""
    _make_folder(target.parent)
    aside = _aside(target)
    aside.mkdir()
    path = aside / "file"
    try:
        path.touch()
        mode = path.stat().st_mode
        yield path
        path.chmod(mode)  # a writer that puts another file there may have been private about it
        with path.open("rb") as file:
            os.fsync(file.fileno())
        path.replace(target)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(target)) from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    sync_folder(target.parent)


def _aside(target: Path) -> Path:
    return target.with_name(f"{target.name}.{uuid.uuid4().hex}{PARTIAL}")


def _make_folder(folder: Path) -> None:
    """Make a folder and its parents; their names are on the disk before anything is in them."""
    if not folder.is_dir():
        _make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        sync_folder(folder.parent)


def file_digest(path: Path) -> str:
    """The SHA-256 of a file in lower-case hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync_folder(folder: Path) -> None:
    """Wait until the names of a folder's files are on the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
