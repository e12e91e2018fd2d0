"""Lines of JSON that each carry a CRC32C: a flipped digit of a figure is a figure too.

The checksum is the last entry of a line, over all bytes before it:

    {"step": 50, "loss": 0.25, "crc32c": "89abcdef"}

Lines of earlier versions have none. They end in a number or an object, never in a text, so that
damage to a checksum does not make a line look like one of them. This module must not know what the
entries mean.
"""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import google_crc32c

from sparc.common.parsing import parse_object

_ENTRY = b', "crc32c": "%08x"}'
_SEALED = re.compile(rb'(.*), "crc32c": "([0-9a-f]{8})"}', re.DOTALL)


def seal_line(entries: Mapping[str, Any]) -> bytes:
    """A line with its checksum and its end of line; there must be an entry."""
    body = json.dumps(entries).removesuffix("}").encode()
    check: int = google_crc32c.value(body)
    return body + _ENTRY % check + b"\n"


def unseal_line(line: bytes) -> dict[str, Any]:
    """The entries of a line, given without its end of line; checked if there is a checksum.

    Raises:
        ValueError: It is not what was written.
    """
    if line.endswith(b'"}'):
        sealed = _SEALED.fullmatch(line)
        if sealed is None or google_crc32c.value(sealed[1]) != int(sealed[2], 16):
            raise ValueError("it does not fit its checksum")
        line = sealed[1] + b"}"
    return parse_object(line)


def unseal_lines(content: bytes) -> Iterator[dict[str, Any]]:
    """The entries of all whole lines; a last line that was not written to its end is left out.

    Raises:
        ValueError: A line is not what was written; says which.
    """
    *lines, rest = content.split(b"\n")
    for number, line in enumerate(lines, 1):
        try:
            yield unseal_line(line)
        except ValueError as error:
            raise ValueError(f"line {number}: {error}") from error
    if _is_whole(rest[:-1]):
        raise ValueError(f"line {len(lines) + 1}: it has lost its end of line")


def _is_whole(line: bytes) -> bool:
    try:
        return bool(unseal_line(line))
    except ValueError:
        return False
