"""How alike the pictures are on which a latent is active, in the features of its own or any stream.

The score is that of Pach et al., arXiv 2504.02821, section 3.2: the mean cosine of the features of
two pictures, over all pairs, weighted by the product of the latent's values. All pairs cost one
pass over the pictures: see `REPORT.md` for the sums and for the tables.
"""

from collections.abc import Iterator, Sequence
from itertools import product
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch
from scipy import sparse
from torch.nn import functional as F

from sparc.analyze.codes import CodeSet
from sparc.analyze.parts import Parts
from sparc.analyze.reduction import Executor
from sparc.analyze.statistics import nullable

SCHEMA = pa.schema(
    [
        pa.field("mode", pa.string(), nullable=False),
        pa.field("stream", pa.string(), nullable=False),
        pa.field("reference", pa.string(), nullable=False),
        pa.field("latent", pa.int32(), nullable=False),
        pa.field("pictures", pa.int64(), nullable=False),
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
        pa.field("any_two", pa.float64()),
    ]
)

LEAST_WEIGHT = 1e-3
"""A latent has no score where its pairs weigh less than this by the squares of its values: then one
picture outweighs the others so far that they tell nothing, and rounding would show."""

_BATCH = 4096  # Pictures a product: enough to be fast, few enough for sums in float32.

_SUMS = 2**24
"""Sums that a task holds, 128 MB of float64: more latents than fit make several tasks."""


class Scores(NamedTuple):
    """Some latents of a stream, by the features of a stream.

    Attributes:
        stream: The stream of the codes.
        reference: The stream of the features.
        pictures: On how many pictures each latent is active, (n,) int64.
        score: The latents' scores, (n,) float64; NaN where there is none.
        any_two: The mean cosine of any two of all pictures; NaN where there are fewer.
    """

    stream: str
    reference: str
    pictures: npt.NDArray[np.int64]
    score: npt.NDArray[np.float64]
    any_two: float


class _Task(NamedTuple):
    reference: str
    latents: range


class _Shared(NamedTuple):
    parts: Parts
    counted: npt.NDArray[np.bool_]  # By row of the cache, whether it stands for its picture.
    tasks: tuple[_Task, ...]


def measure(parts: Parts, counted: npt.NDArray[np.int64], reducer: Executor) -> list[Scores]:
    """Score every latent of every stream by the features of every stream.

    A task reads all parts, one after the other, so that its sums of shape (streams, latents, dim)
    never travel: memory does not grow with the rows.

    Args:
        parts: A set of codes.
        counted: The rows that count, one of each picture.
        reducer: Runs the tasks.

    Returns:
        In the order of references, latents and streams.
    """
    flags = np.zeros(parts.cache.info.rows, dtype=np.bool_)
    flags[counted] = True
    shared = _Shared(parts, flags, tuple(_tasks(parts)))
    return reducer.reduce(_measure_task, _concatenate, shared, len(shared.tasks))


def table(found: Sequence[Scores], code_set: CodeSet) -> pa.Table:
    """A row for each stream, reference and latent, of schema `SCHEMA`."""
    pieces = []
    for stream, reference, pictures, score, _ in _joined(found):
        latents = len(score)
        columns = {
            "mode": [code_set.mode] * latents,
            "stream": [stream] * latents,
            "reference": [reference] * latents,
            "latent": np.arange(latents, dtype=np.int32),
            "pictures": pictures,
            "score": pa.array(score, mask=np.isnan(score)),
        }
        pieces.append(pa.table(columns, schema=SCHEMA))
    return pa.concat_tables(pieces)


def means(found: Sequence[Scores], code_set: CodeSet) -> pa.Table:
    """The mean over the latents that have a score, of `MEANS_SCHEMA`."""
    rows = []
    for stream, reference, _, score, any_two in _joined(found):
        known = score[~np.isnan(score)]
        rows.append(
            {
                "mode": code_set.mode,
                "control": code_set.control,
                "stream": stream,
                "reference": reference,
                "latents": len(known),
                "value": float(known.mean()) if len(known) else None,
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


def _measure_task(shared: _Shared, number: int) -> list[Scores]:
    parts, task = shared.parts, shared.tasks[number]
    dim = parts.cache.streams[task.reference].dim
    shape = len(parts.streams), len(task.latents)
    sums, weight, square = np.zeros((*shape, dim)), np.zeros(shape), np.zeros(shape)
    active = np.zeros(shape, np.int64)
    everything, pictures = np.zeros(dim), 0
    for part in range(len(parts)):
        rows, features = parts.seen(part, task.reference)
        codes = parts.codes(part)
        counted = np.flatnonzero(shared.counted[rows])
        pictures += len(counted)
        for start in range(0, len(counted), _BATCH):
            batch = counted[start : start + _BATCH]
            directions = F.normalize(torch.from_numpy(features[batch]).float())
            everything += directions.sum(dim=0, dtype=torch.float64).numpy()
            some = codes.take(batch)
            for s, stream in enumerate(parts.streams):
                values = some.matrix(stream, parts.latents).tocsc()
                values = values[:, task.latents.start : task.latents.stop]
                sums[s] += _weighted_sums(values, directions)
                weight[s] += np.asarray(values.sum(axis=0, dtype=np.float64)).ravel()
                square[s] += np.asarray(values.power(2, np.float64).sum(axis=0)).ravel()
                active[s] += np.diff(values.indptr)
    score = _mean_cosine(sums, weight, square)
    any_two = float(_mean_cosine(everything, np.float64(pictures), np.float64(pictures)))
    return [
        Scores(stream, task.reference, active[s], score[s], any_two)
        for s, stream in enumerate(parts.streams)
    ]


def _weighted_sums(values: sparse.csc_matrix, directions: torch.Tensor) -> npt.NDArray[np.float32]:
    """For each latent the sum of directions, weighted by its values, (latents, dim)."""
    sums: torch.Tensor = F.embedding_bag(
        torch.from_numpy(values.indices.astype(np.int64)),
        directions,
        torch.from_numpy(values.indptr[:-1].astype(np.int64)),
        per_sample_weights=torch.from_numpy(values.data),
        mode="sum",
    )
    result: npt.NDArray[np.float32] = sums.numpy()
    return result


def _mean_cosine(
    sums: npt.NDArray[np.float64],
    weight: npt.NDArray[np.float64] | np.float64,
    square: npt.NDArray[np.float64] | np.float64,
) -> npt.NDArray[np.float64]:
    """The weighted mean cosine of all pairs of different pictures.

    With unit vectors u_i and weights a_i, |sum a_i u_i|^2 is the sum of a_i a_j cos(u_i, u_j) over
    all i and j, those with i = j included, which are a_i^2 each.

    Args:
        sums: sum a_i u_i, (..., dim).
        weight: sum a_i, (...).
        square: sum a_i^2, (...).

    Returns:
        (...), NaN where the pairs weigh next to nothing.
    """
    pairs = weight**2 - square
    known = pairs > LEAST_WEIGHT * square
    mean = (np.einsum("...d,...d->...", sums, sums) - square) / np.where(known, pairs, 1)
    return np.where(known, np.clip(mean, -1, 1), np.nan)


def _concatenate(found: Sequence[list[Scores]]) -> list[Scores]:
    return [scores for part in found for scores in part]


def _joined(found: Sequence[Scores]) -> Iterator[Scores]:
    """The scores of all latents of each stream and reference, in the order of the streams."""
    groups: dict[tuple[str, str], list[Scores]] = {}
    for scores in found:
        groups.setdefault((scores.stream, scores.reference), []).append(scores)
    streams = list(dict.fromkeys(reference for _, reference in groups))
    for stream, reference in product(streams, repeat=2):
        blocks = groups[stream, reference]
        pictures = np.concatenate([each.pictures for each in blocks])
        score = np.concatenate([each.score for each in blocks])
        yield Scores(stream, reference, pictures, score, blocks[0].any_two)
