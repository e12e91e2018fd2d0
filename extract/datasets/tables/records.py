"""Reads the records of a table for images: their names, captions, classes and further columns."""

import dataclasses
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from sparc.common.errors import DatasetError
from sparc.common.text import shorten
from sparc.extract.datasets.account import Account
from sparc.extract.datasets.base import ALL_COLUMNS, DatasetOptions
from sparc.extract.datasets.tables.cells import captions_of, classes_of
from sparc.extract.datasets.tables.known_names import (
    CAPTIONS,
    IMAGES,
    LABELS,
    SPLITS,
    known_among,
    plain,
)
from sparc.extract.datasets.tables.table import Table

ADDRESSES = ("http://", "https://")
"""How names begin that are no files."""

_NEVER_KEPT = ("text", "caption")
"""Columns that hold captions, whether of the rows or not: they are no columns of the cache."""

_SAMPLED = 50
"""Records by which the column of images is chosen."""


@dataclasses.dataclass(frozen=True)
class Roles:
    """Which columns of a table hold what.

    Attributes:
        image: Names of images.
        captions: In each record the first of these that has text counts.
        labels: Classes; None where there are none.
        split: The split of a record; None where there is none.
    """

    image: str
    captions: tuple[str, ...]
    labels: str | None
    split: str | None

    @property
    def columns(self) -> tuple[str, ...]:
        """All of them."""
        others = (column for column in (self.labels, self.split) if column is not None)
        return (self.image, *self.captions, *others)


class TableRecord(NamedTuple):
    """A record of a table.

    Attributes:
        number: Of its line or row, for messages.
        image: As it is written, stripped.
        captions: Without those that are no text.
        labels: Its classes.
        split: As it is written; empty where there is none.
        values: The further columns that were asked for, by name.
    """

    number: int
    image: str
    captions: Sequence[str]
    labels: Sequence[str]
    split: str
    values: dict[str, Any]


def choose_roles(
    table: Table, options: DatasetOptions, is_image: Callable[[str], bool]
) -> Roles | None:
    """The roles of a table's columns: as the options say, else by the usual names.

    Args:
        table: The table.
        options: Columns that the user names.
        is_image: Whether a name in a record stands for an image. Of several usual columns the
            first counts for most of whose names it does, else the first.

    Returns:
        The roles; None where no column holds names of images.

    Raises:
        DatasetError: A column that the options name does not exist.
    """
    named = {
        role: _named(table, column, option)
        for role, column, option in (
            ("image", options.image_column, "--image-column"),
            ("caption", options.caption_column, "--caption-column"),
            ("label", options.label_column, "--label-column"),
            ("split", options.split_column, "--split-column"),
        )
        if column
    }
    header = table.header
    image = named.get("image") or _image_column(table, is_image)
    if image is None:
        return None
    without = {image, *named.values()}
    others = [column for column in header if column not in without]
    captions = (named["caption"],) if "caption" in named else tuple(known_among(others, CAPTIONS))
    if not captions and not _has_names(table):
        captions = tuple(others) if len(others) == 1 else ()
    labels = named.get("label") or next(known_among(others, LABELS), None)
    split = named.get("split") or next(known_among(others, SPLITS), None)
    return Roles(image, captions, labels, split)


class TableRecords:
    """The records of a table that name an image; what cannot be used is counted in the table.

    Args:
        table: The table.
        roles: Of its columns.
        options: Which columns are kept, and how classes are separated in a table of text.

    Attributes:
        further: The columns that could be kept: those without names, captions and classes.
        kept: The columns whose values records have besides.
    """

    def __init__(self, table: Table, roles: Roles, options: DatasetOptions) -> None:
        self._table = table
        self._roles = roles
        self._separator = options.label_separator if table.is_text else ""
        self._gave_captions: dict[str, None] = {}
        never = {roles.image, roles.labels, *roles.captions[:1]}
        self.further = [
            column
            for column in table.header
            if column not in never and plain(column) not in _NEVER_KEPT
        ]
        self.kept = [
            column
            for column in filter(None, table.header)
            if column == options.holdout_by
            or (column in self.further and {column, ALL_COLUMNS} & {*options.columns})
        ]

    def __iter__(self) -> Iterator[TableRecord]:
        """Read the table.

        Raises:
            DatasetError: As for `Table.rows`, or no record names an image.
        """
        table, roles = self._table, self._roles
        wanted = [*dict.fromkeys((*roles.columns, *self.kept))]
        place = {column: number for number, column in enumerate(wanted)}
        image_place = place[roles.image]
        split_place = None if roles.split is None else place[roles.split]
        caption_places = {column: place[column] for column in roles.captions}
        labels_place = None if roles.labels is None else place[roles.labels]
        nameless = named = 0
        for number, values in table.rows(wanted):
            image = _name_of(values[image_place])
            if not image:
                nameless += 1
                table.leave_out("record", f"it has no {roles.image}", number)
                continue
            named += 1
            captions = self._captions(number, values, caption_places)
            labels: Sequence[str] = ()
            if labels_place is not None:
                labels, fault = classes_of(values[labels_place], self._separator)
                if fault:
                    table.leave_out("label", fault, number)
            split = "" if split_place is None else str(values[split_place] or "").strip()
            kept = {column: values[place[column]] for column in self.kept}
            yield TableRecord(number, image, captions, labels, split, kept)
        if nameless and not named:
            raise DatasetError(f"{table.name}, no {table.unit} has a {roles.image}")

    def enter(self, account: Account, file: str) -> None:
        """Say in the account which columns were used, after all records were read."""
        table, roles = self._table, self._roles
        others = (column for column in (roles.labels, roles.split) if column is not None)
        captions = self._gave_captions or roles.captions[:1]
        used = dict.fromkeys(filter(None, (roles.image, *captions, *others, *self.kept)))
        unused = [column for column in table.columns if column and column not in used]
        account.uses(file, used=used, unused=unused, advice="; ".join(self._advice(file, unused)))

    def _advice(self, file: str, unused: Sequence[str]) -> Iterator[str]:
        """The options that would use these columns."""
        texts = [column for column in unused if plain(column) in CAPTIONS]
        if texts:
            yield f"--caption-column {shlex.quote(texts[0])} for captions"
        elif unused and not self._gave_captions:
            yield "--caption-column NAME for captions"
        if unused and self._roles.labels is None:
            yield "--label-column NAME for classes"
        divides = [column for column in unused if plain(column) in SPLITS]
        if divides and self._roles.split is None:
            yield f"--table {shlex.quote(file)} --split NAME divides by {divides[0]}"
        if unused:
            yield "--column NAME keeps one"

    def _captions(
        self, number: int, values: Sequence[Any], places: Mapping[str, int]
    ) -> Sequence[str]:
        """The captions of the first column that has some."""
        fault = ""
        for column, place in places.items():
            read = captions_of(values[place])
            fault = read.fault or fault
            if any(text and not text.isspace() for text in read.texts):
                self._gave_captions[column] = None
                if read.fault:
                    self._table.leave_out("caption", read.fault, number)
                return read.texts
        if fault:
            self._table.leave_out("caption", fault, number)
        return ()


def _named(table: Table, column: str, option: str) -> str:
    if column in table.header:
        return column
    same = [own for own in table.header if plain(own) == plain(column)]
    if len(same) == 1:
        return same[0]
    columns = shorten(", ".join(map(str, table.header)), 120)
    raise DatasetError(f"{table.name} has no column {column!r} of {option}; its columns: {columns}")


def _image_column(table: Table, is_image: Callable[[str], bool]) -> str | None:
    candidates = list(known_among(table.header, IMAGES))
    if not candidates and not _has_names(table):
        candidates = list(table.header)
    for column in candidates:
        names = [_name_of(values[0]) for values in _sample(table, column)]
        known = sum(is_image(name) or name.startswith(ADDRESSES) for name in names)
        if names and known * 2 >= len(names):
            return column
    return candidates[0] if candidates and _has_names(table) else None


def _has_names(table: Table) -> bool:
    """Whether the columns have names of their own, and not numbers alone."""
    return list(table.header) != [str(number + 1) for number in range(len(table.header))]


def _sample(table: Table, column: str) -> Iterator[Sequence[Any]]:
    for _, row in zip(range(_SAMPLED), table.silent().rows([column]), strict=False):
        yield row.values


def _name_of(value: Any) -> str:
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, bytes):
        return value.decode(errors="replace").strip()
    return str(value) if type(value) is int else ""
