"""The categories of an annotation file and the tree of their supercategories."""

from collections.abc import Mapping

from sparc.common.errors import DatasetError
from sparc.common.text import shorten
from sparc.extract.datasets.formats.coco.document import Document
from sparc.extract.datasets.hierarchy import Edge, build_hierarchy
from sparc.extract.datasets.tables.cells import identifier

_NO_PARENT = ("none", "null")
"""What some programs write as the supercategory of a category without one."""


class Categories:
    """The categories of a document.

    Args:
        document: Its list `categories` is read.

    Attributes:
        names: By key; the key of a category is its id.
        hierarchy: Categories, and supercategories that are not categories themselves.

    Raises:
        DatasetError: It has no such list, or an id has two names.
    """

    def __init__(self, document: Document) -> None:
        self.names: dict[str, str] = {}
        by_name: dict[str, str] = {}
        above: dict[str, str] = {}
        for position, category in document.entries("categories", "category"):
            key = identifier(category.get("id"))
            where = f"categories[{position}]"
            # A name may be a number, as of digits.
            name, parent = identifier(category.get("name")), category.get("supercategory") or ""
            if not key or not name:
                document.omissions.add("category", "it has no id or name", where)
                continue
            if not isinstance(parent, str):
                document.omissions.add("parent class", "the supercategory is not text", where)
                parent = ""
            if parent.lower() in _NO_PARENT:
                parent = ""
            if (self.names.get(key, name), above.get(key, parent)) != (name, parent):
                raise DatasetError(
                    f"{document}, {where}: id {shorten(key, 80)} occurs twice, as "
                    f"{shorten(repr(self.names[key]), 80)} and {shorten(repr(name), 80)}"
                )
            self.names[key] = name
            by_name.setdefault(name, key)
            above[key] = parent
        parents = {
            key: parent
            for key, name in above.items()
            # COCO's person has the supercategory person, which becomes another class.
            if (parent := by_name.get(name)) is not None and parent != key
        }
        for key in _in_circles(parents):
            shown = f"category {shorten(self.names[key], 80)}"
            document.omissions.add("parent class", "the category would be below itself", shown)
            del parents[key], above[key]
        edges: list[Edge] = []
        for key in list(self.names):
            parent = parents.get(key)
            if parent is None and above.get(key):
                parent = f"supercategory/{above[key]}"
                self.names[parent] = above[key]
                edges.append(Edge(None, parent))
            edges.append(Edge(parent, key))
        self.hierarchy = build_hierarchy(edges, str(document))


def _in_circles(parents: Mapping[str, str]) -> list[str]:
    """The keys that come back to themselves, from parent to parent."""
    circular: list[str] = []
    walked: set[str] = set()
    for start in parents:
        way: dict[str, None] = {}
        key: str | None = start
        while key is not None and key not in walked:
            walked.add(key)
            way[key] = None
            key = parents.get(key)
        if key in way:
            keys = list(way)
            circular.extend(keys[keys.index(key) :])
    return circular
