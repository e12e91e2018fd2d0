import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparc.common.errors import DatasetError
from sparc.extract.datasets.hierarchy import (
    Edge,
    Hierarchy,
    Place,
    build_hierarchy,
    class_table,
    read_hierarchy,
)


def node(key, *below, **more):
    return {"LabelName": key, **({"Subcategory": list(below)} if below else {}), **more}


def read(tmp_path, document) -> Hierarchy:
    path = tmp_path / "hierarchy.json"
    path.write_text(json.dumps(document))
    return read_hierarchy(path, "hierarchy.json")


def test_a_single_root_is_the_virtual_root(tmp_path):
    tree = read(tmp_path, node("/entity", node("/animal", node("/cat")), node("/tree")))
    assert tree.root == "/entity"
    assert dict(tree.places) == {
        "/animal": Place(None, 1),
        "/cat": Place("/animal", 2),
        "/tree": Place(None, 1),
    }
    used = class_table({"/cat", "/unknown"}, {"/cat": "Cat"}, tree).table
    assert used.to_pylist() == [
        {"class_id": 0, "key": "/animal", "name": "/animal", "parent_id": None, "depth": 1},
        {"class_id": 1, "key": "/cat", "name": "Cat", "parent_id": 0, "depth": 2},
        {"class_id": 2, "key": "/unknown", "name": "/unknown", "parent_id": None, "depth": 1},
    ]
    carried = class_table({"/cat", "/entity"}, {}, tree).table
    assert carried["key"].to_pylist() == ["/entity", "/animal", "/cat"]
    assert carried["depth"].to_pylist() == [0, 1, 2]
    assert carried["parent_id"].to_pylist() == [None, None, 1]


def test_several_tops_are_at_depth_one(tmp_path):
    tree = read(tmp_path, [node("/animal", node("/cat")), node("/tree")])
    assert tree.root is None
    assert tree.places["/animal"] == Place(None, 1)
    assert tree.places["/cat"] == Place("/animal", 2)


def test_the_deeper_place_counts_with_all_that_is_below(tmp_path):
    twice = node("/cat", node("/tabby"))
    tree = read(
        tmp_path, node("/entity", twice, node("/animal", node("/pet", node("/cat"))), node("/last"))
    )
    assert dict(tree.places) == {
        "/animal": Place(None, 1),
        "/pet": Place("/animal", 2),
        "/cat": Place("/pet", 3),
        "/tabby": Place("/cat", 4),
        "/last": Place(None, 1),
    }
    assert list(tree.places) == ["/animal", "/pet", "/cat", "/tabby", "/last"]


def test_a_class_alone_is_no_root(tmp_path):
    assert read(tmp_path, node("/cat")) == Hierarchy({"/cat": Place(None, 1)}, None)


def test_parts_are_ignored(tmp_path):
    tree = read(tmp_path, node("/entity", node("/human", Part=[node("/eye")]), node("/b")))
    assert set(tree.places) == {"/human", "/b"}


@pytest.mark.parametrize(
    "document", [[1], "x", None, node(""), {"LabelName": 3}, node("/a", Subcategory={}), {"a": []}]
)
def test_something_else_is_refused(tmp_path, document):
    with pytest.raises(DatasetError, match=r"hierarchy\.json: a class must be"):
        read(tmp_path, document)


def test_a_class_below_itself_is_refused(tmp_path):
    with pytest.raises(DatasetError, match="class /a is below itself"):
        read(tmp_path, node("/root", node("/a", node("/b", node("/a")))))


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 14), st.integers(1, 15)), max_size=40),
    st.sets(st.integers(1, 15), min_size=1),
)
def test_depths_of_any_tree(pairs, used):
    # Edges lead from smaller to larger numbers, so there is no cycle; 0 is the top.
    pairs = [(0, n) for n in range(1, 16) if n % 3] + [(a, b) for a, b in pairs if a < b]
    reached = {0}
    for a, b in sorted(pairs):
        reached |= {b} if a in reached else set()
    edges = [Edge(str(a) if a else None, str(b)) for a, b in pairs if a in reached]
    tree = build_hierarchy(edges, "tree")
    assert set(tree.places) == {edge.child for edge in edges}
    for child, (parent, depth) in tree.places.items():
        above = [edge.parent for edge in edges if edge.child == child]
        assert parent in above
        assert depth == 1 + max(tree.places[p].depth if p else 0 for p in above)
        assert depth == 1 + (tree.places[parent].depth if parent else 0)

    table = class_table({str(n) for n in used}, {}, tree).table.to_pylist()
    keys = [line["key"] for line in table]
    assert len(set(keys)) == len(keys)
    assert {str(n) for n in used} <= set(keys)
    for line in table:
        place = tree.places.get(line["key"], Place(None, 1))
        assert line["depth"] == place.depth
        parent = None if line["parent_id"] is None else table[line["parent_id"]]["key"]
        assert parent == place.parent
    # Nothing but what is used, and what is above it.
    parents = {line["parent_id"] for line in table}
    leaves = {line["key"] for line in table if line["class_id"] not in parents}
    assert leaves <= {str(n) for n in used}
