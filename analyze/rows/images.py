"""Which rows show the same image, so that an image with five captions counts once.

Rows of one image are not independent: a test on rows would count one coincidence five times. This
module must not know what is tested.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from scipy import sparse

from sparc.common.cache.tables import same_as_before


class Images(NamedTuple):
    """The images of a cache's rows.

    Attributes:
        of_row: The image of every row of the cache, numbered from 0, ascending, (rows,).
        analysed: Which images have an analysed row, (images,).
    """

    of_row: npt.NDArray[np.int64]
    analysed: npt.NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.analysed)

    def any_row(self, flags: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
        """Which images have a flagged row: from (rows,) to (images,)."""
        result = np.zeros(len(self.analysed), dtype=np.bool_)
        result[self.of_row[flags]] = True
        return result

    def count_rows(self, flags: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
        """Number of flagged rows of each image: from (rows,) to (images,)."""
        return np.bincount(self.of_row[flags], minlength=len(self))

    def rows(self, flags: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
        """Number of flagged rows of each image that has any: from (rows,) to (images with any,)."""
        counts: npt.NDArray[np.int64] = np.bincount(self.of_row[flags])
        return counts[counts > 0]

    def first_rows(self, flags: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
        """The first flagged row of each image, ascending; from (rows,)."""
        usable = np.flatnonzero(flags)
        return usable[np.unique(self.of_row[usable], return_index=True)[1]]


def read_images(sample_ids: pa.ChunkedArray, valid: npt.NDArray[np.bool_]) -> Images:
    """Number the images of a cache.

    Args:
        sample_ids: The column of that name; rows of one image are consecutive.
        valid: Which rows are analysed.
    """
    of_row = np.cumsum(~same_as_before(sample_ids)) - 1
    analysed = np.zeros(int(of_row[-1]) + 1, dtype=np.bool_)
    analysed[of_row[valid]] = True
    return Images(of_row, analysed)


def count_parts(rows: pa.Table) -> int:
    """How many rows show the image of the row before as another sample, as places of it do.

    Args:
        rows: A table with the columns `sample_id` and `image` of the cache.
    """
    same_image = same_as_before(rows["image"]) & np.asarray(rows["image"].is_valid())
    return int((same_image & ~same_as_before(rows["sample_id"])).sum())


def incidence(
    lines: npt.NDArray[np.integer], columns: npt.NDArray[np.int64], shape: tuple[int, int]
) -> sparse.csr_matrix:
    """A canonical int32 matrix that is 1 at the given entries; repeated entries count once."""
    matrix = sparse.csr_matrix((np.ones(len(lines), np.int32), (lines, columns)), shape=shape)
    matrix.sum_duplicates()
    matrix.data[:] = 1
    return matrix
