"""Which file a name in the metadata means, where it is written in another way than the file.

Metadata were often made on another machine: with backslashes, with absolute paths, with other
letters for an umlaut, in another case, percent-encoded, without a suffix or with another one. A
name stands for the one file of the dataset that fits; the result always comes from the listing, so
that no name leaves the dataset. This module must not know any dataset format.
"""

import posixpath
import re
import unicodedata
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from functools import cached_property
from typing import NamedTuple
from urllib.parse import unquote

from sparc.common.cache.account.account import ResolvedNames
from sparc.common.errors import DatasetError
from sparc.common.text import shorten
from sparc.extract.datasets.safe_folder import is_image, split_suffix

_COMMENT_NUMBER = re.compile(r"#\d+$")
_DRIVE = re.compile(r"(?:file:/*|[A-Za-z]:)(?=/)")


class Names:
    """Resolves names against the files of a dataset, and counts how.

    Args:
        files: What a name may stand for, usually the images; paths with `/` between their parts.
        location: The dataset, for messages.
    """

    def __init__(self, files: Collection[str], location: object) -> None:
        self._listed = files
        self._location = str(location)
        self._counts: dict[str, _Counted] = {}

    def resolve(self, name: str, below: Sequence[str] = ("",)) -> str | None:
        """The file that a name stands for.

        The file of exactly that name comes first. Else the name and the files are compared without
        regard to case, Unicode form, slashes, percent encoding and the suffix of images, and one
        must be the end of the other (`images/a.jpg` and `a.jpg`); a path of another machine may
        differ in its beginning.

        Args:
            name: As the metadata write it.
            below: Folders that it may be relative to, in the order in which they are tried; a
                folder ends in `/`, the dataset itself is empty. Where the empty one is not among
                them, only files below these folders are considered.

        Returns:
            A member of the files; None where none fits.

        Raises:
            DatasetError: Several fit equally well.
        """
        for place in below:
            path = posixpath.normpath(place + name)
            if path in self._files:
                return path
        fits = _best(_Written.parse(name), self._similar(name, below))
        if len(fits) > 1:
            first, second, *_ = sorted(fits)
            raise DatasetError(
                f"{self._location}: {shorten(name, 120)!r} in the metadata may be "
                f"{shorten(first, 120)!r} or {shorten(second, 120)!r}: write which one"
            )
        if not fits:
            return None
        (file,) = fits
        how = _difference(name, file)
        counted = self._counts.get(how, _Counted(0, name, file))
        self._counts[how] = counted._replace(times=counted.times + 1)
        return file

    def path(self, name: str, *others: str, below: Sequence[str] = ("",)) -> str:
        """The file that a name stands for; the name itself where none fits, which is then missing.

        Args:
            name: As for `resolve`.
            others: Names that the file may have as well.
            below: As for `resolve`.

        Raises:
            DatasetError: Several files fit equally well.
        """
        files = (self.resolve(written, below) for written in (name, *others))
        return next((file for file in files if file is not None), name)

    def resolved(self) -> tuple[ResolvedNames, ...]:
        """How many names do not equal the file's, by what they differ in."""
        return tuple(
            ResolvedNames(how=how, names=c.times, example=c.name, file=c.file)
            for how, c in self._counts.items()
        )

    def _similar(self, name: str, below: Sequence[str]) -> Iterator[str]:
        """The files whose own name fits, in the folders that are considered."""
        anywhere = "" in below
        for file in self._by_stem.get(_folded_stem(_unquoted(name)), ()):
            if anywhere or file.startswith(tuple(below)):
                yield file

    @cached_property
    def _files(self) -> frozenset[str]:
        return frozenset(self._listed)

    @cached_property
    def _by_stem(self) -> dict[str, list[str]]:
        by_stem: dict[str, list[str]] = defaultdict(list)
        for file in self._listed:
            by_stem[_folded_stem(_unquoted(file))].append(file)
        return by_stem


class _Counted(NamedTuple):
    times: int
    name: str
    file: str


class _Written(NamedTuple):
    """A name as it is compared.

    Attributes:
        parts: Its folders and its stem, folded, from the last to the first.
        suffix: Its suffix if it is that of an image, in lower case.
        is_foreign: Whether its beginning need not be that of a path of the dataset.
    """

    parts: Sequence[str]
    suffix: str
    is_foreign: bool

    @classmethod
    def parse(cls, name: str) -> "_Written":
        path = _unquoted(name)
        parts = [part for part in path.split("/") if part not in ("", ".")]
        climbs = ".." in parts
        if climbs:
            parts = parts[len(parts) - parts[::-1].index("..") :]
        stem, suffix = _image_suffix("/".join(parts))
        compared = [folded(part) for part in stem.split("/")]
        is_foreign = climbs or path.startswith("/")
        return cls(compared[::-1], suffix, is_foreign)


def _best(name: _Written, files: Iterable[str]) -> list[str]:
    """The files that fit a name best: most folders in common, then the same suffix."""
    ranked: dict[tuple[int, bool], list[str]] = defaultdict(list)
    for file in files:
        written = _Written.parse(file)
        common = 0
        for ours, theirs in zip(name.parts, written.parts, strict=False):
            if ours != theirs:
                break
            common += 1
        is_end = common == min(len(name.parts), len(written.parts))
        if common and (is_end or name.is_foreign):
            ranked[common, name.suffix == written.suffix].append(file)
    return ranked[max(ranked)] if ranked else []


def _difference(name: str, file: str) -> str:
    """What a name and its file differ in, for a person to read."""
    if "\\" in name:
        return "backslashes"
    if name.startswith("/") or _DRIVE.match(name) or ".." in name.split("/"):
        return "the path of another machine or folder"
    if split_suffix(name)[1] != split_suffix(file)[1]:
        return "suffix"
    written, own = posixpath.basename(name), posixpath.basename(file)
    if folded(written) != folded(own) and folded(unquote(written)) == folded(unquote(own)):
        return "percent encoding"
    if written == own:
        return "folder"
    if in_normal_form(written) == in_normal_form(own):
        return "Unicode form"
    return "case"


def _unquoted(name: str) -> str:
    """A name with slashes, without percent encoding, scheme and drive."""
    path = name.strip().replace("\\", "/")
    if path.startswith(("http://", "https://")):
        path = path.partition("?")[0].partition("#")[0]
    return _DRIVE.sub("", unquote(path) if "%" in path else path, count=1)


def _image_suffix(path: str) -> tuple[str, str]:
    """A path without its suffix, and the suffix, if it is that of an image."""
    return split_suffix(path) if is_image(path) else (path, "")


def _folded_stem(path: str) -> str:
    return folded(posixpath.basename(_image_suffix(path)[0]))


def without_comment_number(name: str) -> str:
    """A name without the number of a caption after it (`a.jpg#0`)."""
    return _COMMENT_NUMBER.sub("", name)


def folded(text: str) -> str:
    """A text as it is compared without regard to case and Unicode form."""
    return in_normal_form(in_normal_form(text).casefold())


def in_normal_form(text: str) -> str:
    """A text as it is compared without regard to Unicode form."""
    return unicodedata.normalize("NFC", text)
