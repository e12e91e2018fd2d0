"""How similar the images are on which a latent is active, in the features of any stream.

The score is that of Pach et al., arXiv 2504.02821, section 3.2: the mean cosine of the features of
two images over all pairs, weighted by the product of the latent's values. All pairs take one pass
over the images: see `REPORT.md` for the sums and the tables. Means are computed on all images and
without each fold, for their intervals.
"""

from collections.abc import Iterator, Sequence
from copy import copy
from functools import partial
from itertools import product
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch
from scipy import sparse
from torch.nn import functional as F

from sparc.analyze.codes.code_rows import CodeRows, concatenate
from sparc.analyze.codes.code_sets import CodeSet
from sparc.analyze.codes.parts import Parts
from sparc.analyze.maths.blocks import BlockSums, ranges_of, reduce_blocks
from sparc.analyze.maths.intervals import jackknife, nullable, with_interval
from sparc.analyze.maths.packing import RowFlags
from sparc.analyze.maths.reduction import Reducer
from sparc.analyze.rows.folds import Folds

SCHEMA = pa.schema(
    [
        pa.field("mode", pa.string(), nullable=False),
        pa.field("stream", pa.string(), nullable=False),
        pa.field("reference", pa.string(), nullable=False),
        pa.field("latent", pa.int32(), nullable=False),
        pa.field("images", pa.int64(), nullable=False),
        pa.field("score", pa.float64()),
    ]
)

MEANS_SCHEMA = pa.schema(
    [
        pa.field("mode", pa.string(), nullable=False),
        pa.field("control", pa.string(), nullable=False),
        pa.field("stream", pa.string(), nullable=False),
        pa.field("reference", pa.string(), nullable=False),
        pa.field("latents", pa.int32(), nullable=False),
        pa.field("value", pa.float64()),
        pa.field("value_low", pa.float64()),
        pa.field("value_high", pa.float64()),
        pa.field("any_two", pa.float64()),
    ]
)

LEAST_WEIGHT = 1e-3
"""A latent whose pairs weigh less than this, relative to its squared values, has no score: a single
image outweighs all others, and rounding would show."""

_BATCH = 4096  # Images per product, few enough for sums in float32.

_SUMS = 2**24
"""Sums that a task holds, 128 MB of float64; further latents go to further tasks."""


class LatentScores(NamedTuple):
    """The scores of some latents of a stream, in the features of a stream.

    Attributes:
        stream: The stream of the codes.
        reference: The stream of the features.
        images: On how many images each latent is active, (n,) int64.
        score: The latents' scores, (n,) float64; NaN where undefined.
        any_two: The mean cosine of any two images; NaN with fewer than two.
        totals: The sum of the scores, and the number of latents that have one: on all images, then
            without each fold, (2, 1 + folds).
    """

    stream: str
    reference: str
    images: npt.NDArray[np.int64]
    score: npt.NDArray[np.float64]
    any_two: float
    totals: npt.NDArray[np.float64]


class _Task(NamedTuple):
    reference: str
    latents: range


class _Shared(NamedTuple):
    parts: Parts
    one_per_image: RowFlags
    folds: Folds
    tasks: tuple[_Task, ...]


def score_latents(
    parts: Parts, one_per_image: npt.NDArray[np.int64], folds: Folds, reducer: Reducer
) -> list[LatentScores]:
    """Score every latent of every stream in the features of every stream.

    A task sums over a range of the parts, so that memory does not grow with the rows; see
    `sparc.analyze.maths.blocks`. Its sums have the shape (streams, latents, dim). It also holds the
    features and codes of the images in folds, whose number is bounded.

    Args:
        parts: A set of codes.
        one_per_image: A row of each image.
        folds: The images that are left out in turn. On permuted codes, the row that a feature comes
            from decides, for folds and for `one_per_image`.
        reducer: Runs the tasks.

    Returns:
        Scores in the order of references, latents and streams.
    """
    flags = RowFlags.at(one_per_image, parts.cache.info.rows)
    tasks = tuple(_tasks(parts))
    finish = partial(_score, tasks, parts.streams, folds.number)
    sums = BlockSums(_sum_task, _add, finish, _concatenate)
    ranges = ranges_of(len(parts), parts.cache.info.rows)
    return reduce_blocks(reducer, sums, _Shared(parts, flags, folds, tasks), len(tasks), ranges)


def table(scores: Sequence[LatentScores], code_set: CodeSet) -> pa.Table:
    """A row for each stream, reference and latent, of schema `SCHEMA`."""
    pieces = []
    for stream, reference, images, score, *_ in _joined(scores):
        latents = len(score)
        columns = {
            "mode": [code_set.mode] * latents,
            "stream": [stream] * latents,
            "reference": [reference] * latents,
            "latent": np.arange(latents, dtype=np.int32),
            "images": images,
            "score": pa.array(score, mask=np.isnan(score)),
        }
        pieces.append(pa.table(columns, schema=SCHEMA))
    return pa.concat_tables(pieces)


def means(scores: Sequence[LatentScores], code_set: CodeSet, share: float) -> pa.Table:
    """Means over the latents that have a score, of `MEANS_SCHEMA`.

    Args:
        scores: The scores.
        code_set: Which codes they are of.
        share: The share of the images in one fold.
    """
    rows = []
    for stream, reference, _, _, any_two, (sums, latents) in _joined(scores):
        with np.errstate(invalid="ignore"):
            figures = sums / latents
        interval = jackknife(figures, share, least=-1, most=1)
        rows.append(
            {
                "mode": code_set.mode,
                "control": code_set.control,
                "stream": stream,
                "reference": reference,
                "latents": int(latents[0]),
                **with_interval("value", figures[0], interval),
                "any_two": nullable(any_two),
            }
        )
    return pa.Table.from_pylist(rows, schema=MEANS_SCHEMA)


def _tasks(parts: Parts) -> Iterator[_Task]:
    for reference in parts.streams:
        dim = parts.cache.streams[reference].dim
        block = max(1, _SUMS // (len(parts.streams) * dim))
        for start in range(0, parts.latents, block):
            yield _Task(reference, range(start, min(start + block, parts.latents)))


def _sum_task(shared: _Shared, number: int, of_parts: range) -> "_Summed":
    """Sum the images in no fold over some parts, and collect those in folds."""
    task, parts = shared.tasks[number], shared.parts
    sums = _TaskSums(task, parts.streams, parts.cache.streams[task.reference].dim, parts.latents)
    held = []
    for part in of_parts:
        rows, features = parts.placed_features(part, task.reference)
        codes = parts.codes(part)
        counted, fold = shared.one_per_image.flags[rows], shared.folds.of_row[rows]
        others = np.flatnonzero(counted & (fold == 0))
        for start in range(0, len(others), _BATCH):
            batch = others[start : start + _BATCH]
            sums.add(features[batch], codes.take(batch))
        some = np.flatnonzero(counted & (fold > 0))
        held.append(_Held(fold[some], features[some], codes.take(some)))
    return _Summed(sums, _joined_held(held))


def _add(first: "_Summed", second: "_Summed") -> "_Summed":
    return _Summed(first.sums.plus(second.sums), _joined_held([first.held, second.held]))


def _score(
    tasks: Sequence[_Task], streams: Sequence[str], number_of_folds: int, number: int, of: "_Summed"
) -> list[LatentScores]:
    """The scores of a task's latents from its sums over all parts."""
    task, sums, held = tasks[number], *of
    folds = range(1, 1 + number_of_folds)
    for fold in folds:
        sums.add(*held.of(fold))
    score = sums.score()
    # A fold is subtracted exactly as it was added, to the last bit: nothing is left of a latent
    # that no other image activates.
    scores = np.stack([score, *(sums.score_without(*held.of(fold), score) for fold in folds)])
    known = ~np.isnan(scores)
    totals = np.stack([np.where(known, scores, 0).sum(axis=-1), known.sum(axis=-1)])
    any_two = sums.any_two()
    return [
        LatentScores(stream, task.reference, sums.active[s], score[s], any_two, totals[..., s])
        for s, stream in enumerate(streams)
    ]


class _Summed(NamedTuple):
    """A task's sums over the images in no fold, and those in folds, of some parts."""

    sums: "_TaskSums"
    held: "_Held"


class _Held(NamedTuple):
    """Images that are in a fold.

    Attributes:
        fold: The fold of each, (n,).
        features: As stored, (n, dim).
        codes: Their codes.
    """

    fold: npt.NDArray[np.uint8]
    features: npt.NDArray[Any]
    codes: CodeRows

    def of(self, fold: int) -> tuple[npt.NDArray[Any], CodeRows]:
        """The features and codes of one fold."""
        positions = np.flatnonzero(self.fold == fold)
        return self.features[positions], self.codes.take(positions)


def _joined_held(pieces: Sequence[_Held]) -> _Held:
    """The images of several pieces, one after the other."""
    folds, features, codes = zip(*pieces, strict=True)
    return _Held(np.concatenate(folds), np.concatenate(features), concatenate(codes))


class _TaskSums:
    """Sums over images, for the latents of a task in every stream.

    Args:
        task: The task.
        streams: The streams.
        dim: The values of a feature of the task's reference.
        latents: L.

    Attributes:
        active: On how many images each latent is active, (streams, latents).
    """

    def __init__(self, task: _Task, streams: Sequence[str], dim: int, latents: int) -> None:
        self._streams, self._all, self._latents = streams, latents, task.latents
        shape = len(streams), len(task.latents)
        self._sums = _Sums(np.zeros((*shape, dim)), np.zeros(shape), np.zeros(shape))
        self._of_images = np.zeros(dim)
        self._images = 0
        self.active = np.zeros(shape, np.int64)

    def plus(self, others: "_TaskSums") -> "_TaskSums":
        """The sums over the images of both."""
        result = copy(self)
        result._sums = _Sums(*(a + b for a, b in zip(self._sums, others._sums, strict=True)))
        result._of_images = self._of_images + others._of_images
        result._images = self._images + others._images
        result.active = self.active + others.active
        return result

    def add(self, features: npt.NDArray[Any], codes: CodeRows) -> None:
        """Add some images."""
        directions = _directions(features)
        self._of_images += directions.sum(dim=0, dtype=torch.float64).numpy()
        self._images += len(features)
        for s, values in enumerate(self._values(codes)):
            for total, more in zip(self._sums, _weighted_sums(values, directions), strict=True):
                total[s] += more
            self.active[s] += np.diff(values.indptr)

    def score(self) -> npt.NDArray[np.float64]:
        """The score of each latent, (streams, latents)."""
        return _mean_cosine(*self._sums)

    def score_without(
        self, features: npt.NDArray[Any], codes: CodeRows, score: npt.NDArray[np.float64]
    ) -> npt.NDArray[np.float64]:
        """The scores without some of the images, given those on all."""
        directions, result = _directions(features), score.copy()
        for s, values in enumerate(self._values(codes)):
            some = np.flatnonzero(np.diff(values.indptr))  # Other latents do not change.
            lost = _weighted_sums(values[:, some], directions)
            left = (total[s, some] - less for total, less in zip(self._sums, lost, strict=True))
            result[s, some] = _mean_cosine(*left)
        return result

    def any_two(self) -> float:
        """The mean cosine of any two images."""
        images = np.float64(self._images)
        return float(_mean_cosine(self._of_images, images, images))

    def _values(self, codes: CodeRows) -> Iterator[sparse.csc_matrix]:
        """By stream, the values of the latents, (n, latents)."""
        for stream in self._streams:
            values = codes.matrix(stream, self._all).tocsc()
            yield values[:, self._latents.start : self._latents.stop]


class _Sums(NamedTuple):
    """The sums that scores follow from, with unit vectors u_i and weights a_i.

    Attributes:
        vectors: sum a_i u_i, (..., dim).
        weight: sum a_i, (...).
        square: sum a_i^2, (...).
    """

    vectors: npt.NDArray[Any]
    weight: npt.NDArray[np.float64]
    square: npt.NDArray[np.float64]


def _directions(features: npt.NDArray[Any]) -> torch.Tensor:
    return F.normalize(torch.from_numpy(features).float())


def _weighted_sums(values: sparse.csc_matrix, directions: torch.Tensor) -> _Sums:
    """The sums of each latent over images, weighted by its values."""
    vectors: torch.Tensor = F.embedding_bag(
        torch.from_numpy(values.indices.astype(np.int64)),
        directions,
        torch.from_numpy(values.indptr[:-1].astype(np.int64)),
        per_sample_weights=torch.from_numpy(values.data),
        mode="sum",
    )
    return _Sums(
        vectors.numpy(),
        np.asarray(values.sum(axis=0, dtype=np.float64)).ravel(),
        np.asarray(values.power(2, np.float64).sum(axis=0)).ravel(),
    )


def _mean_cosine(
    sums: npt.NDArray[np.float64],
    weight: npt.NDArray[np.float64] | np.float64,
    square: npt.NDArray[np.float64] | np.float64,
) -> npt.NDArray[np.float64]:
    """The weighted mean cosine of all pairs of different images.

    |sum a_i u_i|^2 is the sum of a_i a_j cos(u_i, u_j) over all i and j, including a_i^2 for i = j.

    Args:
        sums: sum a_i u_i, (..., dim).
        weight: sum a_i, (...).
        square: sum a_i^2, (...).

    Returns:
        (...), NaN where the pairs weigh too little: `LEAST_WEIGHT`.
    """
    pairs = weight**2 - square
    known = pairs > LEAST_WEIGHT * square
    mean = (np.einsum("...d,...d->...", sums, sums) - square) / np.where(known, pairs, 1)
    return np.where(known, np.clip(mean, -1, 1), np.nan)


def _concatenate(parts: Sequence[list[LatentScores]]) -> list[LatentScores]:
    return [scores for part in parts for scores in part]


def _joined(scores: Sequence[LatentScores]) -> Iterator[LatentScores]:
    """The scores of all latents of each stream and reference, in the order of the streams."""
    by_pair: dict[tuple[str, str], list[LatentScores]] = {}
    for block in scores:
        by_pair.setdefault((block.stream, block.reference), []).append(block)
    streams = list(dict.fromkeys(reference for _, reference in by_pair))
    for stream, reference in product(streams, repeat=2):
        blocks = by_pair[stream, reference]
        totals = np.sum([block.totals for block in blocks], axis=0)
        images = np.concatenate([block.images for block in blocks])
        score = np.concatenate([block.score for block in blocks])
        yield LatentScores(stream, reference, images, score, blocks[0].any_two, totals)
