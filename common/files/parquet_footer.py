"""What the footer of a Parquet file claims of its columns, read without Arrow.

Asked for a damaged column (`RowGroupMetaData.column`), pyarrow ends the process: Arrow raises an
error that it does not catch. The footer is a struct of Thrift's compact protocol,
https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md
with the numbers of fields that Parquet's `parquet.thrift` gives. This module must not know what a
table means.
"""

import struct
from collections.abc import Iterator
from typing import IO, Any, NamedTuple

_MAGIC = b"PAR1"
_DEEPEST = 16
_ROW_GROUPS, _COLUMNS, _META_DATA, _NUM_VALUES, _UNCOMPRESSED = 4, 1, 3, 5, 6
_BINARY, _LIST, _SET, _STRUCT = 8, 9, 10, 12
_INTEGERS = (4, 5, 6)


class ColumnClaims(NamedTuple):
    """What is claimed of one column in one row group.

    Attributes:
        values: Number of its values, nulls among them.
        uncompressed_bytes: What its pages take once they are decompressed.
    """

    values: int
    uncompressed_bytes: int


def column_claims(file: IO[bytes]) -> list[ColumnClaims]:
    """The claims of all columns of all row groups.

    Args:
        file: A Parquet file; its position is left anywhere.

    Raises:
        ValueError: The footer is not readable.
    """
    length = file.seek(0, 2)
    file.seek(max(length - 8, 0))
    tail = file.read(8)
    footer = int.from_bytes(tail[:4], "little")
    if tail[4:] != _MAGIC or footer > length - 8:
        raise ValueError("it does not end in a Parquet footer")
    file.seek(length - 8 - footer)
    try:
        return list(_claims(_Compact(file.read(footer)).struct()))
    except (IndexError, KeyError, TypeError, struct.error) as error:
        raise ValueError("its footer is damaged") from error


def _claims(metadata: dict[int, Any]) -> Iterator[ColumnClaims]:
    for group in metadata[_ROW_GROUPS]:
        for column in group[_COLUMNS]:
            claimed = column[_META_DATA]
            values, size = claimed[_NUM_VALUES], claimed[_UNCOMPRESSED]
            if type(values) is not int or type(size) is not int or min(values, size) < 0:
                raise ValueError("its footer claims a size that is not a number of bytes or values")
            yield ColumnClaims(values, size)


class _Compact:
    """Reads values of Thrift's compact protocol one after another.

    Raises IndexError where the content ends early, ValueError at what the protocol does not have.
    """

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._at = 0

    def struct(self, depth: int = 0) -> dict[int, Any]:
        """The fields of a struct, by number."""
        fields: dict[int, Any] = {}
        number = 0
        while header := self._byte():
            kind, step = header & 15, header >> 4
            number = number + step if step else self._integer()
            fields[number] = kind == 1 if kind in (1, 2) else self._value(kind, depth)
        return fields

    def _value(self, kind: int, depth: int) -> Any:
        if depth > _DEEPEST:
            raise ValueError("its footer nests too deeply")
        if kind in _INTEGERS:
            return self._integer()
        if kind == _BINARY:
            return self._bytes(self._unsigned())
        if kind in (_LIST, _SET):
            return self._list(depth)
        if kind == _STRUCT:
            return self.struct(depth + 1)
        if 1 <= kind <= 3:  # in a list a truth value takes a byte, like a number of eight bits
            return self._byte()
        if kind == 7:
            return struct.unpack("<d", self._bytes(8))[0]
        raise ValueError("its footer holds a value of an unknown type")

    def _list(self, depth: int) -> list[Any]:
        header = self._byte()
        length = self._unsigned() if header >> 4 == 15 else header >> 4
        if length > len(self._content) - self._at:  # every element takes a byte or more
            raise ValueError("its footer claims a list that is longer than itself")
        return [self._value(header & 15, depth + 1) for _ in range(length)]

    def _byte(self) -> int:
        self._at += 1
        return self._content[self._at - 1]

    def _bytes(self, length: int) -> bytes:
        if length > len(self._content) - self._at:
            raise IndexError(length)
        self._at += length
        return self._content[self._at - length : self._at]

    def _unsigned(self) -> int:
        value = shift = 0
        while True:
            byte = self._byte()
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value
            if shift > 63:
                raise ValueError("its footer holds a number beyond 64 bits")

    def _integer(self) -> int:
        value = self._unsigned()
        return value >> 1 ^ -(value & 1)
