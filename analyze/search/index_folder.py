"""A report's search index, `index/`, built when it is first needed.

A folder of it exists once it has its `digests.json`, a sealed document with what its builder notes
of the other files: their digests, so that a reader can check what it reads. This module must not
know what is in them.
"""

import mmap
import os
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sparc.common.documents import seal, unseal
from sparc.common.errors import ReportError
from sparc.common.files.durable import PARTIAL, remove_whatever
from sparc.common.files.folder import Folder
from sparc.common.files.lock import exclusive
from sparc.common.files.safe_files import inside, open_regular

FOLDER = "index"
DIGESTS_FILE = "digests.json"
ADVICE = "remove the report's folder index to have it built again"


def built_once(folder: Folder, name: str, build: Callable[[Path], dict[str, Any]]) -> Path:
    """A folder of the index, built if it does not exist: whole, or not at all.

    One without `digests.json`, as earlier versions built them, is built again.

    Args:
        folder: A finished report's folder, on this machine.
        name: The folder below the index.
        build: Writes its content into an empty folder, and returns what `read_notes` is to
            return.

    Raises:
        ReportError: The report lies behind a URL.
        LockedError: Another process is building an index or writing to the report.
    """
    if folder.local is None:
        raise ReportError(f"{folder} is not on this machine: copy the report here to search in it")
    where = folder.inside(f"{FOLDER}/{name}")
    if not (where / DIGESTS_FILE).exists():
        with exclusive(folder):
            if not (where / DIGESTS_FILE).exists():
                _build_aside(where, build)
    return where


def read_notes(where: Path, names: Collection[str]) -> dict[str, Any]:
    """What the builder of a folder noted.

    Args:
        where: The folder, from `built_once`.
        names: The notes' names.

    Raises:
        OSError: It cannot be read.
        ValueError: It is not what was written.
        ReportError: Another version of the program made it, with other notes.
    """
    notes = unseal(Folder(where).read(DIGESTS_FILE))
    if notes.keys() != set(names):
        raise ReportError(f"{where} was built by another version of SPARC: {ADVICE}")
    return notes


def map_file(where: Path, name: str) -> mmap.mmap | bytes:
    """The bytes of a file of the index, mapped into memory.

    Args:
        where: The folder, from `built_once`.
        name: The file in it.

    Raises:
        OSError: It cannot be read.
        UnsafeError: It is not a regular file.
    """
    with open_regular(inside(where, name)) as opened:
        if not os.fstat(opened.fileno()).st_size:
            return b""  # an empty file cannot be mapped
        return mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ)


def map_values(where: Path, name: str, dtype: type[np.generic], count: int) -> npt.NDArray[Any]:
    """The values of a one-dimensional NumPy file, mapped into memory: its last bytes.

    What the file says of itself is not read, so that damage to it does no harm.

    Args:
        where: The folder, from `built_once`.
        name: The file in it.
        dtype: Of the values.
        count: Their number.

    Raises:
        OSError: It cannot be read.
        UnsafeError: It is not a regular file.
        ValueError: It is too short.
    """
    content = map_file(where, name)
    before = len(content) - count * np.dtype(dtype).itemsize
    if before < 0:
        raise ValueError(f"{name} is too short")
    values: npt.NDArray[Any] = np.frombuffer(content, dtype, count, before)
    return values


def _build_aside(where: Path, build: Callable[[Path], dict[str, Any]]) -> None:
    aside = where.with_name(f"{where.name}{PARTIAL}")
    remove_whatever(aside)  # of a process that was killed
    aside.mkdir(parents=True)
    try:
        notes = build(aside)
        Folder(aside).write(DIGESTS_FILE, seal(notes))
        remove_whatever(where)  # of an earlier version
        aside.rename(where)
    finally:
        remove_whatever(aside)
