"""A few images of each of many groups, drawn at random in one pass, the same in any order.

Every image has a number that looks random and is always the same; a group keeps the images with the
smallest. So a group holds a random sample of its images, however they are divided into parts, and
the groups of several streams tend to hold the same images. This module must not know what a group
is.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Integers = npt.NDArray[np.int64]

_NUMBER_BITS = 32


class Samples(NamedTuple):
    """The images of each group, those with smaller numbers first; one row for each.

    Attributes:
        keys: Group and number of each image, ascending, (entries,) uint64.
        rows: The row on which the image has its largest value, the first of several, (entries,).
        values: That value, (entries,) float32.
    """

    keys: npt.NDArray[np.uint64]
    rows: Integers
    values: npt.NDArray[np.float32]

    def of(self, group: int) -> tuple[Integers, npt.NDArray[np.float32]]:
        """Rows and values of a group's images."""
        ends = np.array([group, group + 1], np.uint64) << np.uint64(_NUMBER_BITS)
        begin, end = np.searchsorted(self.keys, ends)
        return self.rows[begin:end], self.values[begin:end]


def numbers(images: Integers) -> npt.NDArray[np.uint64]:
    """The number of each image: no two of 2^32 images have the same, (n,)."""
    # The finalizer of MurmurHash3, in which every step can be undone.
    x: Any = np.asarray(images).astype(np.uint32)
    x = (x ^ (x >> np.uint32(16))) * np.uint32(0x85EBCA6B)
    x = (x ^ (x >> np.uint32(13))) * np.uint32(0xC2B2AE35)
    return np.asarray((x ^ (x >> np.uint32(16))).astype(np.uint64))


def draw(
    groups: Integers,
    number: npt.NDArray[np.uint64],
    rows: Integers,
    values: npt.NDArray[np.float32],
    size: int,
) -> Samples:
    """The samples of some rows.

    Args:
        groups: The group of each entry, (n,).
        number: The number of its image: `numbers`, (n,).
        rows: Its row, (n,).
        values: Its value, (n,).
        size: Images in a group at most.
    """
    keys = (groups.astype(np.uint64) << np.uint64(_NUMBER_BITS)) | number
    return _smallest(keys, rows, values, size)


def merge(parts: Sequence[Samples], size: int) -> Samples:
    """The samples of the rows of all parts."""
    keys, rows, values = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    return _smallest(keys, rows, values, size)


def _smallest(
    keys: npt.NDArray[np.uint64], rows: Integers, values: npt.NDArray[np.float32], size: int
) -> Samples:
    if not len(keys):
        return Samples(keys, rows, values)
    order = np.argsort(keys)
    keys, rows, values = keys[order], rows[order], values[order]
    begins = np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1]]))
    keys = keys[begins]
    groups = keys >> np.uint64(_NUMBER_BITS)
    kept = np.ones(len(keys), np.bool_)
    np.not_equal(groups[size:], groups[: max(0, len(keys) - size)], out=kept[size:])
    largest = np.maximum.reduceat(values, begins)
    # Of an image's rows, the first with its largest value.
    owners = np.repeat(np.arange(len(begins)), np.diff(begins, append=len(values)))
    candidates = np.where(values == largest[owners], rows, np.iinfo(np.int64).max)
    first = np.minimum.reduceat(candidates, begins)
    return Samples(keys[kept], first[kept], largest[kept])
