"""Zarr stores over the subfolders of a `Folder`.

On a local disk Zarr's own store leaves what it writes to the operating system, which may take half
a minute to bring it to the disk: ours waits for the disk. Zarr's own store follows links and waits
for pipes: ours reads regular files only, since an artefact may come from anybody. Behind a URL
Zarr's own store asks once, and writes whatever has become of the folder's lock.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable

from zarr.abc.store import (
    ByteRequest,
    OffsetByteRequest,
    RangeByteRequest,
    Store,
    SuffixByteRequest,
)
from zarr.core.buffer import Buffer, BufferPrototype
from zarr.core.buffer.core import default_buffer_prototype
from zarr.storage import LocalStore

from sparc.common.files.durable import write_durably
from sparc.common.files.folder import Folder
from sparc.common.files.remote.files import RemoteFiles
from sparc.common.files.safe_files import inside, open_regular

LARGEST = 1 << 32
"""Bytes of the longest object that is read."""


def zarr_store(folder: Folder, name: str, *, read_only: bool) -> Store:
    """A Zarr store over a subfolder.

    Raises:
        UnsafeError: A part of the way to a local subfolder is a link.
    """
    if folder.local is not None:
        return DurableStore(folder.inside(name), read_only=read_only)
    return RemoteStore(folder.remote, name, read_only=read_only)


class DurableStore(LocalStore):
    """Zarr's local store, writing aside, syncing and renaming, and following no links."""

    async def get(
        self,
        key: str,
        prototype: BufferPrototype | None = None,
        byte_range: ByteRequest | None = None,
    ) -> Buffer | None:
        """Read an object, or a part of one; None where there is none."""
        return await asyncio.to_thread(
            self.get_sync, key, prototype=prototype, byte_range=byte_range
        )

    def get_sync(
        self,
        key: str,
        *,
        prototype: BufferPrototype | None = None,
        byte_range: ByteRequest | None = None,
    ) -> Buffer | None:
        """The same, for callers without an event loop."""
        prototype = prototype or default_buffer_prototype()
        try:
            with open_regular(inside(self.root, key), largest=LARGEST) as file:
                if byte_range is None:
                    return prototype.buffer.from_bytes(file.read())
        except (FileNotFoundError, NotADirectoryError):
            return None
        return super().get_sync(key, prototype=prototype, byte_range=byte_range)

    async def set(self, key: str, value: Buffer) -> None:
        """Write an object; it has its old content or the new one, never a part."""
        await asyncio.to_thread(self.set_sync, key, value)

    def set_sync(self, key: str, value: Buffer) -> None:
        """The same, for callers without an event loop."""
        self._check_writable()
        inside(self.root, key)
        write_durably(self.root / key, value.as_buffer_like())

    async def delete(self, key: str) -> None:
        """Remove an object or a folder of them."""
        inside(self.root, key)
        await super().delete(key)

    async def delete_dir(self, prefix: str) -> None:
        """Remove a folder of objects."""
        inside(self.root, prefix)
        await super().delete_dir(prefix)


class RemoteStore(Store):
    """A store over the files below a URL, whose requests are those of `RemoteFiles`.

    Args:
        files: The folder.
        below: The subfolder.
        read_only: Refuse to write.
    """

    supports_writes = True
    supports_deletes = True
    supports_listing = True

    def __init__(self, files: RemoteFiles, below: str, *, read_only: bool) -> None:
        super().__init__(read_only=read_only)
        self._files = files
        self._below = below

    def with_read_only(self, read_only: bool = False) -> "RemoteStore":
        """The same store, read-only or not."""
        return RemoteStore(self._files, self._below, read_only=read_only)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RemoteStore) and str(self) == str(other)

    def __hash__(self) -> int:
        return hash(str(self))

    def __str__(self) -> str:
        return f"{self._files.url}/{self._below}"

    def _name(self, key: str) -> str:
        return f"{self._below}/{key}".rstrip("/")

    async def get(
        self,
        key: str,
        prototype: BufferPrototype,
        byte_range: ByteRequest | None = None,
    ) -> Buffer | None:
        """Read an object, or a part of one; None where there is none."""
        try:
            content = await asyncio.to_thread(self._read, self._name(key), byte_range)
        except FileNotFoundError:
            return None
        return prototype.buffer.from_bytes(content)

    def _read(self, name: str, byte_range: ByteRequest | None) -> bytes:
        match byte_range:
            case None:
                return self._files.read(name)
            case RangeByteRequest(start, end):
                return self._files.read_range(name, start, end)
            case OffsetByteRequest(offset):
                return self._files.read_range(name, offset, self._files.size_of(name))
            case SuffixByteRequest(suffix):
                return self._files.read_end(name, suffix)

    async def get_partial_values(
        self, prototype: BufferPrototype, key_ranges: Iterable[tuple[str, ByteRequest | None]]
    ) -> list[Buffer | None]:
        """Read parts of objects; None where there is none."""
        wanted = [self.get(key, prototype, byte_range) for key, byte_range in key_ranges]
        return list(await asyncio.gather(*wanted))

    async def exists(self, key: str) -> bool:
        """Whether there is an object of that name."""
        return await asyncio.to_thread(self._files.exists, self._name(key))

    async def set(self, key: str, value: Buffer) -> None:
        """Write an object; it has its old content or the new one, never a part."""
        self._check_writable()
        await asyncio.to_thread(self._files.write, self._name(key), value.to_bytes())

    async def delete(self, key: str) -> None:
        """Remove an object."""
        self._check_writable()
        await asyncio.to_thread(self._files.remove, self._name(key))

    async def delete_dir(self, prefix: str) -> None:
        """Remove a folder of objects."""
        self._check_writable()
        await asyncio.to_thread(self._files.remove_below, self._name(prefix))

    async def list(self) -> AsyncIterator[str]:
        """The names of all objects."""
        async for key in self.list_prefix(""):
            yield key

    async def list_prefix(self, prefix: str) -> AsyncIterator[str]:
        """The names of the objects that begin with a prefix."""
        for key in await asyncio.to_thread(self._keys):
            if key.startswith(prefix):
                yield key

    async def list_dir(self, prefix: str) -> AsyncIterator[str]:
        """The names in a folder, of objects and of folders."""
        start = f"{prefix.rstrip('/')}/" if prefix else ""
        keys = await asyncio.to_thread(self._keys)
        for name in sorted({k[len(start) :].split("/")[0] for k in keys if k.startswith(start)}):
            yield name

    def _keys(self) -> "Iterable[str]":
        return [n.removeprefix(f"{self._below}/") for n in self._files.sizes(self._below)]
