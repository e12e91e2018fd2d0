"""Files that a person asked for, written whole or not at all: tables, images and arrays."""

import io
import stat
from pathlib import Path

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


def write_table(file: Path, table: pa.Table) -> None:
    """Write a Parquet file, and its folder if need be.

    Raises:
        SparcError: The file is something else. All functions here raise this.
    """
    _refuse_other(file, "Parquet", b"PAR1")
    if file.exists() and file.stat().st_size and not _is_described(file):
        raise SparcError(f"{file} exists and is not a table of SPARC: give another name")
    tables.write_table(Folder(file.parent), file.name, table)


def write_any_table(file: Path, table: pa.Table) -> None:
    """Write a table as CSV or as Parquet, as its name ends.

    In CSV a list is its values with a semicolon between them, and what the schema says is lost.
    """
    if file.suffix.lower() != ".csv":
        write_table(file, table)
        return
    _refuse_other(file, "CSV", f'"{table.column_names[0]}"'.encode())
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
    Folder(file.parent).write(file.name, buffer.getvalue())


def write_png(file: Path, image: Image.Image) -> None:
    """Write a PNG file, and its folder if need be."""
    _refuse_other(file, "PNG", b"\x89PNG\r\n\x1a\n")
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    Folder(file.parent).write(file.name, buffer.getvalue())


def write_array(file: Path, array: npt.NDArray[np.generic]) -> None:
    """Write a NumPy file, and its folder if need be."""
    _refuse_other(file, "NumPy", b"\x93NUMPY")
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    Folder(file.parent).write(file.name, buffer.getvalue())


def _refuse_other(file: Path, kind: str, begins: bytes) -> None:
    """Refuse to replace a file of another kind: a name is easily mistyped."""
    try:
        is_regular = stat.S_ISREG(file.stat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return
    if is_regular:
        with file.open("rb") as opened:
            content = opened.read(len(begins))
        if content in (b"", begins):
            return
    raise SparcError(f"{file} exists and is not a {kind} file: choose another name")


def _is_described(file: Path) -> bool:
    """Whether a Parquet file says in its schema what it is about, as `REPORT.md` says."""
    try:
        with file.open("rb") as opened:
            return METADATA_KEY in (ParquetTable(opened).schema.metadata or {})
    except (OSError, ValueError, KeyError, pa.ArrowException):
        return False
