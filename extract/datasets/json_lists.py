"""Reading the lists of a large JSON document an entry at a time, in a few megabytes of memory.

Annotation files are one object that holds a few lists, of up to millions of small objects. The
document is cut where entries of such a list end, which brackets and quotes alone tell: so what is
wrong within an entry concerns this entry only. This module must not know what the lists mean.
"""

import io
import json
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, ClassVar, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from sparc.common.errors import DatasetError
from sparc.common.progress import progress, say
from sparc.common.text import amount, shorten, size
from sparc.extract.datasets.account import Omissions
from sparc.extract.datasets.metadata import decode, parse_json

LARGEST_ENTRY = 1 << 26
"""Most bytes of an entry; a document with a longer one is refused."""

_CHUNK = 1 << 20
"""Bytes that are read at a time; more do not stay in a processor's cache."""

_QUOTE = ord('"')
_IN_LIST = 2
"""Brackets that are open between the entries of a list: the document's and the list's own."""

_WHOLE = ""
"""The key of a list that is the whole document."""

_SHOWS_PROGRESS = 1 << 25
"""Bytes of the smallest document that has a progress bar."""


class JsonLists:
    """The lists that a JSON document, which must be one object, holds by key.

    A context manager: the document is open, and a progress bar is shown, as long as it lasts.

    Args:
        path: The document.
        name: What messages call it.
        omissions: Counts the entries that are not JSON.
        quiet: Show no progress bar.

    Raises:
        DatasetError: It cannot be read, or is not a JSON object.
    """

    _opening: ClassVar[bytes] = b"{"
    _kind: ClassVar[str] = "object"

    def __init__(self, path: Path, name: str, omissions: Omissions, *, quiet: bool = False) -> None:
        self._name = name
        self._omissions = omissions
        self._begins: dict[str, int] = {}
        with ExitStack() as opening:
            self._file = opening.enter_context(_open(path, name))
            self._searched = self._after_opening()
            """Where the search for further lists goes on: behind a value of the document."""
            length = self._file.seek(0, os.SEEK_END)
            bar = progress(
                length,
                f"reading {os.path.basename(name)}",
                unit="B",
                quiet=quiet or length < _SHOWS_PROGRESS,
            )
            self._bar = opening.enter_context(bar)
            self._exits = opening.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._exits.__exit__(kind, error, trace)

    def __contains__(self, key: str) -> bool:
        """Whether the document has a list of this key.

        Raises:
            DatasetError: The document is not JSON.
        """
        return self._begin(key) is not None

    def entries(self, key: str, what: str) -> Iterator[tuple[int, Any]]:
        """The entries of a list, each with its position in the list.

        Args:
            key: Of the list.
            what: What an entry is called; one that is not JSON is left out and counted.

        Raises:
            DatasetError: There is no such list, or the document is not JSON.
        """
        return self._entries(key, what, lambda part: part.text)

    def flat_entries(self, key: str, what: str) -> Iterator[tuple[int, Any]]:
        """The same with null for the lists and objects within entries, which is much faster."""
        return self._entries(key, what, _Part.flat)

    def _entries(
        self, key: str, what: str, text_of: "Callable[[_Part], bytes]"
    ) -> Iterator[tuple[int, Any]]:
        position = 0
        replaced = 0
        for part in self._parts(key):
            try:
                values = _values(text_of(part).decode(), self._name)
            except (UnicodeDecodeError, DatasetError):
                for entry in part.entries():
                    text, was_replaced = decode(entry)
                    replaced += was_replaced
                    where = f"{key}[{position}]"
                    try:
                        values = _values(text, where)
                    except DatasetError:
                        self._omissions.add(what, "it is not JSON", where)
                        position += 1
                    else:
                        yield from enumerate(values, position)
                        position += len(values)
            else:
                yield from enumerate(values, position)
                position += len(values)
        if replaced:
            entries = amount(replaced, what)
            say(f"{self._name}: bytes that are not UTF-8 replaced in {entries} of {key}")

    def _parts(self, key: str) -> "Iterator[_Part]":
        """A list, cut behind entries: as many at a time as a chunk has."""
        begin = self._begin(key)
        if begin is None:
            raise DatasetError(f"{self._name} has no list {key!r}")
        brackets = _Brackets(_IN_LIST)
        rest = _Part(b"", _NO_BRACKETS)
        for offset, chunk in self._chunks(begin):
            part = rest.with_more(chunk, brackets.of(chunk))
            beyond = part.marks.places[part.marks.depths < _IN_LIST]
            if len(beyond):
                end = int(beyond[0])
                if part.text[end : end + 1] != b"]":
                    place = offset + len(chunk) - len(part.text) + end
                    raise self._not_json(place, f"the list {key!r} ends without ]")
                self._searched = max(self._searched, offset + len(chunk) - len(part.text) + end + 1)
                yield part.cut(end)[0]
                return
            ends = part.entry_ends()
            part, rest = part.cut(ends[-1] if ends else 0)
            if part.text:
                yield part
            if len(rest.text) > LARGEST_ENTRY:
                why = f"an entry of {key!r} is not closed, or longer than {size(LARGEST_ENTRY)}"
                raise self._not_json(offset + len(chunk) - len(rest.text), why)
        raise self._ends_early(f"in the midst of the list {key!r}")

    def _begin(self, key: str) -> int | None:
        """Where the first entry of a list is; None where there is no such list."""
        if key in self._begins:
            return self._begins[key]
        brackets = _Brackets(_IN_LIST - 1)
        between = bytearray()  # behind one list or object of the document, before the next
        for offset, chunk in self._chunks(self._searched):
            marks = brackets.of(chunk)
            outer = (marks.depths < 2) | ((marks.depths == 2) & marks.opens)
            behind = 0
            for place, depth in zip(marks.places[outer].tolist(), marks.depths[outer], strict=True):
                if depth == 2:
                    between += chunk[behind:place]
                    name = self._last_key(bytes(between), offset + place)
                    between.clear()
                    if chunk[place : place + 1] == b"[":
                        self._remember(name, offset + place + 1)
                    if name == key in self._begins:
                        return self._begins[key]
                elif depth == 1:
                    behind = place + 1
                    self._searched = offset + behind
                else:
                    if chunk[place : place + 1] != b"}":
                        raise self._not_json(offset + place, "it ends without }")
                    return None
            if brackets.depth == 1:
                between += chunk[behind:]
            if len(between) > LARGEST_ENTRY:
                raise self._not_json(self._searched, "no list or object follows")
        raise self._ends_early("before its last }")

    def _remember(self, key: str, begin: int) -> None:
        if self._begins.setdefault(key, begin) != begin:
            raise DatasetError(f"{self._name} has two lists {shorten(key, 80)!r}: keep one")

    def _last_key(self, between: bytes, place: int) -> str:
        """The key of the list or object that begins at a place."""
        text = decode(between.strip().removeprefix(b","))[0]
        try:
            pairs = json.loads(f"{{{text}null}}", object_pairs_hook=list)
        except (ValueError, RecursionError) as error:
            raise self._not_json(place, "no key comes before this") from error
        return str(pairs[-1][0])

    def _after_opening(self) -> int:
        """Where the document goes on behind its first bracket."""
        text = self._file.read(_CHUNK)
        start = text.removeprefix(b"\xef\xbb\xbf").lstrip()
        if start[:1] == self._opening:
            return len(text) - len(start) + 1
        if len(text) < _CHUNK:
            parse_json(decode(start)[0], self._name)  # raises where it is not JSON
        raise DatasetError(f"{self._name} is not a JSON {self._kind}")

    def _chunks(self, begin: int) -> Iterator[tuple[int, bytes]]:
        """Bytes of the document and where they begin, never cut between a backslash and the next.

        Raises:
            DatasetError: It cannot be read any more.
        """
        try:
            self._file.seek(begin)
            while chunk := self._file.read(_CHUNK):
                while chunk.endswith(b"\\") and (more := self._file.read(_CHUNK)):
                    chunk += more
                yield begin, chunk
                begin += len(chunk)
                self._bar.update(max(0, begin - self._bar.n))
                self._file.seek(begin)
        except OSError as error:
            raise DatasetError(f"cannot read {self._name}: {error.strerror}") from error

    def _not_json(self, place: int, why: str) -> DatasetError:
        """The error of a place in the document: its line, or its byte where all is one line."""
        self._file.seek(0)
        before = self._file.read(place) if place <= LARGEST_ENTRY else b""
        line = before.count(b"\n") + 1
        where = f", line {line}" if line > 1 else f", byte {place:,}"
        return DatasetError(f"{self._name}{where} is not JSON: {why}")

    def _ends_early(self, where: str) -> DatasetError:
        return DatasetError(
            f"{self._name} is not JSON: it ends {where}; the file is cut off, or a text in it is "
            "not closed: copy or write it again"
        )


class JsonList(JsonLists):
    """A JSON document that is one list; otherwise as `JsonLists`."""

    _opening = b"["
    _kind = "list"

    def all_entries(self, what: str) -> Iterator[tuple[int, Any]]:
        """The entries, each with its position; see `JsonLists.entries`."""
        self._begins = {_WHOLE: self._searched}
        return self.entries(_WHOLE, what)


class _Marks(NamedTuple):
    """The brackets of a text.

    Attributes:
        places: (brackets,) where they are.
        depths: (brackets,) how many are open after each.
        opens: (brackets,) whether it is one that opens.
    """

    places: npt.NDArray[np.int64]
    depths: npt.NDArray[np.int64]
    opens: npt.NDArray[np.bool_]


_NO_BRACKETS = _Marks(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.bool_))


class _Brackets:
    """Finds the brackets, square or curly, of successive chunks, without those within texts.

    Args:
        depth: How many are open before the first chunk.

    Attributes:
        depth: How many are open now.
    """

    def __init__(self, depth: int) -> None:
        self.depth = depth
        self._in_text = False

    def of(self, chunk: bytes) -> _Marks:
        """The brackets of the next chunk, which must not end with a backslash."""
        if b"\\" in chunk:  # what is escaped ends no text
            chunk = chunk.replace(b"\\\\", b"__").replace(b'\\"', b"__")
        letters = np.frombuffer(chunk, np.uint8)
        matters = letters == _QUOTE
        for bracket in b"{}[]":
            matters |= letters == bracket
        places = np.flatnonzero(matters)
        letters = letters[places]
        quotes = letters == _QUOTE
        in_text = np.logical_xor.accumulate(quotes) ^ self._in_text
        if len(in_text):
            self._in_text = bool(in_text[-1])
        brackets = np.flatnonzero(~(quotes | in_text))
        letters = letters[brackets]
        opens = (letters == ord("{")) | (letters == ord("["))
        depths = self.depth + np.cumsum(np.where(opens, 1, -1))
        if len(depths):
            self.depth = int(depths[-1])
        return _Marks(places[brackets], depths, opens)


class _Part(NamedTuple):
    """Successive entries of a list: their text, and its brackets, as deep as in the document."""

    text: bytes
    marks: _Marks

    def with_more(self, text: bytes, marks: _Marks) -> "_Part":
        """This part and what comes next."""
        both = _Marks(
            np.concatenate([self.marks.places, marks.places + len(self.text)]),
            np.concatenate([self.marks.depths, marks.depths]),
            np.concatenate([self.marks.opens, marks.opens]),
        )
        return _Part(self.text + text, both)

    def cut(self, place: int) -> tuple["_Part", "_Part"]:
        """What is before a place, and what is behind it."""
        number = int(np.searchsorted(self.marks.places, place))
        places, depths, opens = self.marks
        before = _Marks(places[:number], depths[:number], opens[:number])
        behind = _Marks(places[number:] - place, depths[number:], opens[number:])
        return _Part(self.text[:place], before), _Part(self.text[place:], behind)

    def entry_ends(self) -> list[int]:
        """The places behind entries that are objects or lists."""
        places, depths, opens = self.marks
        ends: list[int] = (places[(depths == _IN_LIST) & ~opens] + 1).tolist()
        return ends

    def entries(self) -> Iterator[bytes]:
        """The text of each entry that is an object or a list, with the scalars before it."""
        begin = 0
        for end in [*self.entry_ends(), len(self.text)]:
            yield self.text[begin:end]
            begin = end

    def flat(self) -> bytes:
        """The text with null for the lists and objects within entries."""
        places, depths, opens = self.marks
        begins = places[(depths == _IN_LIST + 2) & opens]
        ends = places[(depths == _IN_LIST + 1) & ~opens] + 1
        kept = zip([0, *ends.tolist()], [*begins.tolist(), len(self.text)], strict=True)
        return b"null".join([self.text[begin:end] for begin, end in kept])


def _values(part: str, where: str) -> list[Any]:
    """The entries of a part of a list.

    Raises:
        DatasetError: It is not JSON.
    """
    values: list[Any] = parse_json(f"[{part.strip().removeprefix(',')}]", where)
    return values


def _open(path: Path, name: str) -> BinaryIO:
    """A document in UTF-8; in another encoding of Unicode it is converted, in memory."""
    try:
        file = path.open("rb")
        encoding = json.detect_encoding(file.read(4))
        file.seek(0)
        if encoding.startswith("utf-8"):
            return file
        with file:
            text = file.read().decode(encoding, errors="replace")
        return io.BytesIO(text.encode(errors="replace"))
    except OSError as error:
        raise DatasetError(f"cannot read {name}: {error.strerror}") from error
