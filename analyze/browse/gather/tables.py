"""The tables of a report, by latent: what the site shows is what they say.

A table that the report does not have gives nothing.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from sparc.analyze.browse.contents.detail import Cofiring, Name, Purity
from sparc.analyze.browse.contents.index import Mode
from sparc.analyze.browse.gather.activity import MODES
from sparc.analyze.concepts.names import GUESS
from sparc.analyze.report.folder import Report

Floats = npt.NDArray[np.float64]

NAMES = 3
"""Words that stand for a latent in a list; its page has all."""

PARTNERS = 6
"""Latents that fire together with one, listed of each stream: the closest."""

Where = tuple[Mode, str]
"""A mode and a stream."""


class OfLatents(NamedTuple):
    """`latents.parquet` in a mode and a stream.

    Attributes:
        rows: Rows on which each latent is active, (L,) int64.
        frequency: Their share, (L,).
        mean: Mean value on them, (L,); NaN if there are none.
        largest: Largest value, (L,); 0 if there are none.
        top_rows: The strongest rows of each, L lists.
        top_values: Their values.
    """

    rows: npt.NDArray[np.int64]
    frequency: Floats
    mean: Floats
    largest: Floats
    top_rows: pa.ListArray
    top_values: pa.ListArray


class Tables:
    """The tables of a report.

    Args:
        report: A finished report.
        classes: The name of each class of its cache, cut as it is shown, by `class_id`.
    """

    def __init__(self, report: Report, classes: Sequence[str]) -> None:
        self._report = report
        self.classes = classes
        self.latents = report.info.latents

    @cached_property
    def of_latents(self) -> Mapping[Where, OfLatents]:
        """`latents.parquet`, by mode and stream."""
        table = self._report.table("latents")
        return {where: _of_latents(lines) for where, lines in self._by_where(table).items()}

    @cached_property
    def dead(self) -> npt.NDArray[np.bool_]:
        """Which latents are active on no row, in any stream that selects on its own, (L,)."""
        rows = [of.rows for (mode, _), of in self.of_latents.items() if mode == "independent"]
        return np.asarray(~np.any(rows, axis=0))

    @cached_property
    def purity(self) -> Mapping[Where, Mapping[int, Purity]]:
        """By mode, stream and latent, its most frequent class at the deepest level; all rows."""
        table = self._table("purity")
        if table is None:
            return {}
        deepest = pc.max(table["depth"]).as_py()
        whole = (pc.field("restriction") == "all_rows") & (pc.field("depth") == deepest)
        columns = ("latent", "class_id", "purity", "base_rate", "lift")
        return {
            where: {
                latent: Purity(name=self.classes[class_id], share=share, base=base, lift=lift)
                for latent, class_id, share, base, lift in _lines(lines, columns)
            }
            for where, lines in self._by_where(
                table.filter(whole & pc.field("class_id").is_valid())
            ).items()
        }

    @cached_property
    def names(self) -> Mapping[Where, Mapping[int, tuple[Name, ...]]]:
        """`naming.parquet`: by mode, stream and latent, its names, the best first."""
        table = self._table("naming")
        if table is None:
            return {}
        columns = ("latent", "word", "images_both", "images_latent", "images_word", "q")
        result: dict[Where, dict[int, list[Name]]] = {}
        images = self._analysed_images
        for where, lines in self._by_where(table.sort_by("rank")).items():
            named = result.setdefault(where, {})
            for latent, word, both, of, everywhere, q in _lines(lines, columns):
                lift = both * images / (of * everywhere) if images and of and everywhere else None
                name = Name(word=word, images=both, of=of, lift=lift, q=q, guess=both < GUESS)
                named.setdefault(latent, []).append(name)
        return {w: {n: tuple(names) for n, names in of.items()} for w, of in result.items()}

    def called(self, stream: str, latent: int) -> str:
        """The best names of a latent in a stream, independently selected; empty if it has none."""
        names = self.names.get(("independent", stream), {}).get(latent, ())
        return ", ".join(name.word for name in names[:NAMES])

    @cached_property
    def cofiring(self) -> Mapping[int, tuple[Cofiring, ...]]:
        """By latent, the others of its own stream, the closest first in each stream."""
        table = self._table("cofiring")
        if table is None:
            return {}
        within = (pc.field("mode") == "independent") & (pc.field("first") == pc.field("second"))
        table = table.filter(within).sort_by([("phi", "descending")])
        columns = ("first", "first_latent", "second_latent", "images_both", "lift", "phi", "q")
        result: dict[int, list[Cofiring]] = {}
        listed: Counter[tuple[str, int]] = Counter()
        for stream, first, second, both, lift, phi, q in _lines(table, columns):
            for latent, other in ((first, second), (second, first)):
                listed[stream, latent] += 1
                if listed[stream, latent] > PARTNERS:
                    continue
                partner = Cofiring(
                    stream=stream,
                    latent=other,
                    images_both=both,
                    lift=lift,
                    phi=phi,
                    q=q,
                    name=self.called(stream, other),
                )
                result.setdefault(latent, []).append(partner)
        order = self._report.info.streams.index
        return {
            latent: tuple(sorted(partners, key=lambda partner: order(partner.stream)))
            for latent, partners in result.items()
        }

    @cached_property
    def _analysed_images(self) -> int | None:
        """Number of images that names were counted on: those of the report."""
        images = self._report.summary.get("alive_images")
        return None if images is None else int(images)

    def _table(self, name: str) -> pa.Table | None:
        return self._report.table(name) if name in self._report.tables else None

    def _by_where(self, table: pa.Table) -> dict[Where, pa.Table]:
        streams = self._report.info.streams
        return {
            (mode, stream): table.filter(
                (pc.field("mode") == mode) & (pc.field("stream") == stream)
            )
            for mode in MODES
            for stream in streams
        }


def _of_latents(lines: pa.Table) -> OfLatents:
    lines = lines.sort_by("latent")
    top_rows, top_values = (lines[name].combine_chunks() for name in ("top_rows", "top_values"))
    mean, largest = (
        np.asarray(lines[name].cast(pa.float64()).fill_null(missing))
        for name, missing in (("mean_value", np.nan), ("largest_value", 0.0))
    )
    rows, frequency = (np.asarray(lines[name]) for name in ("rows_active", "frequency"))
    return OfLatents(rows, frequency, mean, largest, top_rows, top_values)


def _lines(table: pa.Table, columns: Sequence[str]) -> Any:
    return zip(*(table[column].to_pylist() for column in columns), strict=True)
