import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

from sparc.analyze.rows.labels import labels_of
from sparc.common.errors import DamagedCacheError


@st.composite
def trees(draw):
    """Parents by class: a random forest whose classes are numbered in any order."""
    count = draw(st.integers(1, 12))
    above = [draw(st.integers(-1, c - 1)) for c in range(count)]
    names = draw(st.permutations(range(count)))
    parents = [None] * count
    for c, parent in enumerate(above):
        parents[names[c]] = None if parent < 0 else names[parent]
    return parents


def brute_force_lift(parents, class_id, depth):
    """The class's ancestor at a depth, by walking up; None is the virtual root."""
    if depth == 0:
        return None
    chain = [class_id]
    while parents[chain[-1]] is not None:
        chain.append(parents[chain[-1]])
    chain.reverse()
    roots = [c for c, p in enumerate(parents) if p is None]
    if len(roots) == 1 and len(parents) > 1:
        # The only root is the virtual root: chain[0] has depth 0.
        return chain[min(depth, len(chain) - 1)]
    return chain[min(depth, len(chain)) - 1]


@given(trees(), st.integers(0, 1000))
def test_ancestors_are_those_of_walking_up(make_labels, parents, seed):
    generator = np.random.default_rng(seed)
    label_ids = [generator.integers(0, len(parents), r % 4).tolist() for r in range(9)]
    rows = np.array([7, 2, 0, 3])
    roots = [c for c, p in enumerate(parents) if p is None]
    only_root = roots[0] if len(roots) == 1 and len(parents) > 1 else None
    expected = np.zeros((len(rows), len(parents)), int)
    for line, row in zip(expected, rows, strict=True):
        for class_id in label_ids[row]:
            line[class_id] = 1
            above = parents[class_id]
            while above is not None and above != only_root:
                line[above] = 1
                above = parents[above]
    if not any(label_ids):
        return
    labels = make_labels(label_ids, parents)
    actual = labels.with_ancestors(rows)
    assert actual.has_canonical_format
    assert (actual.toarray() == expected[:, labels.class_ids]).all()


@given(trees())
def test_lifts_are_the_ancestors_of_walking_up(make_labels, parents):
    labels = make_labels([list(range(len(parents)))], parents)
    columns = {class_id: column for column, class_id in enumerate(labels.class_ids.tolist())}
    for depth, lift in labels.lifts.items():
        assert (np.diff(lift) >= 0).all()
        for class_id in range(len(parents)):
            expected = brute_force_lift(parents, class_id, depth)
            actual = lift[columns[class_id]]
            assert actual == (0 if expected is None else columns[expected])


def test_depths_end_with_the_deepest_class(make_labels, parents):
    assert list(make_labels([[0]], parents).lifts) == [0, 1, 2, 3]
    assert list(make_labels([[0]], [None]).lifts) == [0, 1]
    assert list(make_labels([[0]], [None, 0, 0]).lifts) == [0, 1]
    assert list(make_labels([[0]], [None, None, 1]).lifts) == [0, 1, 2]


def test_a_row_carries_a_class_once(make_labels, parents):
    labels = make_labels([[3, 3, 6], [], [6]], parents)
    column = {c: i for i, c in enumerate(labels.class_ids.tolist())}
    dense = labels.matrix.toarray()
    assert dense[:, column[3]].tolist() == [1, 0, 0]
    assert dense[:, column[6]].tolist() == [1, 0, 1]
    assert dense.sum() == 3
    assert labels.labelled.tolist() == [True, False, True]


def test_without_labels_there_are_none(classes, parents):
    column = pa.chunked_array([pa.array([[], []], pa.list_(pa.int32()))])
    assert labels_of(column.chunks, classes(parents), where="x") is None


def test_an_unknown_class_is_refused_with_its_row(classes, parents):
    column = pa.chunked_array([pa.array([[1], [], [2, 99]], pa.list_(pa.int32()))])
    with pytest.raises(DamagedCacheError, match="row 2 carries a class"):
        labels_of(column.chunks, classes(parents), where="x")


def test_a_cycle_of_classes_is_refused(classes):
    table = classes([None, 0, 0])
    cycle = table.set_column(3, "parent_id", pa.array([None, 2, 1], pa.int32()))
    column = pa.chunked_array([pa.array([[1]], pa.list_(pa.int32()))])
    with pytest.raises(DamagedCacheError, match="class 1 is not connected to the tree"):
        labels_of(column.chunks, cycle, where="x")


def test_labels_at_a_depth_count_a_row_once_and_leave_the_labels_as_they_are(make_labels):
    labels = make_labels([[1, 2], [2]], [None, 0, 0])
    before = labels.matrix.toarray()
    assert labels.at_depth(0).toarray().tolist() == [[1, 0, 0], [1, 0, 0]]
    assert labels.at_depth(1).toarray().tolist() == before.tolist()
    assert (labels.matrix.toarray() == before).all()


@given(trees(), st.integers(0, 1000))
def test_every_depth_is_found_in_the_labels_of_all(make_labels, parents, seed):
    generator = np.random.default_rng(seed)
    ids = [generator.integers(0, len(parents), number).tolist() for number in (0, 1, 3, 5)]
    labels = make_labels(ids, parents)
    rows = np.array([3, 1, 0, 2])
    together = labels.at_every_depth(rows)
    for depth in (depth for depth in labels.lifts if depth > 0):
        actual = labels.lifted(together, depth).toarray()
        assert (actual == labels.at_depth(depth)[rows].toarray()).all()
        # The same of sums over rows.
        summed = labels.lifted(sparse.csr_matrix(together.sum(axis=0)), depth).toarray()
        assert (summed == labels.at_depth(depth).sum(axis=0)).all()
