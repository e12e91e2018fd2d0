"""Tensors by name, and lists beside them, as files of PyTorch hold them."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch

from sparc.common.errors import DatasetError
from sparc.common.text import reason
from sparc.extract.importing.arrays.array import (
    FeatureArray,
    SlicedArray,
    VectorsByName,
    is_features,
)


def as_features(tensor: torch.Tensor) -> FeatureArray | None:
    """A tensor as features; None where it is none of (rows, dim) floats."""
    dtype = str(tensor.dtype).removeprefix("torch.")
    if tensor.layout is not torch.strided or not is_features(tensor.shape, dtype):
        return None
    array = SlicedArray(tensor.shape, dtype, lambda start, stop: as_numpy(tensor[start:stop]))
    array.is_mapped = True
    return array


def as_numpy(tensor: torch.Tensor) -> npt.NDArray[Any]:
    """A tensor as an array; bfloat16 as float32, which holds all of its values."""
    tensor = tensor.detach()
    values: npt.NDArray[Any] = (
        tensor.float() if tensor.dtype == torch.bfloat16 else tensor
    ).numpy()
    return values


def stacked(vectors: Mapping[str, torch.Tensor]) -> FeatureArray | None:
    """Vectors of one width as features, a row each; None where they are something else."""
    first, *_ = vectors.values()
    dtype = str(first.dtype).removeprefix("torch.")
    shapes = {(tuple(vector.shape), vector.dtype) for vector in vectors.values()}
    if len(shapes) > 1 or first.ndim != 1 or not is_features((1, *first.shape), dtype):
        return None
    names = list(vectors)
    return VectorsByName(names, len(first), dtype, lambda name: as_numpy(vectors[name]))


def column_of(value: Any, where: str) -> pa.Array:
    """A tensor of one dimension, or a list, as a column.

    Raises:
        DatasetError: It holds values of several kinds.
    """
    try:
        if isinstance(value, torch.Tensor):
            value = as_numpy(value)
        plain = value.tolist() if isinstance(value, np.ndarray) else list(value)
        return pa.array([str(v) if isinstance(v, str) else v for v in plain])
    except (pa.ArrowException, ValueError, TypeError) as error:
        raise DatasetError(f"{where}: not a column of values: {reason(error)}") from error


def is_column(value: Any) -> bool:
    """Whether a value is a tensor or array of one dimension, or a list of plain values."""
    if isinstance(value, torch.Tensor | np.ndarray):
        return value.ndim == 1
    plain = str, int, float, bool, type(None), np.generic
    return isinstance(value, list | tuple) and bool(value) and isinstance(value[0], plain)


def flat(document: Mapping[Any, Any], above: str = "") -> dict[str, Any]:
    """The entries of nested dictionaries, by the names on the way with dots between them."""
    result: dict[str, Any] = {}
    for key, value in document.items():
        name = f"{above}.{key}" if above else str(key)
        result |= flat(value, name) if isinstance(value, Mapping) else {name: value}
    return result
