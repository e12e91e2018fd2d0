"""The files below a URL: whole objects, written and read by requests that are asked again."""

import io
import time
from collections.abc import Callable, Collection
from functools import partial
from pathlib import Path
from typing import IO, NamedTuple, TypeVar

from fsspec import AbstractFileSystem

from sparc.common.errors import StoreError
from sparc.common.files.remote import filesystems
from sparc.common.files.remote.answers import ShortReadError
from sparc.common.files.remote.held import require_held
from sparc.common.files.remote.open_file import OpenObject
from sparc.common.files.remote.requests import ask, refusal

T = TypeVar("T")

_AT_ONCE = 1000
"""Objects that are removed by one request: as many as S3 takes."""

_BLOCK = 1 << 22
"""Bytes of a long object that are read at a time."""

_SETTLING = 0.2
"""Seconds after which an object that was replaced without a condition is read once more."""


class Version(NamedTuple):
    """An object as it was at a moment.

    Attributes:
        content: What it held.
        tag: By which the store can tell it from a later one; None where it cannot.
        age: Seconds since it was written, by the store's clock; None where that is not known.
    """

    content: bytes
    tag: str | None = None
    age: float | None = None


class RemoteFiles:
    """The files below a URL. Names are relative to it, with `/` between their parts.

    Every method raises `StoreError` where the store refuses or does not answer, and every one that
    writes raises `LockedError` where this process has lost a lock of the folder.

    Args:
        filesystem: Of fsspec.
        root: The folder, as the file system spells it.
    """

    def __init__(self, filesystem: AbstractFileSystem, root: str) -> None:
        self._filesystem = filesystem
        self._root = root
        self.url = str(filesystem.unstrip_protocol(root)).rstrip("/")
        """The folder's URL, the same whatever way it was typed."""

    def path(self, name: str = "") -> str:
        """The path of a file, as the file system spells it."""
        return f"{self._root}/{name}" if name else self._root

    # ------------------------------------------------------------------ looking

    def exists(self, name: str = "") -> bool:
        """Whether a file or folder of that name exists."""
        try:
            self._ask("read", name, lambda: self._filesystem.info(self.path(name)))
        except (FileNotFoundError, NotADirectoryError):
            return False
        return True

    def size_of(self, name: str) -> int:
        """Bytes of a file.

        Raises:
            FileNotFoundError: There is none.
        """
        info = self._ask("read", name, lambda: self._filesystem.info(self.path(name)))
        if info["type"] == "directory":
            raise FileNotFoundError(f"{self.url}/{name}")
        return int(info["size"])

    def sizes(self, below: str = "") -> dict[str, int]:
        """Bytes of all files below a subfolder, by name; one request for each 1,000 on S3."""

        def find() -> dict[str, int]:
            # Others write there too, which what this process has listed knows nothing of.
            self._filesystem.invalidate_cache()
            files = self._filesystem.find(self.path(below), detail=True)
            return {path: int(details["size"]) for path, details in files.items()}

        try:
            files = self._ask("list", below, find)
        except (FileNotFoundError, NotADirectoryError):
            return {}
        return {path.removeprefix(self._root).lstrip("/"): files[path] for path in files}

    def entries(self, below: str = "") -> list[str]:
        """Names of all files and folders that lie right in a subfolder, sorted."""
        root = self.path(below)

        def entries() -> list[str]:
            self._filesystem.invalidate_cache()
            return list(self._filesystem.ls(root, detail=False))

        try:
            paths = [path.rstrip("/") for path in self._ask("list", below, entries)]
        except (FileNotFoundError, NotADirectoryError):
            return []
        # An object store may list a folder in itself.
        return sorted(path.rpartition("/")[2] for path in paths if path != root)

    # ------------------------------------------------------------------ reading

    def read(self, name: str) -> bytes:
        """The content of a file, by one request.

        Raises:
            FileNotFoundError: There is none.
        """
        return self._ask(
            "read", name, lambda: filesystems.read_whole(self._filesystem, self.path(name))
        )

    def read_at_most(self, name: str, largest: int) -> bytes | None:
        """The content of a file, held to the size that the store says; None of a longer one.

        Raises:
            FileNotFoundError: There is none.
        """

        def read() -> bytes | None:
            size = self.size_of(name)
            if size > largest:
                return None
            content = filesystems.read_whole(self._filesystem, self.path(name))
            if len(content) != size:
                raise ShortReadError(f"{len(content)} of {size} bytes arrived")
            return content

        return self._ask("read", name, read)

    def read_range(self, name: str, start: int, stop: int) -> bytes:
        """A part of a file, which it must have, by one request.

        Raises:
            FileNotFoundError: There is none.
            OSError: It is shorter.
        """
        if stop <= start:
            return b""

        def read() -> bytes | None:
            content = bytes(self._filesystem.cat_file(self.path(name), start=start, end=stop))
            if len(content) == stop - start:
                return content
            if self.size_of(name) < stop:
                return None
            raise ShortReadError(f"{len(content)} of {stop - start} bytes arrived")

        content = self._ask("read", name, read)
        if content is None:
            raise OSError(f"{self.url}/{name} ends before byte {stop:,}")
        return content

    def read_end(self, name: str, count: int) -> bytes:
        """The last bytes of a file, or all of a shorter one, by one request for most.

        Raises:
            FileNotFoundError: There is none.
        """

        def read() -> bytes:
            content = bytes(self._filesystem.cat_file(self.path(name), start=-count))
            if len(content) != count and len(content) != min(count, self.size_of(name)):
                raise ShortReadError(f"{len(content)} of {count} bytes arrived")
            return content

        return self._ask("read", name, read)

    def open(self, name: str, *, read_ahead: int | None = None) -> IO[bytes]:
        """Open a file for reading.

        Args:
            name: The file.
            read_ahead: Bytes that are fetched at a time; None: a sensible number.

        Raises:
            FileNotFoundError: There is none.
        """
        size, block = self.size_of(name), read_ahead or _BLOCK
        if size <= block:  # by one request, where a reader of Parquet would make four
            return io.BytesIO(self.read_range(name, 0, size))
        opened = OpenObject(size, lambda start, stop: self.read_range(name, start, stop))
        return io.BufferedReader(opened, block)

    def look(self, name: str) -> Version | None:
        """A file with what the store says of it; None where there is none.

        Where it changes meanwhile, the tag may be older than the content, never younger.
        """
        try:
            head = self._ask(
                "read", name, lambda: filesystems.head(self._filesystem, self.path(name))
            )
            return Version(self.read(name), *head)
        except FileNotFoundError:
            return None

    # ------------------------------------------------------------------ writing

    def make_folder(self) -> None:
        """Make the folder, where the file system has such things."""
        if filesystems.has_folders(self._filesystem):
            self._ask("write to", "", lambda: self._filesystem.makedirs(self._root, exist_ok=True))

    def write(self, name: str, content: bytes) -> None:
        """Write a file; it has its old content or the new one, never a part."""
        self._put(name, lambda: filesystems.write(self._filesystem, self.path(name), content))

    def write_file(self, name: str, source: Path) -> None:
        """Write a file as `write` does, with the content of a file on this machine."""
        self._put(name, lambda: self._filesystem.put_file(str(source), self.path(name)))

    def create(self, name: str, content: bytes) -> Version | None:
        """Write a file where there is none: of several processes, one alone succeeds.

        Args:
            name: The file.
            content: What no other process writes there.

        Returns:
            The file as it was written; None where there is one already.
        """

        def create() -> Version:
            tag = filesystems.write(self._filesystem, self.path(name), content, new=True)
            return Version(content, tag)

        try:
            return self._put(name, create, needs_lock=False)
        except FileExistsError:
            return self._own(name, content)

    def replace(self, name: str, content: bytes, before: Version) -> Version | None:
        """Write a file in the place of what it held; it fails where that has changed.

        S3 holds to that. Elsewhere two processes may replace the same at one moment; both find out
        by reading again, but the one whose content did not stay may have written meanwhile.

        Args:
            name: The file.
            content: What no other process writes there.
            before: What it held.

        Returns:
            The file as it was written; None where it held something else.
        """
        if before.tag is None:
            return self._replace_unconditionally(name, content, before)

        def replace() -> Version:
            path = self.path(name)
            tag = filesystems.write(self._filesystem, path, content, instead_of=before.tag)
            return Version(content, tag)

        try:
            return self._change(name, replace, needs_lock=False)
        except (FileExistsError, FileNotFoundError):
            return self._own(name, content)

    def _replace_unconditionally(
        self, name: str, content: bytes, before: Version
    ) -> Version | None:
        now = self.look(name)
        if now is None or now.content != before.content:
            return None
        self._change(
            name,
            lambda: filesystems.write(self._filesystem, self.path(name), content),
            needs_lock=False,
        )
        time.sleep(_SETTLING)
        return self._own(name, content)

    def _own(self, name: str, content: bytes) -> Version | None:
        """A file that holds what this process wrote, though the answer was another one.

        The answer to a request may be lost; the same request, asked again, is then refused.
        """
        now = self.look(name)
        return now if now is not None and now.content == content else None

    # ------------------------------------------------------------------ removing

    def remove(self, name: str, *, only_if: Callable[[], None] = lambda: None) -> None:
        """Remove a file; nothing happens where there is none.

        Args:
            name: The file.
            only_if: Called before each request; raises where the file must stay.
        """

        def remove() -> None:
            only_if()
            self._filesystem.rm_file(self.path(name))

        try:
            self._change(name, remove, doing="remove")
        except FileNotFoundError:
            return

    def remove_all(self, names: Collection[str]) -> None:
        """Remove files, many by one request; those that are not there do not matter."""
        if not names:
            return
        if len(names) == 1:
            self.remove(next(iter(names)))
            return
        paths = [self.path(name) for name in names]
        for start in range(0, len(paths), _AT_ONCE):
            some = paths[start : start + _AT_ONCE]
            self._change("", partial(self._filesystem.rm, some), doing="remove files of")

    def remove_below(self, name: str) -> None:
        """Remove a file, or a folder with all that it holds."""
        before: set[str] = set()
        while names := set(self.sizes(name)):  # a store may leave some of many, and say nothing
            if names == before:
                raise StoreError(
                    f"cannot remove {self.url}/{name}: {len(names)} objects stay; see that the "
                    "credentials of this process allow that"
                )
            self.remove_all(names)
            before = names
        if filesystems.has_folders(self._filesystem) and self.exists(name):
            path = self.path(name)
            self._change(name, lambda: self._filesystem.rm(path, recursive=True), doing="remove")

    # ------------------------------------------------------------------ requests

    def _ask(self, doing: str, name: str, request: Callable[[], T]) -> T:
        url = f"{self.url}/{name}" if name else self.url
        return ask(self._filesystem, request, doing=doing, url=url)

    def _change(
        self, name: str, request: Callable[[], T], *, doing: str = "write", needs_lock: bool = True
    ) -> T:
        """Ask for a change, if this process has lost no lock of the folder."""

        def change() -> T:
            if needs_lock:
                require_held(self.url)
            return request()

        return self._ask(doing, name, change)

    def _put(self, name: str, request: Callable[[], T], *, needs_lock: bool = True) -> T:
        """Ask for a new file, or new content: where nothing is found, it is the bucket."""
        try:
            return self._change(name, request, needs_lock=needs_lock)
        except FileNotFoundError as error:
            raise refusal(error, doing="write", url=f"{self.url}/{name}") from error
