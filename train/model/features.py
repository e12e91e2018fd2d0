"""Features as callers have them: arrays, tensors or lists, of many rows or of one."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from sparc.common.errors import SparcError

Features = npt.ArrayLike | Tensor
"""(rows, dim), or (dim,) of a single row."""


def as_tensors(features: Mapping[str, Features]) -> tuple[dict[str, Tensor], bool]:
    """Features of streams as tensors of many rows.

    Args:
        features: By stream, (rows, dim) each; or (dim,) each, a single row.

    Returns:
        By stream, (rows, dim) where two dimensions were given; whether they are of a single row.

    Raises:
        SparcError: Something is no array of numbers, or only some streams have a single row.
    """
    tensors = {stream: as_tensor(stream, values) for stream, values in features.items()}
    single = [stream for stream, values in tensors.items() if values.ndim == 1]
    if single and len(single) < len(tensors):
        raise SparcError(
            f"stream {single[0]} has features of a single row, (dim,), and another stream has not: "
            "give (rows, dim) of every stream"
        )
    if not single:
        return tensors, False
    return {stream: values[None] for stream, values in tensors.items()}, True


def as_tensor(stream: str, values: Features) -> Tensor:
    """Features of a stream as a tensor of floats or integers; memory is shared where possible.

    Raises:
        SparcError: They are no array of numbers.
    """
    if isinstance(values, Tensor):
        return values
    kind = type(values).__name__
    try:
        array: npt.NDArray[Any] = np.asarray(values)
    except (TypeError, ValueError) as error:
        raise SparcError(f"stream {stream}: NumPy makes no array of a {kind}: {error}") from error
    if array.dtype.kind not in "fiu":
        raise SparcError(f"stream {stream}: features must be an array of numbers, not a {kind}")
    # PyTorch reads neither foreign byte orders nor negative strides, and warns of read-only memory.
    native = array.astype(array.dtype.newbyteorder("="), copy=not array.flags.writeable)
    return torch.from_numpy(np.ascontiguousarray(native))
