"""Where the members of a tar shard are. Nothing is unpacked: members are read at their offsets.

A shard is not trusted: links, devices and sparse files are no members, long headers are refused
before memory is spent on them, and what a damaged or cut shard holds before the damage is kept.
This module must not know what the members mean.
"""

import tarfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from shlex import quote
from typing import Any, BinaryIO, NamedTuple, cast

import numpy as np

from sparc.common.errors import DatasetError, MissingFileError, UnavailableError
from sparc.common.files.remote.open_file import OpenObject
from sparc.common.text import reason, size
from sparc.extract.datasets.safe_folder import FileParts, SafeFolder

LARGEST_HEADER = 1 << 20
"""Most bytes of a long name or of extended attributes; a shard is not read beyond a longer one."""

_BLOCK = tarfile.BLOCKSIZE
_END = bytes(_BLOCK)
_CHECKSUM = slice(148, 156)
_BLANK_CHECKSUM = 8 * ord(" ")
_ADLER_PRIME = 65_521
_WINDOW = 4096
"""Bytes that are read at a header."""


class Extent(NamedTuple):
    """Where a member's bytes are in its shard."""

    offset: int
    size: int


class ShardIndex(NamedTuple):
    r"""The regular members of a shard.

    Attributes:
        members: Where they are, by name, in their order. Bytes of names that are not UTF-8 are
            written as `\\xe4`.
        damage: Why the shard could not be read to its end; empty if it could.
        unusable: Names of further members, by why they are no part of the dataset.
        renamed: Members whose names are not UTF-8.
    """

    members: Mapping[str, Extent]
    damage: str
    unusable: Mapping[str, list[str]]
    renamed: int


class ImageIndex:
    """Where images are in a shard, in 24 bytes an image: shards have millions of them.

    Names are kept as 64-bit hashes, which hold in this process alone.

    Args:
        members: By name.
    """

    def __init__(self, members: Iterable[tuple[str, Extent]]) -> None:
        entries = [(hash(name), offset, size) for name, (offset, size) in members]
        table = np.array(entries, np.int64).reshape(-1, 3)
        self._table = table[np.argsort(table[:, 0])]

    def get(self, name: str) -> Extent | None:
        """Where an image is; None if there is none of that name."""
        key = hash(name)
        place = int(np.searchsorted(self._table[:, 0], key))
        if place == len(self._table) or self._table[place, 0] != key:
            return None
        return Extent(int(self._table[place, 1]), int(self._table[place, 2]))


class _IndexBuilder:
    """Gathers the members of a shard while they are met."""

    def __init__(self) -> None:
        self.members: dict[str, Extent] = {}
        self.unusable: dict[str, list[str]] = {}
        self.renamed = 0

    def add(self, name: str, extent: Extent) -> str | None:
        """Enter a member; returns its name in the index, or None where it is unusable."""
        if not name.isascii():
            name, raw = _valid(name), name
            self.renamed += name != raw
        name = name.removeprefix("./")
        if name.startswith("/") or (".." in name and ".." in name.split("/")):
            self.unusable.setdefault("its name leaves the shard", []).append(name)
        elif name in self.members:
            self.unusable.setdefault("another one before it has its name", []).append(name)
        else:
            self.members[name] = extent
            return name
        return None


def index_shard(
    folder: SafeFolder,
    shard: str,
    *,
    most: int | None = None,
    through: Callable[[FileParts], FileParts] = lambda parts: parts,
    met: Callable[[str, Extent], object] = lambda _name, _extent: None,
) -> ShardIndex:
    """Find the members of a shard.

    Args:
        folder: The dataset.
        shard: The shard's path in it.
        most: Stop after this many members.
        through: How the opened shard is read, from its front to its back.
        met: Called with each member of the index when its header has been read.

    Returns:
        The members up to the first damage. Of several with one name the first counts.

    Raises:
        UnavailableError: The dataset's folder is gone, or its store cannot be read.
    """
    index = _IndexBuilder()
    damage = ""
    try:
        with folder.parts(shard) as parts:
            for raw, extent in _regular_members(through(parts), f"{folder}/{shard}"):
                if (name := index.add(raw, extent)) is not None:
                    met(name, extent)
                if most is not None and len(index.members) >= most:
                    break
    except _DamageError as error:
        damage = str(error)
    except DatasetError as error:
        cause = error.__cause__
        is_gone = isinstance(error, UnavailableError | MissingFileError)
        if is_gone or not isinstance(cause, OSError):
            raise
        damage = f"it cannot be read: {cause.strerror}"
    return ShardIndex(index.members, damage, index.unusable, index.renamed)


@contextmanager
def opened_shard(folder: SafeFolder, shard: str) -> Iterator[Callable[[Extent], bytes]]:
    """Open a shard to read members, as long as the context lasts.

    Yields:
        A function that gives the bytes of a member.

    Raises:
        DatasetError: The shard has become shorter, or cannot be read.
    """
    with folder.parts(shard) as parts:

        def read(extent: Extent) -> bytes:
            content = parts.read(extent.offset, extent.size)
            if len(content) != extent.size:
                raise DatasetError(f"{folder}: {shard} was cut off")
            return content

        yield read


class _DamageError(Exception):
    """A shard cannot be read on; the message says why."""


def _regular_members(parts: FileParts, shard: str) -> Iterator[tuple[str, Extent]]:
    """Names, with surrogates for bytes that are not UTF-8, and extents.

    Ordinary headers, nearly all, are read here: `tarfile` takes five times as long for them. All
    others are its business.
    """
    held = parts.size
    if not held:
        raise _DamageError("it is empty")
    others = _OtherMembers(parts)
    offset = window_start = 0
    window = b""
    while True:
        header = window[offset - window_start :][:_BLOCK]
        if len(header) < _BLOCK:  # the texts beside an image lie in one window
            window_start, window = offset, parts.read(offset, _WINDOW)
            header = window[:_BLOCK]
        if not header or header == _END:
            break
        if offset == 0 and (kind := what_is_no_tar(header, shard)):
            raise _DamageError(kind)
        if len(header) < _BLOCK:
            raise _DamageError(f"it is cut off at byte {held:,}")
        if ordinary := _ordinary(header):
            name, length = ordinary
            extent = Extent(offset + _BLOCK, length)
            offset += _BLOCK + -(-length // _BLOCK) * _BLOCK
        else:
            member, offset = others.at(offset)
            if member is None:
                continue
            name, extent = member
        if extent.offset + extent.size > held:
            raise _DamageError(f"it is cut off at byte {held:,}, in the member {_valid(name)}")
        yield name, extent
    if offset > held:
        raise _DamageError(f"it is cut off at byte {held:,}")


def _ordinary(header: bytes) -> tuple[str, int] | None:
    """Name and size of a regular member; None for every header that is not of the simplest kind."""
    if header[156] not in b"0\0" or header[257:262] != b"ustar":
        return None
    try:
        length = int(header[124:136].rstrip(b"\0 "), 8)
        checksum = int(header[_CHECKSUM].rstrip(b"\0 "), 8)
    except ValueError:
        return None
    # The lower half of Adler-32 is one more than the sum of the bytes, modulo a prime; Python's
    # own sum takes ten times as long.
    total = (zlib.adler32(header) & 0xFFFF) - 1 - sum(header[_CHECKSUM]) + _BLANK_CHECKSUM
    if (total - checksum) % _ADLER_PRIME or length < 0:
        return None
    name = header[:100].partition(b"\0")[0]
    if prefix := header[345:500].partition(b"\0")[0]:
        name = prefix + b"/" + name
    if not name or name.endswith(b"/"):
        return None
    return name.decode("utf-8", "surrogateescape"), length


class _OtherMembers:
    """Members with long names, extended attributes or of other kinds, through `tarfile`.

    Args:
        parts: The shard.
    """

    def __init__(self, parts: FileParts) -> None:
        opened = OpenObject(parts.size, lambda start, stop: parts.read(start, stop - start))
        self._file = cast(BinaryIO, opened)
        self._archive: tarfile.TarFile | None = None

    def at(self, offset: int) -> tuple[tuple[str, Extent] | None, int]:
        """The member at an offset, if it is a regular file, and the offset of the next one.

        Raises:
            _DamageError: There is no sound header.
        """
        try:
            if self._archive is None:
                self._file.seek(0)
                self._archive = tarfile.TarFile(
                    fileobj=self._file, encoding="utf-8", errors="surrogateescape", tarinfo=_Member
                )
            self._file.seek(offset)
            member = _Member.fromtarfile(self._archive)
        except (tarfile.TarError, ValueError, OverflowError) as error:
            raise _DamageError(f"it is damaged at byte {offset:,}: {reason(error)}") from error
        following = self._archive.offset
        if following <= offset:
            raise _DamageError(f"it is damaged at byte {offset:,}")
        if not member.isreg() or member.issparse():
            return None, following
        return (member.name, Extent(member.offset_data, member.size)), following


class _Member(tarfile.TarInfo):
    """A member whose extended header is checked before memory is spent on it."""

    def _proc_member(self, archive: tarfile.TarFile) -> Any:
        if self.type in _EXTENDED and self.size > LARGEST_HEADER:
            raise tarfile.ReadError(f"a header has {size(self.size)}")
        return super()._proc_member(archive)  # type: ignore[misc]


_EXTENDED = (
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
)

_COMPRESSED = (
    (b"\x1f\x8b", "gzip", ".gz", "gunzip"),
    (b"BZh", "bzip2", ".bz2", "bunzip2"),
    (b"\xfd7zXZ\0", "xz", ".xz", "unxz"),
    (b"\x28\xb5\x2f\xfd", "zstd", ".zst", "unzstd"),
)
_NO_TAR = (
    (b"PK\x03\x04", "it is a zip archive: unpack it, or pack its files with tar"),
    (b"version https://git-lfs", "it is a pointer of Git LFS: fetch it with git lfs pull"),
    (b"<", "it is a web page in place of the shard: download it again"),
)


def what_is_no_tar(head: bytes, shard: str) -> str:
    """What a file is that is called a shard and is no tar file, with what to do about it.

    A compressed shard cannot be read from its middle, and images are read in any order.

    Args:
        head: Its first bytes.
        shard: Its path in the dataset.

    Returns:
        Nothing where it may be a tar file, or the kind is unknown.
    """
    for magic, kind, suffix, tool in _COMPRESSED:
        if head.startswith(magic):
            name = quote(shard)
            if shard.lower().endswith((suffix, ".tgz")):
                command = f"{tool} {name}"
            else:  # these programs refuse files without their suffix
                command = f"mv {name} {name}{suffix} && {tool} {name}{suffix}"
            return f"it is compressed with {kind}: decompress it with {command}"
    return next((what for magic, what in _NO_TAR if head.startswith(magic)), "")


def _valid(name: str) -> str:
    """A name in valid Unicode: bytes that were not UTF-8 become escapes, not all the same."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
