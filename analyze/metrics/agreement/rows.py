"""The labelled rows that agreement counts: all rows of a latent, or its strongest ones.

Counts of classes make the figures. How far figures vary over images is measured on a sample of the
images: which of a latent's rows each of them has.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import sparse

from sparc.analyze.codes.code_rows import CodeRows
from sparc.analyze.maths.mispairing import Pair
from sparc.analyze.rows import top_rows
from sparc.analyze.rows.images import Images
from sparc.analyze.rows.labels import Labels
from sparc.analyze.rows.top_rows import TopRows

Integers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


class SampledImages(NamedTuple):
    """Labelled images by which variances are measured.

    Attributes:
        of_row: The image of every row of the cache, (rows,).
        place: Of every image its place in the sample, (images,) int32; -1 where it is not in it.
        number: How many images are sampled.
        total: How many images have a label: the sample stands for them.
    """

    of_row: Integers
    place: npt.NDArray[np.int32]
    number: int
    total: int


def sample_images(images: Images, labels: Labels, rows: Integers) -> SampledImages:
    """The images of some rows that have a label.

    Args:
        images: The images of the cache.
        labels: The labels of its rows.
        rows: All analysed rows of some images, ascending.
    """
    labelled = labels.labelled
    chosen = np.unique(images.of_row[rows[labelled[rows]]])
    place = np.full(len(images), -1, np.int32)
    place[chosen] = np.arange(len(chosen))
    total = int(images.any_row(labelled).sum())
    return SampledImages(images.of_row, place, len(chosen), total)


class ActiveRows(NamedTuple):
    """Labelled rows on which the latents of one stream are active.

    Attributes:
        counts: How many of them carry a class, canonical (latents, classes) int64.
        ends: The end of each latent's rows among `rows`, after a 0, (1 + latents,).
        rows: Rows of the cache, latent by latent: those of the sampled images, or all that are
            listed.
        by_image: How many of `rows` each image has, canonical (latents, images) float64.
        fixed: Which latents have a fixed number of rows, because these are their strongest ones:
            where an image is left out, others move up, (latents,).
    """

    counts: sparse.csr_matrix
    ends: Integers
    rows: Integers
    by_image: sparse.csr_matrix
    fixed: npt.NDArray[np.bool_]


def all_rows(
    counts: sparse.csc_matrix, stream: str, sampled: CodeRows, labels: Labels, images: Images
) -> ActiveRows:
    """All labelled rows of a stream's latents.

    Args:
        counts: The counts of classes, (classes, latents).
        stream: The stream.
        sampled: The codes of all rows of some images.
        labels: The labels that were counted.
        images: The images of the cache.
    """
    known = sampled.take(np.flatnonzero(labels.labelled[sampled.rows]))
    latents = counts.shape[1]
    active = known.matrix(stream, latents).tocsc()
    rows = known.rows[active.indices]
    fixed = np.zeros(latents, np.bool_)
    return _active(counts.T, active.indptr.astype(np.int64), rows, images, fixed)


def strongest_rows(
    lists: TopRows, top: int, some: npt.NDArray[np.bool_], labels: Labels, images: Images
) -> ActiveRows:
    """The strongest labelled rows of some latents of a stream; the others have none.

    Args:
        lists: The labelled rows on which each latent is strongest, with spare entries.
        top: Rows in a list of strongest rows.
        some: Which latents, (latents,).
        labels: The labels that were counted.
        images: The images of the cache.
    """
    listed = top_rows.cut(lists.take(some[lists.latents]), top)
    fixed = some & (np.bincount(lists.latents, minlength=len(some)) > top)
    ends = np.append(0, np.cumsum(np.bincount(listed.latents, minlength=len(some))))
    among = sparse.csr_matrix(
        (np.ones(len(listed.rows), np.int64), listed.rows, ends),
        shape=(len(some), labels.matrix.shape[0]),
    )
    return _active(among @ labels.matrix, ends, listed.rows, images, fixed)


def _active(
    counts: Any, ends: Integers, rows: Integers, images: Images, fixed: npt.NDArray[np.bool_]
) -> ActiveRows:
    counts = sparse.csr_matrix(counts, dtype=np.int64)
    counts.sort_indices()
    counts.has_canonical_format = True  # SciPy need not check it again.
    by_image = sparse.csr_matrix(
        (np.ones(len(rows)), images.of_row[rows], ends), shape=(len(fixed), len(images))
    )
    by_image.sum_duplicates()
    return ActiveRows(counts, ends, rows, by_image, fixed)


def images_of_latents(rows: ActiveRows, lists: TopRows, images: Images) -> Floats:
    """On how many images each latent is active, or on how many at least, (latents,).

    Args:
        rows: All labelled rows of the sampled images.
        lists: The labelled rows on which each latent is strongest.
        images: The images of the cache.
    """
    listed = top_rows.one_per_image(lists, images.of_row).latents
    sampled = np.diff(rows.by_image.indptr)
    most = np.maximum(np.bincount(listed, minlength=len(sampled)), sampled)
    return np.asarray(most, np.float64)


def noise(streams: Sequence[ActiveRows], pair: Pair, some: Integers) -> Floats:
    """The variance of a - b per row that a latent and its partner have, (n,).

    With x and y the rows of one image, it is the sum of (x - y)^2 over images by that of x + y:
    near 0 where both are active on the same images, 1 or more where they are not. It is nearer to
    that of all latents the fewer rows there are.

    Args:
        streams: The active rows of each stream.
        pair: Which latents are compared.
        some: Latents of the first stream.
    """
    first = streams[pair.first].by_image[some]
    second = streams[pair.second].by_image[pair.partners[some]]
    common = _line_sums(first.multiply(second))
    squares = _line_sums(first.power(2)) + _line_sums(second.power(2)) - 2 * common
    rows = _line_sums(first) + _line_sums(second)
    overall = squares.sum() / max(rows.sum(), 1)
    return np.asarray((squares + _PRIOR * overall) / (rows + _PRIOR))


_PRIOR = 4.0  # As many rows weighs what is common to all latents.


def _line_sums(matrix: sparse.csr_matrix) -> Floats:
    return np.asarray(matrix.sum(axis=1, dtype=np.float64)).ravel()
