"""How alike latents are: the nearest twin of each, how many are distinct, how evenly all are used.

`sparc.analyze.metrics.meaning.cofiring` counts, in its pass over the codes. See `REPORT.md` for the
tables.
"""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from scipy.special import entr

from sparc.analyze.codes.code_rows import CodeRows
from sparc.analyze.codes.code_sets import CodeSet
from sparc.analyze.maths.intervals import (
    jackknife,
    jackknife_share,
    mean_of_known,
    nullable,
    with_interval,
)
from sparc.analyze.metrics.meaning import partners
from sparc.analyze.rows.folds import Folds

SCHEMA = pa.schema(
    [
        pa.field("mode", pa.string(), nullable=False),
        pa.field("stream", pa.string()),
        pa.field("latent", pa.int32(), nullable=False),
        pa.field("images_latent", pa.int64(), nullable=False),
        pa.field("twin", pa.int32()),
        pa.field("images_twin", pa.int64()),
        pa.field("images_both", pa.int64()),
        pa.field("jaccard", pa.float64()),
        pa.field("jaccard_shifted", pa.float64()),
    ]
)

MEANS_SCHEMA = pa.schema(
    [
        pa.field("mode", pa.string(), nullable=False),
        pa.field("control", pa.string(), nullable=False),
        pa.field("stream", pa.string()),
        pa.field("latents", pa.int32(), nullable=False),
        pa.field("jaccard", pa.float64()),
        pa.field("jaccard_low", pa.float64()),
        pa.field("jaccard_high", pa.float64()),
        pa.field("jaccard_shifted", pa.float64()),
        pa.field("distinct", pa.int32(), nullable=False),
        pa.field("distinct_shifted", pa.int32(), nullable=False),
        pa.field("effective", pa.float64()),
        pa.field("effective_low", pa.float64()),
        pa.field("effective_high", pa.float64()),
    ]
)

ANY_STREAM = ""
"""Stands for the joint codes of a row as one code: a latent is active if it is in any stream."""

NO_TWIN = -1

Integers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


class Nearest(NamedTuple):
    """The nearest twins of all latents in a stream, or of some of them.

    Attributes:
        stream: The stream, or `ANY_STREAM`.
        active: On how many images each latent is active, (L,).
        twin: The latent whose images overlap most with those of each, (n,) of n <= L; `NO_TWIN` if
            it shares no image with any.
        both: On how many images both are active, (n,).
        jaccard: both / either, (n,); NaN if the latent is dead.
        distinct: Whether it is alive and the Jaccard with its twin is below 1/2, (n,).
    """

    stream: str
    active: Integers
    twin: Integers
    both: Integers
    jaccard: Floats
    distinct: npt.NDArray[np.bool_]


def nearest(
    stream: str, both: npt.NDArray[np.int32], active: Integers, latents: Sequence[int]
) -> Nearest:
    """The nearest twins of some latents; ties go to the smaller latent.

    Args:
        stream: The stream.
        both: On how many images each of them is active with each latent, (n, L).
        active: On how many each latent is active, (L,).
        latents: Which latents they are.
    """
    which = np.asarray(latents, np.int64)
    twins = np.full(len(latents), NO_TWIN, np.int64)
    common = np.zeros(len(latents), np.int64)
    line, other = partners.nearest(both, active, which)
    twins[line], common[line] = other, both[line, other]
    own = active[which]
    either = _either(own, np.where(twins == NO_TWIN, 0, active[twins]), common)
    return Nearest(
        stream, active, twins, common, _share(common, either), (own > 0) & (2 * common < either)
    )


def merge(parts: Iterable[Nearest]) -> list[Nearest]:
    """The twins of the same stream together; those of a stream come in the order of the latents."""
    by_stream: dict[str, list[Nearest]] = {}
    for part in parts:
        by_stream.setdefault(part.stream, []).append(part)
    return [
        Nearest(
            stream,
            blocks[0].active,
            *(np.concatenate(columns) for columns in zip(*(b[2:] for b in blocks), strict=True)),
        )
        for stream, blocks in by_stream.items()
    ]


def any_stream(codes: CodeRows) -> CodeRows:
    """Joint codes as those of one stream, `ANY_STREAM`: the largest value of each latent."""
    values = np.maximum.reduce(list(codes.values.values()))
    return CodeRows(codes.rows, {ANY_STREAM: codes.indices[codes.streams[0]]}, {ANY_STREAM: values})


def table(twins: Sequence[Nearest], shifted: Sequence[Nearest], code_set: CodeSet) -> pa.Table:
    """A row for each stream and latent, of `SCHEMA`.

    Args:
        twins: Of each stream, the twins of all latents.
        shifted: The same where the images of the latent itself are shifted.
        code_set: Which codes these are.
    """
    pieces = [SCHEMA.empty_table()]
    for real, chance in zip(twins, shifted, strict=True):
        latents, alone = len(real.twin), real.twin == NO_TWIN
        columns = {
            "mode": [code_set.mode] * latents,
            "stream": [real.stream or None] * latents,
            "latent": np.arange(latents, dtype=np.int32),
            "images_latent": real.active,
            "twin": pa.array(real.twin.astype(np.int32), mask=alone),
            "images_twin": pa.array(real.active[real.twin], mask=alone),
            "images_both": pa.array(real.both, mask=alone),
            "jaccard": pa.array(real.jaccard, mask=np.isnan(real.jaccard)),
            "jaccard_shifted": pa.array(chance.jaccard, mask=np.isnan(chance.jaccard)),
        }
        pieces.append(pa.table(columns, schema=SCHEMA))
    return pa.concat_tables(pieces)


def means(
    twins: Sequence[Nearest],
    shifted: Sequence[Nearest],
    code_set: CodeSet,
    codes: CodeRows,
    folds: Folds,
) -> pa.Table:
    """A row for each stream, of `MEANS_SCHEMA`.

    Args:
        twins: As for `table`.
        shifted: As for `table`.
        code_set: Which codes these are.
        codes: The codes of one row of each image that is in a fold.
        folds: The folds of rows.
    """
    rows = []
    for real, chance in zip(twins, shifted, strict=True):
        own_codes = codes if real.stream in codes.values else any_stream(codes)
        jaccards, effective = _without_folds(real, own_codes, folds)
        alive = int((real.active > 0).sum())
        mean, number = mean_of_known(jaccards), _effective_number(effective)
        trials = min(folds.images, max(1.0, alive))
        rows.append(
            {
                "mode": code_set.mode,
                "control": code_set.control,
                "stream": real.stream or None,
                "latents": alive,
                **with_interval("jaccard", mean[0], jackknife_share(mean, folds.share, trials)),
                "jaccard_shifted": nullable(mean_of_known(chance.jaccard)),
                "distinct": int(real.distinct.sum()),
                "distinct_shifted": int(chance.distinct.sum()),
                **with_interval(
                    "effective",
                    number[0],
                    jackknife(number, folds.share, least=1, most=len(real.active)),
                ),
            }
        )
    return pa.Table.from_pylist(rows, schema=MEANS_SCHEMA)


def _without_folds(real: Nearest, codes: CodeRows, folds: Folds) -> tuple[Floats, Integers]:
    """The Jaccard of each latent with its twin, and its images, on all images and without folds.

    A fold does not change which latent is the twin. Both are (1 + folds, L); the Jaccard of a dead
    latent is NaN.
    """
    latents, alone = len(real.active), real.twin == NO_TWIN
    fold = folds.of_row[codes.rows]
    jaccards, active = [real.jaccard], [real.active]
    for left_out in range(1, 1 + folds.number):
        flags = codes.take(np.flatnonzero(fold == left_out)).matrix(real.stream, latents) > 0
        common = np.asarray(flags.multiply(flags[:, real.twin]).sum(axis=0)).ravel()
        own = real.active - np.bincount(flags.indices, minlength=latents)
        both = np.where(alone, 0, real.both - common)
        either = _either(own, np.where(alone, 0, own[real.twin]), both)
        jaccards.append(np.where(own > 0, _share(both, either), np.nan))
        active.append(own)
    return np.stack(jaccards), np.stack(active)


def _effective_number(active: Integers) -> Floats:
    """Exp of the entropy of p, the share of each latent in all uses; NaN without any."""
    total = active.sum(axis=-1, keepdims=True)
    with np.errstate(invalid="ignore"):
        result: Floats = np.exp(entr(active / total).sum(axis=-1))
    return result


def _either(own: Integers, of_twin: Integers, both: Integers) -> Integers:
    return own + of_twin - both


def _share(both: Any, either: Any) -> Floats:
    with np.errstate(invalid="ignore"):
        return np.asarray(both / np.where(either > 0, either, np.nan), np.float64)
