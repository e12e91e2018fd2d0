"""What the members beside the images say: captions, labels and further fields.

One bad member costs what it would have said, and is listed; the sample stays.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from sparc.common.errors import DatasetError
from sparc.common.text import shorten
from sparc.extract.datasets.account import Omissions
from sparc.extract.datasets.columns import RecordColumns
from sparc.extract.datasets.formats.webdataset.archive import Extent
from sparc.extract.datasets.formats.webdataset.samples import (
    LABEL_SUFFIXES,
    TEXT_SUFFIXES,
    Member,
    Picture,
)
from sparc.extract.datasets.metadata import decode, parse_json
from sparc.extract.datasets.safe_folder import LARGEST_TEXT
from sparc.extract.datasets.tables.cells import listed_texts

CAPTION_KEYS = ("caption", "text", "alt", "title", "prompt", "captions")
"""Keys of JSON whose value is a caption or a list of captions, in any case, the preferred first."""

LABEL_KEYS = ("label", "labels", "cls", "class", "classes", "category")
"""Keys of JSON whose value is a class or a list of classes, in any case, the preferred first."""

_READ = frozenset({*TEXT_SUFFIXES, *LABEL_SUFFIXES, ".json"})


def is_read(name: str) -> bool:
    """Whether a member may say something of an image, by its name."""
    return Member.parse(name).suffix in _READ


_LOOKED_AT = 16
"""Samples of a shard whose JSON is read in any case, to see which keys there are."""

_LARGEST_LABEL = 200
"""Most characters of the key of a class."""

_MOST_FIELDS = 200
"""Most names of members and keys that are listed as not used."""


_NO_COLUMNS: Mapping[str, Any] = {}


class Fields:
    """The kinds of members and the keys of JSON that shards have, and those that are used."""

    def __init__(self) -> None:
        self.used: dict[str, None] = {}
        self._seen: dict[str, None] = {}

    def use(self, name: str) -> None:
        """Enter one that is used."""
        self.used[name] = None

    def see(self, name: str) -> None:
        """Enter one that lies there; it counts as unused until it is used."""
        if len(self._seen) < _MOST_FIELDS:
            self._seen[name] = None

    @property
    def unused(self) -> list[str]:
        """Those that lie there and no sample needs."""
        return [name for name in self._seen if name not in self.used]


class Description(NamedTuple):
    """What the members beside an image say.

    Attributes:
        captions: Of its preferred source.
        labels: Keys of its classes.
        columns: The fields of its JSON that are kept.
    """

    captions: Sequence[str]
    labels: Sequence[str]
    columns: Mapping[str, Any]


class Contents:
    """Reads what the members of one shard say.

    Args:
        read: Gives a member's bytes.
        members: Where the members are, by name.
        columns: Chooses the fields of JSON that are kept.
        omissions: Where what cannot be used is counted.
        fields: Where what is used is entered.
    """

    def __init__(
        self,
        read: Callable[[Extent], bytes],
        members: Mapping[str, Extent],
        columns: RecordColumns,
        omissions: Omissions,
        fields: Fields,
    ) -> None:
        self._read = read
        self._members = members
        self._columns = columns
        self._omissions = omissions
        self._fields = fields
        self._looked_at = 0
        self._has_labels = False
        self.bad_texts = 0

    def describe(self, picture: Picture) -> Description:
        """What the members beside an image say.

        The caption is that of the first text that is not blank, else of the JSON. JSON is not read
        where nothing of it is needed.
        """
        for member in picture.others:
            if member.suffix not in _READ:
                self._fields.see(picture.field(member))
        captions = self._caption(picture)
        labels = self._labels(picture)
        columns = _NO_COLUMNS
        for member in picture.documents:
            document = self._document(picture, member, is_needed=not captions)
            if document is None:
                continue
            keys = {key.lower(): key for key in reversed(document)}
            caption_key, of_json = self._first(
                document, [keys[key] for key in CAPTION_KEYS if key in keys], member, _captions
            )
            if not captions and of_json:
                captions = of_json
                self._fields.use(f"{picture.field(member)} {caption_key}")
            label_key, of_json = self._first(
                document, [keys[key] for key in LABEL_KEYS if key in keys], member, _labels
            )
            if not labels and of_json:
                labels = of_json
                self._fields.use(f"{picture.field(member)} {label_key}")
            if self._columns and not columns:
                columns = self._columns.of(document, without=(caption_key,))
                for key in columns:
                    self._fields.use(f"{picture.field(member)} {key}")
        return Description(captions, labels, columns)

    def _caption(self, picture: Picture) -> Sequence[str]:
        caption: Sequence[str] = ()
        for member in picture.texts:
            self._fields.see(picture.field(member))
            if caption:
                continue
            text = self._text(member, "caption")
            if text is not None and text.strip():
                caption = (text,)
                self._fields.use(picture.field(member))
        return caption

    def _labels(self, picture: Picture) -> Sequence[str]:
        for member in picture.labels:
            text = self._text(member, "label")
            if text is None or not text.strip():
                continue
            labels = [line.strip() for line in text.splitlines() if line.strip()]
            if any(len(label) > _LARGEST_LABEL for label in labels):
                self._omissions.add("label", "it is too long for a class", member.name)
                continue
            self._fields.use(picture.field(member))
            return labels
        return ()

    def _document(
        self, picture: Picture, member: Member, *, is_needed: bool
    ) -> dict[str, Any] | None:
        is_looked_at = self._looked_at < _LOOKED_AT
        if not (is_needed or is_looked_at or self._has_labels or self._columns):
            return None
        text = self._text(member, "JSON document")
        if text is None:
            return None
        try:
            document = parse_json(text, member.name)
        except DatasetError as error:
            self._omissions.add("JSON document", "it is no JSON", shorten(str(error), 120))
            return None
        if not isinstance(document, dict):
            self._omissions.add("JSON document", "it is no object", member.name)
            return None
        if is_looked_at:
            self._looked_at += 1
            for key in document:
                self._fields.see(f"{picture.field(member)} {key}")
            self._has_labels |= any(key.lower() in LABEL_KEYS for key in document)
        return document

    def _first(
        self,
        document: Mapping[str, Any],
        keys: Sequence[str],
        member: Member,
        values_of: Callable[[Any], "_Values"],
    ) -> tuple[str, Sequence[str]]:
        """The first of these keys that has values, and the values."""
        for key in keys:
            values, why = values_of(document[key])
            if why:
                what = "caption" if values_of is _captions else "label"
                self._omissions.add(what, why, f"{member.name}, key {shorten(key, 40)}")
            if values:
                return key, values
        return keys[0] if keys else "", ()

    def _text(self, member: Member, what: str) -> str | None:
        extent = self._members[member.name]
        if extent.size > LARGEST_TEXT:
            self._omissions.add(what, "it is too long for a text", member.name)
            return None
        text, was_replaced = decode(self._read(extent))
        self.bad_texts += was_replaced
        return text


class _Values(NamedTuple):
    """The texts of a value, and why others are left out; empty if none is."""

    texts: Sequence[str]
    why: str


def _captions(value: Any) -> _Values:
    """A caption or a list of captions. Null is no caption, which is nothing bad."""
    if value is None:
        return _Values((), "")
    if isinstance(value, str):
        value = [*listed_texts(value)] or value
    values = value if isinstance(value, list) else [value]
    bad = next((f"it is {_kind(v)}, not text" for v in values if not isinstance(v, str)), "")
    return _Values([v for v in values if isinstance(v, str) and v.strip()], bad)


def _labels(value: Any) -> _Values:
    """A class or a list of classes: texts or whole numbers."""
    if value is None:
        return _Values((), "")
    values = value if isinstance(value, list) else [value]
    keys, bad = [], ""
    for item in values:
        if isinstance(item, float) and item.is_integer():  # pandas makes whole numbers so
            item = int(item)
        if isinstance(item, bool) or not isinstance(item, str | int):
            bad = f"it is {_kind(item)}, neither text nor a whole number"
        elif len(key := str(item).strip()) > _LARGEST_LABEL:
            bad = "it is too long for a class"
        elif key:
            keys.append(key)
    return _Values(keys, bad)


def _kind(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "true or false"
        case float() if value != value:
            return "NaN"
        case int() | float():
            return "a number"
        case list():
            return "a list"
        case _:
            return "an object"
