"""A dataset's folder on this machine."""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from sparc.common.errors import DatasetError, MissingFileError, UnavailableError, UnsafeError
from sparc.common.files.paths import from_home
from sparc.common.files.safe_files import open_regular
from sparc.common.images.files import LARGEST_IMAGE
from sparc.common.progress import say
from sparc.common.text import amount, shorten, size
from sparc.extract.datasets.advice import advice_for_file
from sparc.extract.datasets.archives.unpacked import SUFFIX, UnpackedFiles
from sparc.extract.datasets.folders.locations import ChosenShards
from sparc.extract.datasets.safe_folder import (
    ColumnFile,
    FileParts,
    SafeFolder,
    is_hidden,
    is_image,
    split_suffix,
)

_NOT_THE_FILES_FAULT = frozenset(
    getattr(errno, name)
    for name in ("EMFILE", "ENFILE", "ENOMEM", "ESTALE", "ENOTCONN", "ETIMEDOUT", "EHOSTDOWN")
    if hasattr(errno, name)
)

_NO_LINK = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)

_MISSING = frozenset({errno.ENOENT, errno.ENOTDIR})

_SHARDS = (".tar", ".tar.gz", ".tgz", ".arrow")
"""How the names of shards end, beside which an archive is not read."""


class LocalFolder(SafeFolder):
    """A folder of this machine.

    Links are followed only where they lead to another place in the folder, or, from a snapshot in a
    hub's cache, to the blobs beside it. The files of archives are among those of the folder where
    no images and no shards lie beside the archives.

    Args:
        location: Its path; it may itself be a link.
        chosen: The shards in it that are the dataset, with the files beside them; None: all files.

    Raises:
        DatasetError: There is no such folder, or it cannot be read.
    """

    def __init__(
        self, location: str | os.PathLike[str], chosen: ChosenShards | None = None
    ) -> None:
        super().__init__(from_home(location))
        self._chosen = chosen
        root = self.location if chosen is None else chosen.root
        self._root = Path(os.path.realpath(root))
        if not self._root.exists():
            raise DatasetError(f"there is no dataset folder {root}")
        if not self._root.is_dir() and not self._is_archive:
            raise DatasetError(f"{root} is not a folder: {advice_for_file(root)}")
        self._blobs = _hub_blobs(self._root)
        self._identity = _identity(self._root)

    @property
    def place(self) -> str:
        """The absolute path; see `SafeFolder.place`."""
        return os.path.abspath(self.location) if self._chosen is None else self.location

    def _list(self) -> list[str]:
        members: list[str] = []
        for file in self._archives.files:
            is_data = not any(map(is_hidden, file.split("/")))
            (members if is_data else self.hidden).append(file)
        self.opened.update(filter(None, self._archives.used))
        return [*self._own_files, *members]

    @cached_property
    def _own_files(self) -> list[str]:
        """The files that are there, not only in an archive."""
        if self._is_archive:
            return []
        files: list[str] = []
        outside: list[str] = []
        badly_named = 0
        chosen = self._chosen
        waiting = [""] if chosen is None else sorted(chosen.folders)
        while waiting:
            below = waiting.pop()
            for entry in self._entries(below):
                relative = f"{below}{entry.name}"
                if chosen is not None and not chosen.holds(relative):
                    continue
                if is_hidden(entry.name):
                    self.hidden.append(relative)
                    continue
                if not _is_utf8(entry.name):
                    badly_named += 1
                elif entry.is_symlink() and not self._holds(Path(os.path.realpath(entry.path))):
                    outside.append(relative)
                elif entry.is_dir(follow_symlinks=False):
                    if chosen is None:
                        waiting.append(f"{relative}/")
                elif _is_file(entry):
                    files.append(relative)
        if outside:
            first = self._root / outside[0]
            target = os.path.realpath(first)
            common = os.path.commonpath([first, target])
            advice = "" if common == os.sep else f": give {common}, which holds both, or copy them"
            say(
                f"{self}: {amount(len(outside), 'link')} out of the folder left out, such as "
                f"{shorten(outside[0], 80)} to {shorten(target, 120)}{advice}"
            )
        if badly_named:
            say(f"{self}: {amount(badly_named, 'name')} not in UTF-8 left out: rename them")
        if chosen is not None:
            chosen.require(files)
        files.sort()
        return files

    @property
    def _is_archive(self) -> bool:
        return self._root.suffix.lower() == SUFFIX and self._root.is_file()

    @cached_property
    def _archives(self) -> UnpackedFiles:
        """What archives hold; nothing where images or shards lie there, as in most datasets.

        Where both do, the images are usually the archive's, unpacked.
        """
        if self._is_archive:
            return UnpackedFiles(self.location, {"": self._root})
        own = self._own_files
        if any(is_image(file) or file.lower().endswith(_SHARDS) for file in own):
            return UnpackedFiles(self.location, {})
        archives = {file: self._real(file) for file in own if split_suffix(file)[1] == SUFFIX}
        return UnpackedFiles(self.location, archives, taken=frozenset(own))

    def locate(self, name: str) -> Path:
        """As `path`, with the same errors, for a file that is only looked into."""
        return self._unpacked(name) or self._archives.path(name)

    def _unpacked(self, name: str) -> Path | None:
        """As `locate`; None where the file is in an archive."""
        try:
            return self._real(name)
        except MissingFileError:
            if name not in self._archives.files:
                raise
            return None

    def _real(self, name: str) -> Path:
        """The path of a file that is there, not only in an archive."""
        shown = shorten(name, 200)
        try:
            real = Path(os.path.realpath(self._root / name))
            if name.startswith("/") or ".." in name.split("/") or not self._holds(real):
                raise DatasetError(f"{self}: {shown} leaves the dataset's folder")
            mode = real.stat().st_mode
        except OSError as error:
            raise self.failure(f"cannot open {shown}", error) from error
        except ValueError as error:
            raise DatasetError(f"{self}: cannot open {shown}: {error}") from error
        if not stat.S_ISREG(mode):
            raise DatasetError(f"{self}: {shown} is not a regular file")
        return real

    def read(self, name: str, *, largest: int = LARGEST_IMAGE) -> bytes:
        """The content of a file; see `SafeFolder.read`."""
        path = self._unpacked(name)
        self.opened.add(name)
        return self._content(name, path, largest)

    def read_image(self, name: str) -> bytes:
        """As `read`, for the image of a row; see `SafeFolder.read_image`."""
        return self._content(name, self._unpacked(name), LARGEST_IMAGE)

    def _content(self, name: str, path: Path | None, largest: int) -> bytes:
        if path is None:
            return self._archives.read(name, largest)
        try:
            # Opened without waiting, since a pipe may have replaced the file in the meantime.
            with open_regular(path) as file:
                if (held := os.fstat(file.fileno()).st_size) > largest:
                    raise DatasetError(
                        f"{self}: {shorten(name, 200)} has {size(held)}, more than {size(largest)}"
                    )
                return file.read(largest)
        except UnsafeError as error:
            raise DatasetError(f"{self}: {shorten(name, 200)} is not a regular file") from error
        except OSError as error:
            raise self.failure(f"cannot read {shorten(name, 200)}", error) from error

    def columns_of(self, name: str) -> ColumnFile:
        """A file of columns; see `SafeFolder.columns_of`."""
        path = self.locate(name)
        return ColumnFile(path.suffix.lower(), lambda: path)

    @contextmanager
    def parts(self, name: str) -> Iterator[FileParts]:
        """Open a file to read parts of it; see `SafeFolder.parts`."""
        path = self.path(name)
        try:
            with path.open("rb", buffering=0) as file:
                yield _DescriptorParts(file.fileno(), os.fstat(file.fileno()).st_size)
        except OSError as error:
            raise self.failure(f"cannot read {shorten(name, 200)}", error) from error

    def read_beside(self, name: str, *, largest: int) -> bytes:
        """As `read`, for one of many small files; see `SafeFolder.read_beside`.

        The listing has looked at the folders that lead there, so that only the file itself is
        looked at again; where it is a link or in an archive, `read` reads it.
        """
        try:
            descriptor = os.open(f"{self._root}/{name}", _NO_LINK)
        except OSError:
            return self.read(name, largest=largest)
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode) or status.st_size > largest:
                return self.read(name, largest=largest)
            self.opened.add(name)
            return os.read(descriptor, largest)
        except OSError as error:
            raise self.failure(f"cannot read {shorten(name, 200)}", error) from error
        finally:
            os.close(descriptor)

    def head(self, name: str, size: int) -> bytes:
        """The first bytes of a file; see `SafeFolder.head`."""
        try:
            with open_regular(self._real(name)) as file:
                return file.read(size)
        except MissingFileError:
            return self._archives.head(name, size) if name in self._archives.files else b""
        except (DatasetError, UnsafeError, OSError):
            return b""

    def name_of(self, path: Path) -> str:
        """What to call a file that the user names; see `SafeFolder.name_of`."""
        real = Path(os.path.realpath(path))
        is_inside = real.is_relative_to(self._root)
        return real.relative_to(self._root).as_posix() if is_inside else str(path)

    def failure(self, what: str, error: OSError) -> DatasetError:
        """The error to raise for a file that cannot be read; see `SafeFolder.failure`."""
        if error.errno in _NOT_THE_FILES_FAULT or not self._is_there():
            return UnavailableError(
                f"{self} cannot be read any more ({what}: {error.strerror}); run the same command "
                "again once it can, to continue where it stopped"
            )
        kind = MissingFileError if error.errno in _MISSING else DatasetError
        return kind(f"{self}: {what}: {error.strerror}")

    def _is_there(self) -> bool:
        """Whether the folder is still the one that was opened; after unmounting it is another."""
        try:
            return _identity(self._root) == self._identity
        except OSError:
            return False

    def _holds(self, real: Path) -> bool:
        is_blob = self._blobs is not None and real.is_relative_to(self._blobs)
        return is_blob or real.is_relative_to(self._root)

    def _entries(self, below: str) -> list[os.DirEntry[str]]:
        try:
            with os.scandir(self._root / below) as entries:
                return list(entries)
        except OSError as error:
            raise DatasetError(
                f"{self}: cannot list {below or 'the folder'}: {error.strerror}"
            ) from error


class _DescriptorParts(NamedTuple):
    """The parts of an open file."""

    descriptor: int
    size: int

    def read(self, offset: int, length: int) -> bytes:
        """The bytes from an offset; fewer where the file ends before."""
        return os.pread(self.descriptor, length, offset)


def _identity(folder: Path) -> tuple[int, int]:
    status = folder.stat()
    return status.st_dev, status.st_ino


def _hub_blobs(root: Path) -> Path | None:
    """Where the links of a snapshot in a hub's cache lead (`snapshots/REVISION`, `blobs`)."""
    blobs = root.parent.parent / "blobs"
    is_real = root.parent.name == "snapshots" and blobs.is_dir() and not blobs.is_symlink()
    return blobs if is_real else None


def _is_file(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_file()
    except OSError:  # a link to itself
        return False


def _is_utf8(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
