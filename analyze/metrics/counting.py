"""One pass over a set of codes for all that is counted of it: latents, their pairs, their classes.

Reading and sorting codes takes longer than any one of these counts, so they share the pass.
"""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

from sparc.analyze.codes.code_rows import CodeRows
from sparc.analyze.codes.parts import Parts, in_batches
from sparc.analyze.maths.reduction import Reducer
from sparc.analyze.metrics.agreement.counts import ClassCounts, count_classes
from sparc.analyze.metrics.agreement.counts import merge as merge_classes
from sparc.analyze.metrics.latents import ActiveCounts, LatentCounts, active_counts, count_latents
from sparc.analyze.metrics.latents import merge as merge_latents
from sparc.analyze.metrics.overlap import PairCounts, count_pairs
from sparc.analyze.metrics.overlap import merge as merge_pairs
from sparc.analyze.rows import top_rows
from sparc.analyze.rows.folds import Folds
from sparc.analyze.rows.labels import Labels
from sparc.analyze.rows.top_rows import TopRows


class Counted(NamedTuple):
    """What is counted of a set of codes.

    Attributes:
        latents: How often latents are active, and their strongest rows.
        active: On how many rows they are, of all rows and without each fold.
        pairs: How often the latents of two streams are active on the same rows.
        classes: Which classes go with them; None where labels are not counted.
        longer: By stream, the strongest rows with some to spare for those in a fold.
        labelled: By stream, the same of labelled rows alone, where labels are counted.
        fold_codes: The codes of the rows in a fold.
    """

    latents: LatentCounts
    active: ActiveCounts
    pairs: PairCounts
    classes: ClassCounts | None
    longer: tuple[TopRows, ...]
    labelled: tuple[TopRows, ...]
    fold_codes: CodeRows


def count_codes(
    parts: Parts,
    labels: Labels | None,
    folds: Folds,
    fold_codes: CodeRows,
    reducer: Reducer,
    *,
    top: int,
) -> Counted:
    """Count a set of codes.

    Args:
        parts: The codes.
        labels: The labels to count; None counts none.
        folds: The folds of rows.
        fold_codes: The codes of the rows in a fold.
        reducer: Reduces over the parts.
        top: Rows in the list of a latent's strongest rows.
    """
    spare = top_rows.with_spare(top)
    counts, pairs, classes = reducer.reduce(
        _count_part, partial(_merge, spare), (parts, labels, spare), len(parts)
    )
    # A list holds the strongest of all rows and those of labelled rows.
    longer = tuple(top_rows.cut(lists, spare) for lists in counts.top)
    labelled = tuple(top_rows.marked(lists, spare) for lists in counts.top if labels is not None)
    counts = counts._replace(top=tuple(top_rows.cut(lists, top) for lists in longer))
    active = active_counts(counts, folds, fold_codes)
    return Counted(counts, active, pairs, classes, longer, labelled, fold_codes)


class _PartCounts(NamedTuple):
    latents: LatentCounts
    pairs: PairCounts
    classes: ClassCounts | None


def _count_part(shared: tuple[Parts, Labels | None, int], part: int) -> _PartCounts:
    parts, labels, top = shared

    def count(codes: CodeRows) -> _PartCounts:
        marked = labels.have(codes.rows) if labels is not None else None
        return _PartCounts(
            count_latents(codes, parts.latents, top=top, marked=marked),
            count_pairs(codes, parts.latents),
            count_classes(codes, labels, parts.latents) if labels is not None else None,
        )

    counts: _PartCounts = in_batches(parts.codes(part), count, partial(_merge, top))
    return counts


def _merge(top: int, parts: Sequence[_PartCounts]) -> _PartCounts:
    classes = [part.classes for part in parts if part.classes is not None]
    return _PartCounts(
        merge_latents([part.latents for part in parts], top=top),
        merge_pairs([part.pairs for part in parts]),
        merge_classes(classes) if classes else None,
    )
