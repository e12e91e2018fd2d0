"""Vectors in Arrow columns, as Parquet and Lance hold them, as arrays of features."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from sparc.common.errors import DatasetError


def vector_type(kind: pa.DataType) -> pa.DataType | None:
    """The type of the values of a column of vectors; None where it holds something else."""
    is_list = pa.types.is_list(kind) or pa.types.is_large_list(kind)
    if (is_list or pa.types.is_fixed_size_list(kind)) and pa.types.is_floating(kind.value_type):
        return kind.value_type
    return None


def dtype_of(kind: pa.DataType) -> str:
    """What NumPy calls a type of floats."""
    return str(np.dtype(kind.to_pandas_dtype()).name)


def vectors(column: Any, dim: int, where: str, first_row: int) -> npt.NDArray[Any]:
    """A column of vectors as (rows, dim); a vector that is null is NaN.

    Args:
        column: An array of lists, of any length or of a fixed one.
        dim: Their length.
        where: The file and column, for messages.
        first_row: The row of the file that the first one is, for messages.

    Raises:
        DatasetError: A vector has another length.
    """
    present = np.asarray(column.is_valid())
    whole = column.filter(column.is_valid()) if column.null_count else column
    lengths = np.asarray(pc.list_value_length(whole))
    if (lengths != dim).any():
        row = first_row + int(np.flatnonzero(present)[np.flatnonzero(lengths != dim)[0]])
        other = int(lengths[lengths != dim][0])
        raise DatasetError(f"{where}: row {row:,} has {other} values, others have {dim}")
    values = whole.flatten().to_numpy(zero_copy_only=False).reshape(-1, dim)
    if present.all():
        return np.asarray(values)
    result = np.full((len(column), dim), np.nan, values.dtype)
    result[present] = values
    return result
