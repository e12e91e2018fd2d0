"""Columns of a site's data files: one value a latent, encoded so that many load at once.

`SITE.md` (section *encoded columns*) describes them. This module must not know what they mean.
"""

import base64
import dataclasses
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

NumberType = Literal["f4", "f2", "u1", "u2", "u4", "i4", "flag"]

_DTYPES: dict[NumberType, str] = {
    "f4": "<f4",
    "f2": "<f2",
    "u1": "|u1",
    "u2": "<u2",
    "u4": "<u4",
    "i4": "<i4",
    "flag": "|u1",
}

HALVES_ABOVE = 4096
"""Columns of more numbers than this hold float16, three digits: the page loads all of them."""

_LARGEST_HALF = float(np.finfo(np.float16).max)


@dataclasses.dataclass(frozen=True)
class Numbers:
    """Numbers of one type.

    Attributes:
        type: The type, little endian; `flag` is 0 or 1.
        data: Their bytes in base64.
    """

    type: NumberType
    data: str

    def decode(self) -> npt.NDArray[Any]:
        """The numbers, (n,)."""
        return np.frombuffer(base64.b64decode(self.data), _DTYPES[self.type])


@dataclasses.dataclass(frozen=True)
class Texts:
    """Texts, each distinct one once.

    Attributes:
        values: The distinct texts.
        codes: By place, 0 where there is no text; else `values[code - 1]` is it.
        type: Distinguishes the column from numbers.
    """

    values: tuple[str, ...]
    codes: Numbers
    type: Literal["text"] = "text"

    def decode(self) -> list[str | None]:
        """The texts; None where there is none."""
        return [self.values[code - 1] if code else None for code in self.codes.decode()]


Encoded = Numbers | Texts


def floats(values: npt.ArrayLike) -> Numbers:
    """Real numbers; NaN where one is not defined."""
    array = np.asarray(values, np.float64)
    if len(array) > HALVES_ABOVE:
        return _numbers("f2", np.clip(array, -_LARGEST_HALF, _LARGEST_HALF))
    return _numbers("f4", array)


def counts(values: npt.ArrayLike) -> Numbers:
    """Whole numbers from 0, in the smallest type that holds them."""
    array = np.asarray(values)
    largest = int(array.max(initial=0))
    return _numbers("u1" if largest < 1 << 8 else "u2" if largest < 1 << 16 else "u4", array)


def places(values: npt.ArrayLike) -> Numbers:
    """Whole numbers from 0; -1 where one is not defined."""
    return _numbers("i4", np.asarray(values))


def flags(values: npt.ArrayLike) -> Numbers:
    """Yes or no."""
    return _numbers("flag", np.asarray(values, np.bool_))


def texts(values: Sequence[str | None]) -> Texts:
    """Texts; None or an empty one where there is none."""
    distinct = sorted({value for value in values if value})
    code = {value: place for place, value in enumerate(distinct, start=1)}
    return Texts(tuple(distinct), counts([code[value] if value else 0 for value in values]))


def _numbers(kind: NumberType, array: npt.NDArray[Any]) -> Numbers:
    return Numbers(kind, base64.b64encode(array.astype(_DTYPES[kind]).tobytes()).decode())
