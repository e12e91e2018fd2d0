"""One writer a folder: a lock that names its holder and dies with it.

On a local disk the operating system holds the lock (`flock`), so a killed process leaves none
behind. Behind a URL the lock is an object that runs out unless its holder renews it
(`sparc.common.files.remote.lease`).
"""

import fcntl
import os
import random
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from sparc.common.errors import LockedError, UnsafeError
from sparc.common.files.folder import Folder, cannot_write
from sparc.common.files.holders import LARGEST, Holder, named
from sparc.common.files.remote.lease import lease, living_holder
from sparc.common.files.safe_files import open_checked
from sparc.common.progress import say

LOCK_FILE = ".lock"

_BEGINNING = b'{"pid": '
"""Of what a lock holds: a process that was killed while it wrote its name left the first bytes."""

_POLL = 0.05
"""Seconds between two attempts to take a lock, on the average."""

_LONG = 10.0
"""Seconds of patience from which on it is said that somebody waits."""


@contextmanager
def exclusive(
    folder: Folder,
    recognize: Callable[[Folder], object] | None = None,
    *,
    patience: float = 0.0,
) -> Iterator[None]:
    """Hold a folder for writing; the folder is made if need be.

    One that was made goes again if nothing was written to it before an error. Behind a URL, what is
    written below the folder while it is held raises `LockedError` once another process has taken
    the lock over, as it may if this one did not renew it in time.

    Args:
        folder: The folder.
        recognize: Refuses a folder that holds something else, by a `SparcError`. It is asked before
            anything is written: a file called `.lock` may be anybody's. It reads, and knows that
            another process may be writing meanwhile. None recognizes any folder.
        patience: Seconds to wait for another holder. Behind a URL one that may have died is waited
            for in any case, until it renews its lock or that runs out.

    Raises:
        LockedError: Another process holds it; the message says which.
        UnsafeError: What lies in the lock's place is no lock.
        SparcError: Nothing can be written there, or it was not recognized.
    """
    if recognize is not None and folder.exists():
        recognize(folder)
    made = folder.local is not None and not folder.local.exists()
    folder.create()
    try:
        with _in_turn(folder, LOCK_FILE, str(folder), patience):
            yield
    except BaseException:
        if made and folder.local is not None:
            with suppress(OSError):  # it is not empty
                folder.local.rmdir()
        raise


@contextmanager
def further_lock(folder: Folder, name: str, what: str) -> Iterator[None]:
    """Hold a part of a folder that exists, by a lock of its own.

    Args:
        folder: The folder.
        name: The lock's file.
        what: What is held, for the message.

    Raises:
        LockedError: Another process holds it; the message says which.
        UnsafeError: What lies in the lock's place is no lock.
        SparcError: Nothing can be written there.
    """
    if folder.local is not None:
        folder.inside(name).parent.mkdir(exist_ok=True)
    # Whoever looks at a local lock (`holder_of`) has it for a moment.
    with _in_turn(folder, name, what, 10 * _POLL if folder.local is not None else 0.0):
        yield


def holder_of(folder: Folder, name: str, *, wait: bool = False) -> str | None:
    """The process that holds a lock, in words; None where none does.

    Args:
        folder: The folder.
        name: The lock's file.
        wait: Behind a URL, wait until the holder renews the lock or that runs out. Otherwise one
            counts that died less than a lease ago.

    Raises:
        UnsafeError: What lies in the lock's place is no lock.
    """
    if folder.local is None:
        holder = living_holder(folder.remote, name, wait=wait)
        return None if holder is None else str(holder)
    try:
        descriptor = open_checked(folder.inside(name), os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return None
    except BlockingIOError:
        return named(os.read(descriptor, LARGEST))
    finally:
        os.close(descriptor)


@contextmanager
def _in_turn(folder: Folder, name: str, what: str, patience: float) -> Iterator[None]:
    """Hold a lock, once others have let go of it."""
    if folder.local is None:
        with lease(folder.remote, name, what, patience=patience):
            yield
        return
    until = time.monotonic() + patience
    is_announced = False
    with ExitStack() as stack:
        while True:
            try:
                stack.enter_context(_local(folder, name, what))
                break
            except LockedError as error:
                if time.monotonic() >= until:
                    raise
                if not is_announced and patience >= _LONG:
                    say(f"waiting up to {patience:.0f} s: {error}")
                    is_announced = True
            time.sleep(_POLL * random.uniform(0.5, 1.5))
        yield


@contextmanager
def _local(folder: Folder, name: str, what: str) -> Iterator[None]:
    path = folder.inside(name.rpartition("/")[0]) / name.rpartition("/")[2]
    while True:
        try:
            descriptor = open_checked(path, os.O_RDWR | os.O_CREAT)
        except OSError as error:
            raise cannot_write(folder, error) from error
        if not _is_lock(descriptor):
            os.close(descriptor)
            raise UnsafeError(
                f"{path} is not a lock of SPARC, but another file or one with a second name: "
                "remove it, or choose another folder"
            )
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            content = os.read(descriptor, LARGEST)
            os.close(descriptor)
            raise LockedError(f"{what} is being written by {named(content)}") from None
        # The last holder may have removed the file between our opening and locking it.
        if _is(path, os.fstat(descriptor)):
            break
        os.close(descriptor)
    try:
        os.truncate(descriptor, 0)
        os.write(descriptor, Holder.this_process().document())
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(descriptor)


def _is_lock(descriptor: int) -> bool:
    """Whether a file is a lock, whole or cut off, and has one name alone: it will be removed."""
    status, content = os.fstat(descriptor), os.pread(descriptor, LARGEST, 0)
    cut_off = content[: len(_BEGINNING)] == _BEGINNING[: len(content)]
    return status.st_nlink <= 1 and (cut_off or Holder.parse(content) is not None)


def _is(path: Path, status: os.stat_result) -> bool:
    """Whether a path still leads to a file that was opened."""
    try:
        return os.path.samestat(path.lstat(), status)
    except FileNotFoundError:
        return False
