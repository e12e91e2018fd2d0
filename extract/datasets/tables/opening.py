"""Opens a table by its content: Parquet, JSON or text with separators."""

from pathlib import Path

from sparc.common.errors import DatasetError
from sparc.common.files.safe_files import open_regular
from sparc.extract.datasets.account import Omissions
from sparc.extract.datasets.base import TAB
from sparc.extract.datasets.tables.delimited import DelimitedTable
from sparc.extract.datasets.tables.objects import JsonTable
from sparc.extract.datasets.tables.parquet import ParquetTable
from sparc.extract.datasets.tables.table import Table

SUFFIXES = (
    *(".csv", ".tsv", ".tab", ".txt", ".lst", ".token", ".json", ".jsonl", ".jsonlines"),
    *(".ndjson", ".parquet", ".pq"),
)
"""What tables are usually called."""

LFS_POINTER = b"version https://git-lfs.github.com/"
"""How a file begins that stands for one that Git LFS has not fetched."""

_LINES = (".jsonl", ".jsonlines", ".ndjson")
"""Names of files of JSON Lines, of which the first may be bad."""

_HEAD = 4096


def open_table(path: Path, name: str, omissions: Omissions, separator: str = "") -> Table:
    """A table, whatever its name says it is.

    Args:
        path: The file.
        name: What messages call it.
        omissions: Where its bad records are counted.
        separator: Between cells of text; empty: the first line decides.

    Raises:
        DatasetError: It cannot be read.
    """
    try:
        with open_regular(path) as file:
            head = file.read(_HEAD)
    except OSError as error:
        raise DatasetError(f"cannot read {name}: {error.strerror}") from error
    if head.startswith(b"PAR1"):
        return ParquetTable(path, name, omissions)
    if head.startswith(LFS_POINTER):
        raise DatasetError(f"{name} is a pointer of Git LFS: fetch the file with git lfs pull")
    if head.lstrip().lower().startswith((b"<!doctype html", b"<html")):
        raise DatasetError(f"{name} is a web page and no table: download the file again")
    text = head.replace(b"\0", b"").lstrip(b"\xef\xbb\xbf\xff\xfe \t\r\n")
    if text.startswith((b"{", b"[")) or name.lower().endswith(_LINES):
        return JsonTable(path, name, omissions)
    return DelimitedTable(path, name, omissions, "\t" if separator == TAB else separator)
