"""Files that a person asked for, written whole or not at all: tables, pictures and arrays."""

import io
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from PIL import Image

from sparc.common import tables
from sparc.common.storage import Folder


def write_table(file: Path, table: pa.Table) -> None:
    """Write a Parquet file; its folder is made if need be."""
    tables.write_table(Folder(file.parent), file.name, table)


def write_png(file: Path, picture: Image.Image) -> None:
    """Write a PNG file; its folder is made if need be."""
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG")
    Folder(file.parent).write(file.name, buffer.getvalue())


def write_array(file: Path, array: npt.NDArray[np.generic]) -> None:
    """Write a NumPy file; its folder is made if need be."""
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    Folder(file.parent).write(file.name, buffer.getvalue())
