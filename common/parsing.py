"""JSON and TOML that anybody may have written: parsed in bounded depth, or refused in one line.

Whoever reads a document afterwards may walk it by recursion, compute with its numbers and use its
texts as paths. This module must not know what a document means.
"""

import codecs
import json
import math
import tomllib
from pathlib import Path
from typing import Any

from sparc.common.errors import ConfigError

LARGEST = 1 << 25
"""Bytes of the longest document that is read: parsed, it may take fifty times as much."""

DEEPEST = 50
"""Tables and lists inside each other; no document of SPARC has more than ten."""

_LARGEST_NUMBER = 1 << 63


def parse_json(content: bytes | str) -> Any:
    """The value of a JSON text; as `json.loads`, but for what is refused.

    Raises:
        ValueError: It is no JSON, nests too deeply, or holds a number that is not finite or beyond
            64 bits, or a text that is not Unicode or has a NUL.
    """
    try:
        return _checked(json.loads(content, parse_constant=_refuse_constant))
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None


def parse_object(content: bytes | str) -> dict[str, Any]:
    """The same for a text that must be a JSON object.

    Raises:
        ValueError: As `parse_json`, or it is none.
    """
    document = parse_json(content)
    if not isinstance(document, dict):
        raise ValueError("it is not a JSON object")
    return document


def parse_toml(content: bytes) -> dict[str, Any]:
    """The tables of a TOML file.

    Raises:
        ValueError: It is no TOML in UTF-8, or holds what `parse_json` refuses.
    """
    try:
        document: dict[str, Any] = _checked(tomllib.loads(content.decode()))
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None
    return document


def read_toml(path: Path, what: str) -> dict[str, Any]:
    """The tables of a TOML file that a person named.

    Args:
        path: The file.
        what: What it is called in the error message.

    Raises:
        ConfigError: It cannot be read or is no TOML.
    """
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST + 1)
        if len(content) > LARGEST:
            raise ValueError("it is too long")
        return parse_toml(content.removeprefix(codecs.BOM_UTF8))  # of a Windows editor
    except OSError as error:
        raise ConfigError(f"cannot read {what} {path}: {error.strerror}") from error
    except ValueError as error:
        raise ConfigError(f"{path} is not valid TOML: {error}") from error


_TOO_DEEP = f"it nests more than {DEEPEST} deep"


def _checked(document: Any) -> Any:
    """The document itself. Level by level, since recursion is what a deep one would exhaust."""
    level = [document]
    for _ in range(DEEPEST + 1):
        below: list[Any] = []
        for value in level:
            if isinstance(value, dict):
                _check_texts(value)
                below.extend(value.values())
            elif isinstance(value, list):
                below.extend(value)
            else:
                _check(value)
        if not below:
            return document
        level = below
    raise ValueError(_TOO_DEEP)


def _check(value: Any) -> None:
    if isinstance(value, str):
        _check_texts((value,))
    elif isinstance(value, int):
        if not -_LARGEST_NUMBER <= value < _LARGEST_NUMBER:
            raise ValueError("it holds a number beyond 64 bits")
    elif isinstance(value, float) and not math.isfinite(value):
        raise ValueError("it holds a number that is not finite")


def _check_texts(texts: Any) -> None:
    for text in texts:
        if not text.isascii():
            try:
                text.encode()
            except UnicodeEncodeError:
                raise ValueError("it holds a text that is not Unicode") from None
        if "\0" in text:
            raise ValueError("it holds a text with a NUL")


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"it holds {name}, which is not JSON")
