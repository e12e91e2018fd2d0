"""Files of `torch.save`: a tensor, or a dictionary of them; loaded without running any code."""

import codecs
import importlib
import pickle
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from sparc.common.errors import DatasetError
from sparc.common.files.torch_archives import require_stored
from sparc.common.text import reason
from sparc.extract.importing.arrays.array import FeatureArray, JoinedArray, MappedArray, is_features
from sparc.extract.importing.arrays.tensors import (
    as_features,
    column_of,
    flat,
    is_column,
    stacked,
)
from sparc.extract.importing.sources.feature_file import FeatureFile, not_features, pickled

_SAVE_TENSORS = (
    'where it was made, save tensors only: torch.save({"features": tensor, "ids": list_of_texts}, '
    "path)"
)

_NUMPY: Any = [
    np.ndarray,
    np.dtype,
    *(type(np.dtype(kind)) for kind in "?bBhHiIqQefdUS"),
    *(
        (getattr(importlib.import_module("numpy._core.multiarray"), name), f"{module}.{name}")
        for module in ("numpy._core.multiarray", "numpy.core.multiarray")
        for name in ("_reconstruct", "scalar")
    ),
    (codecs.encode, "_codecs.encode"),
]
"""What arrays of NumPy in such a file need: it makes arrays and runs nothing."""


class TorchFile(FeatureFile):
    """A file of `torch.save`.

    It holds a tensor of (rows, dim); a list of such batches, or of vectors; a dictionary of such
    tensors, with lists of names or labels beside them; or a vector by name.
    """

    @classmethod
    def recognises(cls, path: Path) -> bool:
        """By its suffix."""
        return path.suffix in (".pt", ".pth", ".bin") and path.is_file()

    def arrays(self) -> Mapping[str, FeatureArray]:
        """The tensors of two dimensions, by name."""
        result: dict[str, FeatureArray] = {}
        for key, value in self._entries.items():
            if (array := _features(value, f"{self.path}, {key}")) is not None:
                result[key] = array
        if not result and (whole := self._by_name) is not None:
            return {"": whole}
        if not result and not self.columns():
            raise not_features(self.path, {key: _shown(v) for key, v in self._entries.items()})
        return result

    def columns(self) -> Mapping[str, int]:
        """The lists and the tensors of one dimension; or the names of the vectors."""
        if self._by_name is not None:
            return {"ids": len(self._entries)}
        return {key: len(value) for key, value in self._entries.items() if is_column(value)}

    def column(self, name: str) -> pa.Array:
        """The values of such a list or tensor."""
        if self._by_name is not None:
            return pa.array(list(self._entries))
        return column_of(self._entries[name], f"{self.path}, {name}")

    @cached_property
    def _by_name(self) -> FeatureArray | None:
        """Vectors under the names of their rows."""
        entries = self._entries
        if len(entries) < 2 or not all(isinstance(v, torch.Tensor) for v in entries.values()):
            return None
        return stacked(entries)

    @cached_property
    def _entries(self) -> dict[str, Any]:
        loaded = self._load()
        return flat(loaded) if isinstance(loaded, Mapping) else {"": loaded}

    def _load(self) -> Any:
        require_stored(self.path, self.path)
        for is_mapped in (True, False):  # files of before version 1.6 cannot be mapped
            try:
                with torch.serialization.safe_globals(_NUMPY):
                    return torch.load(
                        self.path, map_location="cpu", weights_only=True, mmap=is_mapped
                    )
            except pickle.UnpicklingError as error:
                what = f"it needs more than tensors ({_needed(error)})"
                raise pickled(self.path, what, _SAVE_TENSORS) from error
            except (RuntimeError, ValueError, OSError, EOFError, KeyError) as error:
                if not is_mapped:
                    why = reason(error)
                    raise DatasetError(f"{self.path} is no file of torch.save: {why}") from error
        raise AssertionError


def _features(value: Any, where: str) -> FeatureArray | None:
    """A tensor, or a list of batches or vectors, as features."""
    if isinstance(value, torch.Tensor):
        return as_features(value)
    if isinstance(value, np.ndarray):
        return MappedArray(value) if is_features(value.shape, value.dtype.name) else None
    if not isinstance(value, list | tuple) or not value:
        return None
    if not all(isinstance(part, torch.Tensor) for part in value):
        return None
    parts = [as_features(part) for part in value]
    if any(part is None for part in parts):
        return stacked({str(number): vector for number, vector in enumerate(value)})
    return JoinedArray({f"{where}, batch {n}": p for n, p in enumerate(parts) if p is not None})


def _needed(error: Exception) -> str:
    """What a file asks for besides tensors, as far as PyTorch says it."""
    text = " ".join(str(error).split())
    _, _, after = text.partition("Unsupported global: GLOBAL ")
    return after.split(" ")[0] if after else "objects of Python"


def _shown(value: Any) -> str:
    if isinstance(value, torch.Tensor | np.ndarray):
        return f"{tuple(value.shape)} {str(value.dtype).removeprefix('torch.')}"
    return f"a {type(value).__name__}"
