"""JSON documents of a dataset, recognised by how they begin, whatever they are called.

This module must not know any dataset format.
"""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from sparc.common.errors import DatasetError
from sparc.extract.datasets.account import Omissions
from sparc.extract.datasets.json_lists import JsonList
from sparc.extract.datasets.metadata import LARGEST_LINE, parse_json, text_lines
from sparc.extract.datasets.safe_folder import SafeFolder, split_suffix

_HEAD = 1 << 16
"""Bytes at the beginning of a document that are looked at."""

_LOOKED_AT = 20
"""Most documents that are looked at: a folder with a JSON file an image has thousands."""


def documents_with(
    folder: SafeFolder, *marks: str, suffixes: Iterable[str] = (".json",)
) -> list[str]:
    """The documents in whose beginning all marks occur, those of the uppermost folders first.

    Args:
        folder: The dataset.
        marks: Usually keys in quotes.
        suffixes: Of the files that are looked at.
    """
    wanted = {*suffixes}
    files = [file for file in folder.loose if split_suffix(file)[1] in wanted]
    files.sort(key=lambda file: file.count("/"))
    sought = [mark.encode() for mark in marks]
    return [
        file
        for file in files[:_LOOKED_AT]
        if (head := folder.head(file, _HEAD)) and all(mark in head for mark in sought)
    ]


def json_entries(
    folder: SafeFolder, file: str, omissions: Omissions, what: str
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The objects of a document that is a list, or that has one a line, each with its place.

    Args:
        folder: The dataset.
        file: The document.
        omissions: Counts the entries that are no JSON objects.
        what: What an entry is called.

    Raises:
        DatasetError: It cannot be read, or is not such a document.
    """
    where = f"{folder}/{file}"
    if folder.head(file, 64).lstrip(b"\xef\xbb\xbf \t\r\n")[:1] == b"{":
        entries = _line_entries(folder.path(file), where, omissions, what)
    else:
        entries = _list_entries(folder.path(file), where, omissions, what)
    for place, entry in entries:
        if isinstance(entry, dict):
            yield place, entry
        else:
            omissions.add(what, "it is not an object", place)


def _list_entries(
    path: Path, where: str, omissions: Omissions, what: str
) -> Iterator[tuple[str, Any]]:
    with JsonList(path, where, omissions) as document:
        for position, entry in document.all_entries(what):
            yield f"[{position}]", entry


def _line_entries(
    path: Path, where: str, omissions: Omissions, what: str
) -> Iterator[tuple[str, Any]]:
    lines = text_lines(path, where, longest=LARGEST_LINE, omissions=omissions)
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        place = f"line {number}"
        try:
            yield place, parse_json(line, f"{where}, {place}")
        except DatasetError:
            omissions.add(what, "it is not JSON", place)
