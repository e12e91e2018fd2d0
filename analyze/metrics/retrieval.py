"""Retrieval: whether a row of one stream finds its own image or caption in another stream.

See `REPORT.md` for the table. One row stands for an image, its own row for a caption; scores are
cosines. Where images share a caption, each of them is relevant to it, and every caption of that
text is relevant to each of them.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from scipy import sparse

from sparc.analyze.maths.intervals import mean_share, with_interval
from sparc.analyze.rows.sample import Sample
from sparc.common.streams.info import Modality

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

_SCORES = 1 << 22  # Scores that a thread holds at a time.

_PRODUCTS = 1 << 18
"""Products of sparse values that a thread holds at a time, about. With many more, their memory goes
back to the system each time, and allocating it again takes as long as the work itself."""

_COST_OF_A_PRODUCT = 12
"""Cost of a product of two sparse values, relative to one of a sparse and a dense value."""

Vectors = Any  # A dense float32 array or a sparse matrix of SciPy, which has no types.


def ranks(
    queries: Vectors, candidates: Vectors, relevant: sparse.csr_matrix
) -> npt.NDArray[np.int64]:
    """The rank of the best relevant candidate of every query.

    1 + the number of other candidates that score at least as high as the best relevant one.

    Args:
        queries: (n, dim) dense or sparse; a zero vector scores 0 with everything.
        candidates: (m, dim), likewise.
        relevant: Which candidates are relevant to each query, (n, m), at least one; not zero where
            one is.

    Returns:
        (n,) int64, from 1.
    """
    queries, candidates = _unit(queries), _unit(candidates)
    score, threads, most = _scorer(queries, candidates)

    def rank(batch: slice) -> npt.NDArray[np.int64]:
        scores = score(queries[batch])
        # The relevant candidates of each query of the batch, one after the other.
        ends = relevant.indptr[batch.start : batch.stop + 1]
        begins = ends[:-1] - ends[0]
        query = np.repeat(np.arange(len(begins)), np.diff(ends))
        relevant_scores = scores[query, relevant.indices[ends[0] : ends[-1]]]
        best = np.maximum.reduceat(relevant_scores, begins) - np.float32(TIE)
        among_relevant = np.add.reduceat(relevant_scores >= best[query], begins, dtype=np.int64)
        among_all: npt.NDArray[np.int64] = np.count_nonzero(scores >= best[:, None], axis=1)
        return 1 + among_all - among_relevant

    size = max(1, min(most, _SCORES // candidates.shape[0]))
    starts = range(0, queries.shape[0], size)
    with ThreadPoolExecutor(threads) as pool:
        batches = list(pool.map(rank, (slice(start, start + size) for start in starts)))
    return np.concatenate(batches)


def _scorer(
    queries: Vectors, candidates: Vectors
) -> tuple[Callable[[Vectors], npt.NDArray[np.float32]], int, int]:
    """The fastest way to multiply queries with all candidates.

    Returns:
        A function from some queries to their dense scores, (n, m); the number of threads that
        should call it (a dense product uses all cores itself); and of queries per call.
    """
    if not sparse.issparse(candidates):
        return lambda some: some @ candidates.T, 1, 512
    threads = os.cpu_count() or 1
    by_dimension = candidates.T.tocsr()
    products = np.diff(by_dimension.indptr)[queries.indices].sum() / queries.shape[0]
    if products * _COST_OF_A_PRODUCT < candidates.nnz:
        return partial(_sum_of_products, by_dimension), threads, int(_PRODUCTS / (1 + products))
    # Where nearly all vectors have common dimensions, dense queries are faster.
    return lambda some: np.ascontiguousarray((candidates @ some.T.toarray()).T), threads, 64


def _sum_of_products(by_dimension: sparse.csr_matrix, queries: sparse.csr_matrix) -> Any:
    """Dense scores of sparse queries, from the dimensions that a query and a candidate share.

    For every value of a query, the candidates that have the same dimension become a column over all
    scores. SciPy adds up columns several times faster than it multiplies two sparse matrices whose
    product is nearly dense.

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
    ranks: npt.NDArray[np.int64],
    candidates: int,
    images: npt.NDArray[np.int64],
) -> dict[str, Any]:
    """The table's row, from the ranks and the images of the queries."""
    return {
        "space": space,
        "mode": mode,
        "control": control,
        "source": source,
        "target": target,
        "queries": len(ranks),
        "candidates": candidates,
        **_with_intervals(ranks, images),
        "median_rank": float(np.median(ranks)),
    }


def _with_intervals(
    ranks: npt.NDArray[np.int64], images: npt.NDArray[np.int64]
) -> dict[str, float | None]:
    """Means over queries, with 95% intervals over images rather than queries."""
    columns: dict[str, npt.NDArray[Any]] = {f"r_at_{n}": ranks <= n for n in (1, 5, 10)}
    columns["mean_reciprocal_rank"] = 1 / ranks
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
        pairs: (source, target): the streams of the queries and of the candidates.
        sample: The rows.
        modalities: By stream, what its encoder reads.
        queries: From source and target to the vectors of the sample's rows, (n, dim).
        candidates: From the target to the vectors of the sample's rows, (n, dim).
    """
    rows = []
    for source, target in pairs:
        asking = sample.stand_ins(modalities[source])
        offered = sample.stand_ins(modalities[target])
        ranks_of_pair = ranks(
            queries(source, target)[asking],
            candidates(target)[offered],
            sample.relevant(modalities[source], modalities[target]),
        )
        images = sample.images[asking]
        rows.append(_row(space, mode, control, source, target, ranks_of_pair, len(offered), images))
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def _unit(vectors: Vectors) -> Vectors:
    """Unit vectors, float32; a zero vector stays zero."""
    if sparse.issparse(vectors):
        norms = np.sqrt(vectors.multiply(vectors).sum(axis=1)).A1
        return sparse.diags(1 / np.where(norms > 0, norms, 1)).dot(vectors).astype(np.float32)
    values = np.asarray(vectors, dtype=np.float32)
    norms = np.linalg.norm(values, axis=1, keepdims=True)
    return values / np.where(norms > 0, norms, 1)
