"""Lists in text files: an entry a line, its words separated by spaces or tabs.

This module must not know any dataset format.
"""

import posixpath
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from sparc.extract.datasets.metadata import LARGEST_LINE, text_lines
from sparc.extract.datasets.safe_folder import SafeFolder, folder_of


class Line(NamedTuple):
    """A line that is not empty.

    Attributes:
        number: From 1.
        words: At least one.
    """

    number: int
    words: Sequence[str]

    @property
    def where(self) -> str:
        """Which line, for messages."""
        return f"line {self.number}"


def read_lines(folder: SafeFolder, file: str, separator: str | None = None) -> Iterator[Line]:
    """The lines of a list, without empty ones.

    Args:
        folder: The dataset.
        file: The list.
        separator: Between words; None: spaces or tabs, any number of them.

    Raises:
        DatasetError: It cannot be read, or a line is longer than any list has.
    """
    lines = text_lines(folder.path(file), f"{folder}/{file}", longest=LARGEST_LINE)
    for number, text in enumerate(lines, start=1):
        if text.strip():
            yield Line(number, [word.strip() for word in text.split(separator)])


def file_called(folder: SafeFolder, *names: str, below: str | None = None) -> str:
    """The uppermost file of one of these names, in any case; empty where there is none.

    Args:
        folder: The dataset.
        names: In lower case, the preferred one first.
        below: The folder it must be in, empty or ending in `/`; None: any.
    """
    files: dict[str, str] = {}
    for file in sorted(folder.loose, key=lambda file: file.count("/")):
        if below is None or folder_of(file) == below:
            files.setdefault(posixpath.basename(file).lower(), file)
    return next((files[name] for name in names if name in files), "")
