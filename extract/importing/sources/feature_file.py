"""What a format of features has to define: the arrays in a file, and what it knows of their rows.

Nothing is read before it is asked for, and features never as a whole.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow as pa

from sparc.common.errors import DatasetError
from sparc.common.text import shorten
from sparc.extract.importing.arrays.array import FeatureArray

STACK = 'np.savez("features.npz", features=np.stack(vectors), ids=names)'
"""How vectors in files of their own become features."""


class FeatureFile(ABC):
    """A file or folder that holds features in one format.

    Args:
        path: The file or folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    @abstractmethod
    def recognises(cls, path: Path) -> bool:
        """Whether `auto` takes a file or folder for one of this format, by name and content."""

    @abstractmethod
    def arrays(self) -> Mapping[str, FeatureArray]:
        """The features that it holds, by key; the key is empty where there can be but one array.

        Raises:
            DatasetError: It is not in this format, or holds what only a pickle can.
        """

    def columns(self) -> Mapping[str, int]:
        """What it knows of its rows besides: by column how many values it has."""
        return {}

    def column(self, name: str) -> pa.Array:
        """One of `columns`: a value a row.

        Raises:
            DatasetError: It cannot be read.
        """
        raise KeyError(name)

    def files(self) -> Sequence[Path]:
        """The files that were read."""
        return (self.path,)


def not_features(path: Path, held: Mapping[str, str]) -> DatasetError:
    """The error for a file that holds no features.

    Args:
        path: The file.
        held: What it holds instead, by key: its shape and type.
    """
    listed = "; ".join(f"{key or 'it'} is {what}" for key, what in held.items()) or "it is empty"
    return DatasetError(
        f"{path}: no array of (rows, dim) floats: {shorten(listed, 300)}; features are one vector "
        "a row: choose a token or take their mean, and save float32"
    )


def pickled(path: Path, what: str, advice: str) -> DatasetError:
    """The error for what only a pickle can hold: reading one runs whatever code it names."""
    return DatasetError(
        f"{path}: {what}, which is a pickle, and reading one runs whatever code it names: {advice}"
    )
