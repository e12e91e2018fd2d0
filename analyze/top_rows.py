"""The rows on which each latent is strongest, found part by part.

Ties go to the row that comes first, so that the lists do not depend on how rows fall into parts.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from sparc.analyze.codes import CodeRows


class TopRows(NamedTuple):
    """Lists of the strongest rows, of one stream, one list after the other.

    Attributes:
        latents: Whose list an entry belongs to, ascending, (entries,).
        rows: The row of the cache, (entries,).
        values: The latent's value there, descending within a list, (entries,) float32.
    """

    latents: npt.NDArray[np.int64]
    rows: npt.NDArray[np.int64]
    values: npt.NDArray[np.float32]


def measure(codes: CodeRows, stream: str, length: int) -> TopRows:
    """The lists over some rows.

    Args:
        codes: The rows; they must ascend.
        stream: Which stream.
        length: Rows of a list at most.
    """
    active = codes.values[stream] > 0
    values = codes.values[stream][active]
    latents = codes.indices[stream][active].astype(np.uint64)
    position = np.repeat(np.arange(len(codes.rows)), active.sum(axis=1))
    packed = _packed(latents, values, position.astype(np.uint64))
    if packed is None:
        order = np.argsort(_key(latents, values), kind="stable")
        return _cut(latents[order], codes.rows[position[order]], values[order], length)
    # Sorting one number that says everything is several times faster than finding an order.
    bits_of_position = int(position.max(initial=0)).bit_length()
    packed.sort()
    position = (packed & np.uint64((1 << bits_of_position) - 1)).astype(np.int64)
    packed >>= np.uint64(bits_of_position)
    values = (_HIGHEST - (packed & _HIGHEST).astype(np.uint32)).view(np.float32)
    return _cut(packed >> np.uint64(31), codes.rows[position], values, length)


def merge(parts: Sequence[TopRows], length: int) -> TopRows:
    """The lists over the rows of all parts, which may interleave."""
    latents = np.concatenate([part.latents for part in parts])
    rows = np.concatenate([part.rows for part in parts])
    values = np.concatenate([part.values for part in parts])
    spans = [(part.rows.min(), part.rows.max()) for part in parts if len(part.rows)]
    if any(last > first for (_, last), (first, _) in pairwise(spans)):
        by_row = np.argsort(rows, kind="stable")
        latents, rows, values = latents[by_row], rows[by_row], values[by_row]
    # Where rows tie they ascend by now: a stable sort merges the parts and keeps that order.
    order = np.argsort(_key(latents.astype(np.uint64), values), kind="stable")
    return _cut(latents[order], rows[order], values[order], length)


_HIGHEST = np.uint32(0x7FFF_FFFF)
"""Positive float32 values order as the 31 bits of their pattern do."""


def _key(latents: npt.NDArray[np.uint64], values: npt.NDArray[np.float32]) -> Any:
    """One number for each entry that ascends with the latent and descends with the value."""
    bits = values.view(np.uint32)
    return (latents << np.uint64(31)) | (_HIGHEST - bits)


def _packed(
    latents: npt.NDArray[np.uint64],
    values: npt.NDArray[np.float32],
    position: npt.NDArray[np.uint64],
) -> Any | None:
    """The key with the position behind it, where 64 bits hold them all."""
    bits = int(position.max(initial=0)).bit_length()
    if int(latents.max(initial=0)).bit_length() + 31 + bits > 64:
        return None
    return (_key(latents, values) << np.uint64(bits)) | position


def _cut(
    latents: npt.NDArray[Any],
    rows: npt.NDArray[np.int64],
    values: npt.NDArray[np.float32],
    length: int,
) -> TopRows:
    """The first entries of each list, from sorted entries."""
    # An entry is beyond its list's end where the one so many places before is of the same latent.
    kept = np.ones(len(latents), np.bool_)
    np.not_equal(latents[length:], latents[:-length], out=kept[length:])
    return TopRows(latents[kept].astype(np.int64), rows[kept], values[kept])
