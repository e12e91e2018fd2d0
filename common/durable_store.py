"""A Zarr store on a local disk whose objects are still there when the machine itself crashes.

Zarr's own store leaves what it writes to the operating system, which may take half a minute to
bring it to the disk. This one waits for the disk.
"""

import asyncio

from zarr.core.buffer import Buffer
from zarr.storage import LocalStore

from sparc.common.storage import write_durably


class DurableStore(LocalStore):
    """Zarr's local store, writing aside, syncing and renaming."""

    async def set(self, key: str, value: Buffer) -> None:
        """Write an object; it has its old content or the new one, never a part."""
        await asyncio.to_thread(self.set_sync, key, value)

    def set_sync(self, key: str, value: Buffer) -> None:
        """The same, for callers without an event loop."""
        self._check_writable()
        write_durably(self.root / key, value.as_buffer_like())
