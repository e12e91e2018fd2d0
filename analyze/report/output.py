"""Files that a person asked for, written whole or not at all: tables, images and arrays."""

import io
import os
import stat
from typing import IO

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.csv
from PIL import Image

from sparc.analyze.report.tables import METADATA_KEY
from sparc.common.cache import tables
from sparc.common.errors import SparcError
from sparc.common.files.folder import Folder
from sparc.common.files.parquet import ParquetTable
from sparc.common.files.paths import ending, from_home

Location = str | os.PathLike[str]

_READ_AHEAD = 1 << 16
"""Bytes that are fetched at a time of a table behind a URL: its beginning and its schema."""


def write_table(file: Location, table: pa.Table) -> None:
    """Write a Parquet file, and its folder if need be.

    Args:
        file: Its path or URL.
        table: Its content; the schema says what it is about.

    Raises:
        SparcError: The file is something else. All functions here raise this.
    """
    folder, name = _place_of(file, "Parquet", b"PAR1")
    if not _is_described(folder, name):
        raise SparcError(f"{file} exists and is not a table of SPARC: give another name")
    tables.write_table(folder, name, table)


def write_any_table(file: Location, table: pa.Table) -> None:
    """Write a table as CSV or as Parquet, as its name ends; arguments as `write_table`.

    In CSV a list is its values with a semicolon between them, and what the schema says is lost.
    """
    if ending(file) != ".csv":
        write_table(file, table)
        return
    folder, name = _place_of(file, "CSV", f'"{table.column_names[0]}"'.encode())
    columns = {
        name: [
            "; ".join(map(str, cell)) if isinstance(cell, list) else cell
            for cell in table[name].to_pylist()
        ]
        if pa.types.is_list(table.schema.field(name).type)
        else table[name]
        for name in table.column_names
    }
    buffer = io.BytesIO()
    pyarrow.csv.write_csv(pa.table(columns), buffer)
    folder.write(name, buffer.getvalue())


def write_png(file: Location, image: Image.Image) -> None:
    """Write a PNG file, and its folder if need be."""
    folder, name = _place_of(file, "PNG", b"\x89PNG\r\n\x1a\n")
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    folder.write(name, buffer.getvalue())


def write_array(file: Location, array: npt.NDArray[np.generic]) -> None:
    """Write a NumPy file, and its folder if need be."""
    folder, name = _place_of(file, "NumPy", b"\x93NUMPY")
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    folder.write(name, buffer.getvalue())


def _place_of(file: Location, kind: str, begins: bytes) -> tuple[Folder, str]:
    """The folder of a file and its name; one of another kind stays: a name is easily mistyped."""
    above, slash, name = from_home(file).rstrip("/").rpartition("/")
    folder = Folder(above or slash or ".")
    try:
        with _opened(folder, name) as opened:
            other = opened.read(len(begins)) not in (b"", begins)
    except FileNotFoundError:
        other = folder.local is None and folder.exists(name)  # a folder of that name
    except OSError:
        other = True
    if other:
        raise SparcError(f"{file} exists and is not a {kind} file: choose another name")
    return folder, name


def _is_described(folder: Folder, name: str) -> bool:
    """Whether a Parquet file says in its schema what it is about, as `REPORT.md` says.

    An empty one may be replaced as well, and one that is not there be written.
    """
    try:
        with _opened(folder, name) as opened:
            return not opened.read(1) or METADATA_KEY in (
                ParquetTable(opened).schema.metadata or {}
            )
    except FileNotFoundError:
        return True
    except (OSError, ValueError, KeyError, pa.ArrowException):
        return False


def _opened(folder: Folder, name: str) -> IO[bytes]:
    """A file for reading; one of this machine may lie behind a link, which a person made.

    Raises:
        FileNotFoundError: There is no such file.
        OSError: It is not a regular file.
    """
    if folder.local is None:
        return folder.open(name, read_ahead=_READ_AHEAD)
    path = folder.local / name
    try:
        is_regular = stat.S_ISREG(path.stat().st_mode)
    except NotADirectoryError as error:
        raise FileNotFoundError(str(path)) from error
    if not is_regular:
        raise OSError(f"{path} is not a regular file")
    return path.open("rb")
