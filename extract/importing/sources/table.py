"""Tables of what is known of rows: Parquet, CSV, TSV and JSON Lines, as Arrow columns."""

from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pc
import pyarrow.json as pj
import pyarrow.parquet as pq

from sparc.common.errors import DatasetError
from sparc.common.text import reason

_DELIMITERS = {".csv": ",", ".tsv": "\t", ".tab": "\t"}
_BLOCK = 1 << 24


def read_table(path: Path) -> pa.Table:
    """A table in a file that somebody named.

    Raises:
        DatasetError: There is no such file, or it is none of these.
    """
    if not path.is_file():
        raise DatasetError(f"there is no table {path}")
    suffix = path.suffix.lower()
    try:
        if suffix in (".parquet", ".pq"):
            return pq.read_table(path)
        if suffix in _DELIMITERS:
            return pc.read_csv(
                path,
                read_options=pc.ReadOptions(block_size=_BLOCK),
                parse_options=pc.ParseOptions(
                    delimiter=_DELIMITERS[suffix], newlines_in_values=True
                ),
                convert_options=pc.ConvertOptions(strings_can_be_null=False),
            )
        if suffix in (".jsonl", ".ndjson", ".json"):
            return pj.read_json(path, read_options=pj.ReadOptions(block_size=_BLOCK))
    except (pa.ArrowException, OSError, ValueError) as error:
        raise DatasetError(f"{path} is not readable: {reason(error)}") from error
    raise DatasetError(f"{path} is no table: give Parquet, .csv, .tsv or .jsonl")
