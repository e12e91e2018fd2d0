"""A report's search index, `index/`, built when it is first needed.

A folder of it exists once it has its `digests.json`, a sealed document with what its builder notes
of the other files: their digests, so that a reader can check what it reads. On this machine its
files are mapped into memory; behind a URL the parts that a search needs are fetched. This module
must not know what is in them.
"""

import mmap
import os
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from sparc.common.documents import seal, unseal
from sparc.common.errors import ReportError
from sparc.common.files.folder import Folder
from sparc.common.files.lock import exclusive
from sparc.common.files.safe_files import open_regular
from sparc.common.files.whole import writing_whole

FOLDER = "index"
DIGESTS_FILE = "digests.json"
ADVICE = "remove the report's folder index to have it built again"

_REQUESTS = 16
"""Parts that are fetched at a time."""

_KEPT = 1024
"""Parts of a file that were fetched last and are kept."""


def built_once(folder: Folder, name: str, build: Callable[[Path], dict[str, Any]]) -> Folder:
    """A folder of the index, built if it does not exist: whole, or not at all.

    One without `digests.json`, as earlier versions built them, is built again.

    Args:
        folder: A finished report's folder.
        name: The folder below the index.
        build: Writes its content into an empty folder of this machine, and returns what
            `read_notes` is to return.

    Raises:
        LockedError: Another process is building an index or writing to the report.
    """
    where = f"{FOLDER}/{name}"
    if not folder.exists(f"{where}/{DIGESTS_FILE}"):
        with exclusive(folder):
            if not folder.exists(f"{where}/{DIGESTS_FILE}"):
                with writing_whole(folder, where, DIGESTS_FILE) as made:
                    made.write(DIGESTS_FILE, seal(build(made.inside())))
    return folder.below(where)


def read_notes(where: Folder, names: Collection[str]) -> dict[str, Any]:
    """What the builder of a folder noted.

    Args:
        where: The folder, from `built_once`.
        names: The notes' names.

    Raises:
        OSError: It cannot be read.
        ValueError: It is not what was written.
        ReportError: Another version of the program made it, with other notes.
    """
    notes = unseal(where.read(DIGESTS_FILE))
    if notes.keys() != set(names):
        raise ReportError(f"{where} was built by another version of SPARC: {ADVICE}")
    return notes


class FetchedFile:
    """A file behind a URL, of which parts are fetched as they are needed; used like a buffer.

    Args:
        where: Its folder.
        name: The file in it.

    Raises:
        OSError: There is no such file.
    """

    def __init__(self, where: Folder, name: str) -> None:
        self._where, self._name = where, name
        self.size = where.size_of(name)

    def slice(self, begin: int, length: int) -> pa.Buffer:
        """Some of its bytes."""
        return pa.py_buffer(self._where.read_part(self._name, begin, begin + length))


class FetchedValues:
    """The values of a file behind a URL, of which spans are fetched; sliced like an array.

    Args:
        file: The file.
        dtype: Of the values.
        begin: The first byte of the first one.
    """

    def __init__(self, file: FetchedFile, dtype: type[np.generic], begin: int) -> None:
        self._file, self._dtype, self._begin = file, np.dtype(dtype), begin
        self._span = lru_cache(_KEPT)(self._fetch)

    def __getitem__(self, span: slice) -> npt.NDArray[Any]:
        return self._span(span.start, span.stop)

    def _fetch(self, start: int, stop: int) -> npt.NDArray[Any]:
        if stop <= start:
            return np.zeros(0, self._dtype)
        size = self._dtype.itemsize
        content = self._file.slice(self._begin + start * size, (stop - start) * size)
        return np.frombuffer(content, self._dtype)


Values = npt.NDArray[Any] | FetchedValues


def open_file(where: Folder, name: str) -> pa.Buffer | FetchedFile:
    """The bytes of a file of the index: mapped into memory, or fetched part by part.

    Args:
        where: The folder, from `built_once`.
        name: The file in it.

    Raises:
        OSError: It cannot be read.
        UnsafeError: It is not a regular file.
    """
    return FetchedFile(where, name) if where.local is None else pa.py_buffer(_map(where, name))


def open_values(where: Folder, name: str, dtype: type[np.generic], count: int) -> Values:
    """The values of a one-dimensional NumPy file, its last bytes: mapped, or fetched by spans.

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
    content = FetchedFile(where, name) if where.local is None else _map(where, name)
    length = content.size if isinstance(content, FetchedFile) else len(content)
    before = length - count * np.dtype(dtype).itemsize
    if before < 0:
        raise ValueError(f"{name} is too short")
    if isinstance(content, FetchedFile):
        return FetchedValues(content, dtype, before)
    values: npt.NDArray[Any] = np.frombuffer(content, dtype, count, before)
    return values


def fetch(files: Sequence[Values], spans: Sequence[slice]) -> None:
    """Fetch spans of files behind a URL at the same time, before they are read one by one."""
    wanted = [(f, span) for f in files if isinstance(f, FetchedValues) for span in spans]
    if wanted:
        with ThreadPoolExecutor(_REQUESTS) as pool:
            for _ in pool.map(lambda one: one[0][one[1]], wanted):
                pass


def _map(where: Folder, name: str) -> mmap.mmap | bytes:
    with open_regular(where.inside(name)) as opened:
        if not os.fstat(opened.fileno()).st_size:
            return b""  # an empty file cannot be mapped
        return mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ)
