"""The names of latents as plain text."""

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from sparc.common.text import amount, shorten

_FEW = 5
"""Rows that are enough evidence for a latent: more do not move it further up."""


def show(table: pa.Table, *, lines: int = 20) -> str:
    """The best supported names as plain text.

    They are not ranked by z: a word that alone activates a latent has the largest possible z,
    however small its value.
    """
    rows = [row for row in table.to_pylist() if row["rank"] == 1]
    rows.sort(key=_order)
    more = [f"  and {amount(len(rows) - lines, 'more latent')}"] if len(rows) > lines else []
    return "\n".join([_heading(rows), *map(_line, rows[:lines]), *more])


def _order(row: Mapping[str, Any]) -> tuple[int, float, int]:
    """By support up to `_FEW` rows, then by how far the value exceeds the mean over words."""
    return -min(row["rows_active"], _FEW), row["mean_value"] - row["value"], row["latent"]


def _heading(rows: Sequence[Mapping[str, Any]]) -> str:
    named = f"{amount(len(rows), 'latent')} named"
    dead = sum(not row["rows_active"] for row in rows)
    if not dead:
        return named
    are = "is" if dead == 1 else "are"
    return f"{named}; {dead:,} of them, listed last, {are} active on no row of the report"


def _line(row: Mapping[str, Any]) -> str:
    count = row["rows_active"]
    return (
        f"  {row['latent']:>7}  {shorten(row['word'], 30):<30} value {row['value']:.3f} (mean "
        f"{row['mean_value']:.3f}), active on {amount(row['words_active'], 'word')} of "
        f"{row['words']:,}, {amount(count, 'row') if count else 'NO ROW'} of {row['rows']:,}"
    )
