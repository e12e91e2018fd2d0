"""Folders of clip-retrieval: `img_emb` and `text_emb` of arrays, `metadata` of Parquet.

Its files belong together by their numbers: row i of `img_emb/img_emb_3.npy` is row i of
`text_emb/text_emb_3.npy` and of `metadata/metadata_3.parquet`.
"""

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path

import pyarrow as pa

from sparc.common.errors import DatasetError
from sparc.extract.importing.arrays.array import FeatureArray
from sparc.extract.importing.arrays.order import in_order, number
from sparc.extract.importing.sources.feature_file import FeatureFile
from sparc.extract.importing.sources.npy import NpyFiles, mapped
from sparc.extract.importing.sources.parquet import ParquetFiles

IMAGES, TEXTS, METADATA = "img_emb", "text_emb", "metadata"


class ClipRetrievalFolder(FeatureFile):
    """A folder of `clip-retrieval inference`."""

    @classmethod
    def recognises(cls, path: Path) -> bool:
        """By its folders."""
        return any(any((path / name).glob("*.npy")) for name in (IMAGES, TEXTS))

    def arrays(self) -> Mapping[str, FeatureArray]:
        """`img_emb` and `text_emb`, as far as they are there."""
        self._require_parts()
        return {name: NpyFiles(self.path / name).arrays()[""] for name in self._folders}

    def columns(self) -> Mapping[str, int]:
        """The columns of the metadata."""
        return self._metadata.columns() if self._metadata else {}

    def column(self, name: str) -> pa.Array:
        """A column of the metadata."""
        assert self._metadata is not None
        return self._metadata.column(name)

    def files(self) -> Sequence[Path]:
        """All files of arrays and metadata."""
        arrays = [path for name in self._folders for path in NpyFiles(self.path / name).files()]
        return (*arrays, *(self._metadata.files() if self._metadata else ()))

    @cached_property
    def _folders(self) -> list[str]:
        return [name for name in (IMAGES, TEXTS) if any((self.path / name).glob("*.npy"))]

    @cached_property
    def _metadata(self) -> ParquetFiles | None:
        folder = self.path / METADATA
        return ParquetFiles(folder) if any(folder.glob("*.parquet")) else None

    def _require_parts(self) -> None:
        """Refuse parts that do not belong together, before rows of one pass for another's."""
        parts = {name: in_order((self.path / name).glob("*.npy")) for name in self._folders}
        counts = {name: [len(mapped(path)) for path in parts[name]] for name in parts}
        if self._metadata:
            parts[METADATA] = tuple(self._metadata.files())
            counts[METADATA] = [ParquetFiles(path).rows for path in parts[METADATA]]
        first, *others = parts
        for name in others:
            for a, b, rows, others_rows in zip(
                parts[first], parts[name], counts[first], counts[name], strict=False
            ):
                if number(a) != number(b):
                    lone = min(a, b, key=lambda path: number(path) or 0)
                    raise DatasetError(
                        f"{a} and {b} are not of one partition: {lone} has none of its number "
                        "beside it: remove what an interrupted run left, or name one with --stream"
                    )
                if rows != others_rows:
                    raise DatasetError(f"{a} has {rows:,} rows, {b} {others_rows:,}")
            if len(parts[name]) != len(parts[first]):
                raise DatasetError(
                    f"{self.path}: {len(parts[first])} files in {first}, {len(parts[name])} in "
                    f"{name}: remove what an interrupted run left, or name one with --stream"
                )
