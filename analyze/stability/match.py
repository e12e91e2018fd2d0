"""Which latents two dictionaries have in common: their directions, matched one to one.

A dictionary is no accident of its seed if another run learns the same directions. See `REPORT.md`
for the tables. This module must not know where dictionaries come from: that is
`sparc.analyze.stability.compare`.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.nn import functional as F

SCHEMA = pa.schema(
    [
        pa.field("control", pa.string(), nullable=False),
        pa.field("matching", pa.string(), nullable=False),
        pa.field("stream", pa.string()),
        pa.field("matched", pa.int32(), nullable=False),
        pa.field("cosine", pa.float64(), nullable=False),
        pa.field("above_0_5", pa.float64(), nullable=False),
        pa.field("above_0_7", pa.float64(), nullable=False),
        pa.field("above_0_9", pa.float64(), nullable=False),
        pa.field("nearest_first", pa.float64(), nullable=False),
        pa.field("nearest_second", pa.float64(), nullable=False),
    ]
)

MATCHING_SCHEMA = pa.schema(
    [
        pa.field("matching", pa.string(), nullable=False),
        pa.field("stream", pa.string()),
        pa.field("first_latent", pa.int32(), nullable=False),
        pa.field("second_latent", pa.int32(), nullable=False),
        pa.field("cosine", pa.float64(), nullable=False),
    ]
)

THRESHOLDS = {"above_0_5": 0.5, "above_0_7": 0.7, "above_0_9": 0.9}

_BLOCK = 1024  # Latents per product.

Decoders = Mapping[str, Tensor]
"""By stream, a decoder's directions, (latents, dim)."""

Cosines = npt.NDArray[np.float64]
Assignment = tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]


class Matching(NamedTuple):
    """Latents of two dictionaries, one to one; arrays of as many entries as the smaller one has.

    Attributes:
        by: `joint`: matched by the mean over the streams; `own`: by this stream alone.
        stream: Where the cosines are measured; None: their mean over the streams.
        first: Latents of the first, ascending.
        second: Their partners in the second.
        cosine: Their cosines, float64.
        nearest_first: The largest cosine of a latent of the first with any of the second, mean
            over the latents of the first.
        nearest_second: The same the other way round.
    """

    by: str
    stream: str | None
    first: npt.NDArray[np.int64]
    second: npt.NDArray[np.int64]
    cosine: npt.NDArray[np.float64]
    nearest_first: float
    nearest_second: float


def match(first: Decoders, second: Decoders) -> list[Matching]:
    """Match all streams jointly, then each on its own.

    One matrix of cosines is held at a time, in float64: 512 MiB for twice 8,192 latents.

    Args:
        first: One dictionary.
        second: Another one with the same streams; it may have more or fewer latents.
    """
    together, joint = _match_jointly(first, second)
    matchings = [joint]
    for stream in first:
        matchings += _match_stream(first, second, stream, together)
    return matchings


def match_jointly(first: Decoders, second: Decoders) -> Matching:
    """Match all streams jointly alone; see `match`."""
    return _match_jointly(first, second)[1]


def random_directions(decoders: Sequence[Decoders], seed: int) -> list[dict[str, Tensor]]:
    """As many directions as each of some dictionaries has, drawn at random."""
    generator = torch.Generator().manual_seed(seed)
    return [
        {stream: torch.randn(x.shape, generator=generator) for stream, x in by_stream.items()}
        for by_stream in decoders
    ]


def figures(control: str, matchings: Sequence[Matching]) -> pa.Table:
    """A row for each matching and stream, of schema `SCHEMA`."""
    rows = [
        {
            "control": control,
            "matching": matching.by,
            "stream": matching.stream,
            "matched": len(matching.cosine),
            "cosine": float(matching.cosine.mean()),
            **{name: float((matching.cosine > least).mean()) for name, least in THRESHOLDS.items()},
            "nearest_first": matching.nearest_first,
            "nearest_second": matching.nearest_second,
        }
        for matching in matchings
    ]
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def table(matchings: Sequence[Matching]) -> pa.Table:
    """A row for each matching, stream and pair, of `MATCHING_SCHEMA`."""
    pieces = [
        pa.table(
            {
                "matching": [matching.by] * len(matching.first),
                "stream": pa.array([matching.stream] * len(matching.first), pa.string()),
                "first_latent": matching.first.astype(np.int32),
                "second_latent": matching.second.astype(np.int32),
                "cosine": matching.cosine,
            },
            schema=MATCHING_SCHEMA,
        )
        for matching in matchings
    ]
    return pa.concat_tables(pieces)


def _match_jointly(first: Decoders, second: Decoders) -> tuple[Assignment, Matching]:
    cosines = _mean_cosines(first, second, list(first))
    together = _assign(cosines)
    return together, _matching("joint", None, together, cosines)


def _match_stream(
    first: Decoders, second: Decoders, stream: str, together: Assignment
) -> list[Matching]:
    cosines = _mean_cosines(first, second, [stream])
    return [
        _matching("joint", stream, together, cosines),
        _matching("own", stream, _assign(cosines), cosines),
    ]


def _mean_cosines(first: Decoders, second: Decoders, streams: Sequence[str]) -> Cosines:
    """The mean over streams of the cosine of every two latents, (latents, latents)."""
    directions = [
        [F.normalize(decoders[s].float()) for s in streams] for decoders in (first, second)
    ]
    result = np.empty((len(directions[0][0]), len(directions[1][0])))
    for start in range(0, len(result), _BLOCK):
        block = result[start : start + _BLOCK]
        block[:] = 0
        for a, b in zip(*directions, strict=True):
            block += (a[start : start + _BLOCK] @ b.T).numpy()
    result /= len(streams)
    return result


def _assign(cosines: Cosines) -> Assignment:
    """The one-to-one matching with the largest sum of cosines (Hungarian method)."""
    # In place: to maximize, SciPy would copy the matrix.
    np.negative(cosines, out=cosines)
    first, second = linear_sum_assignment(cosines)
    np.negative(cosines, out=cosines)
    return first, second


def _matching(by: str, stream: str | None, assigned: Assignment, cosines: Cosines) -> Matching:
    first, second = assigned
    nearest = float(cosines.max(axis=1).mean()), float(cosines.max(axis=0).mean())
    return Matching(by, stream, first, second, cosines[assigned], *nearest)
