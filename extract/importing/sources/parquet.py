"""Parquet with a column of vectors: a file, or a folder of files one after the other."""

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from sparc.common.errors import DatasetError
from sparc.common.text import reason, shorten
from sparc.extract.importing.arrays.array import FeatureArray
from sparc.extract.importing.arrays.arrow import dtype_of, vector_type, vectors
from sparc.extract.importing.arrays.order import in_order
from sparc.extract.importing.sources.feature_file import FeatureFile, not_features

_BATCH = 1024


class ParquetFiles(FeatureFile):
    """Parquet whose columns of lists of floats are features."""

    @classmethod
    def recognises(cls, path: Path) -> bool:
        """By its suffix; a folder by those of its files, which may lie in folders themselves."""
        if path.is_dir():
            shown = [
                e for e in path.rglob("*") if e.is_file() and not e.name.startswith((".", "_"))
            ]
            return bool(shown) and {entry.suffix for entry in shown} == {".parquet"}
        return path.suffix in (".parquet", ".pq") and path.is_file()

    def files(self) -> Sequence[Path]:
        """The file, or those of the folder in the order of the numbers in their names."""
        return in_order(self.path.rglob("*.parquet")) if self.path.is_dir() else (self.path,)

    def arrays(self) -> Mapping[str, FeatureArray]:
        """The columns of vectors, by name."""
        kinds = {f.name: vector_type(f.type) for f in self._schema}
        result = {
            name: VectorColumn(self.files(), name, dtype_of(kind))
            for name, kind in kinds.items()
            if kind is not None
        }
        if not result and not self.columns():
            raise not_features(self.path, {f.name: str(f.type) for f in self._schema})
        return {name: array for name, array in result.items() if array.dim}

    def columns(self) -> Mapping[str, int]:
        """The other columns."""
        rows = self.rows
        return {f.name: rows for f in self._schema if vector_type(f.type) is None}

    def column(self, name: str) -> pa.Array:
        """A column of all files."""
        try:
            parts = [_open(path).read([name]) for path in self.files()]
            return pa.concat_tables(parts)[name].combine_chunks()
        except (pa.ArrowException, OSError, ValueError) as error:
            raise DatasetError(f"{self.path}, {name}: {reason(error)}") from error

    @property
    def names(self) -> Sequence[str]:
        """All columns, those of vectors too."""
        return self._schema.names  # type: ignore[no-any-return]

    @property
    def rows(self) -> int:
        """How many rows all files have."""
        return sum(_open(path).metadata.num_rows for path in self.files())

    @cached_property
    def _schema(self) -> pa.Schema:
        first, *others = self.files()
        schema = _open(first).schema_arrow
        for path in others:
            if (names := _open(path).schema_arrow.names) != schema.names:
                raise DatasetError(
                    f"{path} has the columns {shorten(', '.join(names), 200)}, {first} has "
                    f"{shorten(', '.join(schema.names), 200)}"
                )
        return schema


class VectorColumn(FeatureArray):
    """A column of vectors of Parquet files, read from any row on, forwards.

    Args:
        files: The files, in order.
        name: The column.
        dtype: The type of its values.
    """

    def __init__(self, files: Sequence[Path], name: str, dtype: str) -> None:
        self._files = files
        self._name = name
        self.dtype = dtype
        opened = [_open(path) for path in files]
        self._begins = np.cumsum([0, *(file.metadata.num_rows for file in opened)])
        self.rows = int(self._begins[-1])
        self.dim = self._first_length()
        self._batches: Iterator[npt.NDArray[Any]] = iter(())
        self._rest: list[npt.NDArray[Any]] = []
        self._next = -1

    def _first_length(self) -> int:
        for path in self._files:
            for batch in _open(path).iter_batches(_BATCH, columns=[self._name]):
                column = batch.column(0)
                if column.null_count < len(column):
                    return len(column.drop_null()[0])
        return 0

    def read(self, start: int, stop: int) -> npt.NDArray[Any]:
        """As `FeatureArray.read`; what does not follow the rows before costs a row group."""
        if start != self._next:
            self._batches = self._from(start)
            self._rest = []
        have = sum(map(len, self._rest))
        while have < stop - start:
            self._rest.append(next(self._batches))
            have += len(self._rest[-1])
        values = np.concatenate(self._rest)
        self._rest = [values[stop - start :]] if have > stop - start else []
        self._next = stop
        return values[: stop - start]

    def _from(self, start: int) -> Iterator[npt.NDArray[Any]]:
        """The vectors from a row on, batch by batch."""
        for path, begin, end in zip(self._files, self._begins, self._begins[1:], strict=False):
            if end <= start:
                continue
            file = _open(path)
            groups = [file.metadata.row_group(g).num_rows for g in range(file.num_row_groups)]
            ends = begin + np.cumsum(groups)
            chosen = [number for number, last in enumerate(ends) if last > start]
            row = int(ends[chosen[0]] - groups[chosen[0]])
            where = f"{path}, {self._name}"
            try:
                for batch in file.iter_batches(_BATCH, row_groups=chosen, columns=[self._name]):
                    skipped = max(0, min(start - row, len(batch)))
                    column = batch.column(0).slice(skipped)
                    if len(column):
                        yield vectors(column, self.dim, where, row + skipped - int(begin))
                    row += len(batch)
            except (pa.ArrowException, OSError) as error:
                raise DatasetError(f"{where}: {reason(error)}") from error


def _open(path: Path) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(path, pre_buffer=False)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise DatasetError(f"{path} is not readable as Parquet: {reason(error)}") from error
