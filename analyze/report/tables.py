"""A report's tables as files: their names, and what each says of itself in its schema.

A table of an earlier version is read as one of today's: `sparc.analyze.report.earlier` says how.
This module must not know how a table is computed, nor its columns: those are with the measures.
"""

import io
import json
from collections.abc import Mapping
from typing import IO, Any

import pyarrow as pa

from sparc.analyze.measures.registry import adding_command
from sparc.analyze.report.earlier import current_table
from sparc.analyze.report.info import KIND
from sparc.common.config import to_mapping
from sparc.common.errors import ReportError
from sparc.common.files.parquet import parquet_bytes, read_parquet
from sparc.common.parsing import parse_object
from sparc.common.text import reason
from sparc.common.versions import software_versions

METADATA_KEY = b"sparc"

_ENDING = ".parquet"


def file_of(table: str) -> str:
    """The name of a table's file."""
    return f"{table}{_ENDING}"


def advice(file: str) -> str:
    """How a person gets a missing or damaged file of a report again."""
    if command := _adding_command(file):
        return f"remove it, and run `{command}` with --report again"
    return "run the same `sparc-analyze run` again, which makes it again"


def remedy(file: str) -> str:
    """What becomes of a damaged file when `sparc-analyze run` continues its report."""
    if command := _adding_command(file):
        return f"run `{command}` with --report again"
    return "it is made again"


def described(content: pa.Table, table: str, about: Mapping[str, Any]) -> pa.Table:
    """A table with a description in its schema, as `REPORT.md` says; other keys stay.

    Args:
        content: The table.
        table: Its name.
        about: What it is about, as plain JSON values.
    """
    document = KIND.document({"table": table, **about})
    key = {METADATA_KEY: json.dumps(document, ensure_ascii=False).encode()}
    return content.replace_schema_metadata({**(content.schema.metadata or {}), **key})


def about_command(name: str, config: Any) -> dict[str, Any]:
    """What a table's description says of the command, other than `run`, that made it."""
    return {"name": name, "settings": to_mapping(config), "versions": software_versions()}


def table_bytes(table: str, content: pa.Table, about: Mapping[str, Any]) -> bytes:
    """The content of a table's file: the arguments are those of `described`."""
    return parquet_bytes(described(content, table, about))


def read_table(file: IO[bytes] | bytes, where: str) -> pa.Table:
    """Read a table of a report; one of an earlier version as if it were of today's.

    Args:
        file: The open file, or its bytes.
        where: The file's place, for the message.

    Raises:
        ReportError: It is not Parquet, claims more than a file of its size can hold, or is of a
            newer version.
    """
    return _as_current(_read(file, where), where)


def rewritten(content: bytes, where: str) -> bytes | None:
    """The content of a table's file as it is written today; None if it is of today's version.

    Args:
        content: The content.
        where: The file's place, for the message.

    Raises:
        ReportError: As for `read_table`.
    """
    table = _read(content, where)
    current = _as_current(table, where)
    return None if current is table else parquet_bytes(current)


def _read(file: IO[bytes] | bytes, where: str) -> pa.Table:
    try:
        return read_parquet(io.BytesIO(file) if isinstance(file, bytes) else file)
    except (pa.ArrowException, OSError, ValueError, KeyError) as error:
        raise ReportError(f"{where} is not readable as Parquet: {reason(error)}") from error


def _as_current(table: pa.Table, where: str) -> pa.Table:
    """A table as it is written today, with a description of today's version.

    Returns:
        The table itself if it is of today's version.
    """
    try:
        description = parse_object((table.schema.metadata or {}).get(METADATA_KEY, b"{}"))
        about = KIND.entries(description, where=where)
        name = about.pop("table")
    except (KeyError, ValueError) as error:
        raise ReportError(f"{where} does not say what it is about: {reason(error)}") from error
    if description["version"] == KIND.version:
        return table
    return described(current_table(table), name, about)


def _adding_command(file: str) -> str:
    return adding_command(file.removesuffix(_ENDING))
