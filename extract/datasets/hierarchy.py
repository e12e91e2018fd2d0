"""The tree of classes: the place of each class, and the table of the classes that are used.

A virtual root has depth 0, a class without a parent depth 1. Where the dataset's tree has a single
top class with others below it (Open Images' Entity), that class is the virtual root: its children
have no parent and depth 1, and it is in the table, with depth 0, only if a row has it. A class that
occurs twice in the tree keeps its deeper place and the parent that it has there; the depth of every
class is one more than its parent's.
"""

from collections import defaultdict, deque
from collections.abc import Mapping, Sequence, Set
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import pyarrow as pa

from sparc.common.cache import tables
from sparc.common.errors import DatasetError
from sparc.common.text import shorten
from sparc.extract.datasets.metadata import read_json


class Place(NamedTuple):
    """The place of a class in the tree.

    Attributes:
        parent: Key of the class above it; None at the top.
        depth: Steps below the virtual root.
    """

    parent: str | None
    depth: int


class Hierarchy(NamedTuple):
    """The places of classes, by key, in tree order (parents first).

    Attributes:
        places: Every class of the tree but the root.
        root: Key of the class that is the virtual root, if the dataset has one.
    """

    places: Mapping[str, Place] = MappingProxyType({})
    root: str | None = None


class Edge(NamedTuple):
    """One mention of a class in a tree: itself and the class above it (None at the top)."""

    parent: str | None
    child: str


def build_hierarchy(edges: Sequence[Edge], where: str) -> Hierarchy:
    """Give every class its deepest place.

    Args:
        edges: Every mention of a class, in the order of the document. A parent must be mentioned
            as a child too.
        where: The document, for messages.

    Raises:
        DatasetError: A class is below itself.
    """
    tops = list(dict.fromkeys(edge.child for edge in edges if edge.parent is None))
    edges = list(dict.fromkeys(edges))
    depths = _longest_paths(edges, where)
    root = tops[0] if len(tops) == 1 and len(edges) > 1 else None
    places: dict[str, Place] = {}
    children: dict[str | None, list[str]] = defaultdict(list)
    for parent, child in edges:
        above = 0 if parent is None else depths[parent]
        if child not in places and depths[child] == above + 1:
            places[child] = Place(parent, depths[child])
            children[parent].append(child)
    ordered: dict[str, Place] = {}
    waiting = list(reversed(children[None]))
    while waiting:
        key = waiting.pop()
        waiting.extend(reversed(children[key]))
        parent, depth = places[key]
        if root is None:
            ordered[key] = Place(parent, depth)
        elif key != root:
            ordered[key] = Place(None if parent == root else parent, depth - 1)
    return Hierarchy(ordered, root)


def hierarchy_of_pairs(pairs: Sequence[Edge], where: str) -> Hierarchy:
    """The hierarchy of classes and the classes above them; those with none above are at the top.

    Args:
        pairs: Of a parent, which is never None, and a child.
        where: The document, for messages.

    Raises:
        DatasetError: A class is below itself.
    """
    children = {pair.child for pair in pairs}
    tops = dict.fromkeys(pair.parent for pair in pairs if pair.parent not in children)
    edges = [Edge(None, top) for top in tops if top is not None]
    return build_hierarchy([*edges, *pairs], where)


def read_hierarchy(path: Path, name: str) -> Hierarchy:
    """Read a hierarchy in the form of Open Images.

    Nested objects `{"LabelName": …, "Subcategory": […]}`, one at the top or a list of them; other
    entries, such as `Part`, are ignored.

    Raises:
        DatasetError: It cannot be read, is not such a tree, or a class is below itself.
    """
    document = read_json(path, name)
    edges: list[Edge] = []
    waiting: list[tuple[str | None, Any]] = [(None, document)]
    if isinstance(document, list):
        waiting = [(None, node) for node in reversed(document)]
    while waiting:
        parent, node = waiting.pop()
        key = node.get("LabelName") if isinstance(node, dict) else None
        below = node.get("Subcategory", []) if isinstance(node, dict) else None
        if not isinstance(key, str) or not key or not isinstance(below, list):
            beneath = f" below {shorten(parent, 80)}" if parent is not None else ""
            raise DatasetError(
                f"{name}{beneath}: a class must be an object with LabelName (text) and "
                f"Subcategory (list), not {shorten(str(node), 60)}"
            )
        edges.append(Edge(parent, key))
        waiting.extend((key, child) for child in reversed(below))
    return build_hierarchy(edges, name)


class ClassTable(NamedTuple):
    """The classes of a manifest.

    Attributes:
        table: Of schema `tables.CLASSES`.
        ids: `class_id` by key.
    """

    table: pa.Table
    ids: dict[str, int]


def class_table(used: Set[str], names: Mapping[str, str], hierarchy: Hierarchy) -> ClassTable:
    """The classes that rows have, with all their ancestors: in tree order, then the rest by key.

    Args:
        used: Keys of the classes that a row or a mask has.
        names: Names of classes, by key; a class without one is called by its key.
        hierarchy: Their places.
    """
    wanted = set(used)
    for key in used:
        place = hierarchy.places.get(key)
        while place is not None and place.parent is not None and place.parent not in wanted:
            wanted.add(place.parent)
            place = hierarchy.places[place.parent]
    root = [hierarchy.root] if hierarchy.root is not None and hierarchy.root in used else []
    in_tree = [key for key in hierarchy.places if key in wanted]
    rest = sorted(wanted.difference(root, in_tree))
    keys = [*root, *in_tree, *rest]
    ids = {key: number for number, key in enumerate(keys)}
    places = [hierarchy.places.get(key, Place(None, 1)) for key in keys]
    if root:
        places[0] = Place(None, 0)
    columns = {
        "class_id": list(range(len(keys))),
        "key": keys,
        "name": [names.get(key) or key for key in keys],
        "parent_id": [None if place.parent is None else ids[place.parent] for place in places],
        "depth": [place.depth for place in places],
    }
    return ClassTable(pa.table(columns, schema=tables.CLASSES), ids)


def _longest_paths(edges: Sequence[Edge], where: str) -> dict[str, int]:
    """Depth of every class, 1 at the top, by visiting each class after all of its parents."""
    below: dict[str | None, list[str]] = defaultdict(list)
    unvisited: dict[str, int] = defaultdict(int)
    for parent, child in edges:
        below[parent].append(child)
        unvisited[child] += 1
    depths: dict[str, int] = dict.fromkeys(unvisited, 0)
    ready: deque[tuple[str | None, int]] = deque([(None, 0)])
    while ready:
        parent, depth = ready.popleft()
        for child in below[parent]:
            depths[child] = max(depths[child], depth + 1)
            unvisited[child] -= 1
            if not unvisited[child]:
                ready.append((child, depths[child]))
    for key, mentions in unvisited.items():
        if mentions:
            raise DatasetError(f"{where}: class {shorten(key, 80)} is below itself")
    return depths
