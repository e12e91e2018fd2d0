"""The rows on which each latent is strongest, found part by part.

Ties go to the row that comes first, so that the lists do not depend on how rows fall into parts.
Some rows may be marked: their own lists are found with those of all rows, which are mostly the
same.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import sparse

from sparc.analyze.codes.code_rows import CodeRows
from sparc.analyze.rows.folds import Folds


class TopRows(NamedTuple):
    """Lists of the strongest rows, of one stream, one list after the other.

    Attributes:
        latents: Whose list an entry belongs to, ascending, (entries,) int32.
        rows: The row of the cache, (entries,).
        values: The latent's value there, descending within a list, (entries,) float32.
        marked: Whether the row is marked, (entries,). A list is longer than asked for where rows
            are not: it has as many that are.
    """

    latents: npt.NDArray[np.int32]
    rows: npt.NDArray[np.int64]
    values: npt.NDArray[np.float32]
    marked: npt.NDArray[np.bool_]

    def take(self, kept: npt.NDArray[np.bool_]) -> "TopRows":
        """Some of the entries."""
        return TopRows(self.latents[kept], self.rows[kept], self.values[kept], self.marked[kept])

    def keys(self, of_entry: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """One number for the latent of each entry and another number of it, such as its row."""
        # No cache has 2^40 rows, no dictionary 2^23 latents.
        return (self.latents.astype(np.int64) << 40) | of_entry


def strongest(
    codes: CodeRows, stream: str, length: int, marked: npt.NDArray[np.bool_] | None = None
) -> TopRows:
    """The lists over some rows.

    Args:
        codes: The rows; they must ascend.
        stream: Which stream.
        length: Rows of a list at most.
        marked: Which of the rows are marked, (n,); all by default.
    """
    marked = np.ones(len(codes.rows), np.bool_) if marked is None else marked
    indices, values = codes.indices[stream], codes.values[stream]
    active = values > 0
    position_bits = len(codes.rows).bit_length()
    if int(indices.max(initial=0)).bit_length() + _VALUE_BITS + position_bits > 64:
        position = np.repeat(np.arange(len(codes.rows)), active.sum(axis=1))
        latents, values = indices[active].astype(np.uint64), values[active]
        order = np.argsort(_key(latents, values), kind="stable")
        position = position[order]
        lists = latents[order], codes.rows[position], values[order], marked[position]
        return _cut(*lists, length)
    # Sorting one number that says everything is several times faster than finding an order.
    packed = _key(indices.astype(np.uint64), values)
    packed <<= np.uint64(position_bits)
    packed |= np.arange(len(codes.rows), dtype=np.uint64)[:, None]
    packed = packed[active]
    packed.sort()
    position = (packed & np.uint64((1 << position_bits) - 1)).astype(np.int64)
    packed >>= np.uint64(position_bits)
    values = (_HIGHEST - (packed & _HIGHEST).astype(np.uint32)).view(np.float32)
    latents = packed >> np.uint64(_VALUE_BITS)
    return _cut(latents, codes.rows[position], values, marked[position], length)


def merge(parts: Sequence[TopRows], length: int) -> TopRows:
    """The lists over the rows of all parts, which may interleave."""
    latents = np.concatenate([part.latents for part in parts])
    rows = np.concatenate([part.rows for part in parts])
    values = np.concatenate([part.values for part in parts])
    marked = np.concatenate([part.marked for part in parts])
    spans = [(part.rows.min(), part.rows.max()) for part in parts if len(part.rows)]
    if any(last > first for (_, last), (first, _) in pairwise(spans)):
        by_row = np.argsort(rows, kind="stable")
        latents, rows, values, marked = (x[by_row] for x in (latents, rows, values, marked))
    # Where rows tie they ascend by now: a stable sort merges the parts and keeps that order.
    order = np.argsort(_key(latents.astype(np.uint64), values), kind="stable")
    return _cut(latents[order], rows[order], values[order], marked[order], length)


def with_spare(length: int) -> int:
    """How long a list must be to hold `length` rows after a fold of rows is left out.

    A twentieth is left out of large sets; a quarter more rows makes up for it, but for rare lists
    that have several rows of many of its images, which stay a little shorter.
    """
    return length + max(2, length // 4)


def one_a_image(lists: TopRows, of_row: npt.NDArray[np.int64]) -> TopRows:
    """Of each image the strongest row of each list.

    Args:
        lists: Lists of the strongest rows.
        of_row: The image of every row of the cache, (rows,).
    """
    keys = lists.keys(of_row[lists.rows])
    kept = np.zeros(len(keys), np.bool_)
    kept[np.unique(keys, return_index=True)[1]] = True
    return lists.take(kept)


def cut(lists: TopRows, length: int) -> TopRows:
    """The first rows of each list, marked or not."""
    return lists.take(_first(lists.latents, length))


def marked(lists: TopRows, length: int) -> TopRows:
    """The first marked rows of each list."""
    return cut(lists.take(lists.marked), length)


def members(lists: TopRows, length: int, folds: Folds) -> npt.NDArray[np.bool_]:
    """Which entries are among the strongest rows of all, and of those without each fold.

    Args:
        lists: Lists with spare entries.
        length: Rows of a list at most.
        folds: The folds.

    Returns:
        (1 + folds, entries): of all rows, then without each fold.
    """
    begins, lengths = _lists(lists.latents)
    fold, owner = folds.of_row[lists.rows], np.repeat(np.arange(len(begins)), lengths)
    first = np.arange(len(owner)) - begins[owner] < length
    result = np.empty((1 + folds.number, len(owner)), np.bool_)
    result[0] = first
    # As many of the spare entries move up as a fold has among the first ones.
    gone = np.zeros((len(result), len(begins)), np.int64)
    np.add.at(gone, (fold[first], owner[first]), 1)
    spare = np.flatnonzero(~first)
    for left_out, line in enumerate(result[1:], start=1):
        np.logical_and(first, fold != left_out, out=line)
        kept = spare[fold[spare] != left_out]
        of = owner[kept]
        rank = np.arange(len(of)) - np.searchsorted(of, of)
        line[kept] = rank < gone[left_out, of]
    return result


def changes(lists: TopRows, length: int, folds: Folds, shape: tuple[int, int]) -> Any:
    """Which rows are in the lists, and what changes in them with each fold.

    Where a fold's rows leave a list others take their places: without the fold there may be more
    of a class.

    Args:
        lists: Lists with spare entries.
        length: Rows of a list at most.
        folds: The folds.
        shape: L, and the rows of the cache.

    Returns:
        ((1 + folds) * L, rows) int32 in CSR format: 1 where a row is in a list; then, for each
        fold, 1 where it is in the list of all rows alone, and -1 in that without the fold alone.
    """
    latents, rows = shape
    among = members(lists, length, folds)
    whole = np.flatnonzero(among[0])
    fold, changed = np.divmod(np.flatnonzero(among[1:] != among[0]), max(1, len(lists.rows)))
    entries = np.concatenate([whole, changed])
    first = np.concatenate([np.zeros_like(whole), latents * (1 + fold)])
    weights = np.concatenate([np.ones(len(whole)), np.where(among[0, changed], 1, -1)])
    matrix = sparse.coo_matrix(
        (weights, (first + lists.latents[entries], lists.rows[entries])),
        shape=((1 + folds.number) * latents, rows),
        dtype=np.int32,
    )
    matrix.has_canonical_format = True  # It need not be sorted: no row is twice in a list.
    return matrix.tocsr()


_VALUE_BITS = 31
"""Positive float32 values order as so many bits of their pattern do."""

_HIGHEST = np.uint32(0x7FFF_FFFF)


def _key(latents: npt.NDArray[np.uint64], values: npt.NDArray[np.float32]) -> Any:
    """One number for each entry that ascends with the latent and descends with the value."""
    bits = values.view(np.uint32)
    return (latents << np.uint64(_VALUE_BITS)) | (_HIGHEST - bits)


def _cut(
    latents: npt.NDArray[Any],
    rows: npt.NDArray[np.int64],
    values: npt.NDArray[np.float32],
    marked: npt.NDArray[np.bool_],
    length: int,
) -> TopRows:
    """The first entries of each list and the first marked ones, from sorted entries."""
    kept = _first(latents, length)
    if not marked.all():
        places = np.flatnonzero(marked)
        kept[places] |= _first(latents[places], length)
    return TopRows(latents[kept].astype(np.int32), rows[kept], values[kept], marked[kept])


def _first(latents: npt.NDArray[Any], length: int) -> npt.NDArray[np.bool_]:
    """Which entries are among the first of their list, from the latents of sorted entries."""
    # An entry is beyond its list's end where the one so many places before is of the same latent.
    result = np.ones(len(latents), np.bool_)
    np.not_equal(latents[length:], latents[: max(0, len(latents) - length)], out=result[length:])
    return result


def _lists(latents: npt.NDArray[Any]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Where each list begins, and how long it is."""
    begins = np.flatnonzero(np.diff(latents, prepend=np.array(-1, np.int64).astype(latents.dtype)))
    return begins, np.diff(begins, append=len(latents))
