"""JSON documents of a dataset, recognised by how they begin, whatever they are called.

This module must not know any dataset format.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from sparc.common.errors import DatasetError
from sparc.extract.datasets.account import Account, Omissions
from sparc.extract.datasets.base import ALL_COLUMNS
from sparc.extract.datasets.columns import RecordColumns
from sparc.extract.datasets.json_lists import JsonList
from sparc.extract.datasets.metadata import LARGEST_LINE, parse_json, text_lines
from sparc.extract.datasets.names import Names
from sparc.extract.datasets.safe_folder import SafeFolder, split_suffix
from sparc.extract.datasets.tables.finding import metadata_files

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


def image_ids(paths: Collection[str]) -> Mapping[str, str]:
    """An id of each image: its path without suffix, or with it where several differ in that."""
    often = Counter(split_suffix(path)[0] for path in paths)
    stems = {path: split_suffix(path)[0] for path in paths}
    return {path: stem if often[stem] == 1 else path for path, stem in stems.items()}


def has_own_metadata(folder: SafeFolder) -> bool:
    """Whether a plain folder has metadata, which a document beside them must not displace."""
    return bool(metadata_files(folder))


def identifier(value: Any) -> str:
    """An id as text; empty if it is none."""
    return str(value) if type(value) in (int, str) else ""


def text_of(value: Any) -> str:
    """Text without spaces around it; empty if the value is none."""
    return value.strip() if isinstance(value, str) else ""


def path_of(names: Names, *written: str, below: Iterable[str] = ("",)) -> str:
    """The file that a name stands for; the name itself where none fits, which is then missing.

    Args:
        names: Resolves names.
        written: The name, and others that it may have.
        below: As for `Names.resolve`.
    """
    places = tuple(below)
    files = (names.resolve(name, places) for name in written)
    return next((file for file in files if file is not None), written[0])


def enter_fields(
    account: Account, columns: RecordColumns, file: str, used: Iterable[str], others: Iterable[str]
) -> None:
    """Enter the fields of a file in the account.

    Args:
        account: The account.
        columns: Which of the others become columns.
        file: The file.
        used: Fields that paths, captions or labels are made of.
        others: Fields that only `--column` uses.
    """
    others = tuple(others)
    kept = [n for n in others if n in columns.wanted or columns.wanted == (ALL_COLUMNS,)]
    account.uses(
        file,
        used=[*used, *kept],
        unused=[name for name in others if name not in kept],
        advice="--column NAME keeps one of them",
    )


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
