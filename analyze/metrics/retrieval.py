"""Whether a row of one stream finds its own image or caption in another.

See `REPORT.md` for the table. What stands for an image is one row of it, what stands for a caption
is its row; scores are cosines. Where images share a caption, each of them is a right answer to
it, and so is every caption of that text to each of them.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from scipy import sparse

from sparc.analyze.maths.statistics import mean_share, with_interval
from sparc.analyze.rows.images import Images, incidence
from sparc.common.streams.spec import Modality

SCHEMA = pa.schema(
    [
        pa.field("space", pa.string(), nullable=False),
        pa.field("mode", pa.string()),
        pa.field("control", pa.string(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("target", pa.string(), nullable=False),
        pa.field("queries", pa.int64(), nullable=False),
        pa.field("candidates", pa.int64(), nullable=False),
        *(
            pa.field(f"{name}{end}", pa.float64(), nullable=end != "")
            for name in ("r_at_1", "r_at_5", "r_at_10", "mean_reciprocal_rank")
            for end in ("", "_low", "_high")
        ),
        pa.field("median_rank", pa.float64(), nullable=False),
    ]
)

Space = Literal["codes", "cross_reconstruction", "raw"]

TIE = 1e-6
"""Scores closer than this count as equal: equal vectors may differ by float32 rounding."""

_SCORES = 1 << 22  # Scores held at a time, by each thread.

_PRODUCTS = 1 << 18
"""Products of sparse vectors' values held at a time, by each thread, about: with many more their
memory goes back to the system every time, and to be given it anew takes as long as the work."""

_COST_OF_A_PRODUCT = 12
"""How much longer one takes on its own than in the product of a sparse and a dense matrix."""

Vectors = Any  # A dense float32 array or a sparse matrix of SciPy, which has no types.


class Sample(NamedTuple):
    """The rows that retrieval is measured on: whole images.

    Attributes:
        rows: Rows of the cache, ascending, (n,).
        images: The image of each row, numbered from 0, ascending, (n,).
        texts: The text of each row's caption, numbered from 0, equal ones alike; -1 where there is
            none or it is not known, (n,).
    """

    rows: npt.NDArray[np.int64]
    images: npt.NDArray[np.int64]
    texts: npt.NDArray[np.int64]

    def with_captions(self, captions: pa.Array) -> "Sample":
        """The same rows with their captions, (n,), null where there is none."""
        numbers = pc.fill_null(pc.dictionary_encode(captions).indices, -1)
        return self._replace(texts=np.asarray(numbers, dtype=np.int64))

    def right(self, source: Modality, target: Modality) -> sparse.csr_matrix:
        """Which candidates are right for each query, (queries, candidates); 1 where one is.

        Args:
            source: Of what the queries stand for.
            target: Of what the candidates stand for.
        """
        asked, images_of_asked = self._kinds(source)
        offered, images_of_offered = self._kinds(target)
        # Of texts rather than captions: of few texts that all images have there are many.
        alike = (images_of_asked @ images_of_offered.T).tocsr()
        return alike[asked][:, offered]

    def _kinds(self, modality: Modality) -> tuple[npt.NDArray[np.int64], sparse.csr_matrix]:
        """What images or captions are, so that those of one kind have the same right answers.

        Returns:
            The kind of each stand-in: an image is its own, a caption is its text. And the images
            that go with a kind, (kinds, images).
        """
        number = int(self.images[-1]) + 1
        if modality == "image":
            return np.arange(number), sparse.identity(number, np.int32, format="csr")
        texts = self.texts.copy()
        unknown = np.flatnonzero(texts < 0)
        texts[unknown] = texts.max() + 1 + np.arange(len(unknown))
        return texts, incidence(texts, self.images, (int(texts.max()) + 1, number))

    def stand_ins(self, modality: Modality) -> npt.NDArray[np.int64]:
        """Positions of the rows that stand for an image or a caption.

        Of a text stream every row is a caption; of an image stream the first row of each image
        stands for it.
        """
        if modality == "text":
            return np.arange(len(self.rows))
        return np.unique(self.images, return_index=True)[1]


def choose_sample(images: Images, valid: npt.NDArray[np.bool_], size: int, seed: int) -> Sample:
    """Whole images at random, until their analysed rows are `size` at most.

    Args:
        images: The images of the cache's rows.
        valid: Which rows are analysed.
        size: How many rows are wanted; at least one image is taken.
        seed: Seed of the choice.
    """
    rows = np.flatnonzero(valid)
    of_row = np.unique(images.of_row[rows], return_inverse=True)[1]
    counts = np.bincount(of_row)
    order = np.random.default_rng([seed, len(counts)]).permutation(len(counts))
    taken = max(1, int(np.searchsorted(np.cumsum(counts[order]), size, side="right")))
    chosen = np.zeros(len(counts), dtype=np.bool_)
    chosen[order[:taken]] = True
    kept = chosen[of_row]
    numbered = np.unique(of_row[kept], return_inverse=True)[1]
    return Sample(rows[kept], numbered.astype(np.int64), np.full(len(numbered), -1))


def ranks(queries: Vectors, candidates: Vectors, right: sparse.csr_matrix) -> npt.NDArray[np.int64]:
    """The rank of the best right candidate of every query.

    1 + the number of wrong candidates that score at least as high as the best right one.

    Args:
        queries: (n, dim) dense or sparse; a zero vector scores 0 with everything.
        candidates: (m, dim), likewise.
        right: Which candidates are right for each query, (n, m), one at least; not zero where one
            is.

    Returns:
        (n,) int64, from 1.
    """
    queries, candidates = _unit(queries), _unit(candidates)
    score, in_parallel, most = _way_to_score(queries, candidates)

    def rank(batch: slice) -> npt.NDArray[np.int64]:
        scores = score(queries[batch])
        # The right candidates of each query of the batch, one after the other.
        ends = right.indptr[batch.start : batch.stop + 1]
        begins = ends[:-1] - ends[0]
        query = np.repeat(np.arange(len(begins)), np.diff(ends))
        scores_of_right = scores[query, right.indices[ends[0] : ends[-1]]]
        as_high = np.maximum.reduceat(scores_of_right, begins) - np.float32(TIE)
        right_too = np.add.reduceat(scores_of_right >= as_high[query], begins, dtype=np.int64)
        counted: npt.NDArray[np.int64] = np.count_nonzero(scores >= as_high[:, None], axis=1)
        return 1 + counted - right_too

    size = max(1, min(most, _SCORES // candidates.shape[0]))
    starts = range(0, queries.shape[0], size)
    with ThreadPoolExecutor(in_parallel) as pool:
        found = list(pool.map(rank, (slice(start, start + size) for start in starts)))
    return np.concatenate(found)


def _way_to_score(
    queries: Vectors, candidates: Vectors
) -> tuple[Callable[[Vectors], npt.NDArray[np.float32]], int, int]:
    """How to multiply queries with all candidates.

    Returns:
        A function from some queries to their dense scores, (n, m); how many threads shall call it,
        since a product of dense matrices takes all processors by itself; with how many queries.
    """
    if not sparse.issparse(candidates):
        return lambda some: some @ candidates.T, 1, 512
    threads = os.cpu_count() or 1
    by_dimension = candidates.T.tocsr()
    products = np.diff(by_dimension.indptr)[queries.indices].sum() / queries.shape[0]
    if products * _COST_OF_A_PRODUCT < candidates.nnz:
        return partial(_sum_of_products, by_dimension), threads, int(_PRODUCTS / (1 + products))
    # Where nearly every two vectors share values it is faster to multiply with all that are there.
    return lambda some: np.ascontiguousarray((candidates @ some.T.toarray()).T), threads, 64


def _sum_of_products(by_dimension: sparse.csr_matrix, queries: sparse.csr_matrix) -> Any:
    """The scores, from the values that a query and a candidate share.

    For every value of a query the candidates that have one there too become a column over all
    scores. SciPy adds up columns several times faster than it multiplies two sparse matrices, whose
    product would be nearly full.

    Args:
        by_dimension: The candidates, (dim, m).
        queries: (n, dim).
    """
    shape = queries.shape[0], by_dimension.shape[1]
    shared = by_dimension[queries.indices]
    first = np.repeat(np.arange(shape[0]) * shape[1], np.diff(queries.indptr))
    places = np.repeat(first.astype(shared.indices.dtype), np.diff(shared.indptr))
    places += shared.indices
    columns = sparse.csc_matrix(
        (shared.data, places, shared.indptr), shape=(shape[0] * shape[1], len(queries.data))
    )
    return (columns @ queries.data).reshape(shape)


def _row(
    space: Space,
    mode: str | None,
    control: str,
    source: str,
    target: str,
    found: npt.NDArray[np.int64],
    candidates: int,
    images: npt.NDArray[np.int64],
) -> dict[str, Any]:
    """The table's row for some ranks of queries that belong to some images."""
    return {
        "space": space,
        "mode": mode,
        "control": control,
        "source": source,
        "target": target,
        "queries": len(found),
        "candidates": candidates,
        **_with_intervals(found, images),
        "median_rank": float(np.median(found)),
    }


def _with_intervals(
    found: npt.NDArray[np.int64], images: npt.NDArray[np.int64]
) -> dict[str, float | None]:
    """Means over queries and their 95% intervals, over images rather than queries."""
    columns: dict[str, npt.NDArray[Any]] = {f"r_at_{n}": found <= n for n in (1, 5, 10)}
    columns["mean_reciprocal_rank"] = 1 / found
    result: dict[str, float | None] = {}
    for name, values in columns.items():
        result |= with_interval(name, *mean_share(values, images))
    return result


def table(
    space: Space,
    mode: str | None,
    control: str,
    pairs: Sequence[tuple[str, str]],
    sample: Sample,
    modalities: Mapping[str, Modality],
    queries: Callable[[str, str], Vectors],
    candidates: Callable[[str], Vectors],
) -> pa.Table:
    """Retrieval in one space between some pairs of streams, of schema `SCHEMA`.

    Args:
        space: What is compared.
        mode: How the codes were selected; None for raw features.
        control: Which control they are.
        pairs: (source, target): where the query comes from and where it looks.
        sample: The rows.
        modalities: By stream, what its encoder read.
        queries: From source and target to the vectors of the sample's rows, (n, dim).
        candidates: From the target to the vectors of the sample's rows.
    """
    rows = []
    for source, target in pairs:
        asking = sample.stand_ins(modalities[source])
        offered = sample.stand_ins(modalities[target])
        found = ranks(
            queries(source, target)[asking],
            candidates(target)[offered],
            sample.right(modalities[source], modalities[target]),
        )
        asked = sample.images[asking]
        rows.append(_row(space, mode, control, source, target, found, len(offered), asked))
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def _unit(vectors: Vectors) -> Vectors:
    """Vectors of length one, float32; zero stays zero."""
    if sparse.issparse(vectors):
        norms = np.sqrt(vectors.multiply(vectors).sum(axis=1)).A1
        return sparse.diags(1 / np.where(norms > 0, norms, 1)).dot(vectors).astype(np.float32)
    values = np.asarray(vectors, dtype=np.float32)
    norms = np.linalg.norm(values, axis=1, keepdims=True)
    return values / np.where(norms > 0, norms, 1)
