"""The labels of a cache's rows, and the classes' tree, as sparse matrices and index arrays.

This module must not know codes.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from scipy import sparse

from sparc.analyze.rows.images import incidence
from sparc.common.cache.reader import ActivationCache
from sparc.common.errors import DamagedCacheError

_MOST_LIFTED = 1 << 27
"""Most classes times depths: each class has a stand-in at every depth."""


class Labels(NamedTuple):
    """Which classes each row carries.

    Attributes:
        matrix: (rows, classes) int32, 1 where a row carries a class, however often it says so. The
            columns are in the order of the tree: below a class come its descendants.
        class_ids: The `class_id` of each column, (classes,).
        lifts: By depth from 0, for each column the column that stands for it there, (classes,),
            ascending. At depth 0 that is the first, for all of them.
    """

    matrix: sparse.csr_matrix
    class_ids: npt.NDArray[np.int64]
    lifts: Mapping[int, npt.NDArray[np.int64]]

    @property
    def labelled(self) -> npt.NDArray[np.bool_]:
        """Which rows carry a class, (rows,)."""
        result: npt.NDArray[np.bool_] = np.diff(self.matrix.indptr) > 0
        return result

    def with_ancestors(self, rows: npt.NDArray[np.int64]) -> sparse.csr_matrix:
        """Which classes some rows carry themselves or by a class below, (n, classes) int32.

        A class at depth 0, which all others are below, is carried where a row says so itself.
        """
        own = self.matrix[rows]
        line = np.repeat(np.arange(len(rows)), np.diff(own.indptr))
        carried = [stand_in[own.indices] for depth, stand_in in self.lifts.items() if depth > 0]
        return incidence(np.tile(line, len(carried)), np.concatenate(carried), own.shape)


def read_labels(cache: ActivationCache) -> Labels | None:
    """The labels of a cache; None where no row has any.

    Raises:
        DamagedCacheError: A row carries a class that the table of classes does not have.
    """
    classes = cache.classes()
    return labels_of(cache.rows(["label_ids"])["label_ids"], classes, where=str(cache.folder))


def labels_of(label_ids: pa.ChunkedArray, classes: pa.Table, *, where: str) -> Labels | None:
    """Labels from the columns of a cache's tables; None where no row has any.

    Args:
        label_ids: A list of `class_id` for each row.
        classes: A table of schema `sparc.common.cache.tables.CLASSES`.
        where: What the columns come from, for the error message.

    Raises:
        DamagedCacheError: A row carries a class that the table of classes does not have.
    """
    lists = label_ids.combine_chunks()
    ids = np.asarray(lists.flatten(), dtype=np.int64)
    if not len(ids):
        return None
    ends = np.concatenate([[0], np.cumsum(np.asarray(lists.value_lengths(), dtype=np.int64))])
    if ids.min() < 0 or ids.max() >= len(classes):
        row = int(
            np.searchsorted(ends, np.flatnonzero((ids < 0) | (ids >= len(classes)))[0], "right")
        )
        raise DamagedCacheError(f"{where}: row {row - 1} carries a class that is not in its table")
    parents = [-1 if parent is None else parent for parent in classes["parent_id"].to_pylist()]
    class_ids, depth = tree_order(parents, where=where)
    column = np.argsort(class_ids)
    matrix = sparse.csr_matrix(
        (np.ones(len(ids), np.int32), column[ids].astype(np.int32), ends),
        shape=(len(lists), len(classes)),
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
    """The classes in the order of their tree, and how deep they lie.

    A class without a parent has depth 1; where there is just one and it has children, it is the
    virtual root of depth 0 itself.

    Args:
        parents: By class, its parent; -1 at the top.
        where: What the classes come from, for the error message.

    Returns:
        The classes, each directly followed by all its descendants; and the depth of each.

    Raises:
        DamagedCacheError: A class is its own ancestor, or a parent is not there.
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
        raise DamagedCacheError(f"{where}: class {lost} does not hang on the tree of classes")
    return np.array(order, np.int64), np.array(depth, np.int64)


def lifts(parents: npt.NDArray[Any], depth: npt.NDArray[Any]) -> dict[int, npt.NDArray[np.int64]]:
    """Which class stands for each class at every depth: its ancestor there, or itself if shallower.

    Args:
        parents: By column, the parent's column; -1 at the top.
        depth: By column, its depth.

    Returns:
        By depth, from 0 to the deepest, (classes,).
    """
    count = len(parents)
    result = {0: np.zeros(count, dtype=np.int64)}
    stand_in = np.arange(count)
    for level in range(int(depth.max(initial=0)), 0, -1):
        # One step a level: whatever stood for a class at the next deeper level is at most there.
        stand_in = np.where(depth[stand_in] > level, parents[stand_in], stand_in)
        result[level] = stand_in
    return dict(sorted(result.items()))
