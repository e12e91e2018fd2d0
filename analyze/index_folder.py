"""Where a report keeps what makes searches fast: `index/`, built when it is first needed.

This module must not know what is in it.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sparc.common.errors import ReportError
from sparc.common.lock import exclusive
from sparc.common.safe_files import inside, open_regular
from sparc.common.storage import PARTIAL, Folder, remove_whatever

FOLDER = "index"
ADVICE = "remove the report's folder index to have it built anew"


def built_once(folder: Folder, name: str, build: Callable[[Path], None]) -> Path:
    """A folder of the index, built if it is not there: whole, or not at all.

    Args:
        folder: A finished report's folder, on this machine.
        name: The folder below the index.
        build: Writes its content into a folder that is there and empty.

    Raises:
        ReportError: The report lies behind a URL.
        LockedError: Another process is building an index or writing to the report.
    """
    if folder.local is None:
        raise ReportError(f"{folder} is not on this machine: copy the report here to search in it")
    where = folder.inside(f"{FOLDER}/{name}")
    if not where.exists():
        with exclusive(folder):
            if not where.exists():
                _build_aside(where, build)
    return where


def map_array(where: Path, name: str) -> npt.NDArray[Any]:
    """An array in a NumPy file of the index, mapped into memory.

    Args:
        where: The folder, from `built_once`.
        name: The file in it.

    Raises:
        OSError, ValueError: It is no such file, or shorter than it says.
        UnsafeError: It is not a regular file.
    """
    file = inside(where, name)
    open_regular(file).close()
    array: npt.NDArray[Any] = np.lib.format.open_memmap(str(file), mode="r")
    return array


def _build_aside(where: Path, build: Callable[[Path], None]) -> None:
    aside = where.with_name(f"{where.name}{PARTIAL}")
    remove_whatever(aside)  # of a process that was killed
    aside.mkdir(parents=True)
    try:
        build(aside)
        aside.rename(where)
    finally:
        remove_whatever(aside)
