"""What codes of both modes say of every latent in every stream, read once, part by part.

Memory is bounded by latents, streams and classes: it does not grow with the rows.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import sparse

from sparc.analyze.browse.contents.index import Mode
from sparc.analyze.browse.gather import samples
from sparc.analyze.browse.gather.samples import Samples
from sparc.analyze.codes.code_rows import CodeRows
from sparc.analyze.codes.code_sets import CodeSet
from sparc.analyze.codes.parts import Parts
from sparc.analyze.maths.reduction import Reducer
from sparc.analyze.metrics.meaning import row_counts
from sparc.analyze.metrics.meaning.row_counts import RowCounts
from sparc.analyze.metrics.selection import selected
from sparc.analyze.report.folder import Report
from sparc.analyze.rows.active_images import active_images, whole_images
from sparc.analyze.rows.images import Images
from sparc.common.cache.reader import ActivationCache

BINS = 12
"""Bins of a histogram of values."""

BIN_IMAGES = 2
"""Images drawn of a bin."""

SAMPLE_IMAGES = 64
"""Images drawn of a latent in a stream, whose values say where its quantiles are."""

MODES: tuple[Mode, ...] = ("independent", "joint")

_BATCH = 1 << 14  # Rows at a time: sorting takes several times the memory of their codes.

Integers = npt.NDArray[np.int64]


class StreamActivity(NamedTuple):
    """What the codes of a stream in a mode say of every latent.

    Attributes:
        counts: Rows in each bin of values, (latents, BINS) int64.
        in_bins: Images by latent * BINS + bin; of independent codes alone, else empty.
        sample: Images by latent.
    """

    counts: Integers
    in_bins: Samples
    sample: Samples


class Activity(NamedTuple):
    """What the codes of a report say of every latent.

    Attributes:
        streams: By mode and stream.
        classes: By mode, the classes of each latent's labelled rows; empty without labels.
        jointly: Rows that select each latent jointly, (latents,) int64.
        also: By stream, how many of these also select it independently there, (latents,) int64.
        images: By stream, on how many images it is active independently, by any of their rows,
            (latents,) int64.
    """

    streams: Mapping[Mode, Mapping[str, StreamActivity]]
    classes: Mapping[Mode, RowCounts]
    jointly: Integers
    also: Mapping[str, Integers]
    images: Mapping[str, Integers]

    def selection_share(self, stream: str) -> npt.NDArray[np.float64]:
        """The share of the rows that select a latent jointly on which the stream selects it, too.

        (latents,); NaN where none does. `selection.parquet` has the same over all latents.
        """
        share: npt.NDArray[np.float64] = np.full(len(self.jointly), np.nan)
        np.divide(self.also[stream], self.jointly, out=share, where=self.jointly > 0)
        return share


Largest = Mapping[Mode, Mapping[str, npt.NDArray[np.float64]]]
"""By mode and stream, the largest value of each latent, (latents,); 0 where it is dead."""


def read_activity(
    report: Report,
    cache: ActivationCache,
    images: Images,
    carried: sparse.csr_matrix | None,
    largest: Largest,
    reducer: Reducer,
    advance: Callable[[int], Any],
) -> Activity:
    """Read the codes.

    Args:
        report: A finished report.
        cache: Its cache.
        images: The images of the cache.
        carried: The classes of every row, (rows, classes); None without labels.
        largest: From `latents.parquet`: where histograms end.
        reducer: Reduces over the parts, in this process.
        advance: Called with the number of rows of each part that has been read.
    """
    parts = {mode: Parts(report.codes, cache, CodeSet(mode)) for mode in MODES}
    shared = _Shared(parts, images, carried, largest, advance)
    return reducer.reduce(_read_part, _merge, shared, len(parts["joint"]))


class _Shared(NamedTuple):
    parts: Mapping[Mode, Parts]
    images: Images
    carried: sparse.csr_matrix | None
    largest: Largest
    advance: Callable[[int], Any]


def _read_part(shared: _Shared, part: int) -> Activity:
    codes = {mode: parts.codes(part) for mode, parts in shared.parts.items()}
    rows = len(codes["joint"].rows)
    batches = zip(*(codes[mode].batches(_BATCH) for mode in MODES), strict=True)
    total: Activity | None = None
    for batch in batches:
        read = _read_rows(shared, dict(zip(MODES, batch, strict=True)))
        total = read if total is None else _merge([total, read])
    shared.advance(rows)
    assert total is not None  # a part has rows
    return total._replace(images=_count_images(shared, part))


def _count_images(shared: _Shared, part: int) -> dict[str, Integers]:
    """By stream, on how many of the images that begin in a part each latent is active."""
    parts = shared.parts["independent"]
    codes = whole_images(parts, shared.images, part)
    counted = (
        (stream, active_images(codes, stream, parts.latents, shared.images)[0])
        for stream in codes.streams
    )
    return {stream: _by_latent(active) for stream, active in counted}


def _read_rows(shared: _Shared, codes: Mapping[Mode, CodeRows]) -> Activity:
    number = samples.numbers(shared.images.of_row[codes["joint"].rows])
    latents = shared.parts["joint"].latents
    streams = {
        mode: {
            stream: _of_stream(of_mode, stream, number, shared.largest[mode][stream], mode)
            for stream in of_mode.streams
        }
        for mode, of_mode in codes.items()
    }
    classes: dict[Mode, RowCounts] = {}
    if shared.carried is not None:
        carried = shared.carried[codes["joint"].rows]
        classes = {m: row_counts.count_rows(c, carried, latents) for m, c in codes.items()}
    choose = partial(selected, latents=latents, padded=shared.parts["joint"].padded)
    jointly = choose(codes["joint"], codes["joint"].streams[0])
    also = {
        stream: _by_latent(jointly.multiply(choose(codes["independent"], stream)))
        for stream in codes["joint"].streams
    }
    return Activity(streams, classes, _by_latent(jointly), also, {})


def _of_stream(
    codes: CodeRows,
    stream: str,
    number: npt.NDArray[np.uint64],
    largest: npt.NDArray[np.float64],
    mode: Mode,
) -> StreamActivity:
    matrix = codes.matrix(stream, len(largest))
    place = np.repeat(np.arange(len(codes.rows)), np.diff(matrix.indptr))
    latent, values = matrix.indices.astype(np.int64), matrix.data
    group = latent * BINS + bins_of(values, largest[latent])
    counts = np.bincount(group, minlength=len(largest) * BINS).reshape(-1, BINS)
    numbers, rows = number[place], codes.rows[place]
    drawn = slice(None) if mode == "independent" else slice(0)
    in_bins = group[drawn], numbers[drawn], rows[drawn], values[drawn]
    return StreamActivity(
        counts,
        samples.draw(*in_bins, BIN_IMAGES),
        samples.draw(latent, numbers, rows, values, SAMPLE_IMAGES),
    )


def bins_of(values: npt.NDArray[np.float32], largest: Any) -> Integers:
    """The bin of some values, of `BINS` of equal width from 0 to the largest value, (n,)."""
    share = values.astype(np.float64) / largest
    return np.asarray(np.minimum((share * BINS).astype(np.int64), BINS - 1))


def _by_latent(matrix: Any) -> Integers:
    return np.bincount(matrix.tocsr().indices, minlength=matrix.shape[1])


def _merge(parts: Sequence[Activity]) -> Activity:
    first = parts[0]
    return Activity(
        {
            mode: {
                stream: StreamActivity(
                    np.sum([part.streams[mode][stream].counts for part in parts], axis=0),
                    samples.merge([p.streams[mode][stream].in_bins for p in parts], BIN_IMAGES),
                    samples.merge([p.streams[mode][stream].sample for p in parts], SAMPLE_IMAGES),
                )
                for stream in of_mode
            }
            for mode, of_mode in first.streams.items()
        },
        {mode: row_counts.merge([part.classes[mode] for part in parts]) for mode in first.classes},
        np.sum([part.jointly for part in parts], axis=0),
        {s: np.sum([part.also[s] for part in parts], axis=0) for s in first.also},
        {s: np.sum([part.images[s] for part in parts], axis=0) for s in first.images},
    )
