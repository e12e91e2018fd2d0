"""The rows on which each latent is strongest, collected part by part.

Ties go to the first row, so that lists do not depend on the parts. Rows may be marked (labelled,
for instance): the lists of marked rows are collected together with those of all rows, since most
entries are the same.
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
    """The lists of one stream's latents, one after the other.

    Attributes:
        latents: The latent of each entry, ascending, (entries,) int32.
        rows: The row of the cache, (entries,).
        values: The latent's value there, descending within a list, (entries,) float32.
        marked: Whether the row is marked, (entries,). A list of n rows holds the n strongest rows
            and the n strongest marked ones.
    """

    latents: npt.NDArray[np.int32]
    rows: npt.NDArray[np.int64]
    values: npt.NDArray[np.float32]
    marked: npt.NDArray[np.bool_]

    def take(self, kept: npt.NDArray[np.bool_]) -> "TopRows":
        """Some of the entries; the same arrays, not copies of them, where these are all."""
        if kept.all():
            return self
        return TopRows(self.latents[kept], self.rows[kept], self.values[kept], self.marked[kept])

    def keys(self, of_entry: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """A key for each entry from its latent and another number, such as its row, (entries,)."""
        # Fewer than 2^40 rows and 2^23 latents.
        return (self.latents.astype(np.int64) << 40) | of_entry


def strongest(
    codes: CodeRows, stream: str, length: int, marked: npt.NDArray[np.bool_] | None = None
) -> TopRows:
    """The lists of some rows.

    Args:
        codes: The rows, ascending.
        stream: Which stream.
        length: Rows in a list at most.
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
    # Sorting one number that packs everything is several times faster than an argsort.
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
    """The lists of the rows of all parts, which may interleave."""
    latents = np.concatenate([part.latents for part in parts])
    rows = np.concatenate([part.rows for part in parts])
    values = np.concatenate([part.values for part in parts])
    marked = np.concatenate([part.marked for part in parts])
    spans = [(part.rows.min(), part.rows.max()) for part in parts if len(part.rows)]
    if any(last > first for (_, last), (first, _) in pairwise(spans)):
        by_row = np.argsort(rows, kind="stable")
        latents, rows, values, marked = (x[by_row] for x in (latents, rows, values, marked))
    # Tied rows ascend by now, and a stable sort keeps that order.
    order = np.argsort(_key(latents.astype(np.uint64), values), kind="stable")
    return _cut(latents[order], rows[order], values[order], marked[order], length)


def with_spare(length: int) -> int:
    """The length that leaves `length` rows in most lists after a fold is left out.

    A fold has about a twentieth of the rows; lists get a quarter more. Rare lists with many rows of
    few images may still become slightly shorter.
    """
    return length + max(2, length // 4)


def one_per_image(lists: TopRows, of_row: npt.NDArray[np.int64]) -> TopRows:
    """Keep the strongest row of each image in each list.

    Args:
        lists: The lists.
        of_row: The image of every row of the cache, (rows,).
    """
    keys = lists.keys(of_row[lists.rows])
    kept = np.zeros(len(keys), np.bool_)
    kept[np.unique(keys, return_index=True)[1]] = True
    return lists.take(kept)


def cut(lists: TopRows, length: int) -> TopRows:
    """The first `length` rows of each list, marked or not."""
    return lists.take(_first(lists.latents, length))


def marked(lists: TopRows, length: int) -> TopRows:
    """The first `length` marked rows of each list."""
    return cut(lists.take(lists.marked), length)


def members(lists: TopRows, length: int, folds: Folds) -> npt.NDArray[np.bool_]:
    """Which entries are in the list on all rows, and in the list without each fold.

    Args:
        lists: Lists with spare entries.
        length: Rows in a list at most.
        folds: The folds.

    Returns:
        (1 + folds, entries): on all rows, then without each fold.
    """
    begins, lengths = _lists(lists.latents)
    fold, owner = folds.of_row[lists.rows], np.repeat(np.arange(len(begins)), lengths)
    first = np.arange(len(owner)) - begins[owner] < length
    result = np.empty((1 + folds.number, len(owner)), np.bool_)
    result[0] = first
    # For each of the first entries in a fold, a spare entry moves up.
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
    """Which rows are in the lists, and how the lists change without each fold.

    Where a fold's rows leave a list, others move up.

    Args:
        lists: Lists with spare entries.
        length: Rows in a list at most.
        folds: The folds.
        shape: L, and the number of rows of the cache.

    Returns:
        ((1 + folds) * L, rows) int32 in CSR format: 1 where a row is in a list; then, for each
        fold, 1 where a row leaves the list without the fold, and -1 where it moves up.
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
    matrix.has_canonical_format = True  # No row is twice in a list.
    return matrix.tocsr()


_VALUE_BITS = 31
"""Positive float32 values order like the lowest 31 bits of their representation."""

_HIGHEST = np.uint32(0x7FFF_FFFF)


def _key(latents: npt.NDArray[np.uint64], values: npt.NDArray[np.float32]) -> Any:
    """A key for each entry that ascends with the latent and descends with the value."""
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
    # An entry is beyond the end of its list if the one `length` places before has the same latent.
    result = np.ones(len(latents), np.bool_)
    np.not_equal(latents[length:], latents[: max(0, len(latents) - length)], out=result[length:])
    return result


def _lists(latents: npt.NDArray[Any]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """The begin and the length of each list."""
    begins = np.flatnonzero(np.diff(latents, prepend=np.array(-1, np.int64).astype(latents.dtype)))
    return begins, np.diff(begins, append=len(latents))
