"""The files that a dataset would have if its archives were unpacked where they lie."""

import posixpath
import tempfile
import threading
from collections.abc import Collection, Mapping
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from sparc.common.errors import DatasetError
from sparc.common.progress import say
from sparc.common.text import amount, shorten
from sparc.extract.datasets.archives.archive import Archive, is_equal
from sparc.extract.datasets.splits import SYNONYMS

SUFFIX = ".zip"

_MOST_ARCHIVES = 100
"""Most archives that are read in place: each stays open."""


class _Member(NamedTuple):
    holder: str
    archive: Archive
    file: str


class UnpackedFiles:
    """The members of several archives, by the paths that they would have.

    Args:
        location: The dataset, for messages.
        archives: Paths of the archives, by their names in the dataset. One that cannot be read in
            place is said and passed over.
        taken: Files of the dataset that no member replaces.

    Attributes:
        used: The archives that are read, by name.

    Raises:
        DatasetError: Two archives have different files for one path.
    """

    def __init__(
        self, location: str, archives: Mapping[str, Path], taken: Collection[str] = ()
    ) -> None:
        self._location = location
        self._members: dict[str, _Member] = {}
        self._unpacked: dict[str, Path] = {}
        self._lock = threading.Lock()
        self.used: list[str] = []
        for name, path in archives.items() if len(archives) <= _MOST_ARCHIVES else ():
            shown = f"{location}/{name}".rstrip("/")
            try:
                archive = Archive(path, shown)
            except DatasetError as error:
                if len(archives) == 1 and not name:
                    raise
                say(str(error))
                continue
            self.used.append(name)
            self._add(name, archive, taken)
            if archive.left_out:
                members = amount(archive.left_out, "member")
                say(f"{shown}: {members} left out, links or names that lead out of it")

    @property
    def files(self) -> Collection[str]:
        """The paths of the members, in the dataset."""
        return self._members.keys()

    def read(self, file: str, largest: int) -> bytes:
        """The content of one; see `Archive.read`."""
        member = self._members[file]
        return member.archive.read(member.file, largest)

    def head(self, file: str, size: int) -> bytes:
        """The first bytes of one; see `Archive.head`."""
        member = self._members[file]
        return member.archive.head(member.file, size)

    def path(self, file: str) -> Path:
        """A temporary file with the content of one, which lasts as long as this object.

        Raises:
            DatasetError: It is damaged or too long, or cannot be written.
        """
        with self._lock:
            if file not in self._unpacked:
                suffix = posixpath.splitext(file)[1]
                path = Path(self._folder.name) / f"{len(self._unpacked)}{suffix}"
                member = self._members[file]
                member.archive.unpack(member.file, path)
                self._unpacked[file] = path
            return self._unpacked[file]

    @cached_property
    def _folder(self) -> "tempfile.TemporaryDirectory[str]":
        return tempfile.TemporaryDirectory(prefix="sparc-unpacked-")

    def _add(self, name: str, archive: Archive, taken: Collection[str]) -> None:
        below = name[: name.rfind("/") + 1]
        own = posixpath.splitext(name)[0]
        if posixpath.basename(own).lower() in SYNONYMS and not _is_below(archive, own):
            below = f"{own}/"  # an archive of a split, whose images would mix with the others'
        for file, member in archive.members.items():
            path = f"{below}{file}"
            if path in taken:
                continue
            other = self._members.setdefault(path, _Member(name, archive, file))
            if not is_equal(other.archive.members[other.file], member):
                raise DatasetError(
                    f"{self._location}: {other.holder} and {name} hold different files "
                    f"{shorten(path, 120)!r}: unpack each into a folder of its own "
                    "(unzip -d FOLDER ARCHIVE)"
                )


def _is_below(archive: Archive, own: str) -> bool:
    """Whether a folder of the archive's name holds all that it has."""
    prefix = f"{posixpath.basename(own)}/"
    return all(file.startswith(prefix) for file in archive.members)
