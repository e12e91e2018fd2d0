"""The labels of a cache's rows and the tree of classes, as sparse matrices and index arrays.

This module must not know codes.
"""

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from scipy import sparse

from sparc.analyze.rows.images import incidence
from sparc.common.cache.reader import ActivationCache
from sparc.common.errors import DamagedCacheError

_BATCH = 1 << 16
"""Rows of the table that are held at a time."""

_MOST_LIFTED = 1 << 27
"""Classes times depths at most: each class is lifted to every depth."""


class Labels(NamedTuple):
    """Which classes each row carries.

    Attributes:
        matrix: (rows, classes) int32, 1 where a row carries a class. Columns are in the order of
            the tree: a class is followed by its descendants.
        class_ids: The `class_id` of each column, (classes,).
        lifts: By depth from 0, the column of each column's ancestor there, or of itself if it is
            shallower, (classes,), ascending. At depth 0 all are lifted to the first.
        cache: The cache that they were read from, which other processes read them from; empty
            where they are sent.
    """

    matrix: sparse.csr_matrix
    class_ids: npt.NDArray[np.int64]
    lifts: Mapping[int, npt.NDArray[np.int64]]
    cache: str = ""

    def __reduce__(self) -> tuple[Any, ...]:
        return (_read_again, (self.cache,)) if self.cache else (Labels, tuple(self))

    @property
    def labelled(self) -> npt.NDArray[np.bool_]:
        """Which rows carry a class, (rows,)."""
        result: npt.NDArray[np.bool_] = np.diff(self.matrix.indptr) > 0
        return result

    def have(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """Which of some rows carry a class, (n,); `labelled` looks at all."""
        ends = self.matrix.indptr
        result: npt.NDArray[np.bool_] = ends[rows + 1] > ends[rows]
        return result

    def at_depth(self, depth: int, rows: npt.NDArray[np.int64] | None = None) -> sparse.csr_matrix:
        """The labels lifted to a depth: (n, classes) int32, 1 where a row carries a class.

        A row with two classes under one ancestor carries the ancestor once.

        Args:
            depth: Which depth.
            rows: Of which rows, (n,); of all by default.
        """
        own = self.matrix if rows is None else self.matrix[rows]
        lifted = self.lifts[depth].astype(own.indices.dtype)[own.indices]
        # Copies, since the matrix is changed below.
        matrix = sparse.csr_matrix((own.data.copy(), lifted, own.indptr.copy()), own.shape)
        matrix.sum_duplicates()
        matrix.data[:] = 1
        return matrix

    def at_every_depth(self, rows: npt.NDArray[np.int64]) -> sparse.csr_matrix:
        """What `at_depth` gives at any depth above 0, together: (n, 2 * classes) int32.

        First the classes that rows are labelled with. Lifted to a depth they would count a row
        twice that carries two classes under one ancestor, so that the other columns say by how much
        too often a row would carry each class at the depth of that class. `lifted` makes of sums
        over rows those at a depth.
        """
        own = self.matrix[rows]
        line = np.repeat(np.arange(len(rows), dtype=np.int32), np.diff(own.indptr))
        next_is_same_row = line[1:] == line[:-1]
        again, often = [np.zeros(0, np.int32)], [np.zeros(0, np.int64)]
        for depth, lift in self.lifts.items():
            if depth > 0:
                # Classes under one ancestor are neighbours.
                carried = lift[own.indices]
                twice = np.flatnonzero(next_is_same_row & (carried[1:] == carried[:-1]))
                again.append(line[twice])
                often.append(carried[twice])
        places = np.concatenate(again), np.concatenate(often)
        repeated = sparse.coo_matrix(
            (np.ones(len(places[0]), np.int32), places), shape=own.shape, dtype=np.int32
        )
        return sparse.hstack([own, repeated.tocsr()], format="csr")

    def lifted(self, sums: sparse.csr_matrix, depth: int) -> sparse.csr_matrix:
        """Sums of rows of `at_every_depth`, as those of rows of `at_depth`.

        Args:
            sums: (n, 2 * classes).
            depth: Which depth, above 0.

        Returns:
            (n, classes), canonical.
        """
        classes = len(self.class_ids)
        own, repeated = sums[:, :classes], sums[:, classes:]
        result = sparse.csr_matrix(
            (own.data, self.lifts[depth].astype(own.indices.dtype)[own.indices], own.indptr),
            shape=own.shape,
        )
        result.has_sorted_indices = True  # as lifts ascend
        result.sum_duplicates()
        there = self.lifts[depth] == np.arange(classes)
        if depth > 1:
            there &= self.lifts[depth - 1] != np.arange(classes)
        kept = there[repeated.indices]
        ends = np.append(0, np.cumsum(kept))[repeated.indptr]
        return result - sparse.csr_matrix(
            (repeated.data[kept], repeated.indices[kept], ends), shape=own.shape
        )

    def with_ancestors(self, rows: npt.NDArray[np.int64]) -> sparse.csr_matrix:
        """Which classes some rows carry, themselves or through a descendant, (n, classes) int32.

        A class at depth 0, the ancestor of all, is carried only where a row is labelled with it.
        """
        own = self.matrix[rows]
        line = np.repeat(np.arange(len(rows)), np.diff(own.indptr))
        carried = [lift[own.indices] for depth, lift in self.lifts.items() if depth > 0]
        return incidence(np.tile(line, len(carried)), np.concatenate(carried), own.shape)


def read_labels(cache: ActivationCache) -> Labels | None:
    """The labels of a cache, read a batch at a time; None where no row has any.

    Raises:
        DamagedCacheError: A row carries a class that is not in the table of classes.
    """
    lists = (batch.column("label_ids") for batch in cache.row_batches(["label_ids"], _BATCH))
    labels = labels_of(lists, cache.classes(), where=str(cache.folder))
    return None if labels is None else labels._replace(cache=cache.folder.location)


@lru_cache(maxsize=1)
def _read_again(location: str) -> Labels | None:
    """The labels of a cache in another process, which keeps them for the next pass."""
    return read_labels(ActivationCache(location))


def labels_of(label_ids: Iterable[pa.Array], classes: pa.Table, *, where: str) -> Labels | None:
    """Labels from the columns of a cache's tables; None where no row has any.

    Args:
        label_ids: A list of `class_id` for each row, in consecutive arrays.
        classes: A table of schema `sparc.common.cache.tables.CLASSES`.
        where: The cache, for error messages.

    Raises:
        DamagedCacheError: A row carries a class that is not in the table of classes.
    """
    all_ids, lengths, rows = [np.zeros(0, np.int32)], [np.zeros(1, np.int64)], 0
    for lists in label_ids:
        of_batch = np.asarray(lists.flatten(), dtype=np.int32)
        numbers = np.asarray(lists.value_lengths(), dtype=np.int64)
        unknown = np.flatnonzero((of_batch < 0) | (of_batch >= len(classes)))
        if len(unknown):
            row = rows + int(np.searchsorted(np.cumsum(numbers), unknown[0], "right"))
            raise DamagedCacheError(f"{where}: row {row} carries a class that is not in its table")
        all_ids.append(of_batch)
        lengths.append(numbers)
        rows += len(numbers)
    ids = np.concatenate(all_ids)
    if not len(ids):
        return None
    ends = np.cumsum(np.concatenate(lengths))
    parents = [-1 if parent is None else parent for parent in classes["parent_id"].to_pylist()]
    class_ids, depth = tree_order(parents, where=where)
    column = np.argsort(class_ids)
    matrix = sparse.csr_matrix(
        (np.ones(len(ids), np.int32), column.astype(np.int32)[ids], ends),
        shape=(rows, len(classes)),
    )
    matrix.sum_duplicates()
    matrix.data[:] = 1
    if len(classes) * int(depth.max()) > _MOST_LIFTED:
        raise DamagedCacheError(
            f"{where}: {len(classes):,} classes nest {int(depth.max()):,} deep, which no analysis "
            "can hold"
        )
    parent_columns = [-1 if parents[c] < 0 else int(column[parents[c]]) for c in class_ids]
    return Labels(matrix, class_ids, lifts(np.array(parent_columns), depth))


def tree_order(parents: list[int], *, where: str) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """The classes in the order of their tree, and their depths.

    A class without a parent has depth 1; if there is only one and it has children, it is the root,
    at depth 0.

    Args:
        parents: By class, its parent; -1 at the top.
        where: The cache, for error messages.

    Returns:
        The classes, each followed by its descendants, and their depths; (classes,) each.

    Raises:
        DamagedCacheError: A class is its own ancestor, or has a parent that does not exist.
    """
    children: dict[int, list[int]] = {}
    for class_id, parent in enumerate(parents):
        children.setdefault(parent, []).append(class_id)
    roots = children.get(-1, [])
    first_depth = 0 if len(roots) == 1 and len(parents) > 1 else 1
    order, depth = [], []
    waiting = [(root, first_depth) for root in reversed(roots)]
    while waiting:
        class_id, level = waiting.pop()
        order.append(class_id)
        depth.append(level)
        waiting += [(child, level + 1) for child in reversed(children.get(class_id, []))]
    if len(order) < len(parents):
        lost = sorted(set(range(len(parents))) - set(order))[0]
        raise DamagedCacheError(f"{where}: class {lost} is not connected to the tree of classes")
    return np.array(order, np.int64), np.array(depth, np.int64)


def lifts(parents: npt.NDArray[Any], depth: npt.NDArray[Any]) -> dict[int, npt.NDArray[np.int64]]:
    """The ancestor of each class at every depth, or the class itself if it is shallower.

    Args:
        parents: By column, the parent's column; -1 at the top.
        depth: By column, its depth.

    Returns:
        By depth, from 0 to the deepest, (classes,).
    """
    count = len(parents)
    result = {0: np.zeros(count, dtype=np.int64)}
    lift = np.arange(count)
    for level in range(int(depth.max(initial=0)), 0, -1):
        # From the lifts of the next deeper level, one step up is enough.
        lift = np.where(depth[lift] > level, parents[lift], lift)
        result[level] = lift
    return dict(sorted(result.items()))
