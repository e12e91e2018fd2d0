"""Where a report keeps what makes searches fast: `index/`, built when it is first needed.

This module must not know what is in it.
"""

import shutil
import uuid
from collections.abc import Callable
from pathlib import Path

from sparc.common.errors import ReportError
from sparc.common.storage import PARTIAL, Folder

FOLDER = "index"


def built_once(folder: Folder, name: str, build: Callable[[Path], None]) -> Path:
    """A folder of the index, built if it is not there: whole, or not at all.

    Args:
        folder: A finished report's folder, on this machine.
        name: The folder below the index.
        build: Writes its content into a folder that is there and empty.

    Raises:
        ReportError: The report lies behind a URL.
    """
    if folder.local is None:
        raise ReportError(f"{folder} is not on this machine: copy the report here to search in it")
    where = folder.local / FOLDER / name
    if where.exists():
        return where
    aside = where.with_name(f"{where.name}.{uuid.uuid4().hex}{PARTIAL}")
    aside.mkdir(parents=True)
    try:
        build(aside)
        try:
            aside.rename(where)
        except OSError:
            if not where.exists():  # otherwise another process was faster, with the same content
                raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return where
