"""Names and places of classes that folders are called after: ImageNet's lists, WordNet, JSON."""

import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from sparc.common.errors import DatasetError
from sparc.common.text import amount
from sparc.extract.datasets.hierarchy import Edge, Hierarchy, hierarchy_of_pairs, read_hierarchy
from sparc.extract.datasets.labels.classes import NUMBERED_CLASSES
from sparc.extract.datasets.metadata import parse_json, read_text

NAME_FILES = NUMBERED_CLASSES | {
    *("loc_synset_mapping.txt", "synset_words.txt", "words.txt"),
    *("imagenet_class_index.json", "class_index.json"),
}
"""Files with names of classes, in lower case, that are looked for in a dataset."""

HIERARCHY_FILES = frozenset({"wordnet.is_a.txt", "is_a.txt"})
"""Files with the hierarchy of WordNet, in lower case, that are looked for in a dataset."""

_SYNSET = re.compile(r"n\d{8}")


def is_synset(folder: str) -> bool:
    """Whether a folder is called after a synset of WordNet, as ImageNet's are (`n01440764`)."""
    return _SYNSET.fullmatch(folder) is not None


def read_folder_names(path: Path, name: str, folders: Collection[str]) -> dict[str, str]:
    """Names of classes, by the folder's name; other classes of the file are among them.

    The file has a line a class, the folder and the name with a tab, comma or space between; or it
    is JSON, `{"0": ["n01440764", "tench"]}` or `{"n01440764": "tench"}`; or it has as many names as
    there are folders, in their alphabetical order.

    Args:
        path: The file.
        name: What messages call it.
        folders: Of the classes.

    Raises:
        DatasetError: It cannot be read, or fits none of the folders.
    """
    text = read_text(path, name)
    if text.lstrip().startswith(("{", "[")):
        document = parse_json(text, name)
        names = dict(_pairs(document))
        in_order = document if isinstance(document, list) else []
    else:
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        names = dict(filter(None, (_keyed(line, folders) for line in lines)))
        in_order = lines
    if any(folder in names for folder in folders):
        return names
    if len(in_order) == len(folders) and all(isinstance(entry, str) for entry in in_order):
        return dict(zip(sorted(folders), in_order, strict=True))
    raise DatasetError(
        f"{name} names none of {amount(len(folders), 'class folder')}: write a folder and its name "
        "in a line"
    )


def read_wordnet(path: Path, name: str) -> Hierarchy:
    """A hierarchy: WordNet's `parent child` in a line, or the JSON of Open Images.

    Raises:
        DatasetError: It cannot be read, or a line is malformed.
    """
    if path.suffix.lower() == ".json":
        return read_hierarchy(path, name)
    pairs: list[Edge] = []
    for number, line in enumerate(read_text(path, name).splitlines(), start=1):
        parts = line.split()
        if len(parts) == 2:
            pairs.append(Edge(parts[0], parts[1]))
        elif parts:
            raise DatasetError(
                f"{name}, line {number} needs two classes: the parent, then the child"
            )
    return hierarchy_of_pairs(pairs, name)


def _pairs(document: Any) -> Iterator[tuple[str, str]]:
    """Folder and name of the classes of a JSON document."""
    entries = document.items() if isinstance(document, Mapping) else enumerate(document)
    for key, entry in entries:
        if isinstance(entry, str) and isinstance(key, str):
            yield key, entry
        elif isinstance(entry, list) and entry and all(isinstance(part, str) for part in entry):
            is_numbered = len(entry) == 2 and not (isinstance(key, str) and is_synset(key))
            yield (entry[0], entry[1]) if is_numbered else (str(key), ", ".join(entry))


def _keyed(line: str, folders: Collection[str]) -> tuple[str, str] | None:
    """Folder and name of a line."""
    for separator in ("\t", ",", " "):
        key, is_there, name = line.partition(separator)
        if is_there and (key in folders or is_synset(key)) and name.strip():
            return key, name.strip()
    return None
