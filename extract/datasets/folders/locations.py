"""What a person types to say where a dataset lies, and what of it is meant.

A path or URL of a folder; or tar shards as users of WebDataset and img2dataset name them: one, a
pattern in braces (`s3://bucket/data/{00000..01234}.tar`, `{a,b}`), several joined by `::`, or a
file that names one a line (`@shards.txt`).
"""

import itertools
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from braceexpand import braceexpand

from sparc.common.errors import DatasetError
from sparc.common.files.paths import absolute_if_here, from_home
from sparc.common.text import amount, shorten
from sparc.extract.datasets.safe_folder import folder_of

MOST_SHARDS = 1_000_000
"""Most shards that a pattern or list may name."""

_LARGEST_LIST = 1 << 28
"""Most bytes of a list of shards."""

_SHARD = re.compile(r".*\.(?:tar|tgz|tar\.(?:gz|bz2|xz|zst))", re.IGNORECASE | re.DOTALL)
_JOINED = "::"
_LIST = "@"
_ESCAPED = re.compile(r"\\")


def is_shard(file: str) -> bool:
    """Whether a file is called like a shard; compressed ones too, so that nothing passes them."""
    return _SHARD.fullmatch(file) is not None


def _is_url(location: str) -> bool:
    """Whether a location is a URL."""
    return "://" in location


@dataclass(frozen=True)
class ChosenShards:
    """Shards that are the dataset, with the files beside them that are no shards.

    Attributes:
        root: The smallest folder that holds them, a path or URL without a slash at its end.
        files: Their paths in it.
    """

    root: str
    files: frozenset[str]

    @cached_property
    def folders(self) -> frozenset[str]:
        """The folders that hold them, in the root; empty or ending in `/`."""
        return frozenset(map(folder_of, self.files))

    def holds(self, file: str) -> bool:
        """Whether a file is part of the dataset."""
        return file in self.files or (not is_shard(file) and folder_of(file) in self.folders)

    def require(self, files: Iterable[str]) -> None:
        """Refuse a dataset that lacks some of them.

        Args:
            files: The files that are there.

        Raises:
            DatasetError: Names the first one that is not.
        """
        missing = sorted(self.files.difference(files))
        if missing:
            advice = "; name shards by braces, such as {00000..00099}.tar, or all by "
            advice = f"{advice}{self.root}/" if "*" in missing[0] else ""
            raise DatasetError(
                f"there is no {shorten(f'{self.root}/{missing[0]}', 200)}; missing are "
                f"{len(missing):,} of {amount(len(self.files), 'shard')}{advice}"
            )


@dataclass(frozen=True)
class Location:
    """Where a dataset lies.

    Attributes:
        name: How messages and the cache name it: as it was typed, but absolute on this machine.
        root: The folder, a path or URL.
        chosen: The shards that are meant; None: all files of the folder.
    """

    name: str
    root: str
    chosen: ChosenShards | None = None

    @property
    def is_url(self) -> bool:
        """Whether the folder lies behind a URL."""
        return _is_url(self.root)


def parse_location(typed: str | os.PathLike[str]) -> Location:
    """Understand what was typed.

    Raises:
        DatasetError: It names no shards, or shards in several stores; or a URL has credentials.
    """
    text = from_home(typed)
    if os.path.exists(text):
        is_one_shard = os.path.isfile(text) and is_shard(text)
        return _of_shards(_absolute(text), [text]) if is_one_shard else Location(text, text)
    if text.startswith(_LIST):
        return _of_shards(f"{_LIST}{absolute_if_here(text[1:])}", _listed(text[1:]))
    parts = text.split(_JOINED)
    places = [place for part in parts for place in _expanded(part)]
    if len(places) > MOST_SHARDS:
        raise DatasetError(f"{text} names more than {MOST_SHARDS:,} shards")
    if places == [text] and not (_is_url(text) and is_shard(text)):
        if _is_url(text):
            _refuse_secrets(text)
        return Location(text, text.rstrip("/") if _is_url(text) else text)
    return _of_shards(_JOINED.join(map(_absolute, parts)), places)


def _absolute(part: str) -> str:
    return part if _is_url(part) else os.path.abspath(part)


def _expanded(pattern: str) -> Iterator[str]:
    """The locations that a pattern stands for."""
    try:
        # `braceexpand` takes backslashes for escapes, which names of files may have.
        expanded = braceexpand(_ESCAPED.sub(r"\\\\", pattern))
        yield from itertools.islice(expanded, MOST_SHARDS + 1)
    except ValueError as error:
        raise DatasetError(f"{pattern}: its braces do not match") from error


def _listed(file: str) -> list[str]:
    """The locations that a file lists, relative ones beside it."""
    try:
        with open(file, encoding="utf-8-sig") as lines:
            text = lines.read(_LARGEST_LIST + 1)
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise DatasetError(f"cannot read the list of shards {file}: {why}") from error
    if len(text) > _LARGEST_LIST:
        raise DatasetError(f"the list of shards {file} is too long")
    beside = os.path.dirname(file)
    stripped = (line.strip() for line in text.splitlines())
    return [
        line if _is_url(line) else os.path.join(beside, line)
        for line in stripped
        if line and not line.startswith("#")
    ]


def _of_shards(name: str, places: Sequence[str]) -> Location:
    """The location of shards that are named one by one."""
    if not places:
        raise DatasetError(f"{name} names no shards")
    for place in places:
        if not is_shard(place):
            raise DatasetError(
                f"{shorten(name, 200)}: {shorten(place, 200)} is not called like a tar shard: give "
                "the shards (….tar), or the one folder that holds them"
            )
    if len({_is_url(place) for place in places}) > 1:
        raise DatasetError(f"{shorten(name, 200)}: some shards lie here, others behind a URL")
    for place in places:
        _refuse_secrets(place)
    divided = [place.split("/") for place in places]
    first, last = min(divided), max(divided)
    common = 0
    while common < min(len(first), len(last)) - 1 and first[common] == last[common]:
        common += 1
    root = "/".join(first[:common])
    if _is_url(places[0]) and common < 3:
        raise DatasetError(
            f"{shorten(name, 200)}: the shards lie in several stores, such as "
            f"{shorten('/'.join(first), 120)} and {shorten('/'.join(last), 120)}: give those of one"
        )
    if not _is_url(places[0]):
        root = root or (os.sep if common else os.curdir)
    chosen = ChosenShards(root, frozenset("/".join(parts[common:]) for parts in divided))
    return Location(name, root, chosen)


def _refuse_secrets(url: str) -> None:
    """Refuse a URL that the cache, which records it, must not show."""
    if not _is_url(url):
        return
    host, _, path = url.partition("://")[2].partition("/")
    if "@" in host or "?" in path or "?" in host:
        raise DatasetError(
            f"{url.partition('://')[0]}://…: a cache records where its dataset lies, so a URL has "
            "neither credentials nor parameters: put them into the environment"
        )
