"""Files of this machine that are written whole or not at all, whatever crashes.

A file is written aside, synced and renamed, and so is the name of every folder that is made for
it. This module must not know what the files mean.
"""

import os
import re
import shutil
import stat
import uuid
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PARTIAL = ".partial"
"""The ending of a file that is being written. Zarr's local store uses the same one."""

_ASIDE = re.compile(r".+\.[0-9a-f]{32}\.partial")


def write_durably(target: Path, content: Any) -> None:
    """Write a file aside, sync it and rename it, so that it is whole whatever crashes.

    Args:
        target: The file; folders that are missing are made.
        content: Bytes, or anything that lends its memory as such.
    """
    _make_folder(target.parent)
    aside = _aside(target)
    try:
        with aside.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(target)
    except OSError as error:
        # A full disk says so without saying where.
        raise OSError(error.errno, error.strerror, str(target)) from error
    finally:
        aside.unlink(missing_ok=True)
    sync_folder(target.parent)


@contextmanager
def writing_durably(target: Path) -> Iterator[Path]:
    """Let something that writes files write one as durably as `write_durably` does.

    Yields:
        The path to write to, in a folder of its own: a writer may put temporary files beside it.
    """
    _make_folder(target.parent)
    aside = _aside(target)
    aside.mkdir()
    path = aside / "file"
    try:
        path.touch()
        mode = path.stat().st_mode
        yield path
        path.chmod(mode)  # a writer that puts another file there may have been private about it
        with path.open("rb") as file:
            os.fsync(file.fileno())
        path.replace(target)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(target)) from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    sync_folder(target.parent)


def _aside(target: Path) -> Path:
    return target.with_name(f"{target.name}.{uuid.uuid4().hex}{PARTIAL}")


def _make_folder(folder: Path) -> None:
    """Make a folder and its parents; their names are on the disk before anything is in them."""
    if not folder.is_dir():
        _make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        sync_folder(folder.parent)


def sync_folder(folder: Path) -> None:
    """Wait until the names of a folder's files are on the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def is_aside(name: str) -> bool:
    """Whether a file or folder of that name is being written, here or by Zarr's local store."""
    return _ASIDE.fullmatch(name) is not None


def is_leftover(name: str, files: Collection[str]) -> bool:
    """Whether a name is what a killed process left while it wrote one of those files."""
    return is_aside(name) and any(name.startswith(f"{f}.") for f in files)


def remove_whatever(path: Path) -> None:
    """Remove a file, a whole folder or a link (not its target), where there is one."""
    try:
        is_folder = stat.S_ISDIR(path.lstat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return
    if is_folder:
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
