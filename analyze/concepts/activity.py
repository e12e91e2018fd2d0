"""On which images the latents of each stream are active, and which classes go with them.

An image counts by its first analysed row, as in `cofiring` and `twins`. Classes are counted over
all labelled rows, as in `agreement`.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import sparse

from sparc.analyze.codes.code_rows import CodeRows
from sparc.analyze.codes.code_sets import CodeSet
from sparc.analyze.codes.parts import Parts, in_batches
from sparc.analyze.maths.reduction import Reducer
from sparc.analyze.metrics.agreement import counts as class_counts
from sparc.analyze.metrics.agreement.counts import ClassCounts
from sparc.analyze.report.folder import Report
from sparc.analyze.rows.images import Images
from sparc.analyze.rows.labels import Labels
from sparc.analyze.rows.sample import draw_images
from sparc.common.cache.reader import ActivationCache

MOST_IMAGES = 50_000
"""Images compared at most: of more, this many are drawn by the report's seed."""


class Activity(NamedTuple):
    """What a set of codes does on images.

    Attributes:
        rows: The row that each image counts by, ascending, (images,).
        active: By stream, 1 where a latent is active, canonical (latents, images) int32.
        classes: The classes of each latent's labelled rows; None where no row has any.
    """

    rows: npt.NDArray[np.int64]
    active: Mapping[str, sparse.csr_matrix]
    classes: ClassCounts | None

    def images(self, stream: str) -> npt.NDArray[np.int64]:
        """On how many images each latent is active, (latents,)."""
        return np.asarray(np.diff(self.active[stream].indptr), np.int64)


def read_activity(
    report: Report,
    cache: ActivationCache,
    code_set: CodeSet,
    images: Images,
    labels: Labels | None,
    reducer: Reducer,
) -> Activity:
    """Read a set of codes once.

    Args:
        report: A finished report.
        cache: Its cache.
        code_set: Which codes; a set that is stored.
        images: The images of the cache.
        labels: The labels to count; None counts none.
        reducer: Reduces over the parts.
    """
    seed = int(report.info.settings.get("seed", 42))
    rows = draw_images(images, report.codes.valid, MOST_IMAGES, seed)
    parts = Parts(report.codes, cache, code_set)
    part = reducer.reduce(_read_part, _merge, (parts, labels, rows), len(parts))
    active = {stream: matrix.T.tocsr() for stream, matrix in part.active.items()}
    for matrix in active.values():
        matrix.sort_indices()
    return Activity(rows, active, part.classes)


class _Part(NamedTuple):
    """The same of some rows; matrices are (images, latents)."""

    active: dict[str, sparse.csr_matrix]
    classes: ClassCounts | None


def _read_part(shared: tuple[Parts, Labels | None, npt.NDArray[np.int64]], part: int) -> _Part:
    parts, labels, rows = shared

    def read(codes: CodeRows) -> _Part:
        first = codes.take(np.flatnonzero(np.isin(codes.rows, rows)))
        active = {}
        for stream in codes.streams:
            active[stream] = first.matrix(stream, parts.latents).astype(np.int32)
            active[stream].data[:] = 1
        counted = None
        if labels is not None:
            counted = class_counts.count_classes(codes, labels, parts.latents)
        return _Part(active, counted)

    result: _Part = in_batches(parts.codes(part), read, _merge)
    return result


def _merge(parts: Sequence[_Part]) -> _Part:
    counted = [part.classes for part in parts if part.classes is not None]
    return _Part(
        {s: sparse.vstack([part.active[s] for part in parts], "csr") for s in parts[0].active},
        class_counts.merge(counted) if counted else None,
    )
