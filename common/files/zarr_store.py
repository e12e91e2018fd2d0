"""Zarr stores over the subfolders of a `Folder`.

On a local disk Zarr's own store leaves what it writes to the operating system, which may take half
a minute to bring it to the disk: ours waits for the disk. Zarr's own store follows links and waits
for pipes: ours reads regular files only, since an artefact may come from anybody.
"""

import asyncio

from zarr.abc.store import ByteRequest, Store
from zarr.core.buffer import Buffer, BufferPrototype
from zarr.core.buffer.core import default_buffer_prototype
from zarr.storage import FsspecStore, LocalStore

from sparc.common.files.durable import write_durably
from sparc.common.files.folder import Folder
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
    return FsspecStore.from_url(f"{folder.location.rstrip('/')}/{name}", read_only=read_only)


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
