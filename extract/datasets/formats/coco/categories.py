"""The categories of an annotation file and the tree of their supercategories."""

from sparc.common.errors import DatasetError
from sparc.common.text import shorten
from sparc.extract.datasets.formats.coco.document import Document, identifier
from sparc.extract.datasets.hierarchy import Edge, build_hierarchy


class Categories:
    """The categories of a document.

    Args:
        document: Its list `categories` is read.

    Attributes:
        names: By key; the key of a category is its id.
        hierarchy: Categories, and supercategories that are not categories themselves.

    Raises:
        DatasetError: It has no such list, an id has two names, or a category is below itself.
    """

    def __init__(self, document: Document) -> None:
        self.names: dict[str, str] = {}
        by_name: dict[str, str] = {}
        above: dict[str, str] = {}
        for position, category in document.entries("categories", "category"):
            key = identifier(category.get("id"))
            where = f"categories[{position}]"
            name, parent = category.get("name"), category.get("supercategory") or ""
            if key is None or not isinstance(name, str) or not isinstance(parent, str):
                document.omissions.add(
                    "category", "it has no id or name, or a supercategory that is not text", where
                )
                continue
            if (self.names.get(key, name), above.get(key, parent)) != (name, parent):
                raise DatasetError(
                    f"{document}, {where}: id {shorten(key, 80)} occurs twice, as "
                    f"{shorten(repr(self.names[key]), 80)} and {shorten(repr(name), 80)}"
                )
            self.names[key] = name
            by_name.setdefault(name, key)
            above[key] = parent
        edges: list[Edge] = []
        for key, parent_name in list(above.items()):
            parent = by_name.get(parent_name)
            # COCO's person has the supercategory person, which becomes another class.
            if parent_name and (parent is None or parent == key):
                parent = f"supercategory/{parent_name}"
                self.names[parent] = parent_name
                edges.append(Edge(None, parent))
            edges.append(Edge(parent if parent_name else None, key))
        self.hierarchy = build_hierarchy(edges, str(document))
