"""Which rows show the same image, so that an image with five captions counts once.

Rows of one image are not independent: a test on rows would count one coincidence five times. This
module must not know what is tested.
"""

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from scipy import sparse

from sparc.analyze.maths.packing import Packed, pack
from sparc.common.cache.reader import ActivationCache
from sparc.common.cache.tables import same_as_before

_BATCH = 1 << 16
"""Rows of the table that are held at a time."""


class Images(NamedTuple):
    """The images of a cache's rows.

    Attributes:
        of_row: The image of every row of the cache, numbered from 0, ascending, (rows,).
        analysed: Which images have an analysed row, (images,).
    """

    of_row: npt.NDArray[np.int64]
    analysed: npt.NDArray[np.bool_]

    def __reduce__(self) -> tuple[Any, ...]:
        # Packed, since other processes may be far away.
        return _unpacked, (pack(np.bincount(self.of_row, minlength=len(self))), pack(self.analysed))

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
        return usable[begins(self.of_row[usable])]


def _unpacked(sizes: Packed, analysed: Packed) -> Images:
    return Images(np.repeat(np.arange(sizes.length), sizes.array), analysed.array)


def ranks(numbers: npt.NDArray[np.integer]) -> npt.NDArray[np.int64]:
    """Of small numbers from 0: how many smaller ones there are of which any is among them, (n,)."""
    distinct = np.bincount(numbers) > 0
    result: npt.NDArray[np.int64] = (np.cumsum(distinct) - 1)[numbers]
    return result


def begins(ascending: npt.NDArray[np.integer]) -> npt.NDArray[np.bool_]:
    """Where a number begins that the place before does not have, (n,), of ascending numbers."""
    result = np.ones(len(ascending), np.bool_)
    np.not_equal(ascending[1:], ascending[:-1], out=result[1:])
    return result


def read_images(cache: ActivationCache, valid: npt.NDArray[np.bool_]) -> Images:
    """Number the images of a cache, whose names are read a batch at a time.

    Args:
        cache: The cache.
        valid: Which rows are analysed, (rows,).
    """
    return number_images(_column(cache, "sample_id"), valid)


def number_images(sample_ids: Iterable[pa.Array], valid: npt.NDArray[np.bool_]) -> Images:
    """Number the images of some rows.

    Args:
        sample_ids: Their names, in consecutive arrays; rows of one image follow one another.
        valid: Which rows are analysed, (rows,).
    """
    of_row = np.zeros(len(valid), np.int64)
    first = 0
    for same in _same_as_before(sample_ids):
        np.logical_not(same, out=of_row[first : first + len(same)], casting="unsafe")
        first += len(same)
    np.cumsum(of_row, out=of_row)
    of_row -= 1
    analysed = np.zeros(int(of_row[-1]) + 1, dtype=np.bool_)
    analysed[of_row[valid]] = True
    return Images(of_row, analysed)


def count_parts(cache: ActivationCache) -> int:
    """How many rows show the image of the row before as another sample, as places of it do."""
    parts = 0
    samples = _same_as_before(_column(cache, "sample_id"))
    images = _column(cache, "image")
    for same_sample, (image, same_image) in zip(samples, _with_same(images), strict=True):
        parts += int(np.count_nonzero(same_image & ~same_sample & np.asarray(image.is_valid())))
    return parts


def _column(cache: ActivationCache, name: str) -> Iterator[pa.Array]:
    return (batch.column(name) for batch in cache.row_batches([name], _BATCH))


def _same_as_before(texts: Iterable[pa.Array]) -> Iterator[npt.NDArray[np.bool_]]:
    """For each of some consecutive arrays, which texts are that of the row before."""
    return (same for _, same in _with_same(texts))


def _with_same(texts: Iterable[pa.Array]) -> Iterator[tuple[pa.Array, npt.NDArray[np.bool_]]]:
    last = pa.array([], pa.string())
    for batch in texts:
        same = same_as_before(pa.chunked_array([last, batch]))
        yield batch, same[len(last) :]
        last = batch.slice(len(batch) - 1)


def incidence(
    lines: npt.NDArray[np.integer], columns: npt.NDArray[np.int64], shape: tuple[int, int]
) -> sparse.csr_matrix:
    """A canonical int32 matrix that is 1 at the given entries; repeated entries count once."""
    matrix = sparse.csr_matrix((np.ones(len(lines), np.int32), (lines, columns)), shape=shape)
    matrix.sum_duplicates()
    matrix.data[:] = 1
    return matrix
