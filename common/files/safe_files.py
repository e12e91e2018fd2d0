"""Opening the files of an artefact that anybody may have made.

Inside a cache, run, report or saved model lie regular files and folders alone, none behind a link.
A link could lead a reader, or a writer, anywhere; a pipe would be waited for without end; a device
such as `/dev/zero` never ends. The folder that a person typed may itself be a link. This module
must not know what the files mean.
"""

import errno
import io
import os
import stat
from pathlib import Path

from sparc.common.errors import UnsafeError
from sparc.common.text import printable, size

_FLAGS = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
"""Follow no link; wait for no writer of a pipe."""


def inside(root: str | os.PathLike[str], name: str) -> Path:
    """The path of a file below a folder, which need not exist; no part of the way is a link.

    Args:
        root: The folder; it may be a link.
        name: Relative to it, with `/` between its parts; empty for the folder itself. It may come
            from the artefact.

    Raises:
        UnsafeError: The name leads out of the folder, or a part of it is a link.
    """
    path = os.fspath(root)
    for part in parts_of(root, name):
        path = f"{path}/{part}"
        try:
            mode = os.lstat(path).st_mode
        except (FileNotFoundError, NotADirectoryError):
            continue
        if stat.S_ISLNK(mode):
            raise _refused(path, "is a link")
    return Path(path)


def parts_of(root: str | os.PathLike[str], name: str) -> list[str]:
    """The parts of a name that `inside` takes.

    Raises:
        UnsafeError: The name leads out of the folder.
    """
    parts = name.split("/") if name else []
    if any(part in ("", ".", "..") or "\0" in part for part in parts):
        raise UnsafeError(f"{root}: {printable(name)!r} is not the name of a file in it")
    return parts


def open_regular(path: Path, *, largest: int | None = None) -> io.BufferedReader:
    """Open a regular file for reading.

    Args:
        path: The file, see `inside`.
        largest: Most bytes that it may have; None: any number.

    Raises:
        FileNotFoundError: There is no such file.
        UnsafeError: It is a link, folder, pipe, socket or device, or too long.
    """
    descriptor = open_checked(path, os.O_RDONLY)
    length = os.fstat(descriptor).st_size
    if largest is not None and length > largest:
        os.close(descriptor)
        raise UnsafeError(f"{path} has {size(length)}, more than the {size(largest)} it may have")
    return os.fdopen(descriptor, "rb")


def open_checked(path: Path, flags: int, mode: int = 0o644) -> int:
    """Open a file if it is a regular one: the descriptor.

    Args:
        path: The file, see `inside`.
        flags: As for `os.open`.
        mode: Of a file that is made.

    Raises:
        OSError: It cannot be opened.
        UnsafeError: It is a link, folder, pipe, socket or device.
    """
    try:
        descriptor = os.open(path, flags | _FLAGS, mode)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise _refused(path, "is a link") from error
        if error.errno in (errno.ENXIO, errno.EISDIR):  # a socket, or a pipe without a reader
            raise _refused(path, "is not a regular file") from error
        raise
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise _refused(path, "is not a regular file")
    return descriptor


def _refused(path: str | os.PathLike[str], what: str) -> UnsafeError:
    return UnsafeError(
        f"{os.fspath(path)} {what}, which SPARC never puts there: do not trust the folder that it "
        "is in, or remove it"
    )
