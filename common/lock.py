"""One writer a folder: a lock that names its holder and dies with it.

On a local disk the operating system holds the lock (`flock`), so a killed process leaves none
behind. Behind a URL there is no such thing: the lock is a file, and a person removes a stale one.
"""

import fcntl
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sparc.common.errors import LockedError
from sparc.common.storage import Folder, cannot_write

LOCK_FILE = ".lock"


@contextmanager
def exclusive(folder: Folder) -> Iterator[None]:
    """Hold a folder for writing; the folder is made if need be.

    Raises:
        LockedError: Another process holds it; the message says which.
        SparcError: Nothing can be written there.
    """
    folder.create()
    holder = json.dumps({"pid": os.getpid(), "host": socket.gethostname()}).encode()
    if folder.local is None:
        with _remote(folder, holder):
            yield
    else:
        with _local(folder.local / LOCK_FILE, folder, holder):
            yield


@contextmanager
def _local(path: Path, folder: Folder, holder: bytes) -> Iterator[None]:
    while True:
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise cannot_write(folder, error) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            content = os.read(descriptor, 4096)
            os.close(descriptor)
            raise LockedError(f"{folder} is being written by {_name(content)}") from None
        # The last holder may have removed the file between our opening and locking it.
        if path.exists() and os.fstat(descriptor).st_ino == path.stat().st_ino:
            break
        os.close(descriptor)
    try:
        os.truncate(descriptor, 0)
        os.write(descriptor, holder)
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(descriptor)


@contextmanager
def _remote(folder: Folder, holder: bytes) -> Iterator[None]:
    if folder.exists(LOCK_FILE):
        raise LockedError(
            f"{folder} is being written by {_name(folder.read(LOCK_FILE))}; "
            f"if that process is dead, remove {folder}/{LOCK_FILE}"
        )
    folder.write(LOCK_FILE, holder)
    try:
        yield
    finally:
        folder.remove(LOCK_FILE)


def _name(content: bytes) -> str:
    try:
        holder = json.loads(content)
        return f"process {holder['pid']} on {holder['host']}"
    except (ValueError, KeyError, TypeError):
        return "another process"
