"""What every table offers, whatever its file holds.

A table is read a column at a time by name, so that vectors beside the captions cost nothing. A bad
record is counted and left out; the rest goes on.
"""

import copy
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, NamedTuple

from sparc.common.errors import DatasetError
from sparc.common.text import amount
from sparc.extract.datasets.account import Omissions


class Row(NamedTuple):
    """A record of a table.

    Attributes:
        number: Of its line or row in the file, for messages.
        values: Of the columns that were asked for, in their order; None where it has none.
    """

    number: int
    values: Sequence[Any]


class Table(ABC):
    """A file of records with named columns.

    Args:
        name: What messages call it.
        omissions: Where its bad records are counted.

    Attributes:
        header: The columns. Records may have more: see `columns`.
    """

    unit: str = "line"
    """What `Row.number` counts."""
    is_text: ClassVar[bool] = False
    """Whether every value is text, as it is written: lists and numbers too."""

    header: Sequence[str]

    def __init__(self, name: str, omissions: Omissions) -> None:
        self.name = name
        self.omissions = omissions
        self._good = 0
        self._bad = 0
        self._first = ""

    @property
    def columns(self) -> Sequence[str]:
        """The columns of all records that were read so far."""
        return self.header

    @abstractmethod
    def rows(self, columns: Sequence[str]) -> Iterator[Row]:
        """The records.

        Args:
            columns: Which values to give.

        Raises:
            DatasetError: The file cannot be read, or none of its records can be used.
        """

    def silent(self) -> "Table":
        """The same table, whose bad records are not counted, to look into it."""
        other = copy.copy(self)
        other.omissions = Omissions(self.name)
        return other

    def where(self, number: int) -> str:
        """Where a record is, for messages."""
        return f"{self.unit} {number}"

    def leave_out(self, what: str, why: str, number: int) -> None:
        """Count a record, or a part of one, that cannot be used."""
        self.omissions.add(what, why, self.where(number))

    def _skip(self, why: str, number: int) -> None:
        """Count a whole record that cannot be read."""
        self._bad += 1
        self._first = self._first or f"{self.where(number)}: {why}"
        self.leave_out("record", why, number)

    def _check_some_are_good(self, advice: str) -> None:
        if self._bad and not self._good:
            raise DatasetError(
                f"{self.name}: none of {amount(self._bad, 'record')} can be used: {self._first}; "
                f"{advice}"
            )
