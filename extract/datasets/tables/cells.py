"""What a value of a table or of JSON says: captions, classes, an id; bad ones are no errors."""

import ast
import json
import math
import re
import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

LARGEST_EXACT = 1 << 53
"""Up to here every integer is exact as a float."""

_MISSING = frozenset({"nan", "NaN", "null", "NULL", "None", "<NA>"})
"""What programs write in a cell of text that has no value."""

_QUOTED = r"""(?:'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")"""
_LIST = re.compile(rf"\s*\[\s*{_QUOTED}\s*(?:,\s*{_QUOTED}\s*)*,?\s*\]\s*", re.DOTALL)
"""A list of texts that is written as JSON or as Python does."""


class Texts(NamedTuple):
    """The texts of a cell.

    Attributes:
        texts: Those that can be used.
        fault: What is wrong with the others; empty if nothing is.
    """

    texts: Sequence[str]
    fault: str = ""


def captions_of(value: Any) -> Texts:
    """The captions of a cell: text, or a list of texts, also one that was written as text.

    UTF-8 bytes are text; numbers and what programs write for a missing value are none.
    """
    if type(value) is str:
        if value in _MISSING:
            return Texts((), f"it is {value}")
        return Texts(listed_texts(value) or (value,))
    if not isinstance(value, list | tuple):
        text, fault = _text(value)
        return Texts(() if fault else (text,), fault)
    parts = [_text(item) for item in value]
    faults = [fault for _, fault in parts if fault]
    return Texts([text for text, fault in parts if not fault], faults[0] if faults else "")


def classes_of(value: Any, separator: str) -> Texts:
    """The classes of a cell: text, whole numbers, or a list of them. A missing value is no fault.

    Args:
        value: The cell.
        separator: Between the classes of a text; empty: a text is one class.
    """
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return Texts(())
    if not isinstance(value, list | tuple):
        value = [value]
    classes: list[str] = []
    fault = ""
    for item in value:
        if isinstance(item, str):
            if item in _MISSING:
                continue
            if listed := listed_texts(item):
                classes.extend(listed)
                continue
        is_whole = type(item) is int or (isinstance(item, float) and item.is_integer())
        text, why = (str(int(item)), "") if is_whole else _text(item)
        fault = fault or why
        if not why:
            classes.extend(text.split(separator) if separator else (text,))
    return Texts([text for item in classes if (text := item.strip())], fault)


def listed_texts(text: str) -> Sequence[str]:
    """The texts of a list that is written as JSON or as Python does; none where it is no such."""
    if not text.lstrip().startswith("[") or not _LIST.fullmatch(text):
        return ()
    try:
        values: list[str] = json.loads(text)
    except ValueError:
        try:  # one literal at a time: a whole expression may nest without end
            with warnings.catch_warnings(action="ignore"):  # of unknown escapes
                literals = re.findall(_QUOTED, text, re.DOTALL)
                values = [ast.literal_eval(literal) for literal in literals]
        except (ValueError, SyntaxError):
            return ()
    return [value.encode("utf-16", "surrogatepass").decode("utf-16", "replace") for value in values]


def text_of(value: Any) -> str:
    """Text without spaces around it; empty if the value is none."""
    return value.strip() if isinstance(value, str) else ""


def identifier(value: Any) -> str:
    """An id as text; empty if it is none. Floats stand for integers in exports of some programs."""
    if isinstance(value, float) and value.is_integer() and abs(value) < LARGEST_EXACT:
        return str(int(value))
    return str(value) if type(value) in (int, str) else ""


def _text(value: Any) -> tuple[str, str]:
    """The text of a value, and what is wrong with it."""
    if isinstance(value, str):
        return value, ""
    if value is None:
        return "", "it is null"
    if isinstance(value, bytes):
        try:
            return value.decode(), ""
        except UnicodeDecodeError:
            return "", "it has bytes that are not UTF-8"
    if isinstance(value, float) and math.isnan(value):
        return "", "it is NaN"
    if isinstance(value, int | float):
        return "", "it is a number, not text"
    return "", "it is neither text nor a list of texts"
