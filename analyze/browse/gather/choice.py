"""Which rows are shown of a latent, and why: the strongest, near quantiles, by value.

Every image counts by its strongest row among those that were looked at.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from sparc.analyze.browse.contents.index import Mode
from sparc.analyze.browse.extent import extent_of
from sparc.analyze.browse.gather.activity import BIN_IMAGES, BINS, MODES, Activity, bins_of
from sparc.analyze.browse.gather.tables import Tables

QUANTILES = (0.9, 0.5, 0.1)
"""Of the values on a latent's images, from high to low."""

Integers = npt.NDArray[np.int64]


class Rows(NamedTuple):
    """Rows with the latent's values on them, (n,) each."""

    rows: Integers
    values: npt.NDArray[np.float32]


class StreamChoice(NamedTuple):
    """The rows that are shown of a latent in a stream, in one mode.

    Attributes:
        top: The strongest images, the strongest first.
        quantiles: By `QUANTILES`, images near it, from high to low.
        bins: By bin of the histogram; none in joint mode.
    """

    top: Rows
    quantiles: tuple[Rows, ...]
    bins: tuple[Rows, ...]


Choice = Mapping[Mode, Mapping[str, StreamChoice]]


class Chooser:
    """Chooses the rows that are shown of latents.

    Args:
        tables: The report's tables.
        activity: What its codes say.
        of_row: The image of every row of the cache, (rows,).
    """

    def __init__(self, tables: Tables, activity: Activity, of_row: Integers) -> None:
        self._tables, self._activity, self._of_row = tables, activity, of_row
        self._extent = extent_of(tables.latents)

    def choose(self, latent: int) -> Choice:
        """The rows of a latent, by mode and stream."""
        return {
            mode: {
                stream: self._in_stream(latent, mode, stream)
                for stream in self._activity.streams[mode]
            }
            for mode in MODES
        }

    def _in_stream(self, latent: int, mode: Mode, stream: str) -> StreamChoice:
        sample = Rows(*self._activity.streams[mode][stream].sample.of(latent))
        top = self._top(latent, mode, stream)
        quantiles = _near_quantiles(sample, self._extent.quantile[mode])
        bins: tuple[Rows, ...] = ()
        if mode == "independent":
            bins = tuple(self._bins(latent, stream, [top, *quantiles]))
        return StreamChoice(top, quantiles, bins)

    def _bins(self, latent: int, stream: str, shown: Sequence[Rows]) -> Iterator[Rows]:
        """Images of each bin: of those that are shown anyway, if there are any."""
        largest = self._tables.of_latents["independent", stream].largest
        rows, first = np.unique(np.concatenate([x.rows for x in shown]), return_index=True)
        values = np.concatenate([x.values for x in shown])[first]
        ordered = _strongest_first(Rows(rows, values))
        of_rows = bins_of(ordered.values, largest[latent])
        drawn = self._activity.streams["independent"][stream].in_bins
        for number in range(BINS):
            own = of_rows == number
            of_bin = Rows(ordered.rows[own], ordered.values[own])
            if self._extent.draws_bins and not own.any():
                of_bin = _strongest_first(Rows(*drawn.of(latent * BINS + number)))
            yield Rows(of_bin.rows[:BIN_IMAGES], of_bin.values[:BIN_IMAGES])

    def _top(self, latent: int, mode: Mode, stream: str) -> Rows:
        table = self._tables.of_latents[mode, stream]
        rows = np.asarray(table.top_rows[latent].values, np.int64)
        values = np.asarray(table.top_values[latent].values, np.float32)
        first = np.sort(np.unique(self._of_row[rows], return_index=True)[1])[
            : self._extent.top[mode]
        ]
        return Rows(rows[first], values[first])


def all_rows(choice: Choice) -> Iterator[Integers]:
    """The rows of a choice: what each image is shown for first comes first."""
    for of_mode in choice.values():
        for of_stream in of_mode.values():
            yield of_stream.top.rows
        for of_stream in of_mode.values():
            for near in of_stream.quantiles:
                yield near.rows
        for of_stream in of_mode.values():
            for of_bin in of_stream.bins:
                yield of_bin.rows


def _near_quantiles(sample: Rows, count: int) -> tuple[Rows, ...]:
    """The images next to each quantile in the order of values; of few, fewer."""
    ordered = _strongest_first(sample)
    images = len(ordered.rows)
    result = []
    for quantile in QUANTILES:
        begin = round((1 - quantile) * (images - 1)) - (count - 1) // 2
        begin = max(0, min(begin, images - count))
        near = slice(begin, begin + count)
        result.append(Rows(ordered.rows[near], ordered.values[near]))
    return tuple(result)


def _strongest_first(rows: Rows) -> Rows:
    order = np.lexsort((rows.rows, -rows.values))
    return Rows(rows.rows[order], rows.values[order])
