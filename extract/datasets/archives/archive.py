"""One zip archive that is not trusted: which files it holds, and their content."""

import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from sparc.common.errors import DatasetError
from sparc.common.files.safe_files import open_regular
from sparc.common.text import reason, shorten, size

_READ_IN_PLACE = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
"""How members may be compressed. The others need as much memory as the archive asks for."""

_ENCRYPTED, _UTF8 = 0x1, 0x800
"""Flags of a member."""

_LINK = 0o120000
_KIND = 0o170000
"""The bits of a Unix mode that say what a file is, and their value for a link."""

LARGEST_UNPACKED = 1 << 33
"""Most bytes of a member that is unpacked to a temporary file."""


class Archive:
    """A zip archive. Its members may be read from several threads at once.

    Args:
        path: The file.
        name: What messages call it.

    Attributes:
        members: What it holds, by path with `/` between its parts: regular files whose paths do
            not leave the archive.
        left_out: How many others there are.

    Raises:
        DatasetError: It is not a zip archive, or one that cannot be read in place.
    """

    def __init__(self, path: Path, name: str) -> None:
        self._name = name
        try:
            self._file = zipfile.ZipFile(open_regular(path))
        except (zipfile.BadZipFile, OSError, ValueError) as error:
            raise DatasetError(f"{name} is no zip archive, or cut off: {reason(error)}") from error
        except NotImplementedError as error:
            raise DatasetError(f"{name} is of a newer kind: unpack it") from error
        self.members: dict[str, zipfile.ZipInfo] = {}
        self.left_out = 0
        for member in self._file.infolist():
            if member.is_dir():
                continue
            if member.flag_bits & _ENCRYPTED:
                raise DatasetError(f"{name} is encrypted: unpack it with its password")
            if member.compress_type not in _READ_IN_PLACE:
                raise DatasetError(f"{name} is compressed in an unusual way: unpack it")
            file = _path(member)
            if file is None or (member.external_attr >> 16) & _KIND == _LINK:
                self.left_out += 1
            elif is_equal(self.members.setdefault(file, member), member):
                continue
            else:
                raise DatasetError(f"{name} holds two different files {shorten(file, 120)!r}")

    def read(self, file: str, largest: int) -> bytes:
        """The content of a member.

        Args:
            file: One of `members`.
            largest: Most bytes; a longer one is refused.

        Raises:
            DatasetError: It is longer, or damaged.
        """
        member = self._checked(file, largest)
        with self._opened(file) as content:
            # One byte more, so that the end is reached and the checksum compared.
            return content.read(member.file_size + 1)

    def head(self, file: str, size: int) -> bytes:
        """The first bytes of a member; nothing where it is damaged."""
        try:
            with self._opened(file) as content:
                return content.read(size)
        except DatasetError:
            return b""

    def unpack(self, file: str, path: Path) -> None:
        """Write a member to a file.

        Raises:
            DatasetError: As for `read`, or it cannot be written.
        """
        self._checked(file, LARGEST_UNPACKED)
        with self._opened(file) as content, path.open("wb") as unpacked:
            while part := content.read(1 << 20):
                unpacked.write(part)

    def _checked(self, file: str, largest: int) -> zipfile.ZipInfo:
        member = self.members[file]
        if member.file_size > largest:
            held = f"{shorten(file, 200)} has {size(member.file_size)}"
            raise DatasetError(f"{self._name}: {held}, more than {size(largest)}")
        return member

    @contextmanager
    def _opened(self, file: str) -> Iterator[IO[bytes]]:
        try:
            with self._file.open(self.members[file]) as content:
                yield content
        except (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError) as error:
            shown = shorten(file, 200)
            raise DatasetError(f"{self._name}: cannot read {shown}: {reason(error)}") from error
        except NotImplementedError as error:
            raise DatasetError(f"{self._name} is of a newer kind: unpack it") from error


def is_equal(first: zipfile.ZipInfo, second: zipfile.ZipInfo) -> bool:
    """Whether two members have the same content."""
    return (first.CRC, first.file_size) == (second.CRC, second.file_size)


def _path(member: zipfile.ZipInfo) -> str | None:
    """The path of a member; None where it leaves the archive."""
    name = member.filename
    if not member.flag_bits & _UTF8:
        # Many programs write UTF-8 without saying so; Python then takes it for code page 437.
        with suppress(UnicodeError):
            name = name.encode("cp437").decode()
    name = name.replace("\\", "/")
    parts = [part for part in name.split("/") if part != "."]
    is_outside = ".." in parts or "" in parts or ":" in parts[0] or "\0" in name
    return None if is_outside else "/".join(parts)
