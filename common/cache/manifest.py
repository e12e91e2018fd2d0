"""The rows of a dataset, before anything is encoded: what a dataset's reader hands to a cache."""

import dataclasses
from collections.abc import Iterable

import pyarrow as pa

from sparc.common.cache.account.account import DatasetAccount
from sparc.common.cache.info import CacheInfo
from sparc.common.cache.tables import manifest_digest
from sparc.common.versions import software_versions


@dataclasses.dataclass(frozen=True, kw_only=True)
class Manifest:
    """The rows of a dataset.

    Attributes:
        dataset: The folder or URL that the images come from.
        dataset_format: Which reader read it.
        split: Its split; empty where it has none.
        rows: A table of schema `tables.ROWS`.
        classes: A table of schema `tables.CLASSES`.
        masks: A table of schema `tables.MASKS`, if masks were asked for.
        account: What was used of the dataset; None of arrays.
    """

    dataset: str
    dataset_format: str
    split: str
    rows: pa.Table
    classes: pa.Table
    masks: pa.Table | None = None
    account: DatasetAccount | None = None

    def info(self, rows_per_chunk: int, packages: Iterable[str] = ()) -> CacheInfo:
        """What `cache.json` says of a cache of these rows that has no streams yet.

        Args:
            rows_per_chunk: Rows per chunk.
            packages: Packages whose versions are recorded beside the usual ones.
        """
        return CacheInfo(
            dataset=self.dataset,
            dataset_format=self.dataset_format,
            split=self.split,
            rows=len(self.rows),
            rows_per_chunk=rows_per_chunk,
            manifest_digest=manifest_digest(self.rows),
            streams=(),
            versions=software_versions(packages),
        )
