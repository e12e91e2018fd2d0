"""Data files as scripts: `sparcData("index", {…});`.

A page that is opened from a disk may load scripts and nothing else. The JSON in them is strict and
cannot end a script: it has no `<`, no NaN and no infinity. Texts are escaped where they are not
printable and numbers have six significant digits. This module must not know what they mean.
"""

import dataclasses
import json
import math
from collections.abc import Mapping
from typing import Any

from sparc.common.text import printable

_DIGITS = 6

_ESCAPES = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026"}
"""What could mean something to a reader of HTML; U+2028 and U+2029 are not printable."""


def script(name: str, content: Any) -> bytes:
    """The script of a data file.

    Args:
        name: The file's name below `data`, without its ending.
        content: A dataclass of this package.
    """
    return f"sparcData({_json(name)}, {_json(plain(content))});\n".encode()


def plain(content: Any) -> Any:
    """Content as plain JSON values: dataclasses as objects, what is not finite as null."""
    if dataclasses.is_dataclass(content) and not isinstance(content, type):
        fields = dataclasses.fields(content)
        return {field.name: plain(getattr(content, field.name)) for field in fields}
    if isinstance(content, Mapping):
        return {printable(str(key)): plain(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [plain(value) for value in content]
    if isinstance(content, str):
        return content if content.isprintable() else printable(content)
    if isinstance(content, float):
        return _rounded(content)
    return content


def _rounded(value: float) -> float | int | None:
    if not math.isfinite(value):
        return None
    rounded = float(f"{value:.{_DIGITS}g}")
    return int(rounded) if rounded.is_integer() and abs(rounded) < 1 << 53 else rounded


def _json(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for character, escape in _ESCAPES.items():
        text = text.replace(character, escape)
    return text
