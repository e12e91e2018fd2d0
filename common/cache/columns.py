"""Columns of the dataset: what `rows.parquet` may hold beside its own columns.

Their values are texts, integers, floats, booleans or nulls. This module must not know what any
column means.
"""

from json.encoder import encode_basestring as _quote
from typing import Any

import numpy as np
import pyarrow as pa

KINDS = "texts, integers, floats or booleans"


def stored_type(kind: pa.DataType) -> pa.DataType | None:
    """The type as which a column of this type is stored; None where it cannot be."""
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_null(kind):
        return pa.string()
    if pa.types.is_boolean(kind):
        return pa.bool_()
    if pa.types.is_integer(kind):
        return pa.int64()
    return pa.float64() if pa.types.is_floating(kind) else None


def column_array(values: Any, kind: pa.DataType | None = None) -> pa.Array:
    """Values as a column; NaN becomes null.

    Args:
        values: A sequence of Python values, or what Arrow makes an array of.
        kind: Its type, one that `stored_type` returns; by default the values decide.

    Raises:
        ValueError: The values are of several kinds, or of one that is not stored.
    """
    try:
        array = pa.array(values, kind, from_pandas=True)
    except (pa.ArrowException, ValueError, TypeError, OverflowError) as error:
        kinds = sorted({type(value).__name__ for value in values if value is not None})
        what = f"values of the kinds {', '.join(kinds)}" if len(kinds) > 1 else f"{error}"
        raise ValueError(f"{what}, where one of {KINDS} is needed") from error
    if isinstance(array, pa.ChunkedArray):
        array = array.combine_chunks()
    stored = stored_type(array.type)
    if stored is None:
        raise ValueError(f"values of the type {array.type}, where {KINDS} are needed")
    try:
        return array.cast(stored)
    except pa.ArrowException as error:
        raise ValueError(f"{error}, where {KINDS} are needed") from error


def digest_header(columns: pa.Schema) -> str:
    """Names and types of columns, as a line of the manifest digest."""
    pairs = ",".join(f"[{_quote(field.name)},{_quote(str(field.type))}]" for field in columns)
    return f"[{pairs}]\n"


def digest_values(column: pa.Array) -> list[str]:
    """The values of a column as JSON; a float is a text of the 16 hexadecimal digits of its bits.

    Programs differ in how they write a float in decimals, and JSON has no infinity.
    """
    values = column.to_pylist()
    if pa.types.is_string(column.type):
        return ["null" if value is None else _quote(value) for value in values]
    if pa.types.is_floating(column.type):
        bits = np.array([0.0 if value is None else value for value in values]).view(np.uint64)
        texts = [f'"{number:016x}"' for number in bits.tolist()]
    else:
        texts = [str(value).lower() for value in values]
    return ["null" if v is None else text for v, text in zip(values, texts, strict=True)]
