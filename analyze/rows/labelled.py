"""What the figures on labelled rows need of a set of codes, in one pass over it."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np

from sparc.analyze.codes.code_rows import CodeRows, concatenate
from sparc.analyze.codes.parts import Parts
from sparc.analyze.maths.reduction import Reducer
from sparc.analyze.rows import top_rows
from sparc.analyze.rows.folds import Folds
from sparc.analyze.rows.labels import Labels
from sparc.analyze.rows.top_rows import TopRows


class LabelledRows(NamedTuple):
    """The labelled rows of a set of codes.

    Attributes:
        lists: By stream, the rows on which each latent is strongest.
        fold_codes: The codes of those in a fold.
    """

    lists: Mapping[str, TopRows]
    fold_codes: CodeRows


def read_labelled_rows(
    parts: Parts, labels: Labels, folds: Folds, reducer: Reducer, *, length: int
) -> LabelledRows:
    """Find the strongest labelled rows of each latent, and collect those in a fold.

    Args:
        parts: The codes.
        labels: The labels of the cache's rows.
        folds: The folds of rows.
        reducer: Reduces over the parts.
        length: Rows of a list at most.
    """
    shared = parts, labels, folds, length
    merge = partial(_merge, length)
    rows: LabelledRows = reducer.reduce(_read_part, merge, shared, len(parts))
    return rows


def _read_part(shared: tuple[Parts, Labels, Folds, int], part: int) -> LabelledRows:
    parts, labels, folds, length = shared
    codes = parts.codes(part)
    codes = codes.take(np.flatnonzero(labels.have(codes.rows)))
    return LabelledRows(
        {stream: top_rows.strongest(codes, stream, length) for stream in codes.streams},
        codes.take(np.flatnonzero(folds.of_row[codes.rows])),
    )


def _merge(length: int, results: Sequence[LabelledRows]) -> LabelledRows:
    lists, fold_codes = zip(*results, strict=True)
    return LabelledRows(
        {
            stream: top_rows.merge([of_part[stream] for of_part in lists], length)
            for stream in lists[0]
        },
        concatenate(fold_codes),
    )
