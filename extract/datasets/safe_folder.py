"""The files of a dataset, and nothing beside it.

Datasets are not trusted: a name in their metadata may climb out with `..`, be absolute, pass
through a link or name a device. Every file of a dataset is opened through a `SafeFolder`, which
refuses these; `sparc.extract.datasets.folders` has one for folders of this machine and one for
URLs. This module must not know any dataset format.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import IO, Protocol

from sparc.common.errors import DatasetError
from sparc.common.images.files import LARGEST_IMAGE

_COMMON = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff")
IMAGE_SUFFIXES = frozenset({*_COMMON, ".jpe", ".jfif", ".ppm", ".pgm", ".avif", ".jp2"})
"""The suffixes of image files, in lower case."""

_LEFT_BY_SYSTEMS = frozenset({"__macosx", "thumbs.db", "desktop.ini", "$recycle.bin"})

LARGEST_TEXT = 1 << 24
"""Most bytes of an image's text file; a longer one is refused."""


def split_suffix(name: str) -> tuple[str, str]:
    """A path without its suffix, and the suffix in lower case (`a/b`, `.jpg`).

    As `os.path.splitext`, at a fraction of its time: it is called for every file, often.
    """
    dot = name.rfind(".")
    base = name.rfind("/") + 1
    if dot <= base or (name[base] == "." and not name[base:dot].strip(".")):
        return name, ""
    return name[:dot], name[dot:].lower()


def folder_of(file: str) -> str:
    """The folder that holds a file, empty or ending in `/`."""
    return file[: file.rfind("/") + 1]


def is_image(name: str) -> bool:
    """Whether a file has the suffix of an image."""
    return split_suffix(name)[1] in IMAGE_SUFFIXES


def is_hidden(name: str) -> bool:
    """Whether a file or folder of this name is no part of a dataset; see `SafeFolder`."""
    return name.startswith(".") or name.lower() in _LEFT_BY_SYSTEMS


class FileParts(Protocol):
    """A file that is open to read parts of it."""

    @property
    def size(self) -> int:
        """Bytes of the file."""
        ...

    def read(self, offset: int, length: int) -> bytes:
        """The bytes from an offset; fewer where the file ends before.

        Raises:
            OSError: They cannot be read, from a disk.
            DatasetError: They cannot be read, from behind a URL.
        """
        ...


@dataclass(frozen=True)
class ColumnFile:
    """A file of columns, as pyarrow opens it.

    Attributes:
        suffix: Of its name, in lower case.
        open: Its path, or an opened file, a new one with each call.
    """

    suffix: str
    open: Callable[[], Path | IO[bytes]]


class SafeFolder(ABC):
    """A folder whose files are listed once and read without ever leaving it.

    Names that begin with a dot, and what systems leave in folders (`__MACOSX`, `Thumbs.db`), are
    not part of the dataset.

    Args:
        location: The path or URL that was given, without `~`.

    Attributes:
        opened: The files that were opened by name so far, but for images of rows.
        hidden: Files and folders that are not part of the dataset, once `files` has listed them.
    """

    def __init__(self, location: str) -> None:
        self.location = location
        self.opened: set[str] = set()
        self.hidden: list[str] = []

    def __str__(self) -> str:
        return self.location

    @property
    def place(self) -> str:
        """The location as it is typed in any working directory, on any machine that sees it."""
        return self.location

    @abstractmethod
    def _list(self) -> Iterable[str]:
        """The paths of all files, in any order."""

    @cached_property
    def files(self) -> list[str]:
        """Every file, as a path relative to the folder with `/` between its parts, sorted."""
        return sorted(self._list())

    @cached_property
    def file_set(self) -> frozenset[str]:
        """The same as `files`, to look a name up."""
        return frozenset(self.files)

    @cached_property
    def images(self) -> list[str]:
        """The files that are images by their name, sorted."""
        return [name for name in self.files if is_image(name)]

    @cached_property
    def image_stems(self) -> frozenset[str]:
        """The paths of the images without their suffixes."""
        return frozenset(split_suffix(name)[0] for name in self.images)

    @cached_property
    def loose(self) -> list[str]:
        """The files that are neither images nor called after one, sorted: few, in most datasets.

        Among them are all metadata, so that the millions of files beside images are passed once.
        """
        stems = self.image_stems
        return [
            name
            for name in self.files
            if not is_image(name) and split_suffix(name)[0] not in stems and name not in stems
        ]

    def path(self, name: str) -> Path:
        """The real path of a file of the dataset, after following every link; it is used now.

        Args:
            name: A path relative to the folder, from a listing or from untrusted metadata.

        Raises:
            MissingFileError: It does not exist.
            DatasetError: It leaves the folder, or is not a regular file.
        """
        real = self.locate(name)
        self.opened.add(name)
        return real

    @abstractmethod
    def locate(self, name: str) -> Path:
        """As `path`, with the same errors, for a file that is only looked into."""

    @abstractmethod
    def read(self, name: str, *, largest: int = LARGEST_IMAGE) -> bytes:
        """The content of a file.

        Args:
            name: As for `path`.
            largest: Most bytes; a longer file is refused.

        Raises:
            DatasetError: As for `path`, or it is too long or cannot be read.
        """

    @abstractmethod
    def read_image(self, name: str) -> bytes:
        """As `read`, for the image of a row, which is not entered: rows may be many millions."""

    def read_beside(self, name: str, *, largest: int) -> bytes:
        """As `read`, for one of many small files while rows are made: right after the listing.

        Args:
            name: A member of `files`.
            largest: As for `read`.

        Raises:
            DatasetError: As for `read`.
        """
        return self.read(name, largest=largest)

    @abstractmethod
    def columns_of(self, name: str) -> "ColumnFile":
        """A file of columns, of which a reader wants some rows; as `locate`, it is not entered.

        Raises:
            DatasetError: As for `path`, or such a file cannot be read where it lies.
        """

    @abstractmethod
    def parts(self, name: str) -> AbstractContextManager[FileParts]:
        """Open a file to read parts of it, from several threads if need be; it is used now.

        Raises:
            DatasetError: As for `path`.
        """

    @abstractmethod
    def head(self, name: str, size: int) -> bytes:
        """The first bytes of a file, to recognise what it is; this does not count as reading it.

        Args:
            name: As for `path`.
            size: Most bytes.

        Returns:
            Nothing where the file cannot be read.
        """

    @abstractmethod
    def name_of(self, path: Path) -> str:
        """What to call a file that the user names: its path in the dataset, if it lies there."""

    @abstractmethod
    def failure(self, what: str, error: OSError) -> DatasetError:
        """The error to raise for a file that cannot be read, which may not be the file's fault.

        Args:
            what: What failed, with the file's name.
            error: What the operating system said.

        Returns:
            An `UnavailableError` where the whole folder is gone or this process can open no file;
            a `MissingFileError` where the file does not exist.
        """
