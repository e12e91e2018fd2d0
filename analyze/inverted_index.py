"""The rows on which each latent of a stream is active: what makes a search take milliseconds.

An index lies in the report, `index/independent/<stream>/`, as NumPy files that are mapped into
memory. It is built once, chunk by chunk, when it is first needed. This module must not know where
queries come from.
"""

import shutil
import uuid
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import sparse

from sparc.analyze.codes import CodeSet, CodeStore
from sparc.common.errors import ReportError
from sparc.common.progress import progress
from sparc.common.storage import PARTIAL, Folder

FOLDER = "index"

_CODES = CodeSet("independent")
"""A query has no partner to select with, so it meets codes that were selected alone too."""

Integers = npt.NDArray[np.integer]
Values = npt.NDArray[np.float32]


class InvertedIndex(NamedTuple):
    """The codes of a stream, latent by latent.

    Attributes:
        ends: Where the entries of each latent begin, and the last ones end, (L + 1,) int64.
        rows: By entry, the row of the cache, ascending within a latent, (entries,) int32.
        values: By entry, the latent's value there, above zero, (entries,) float32.
        norms: The Euclidean length of each row's code, 0 where it has none, (rows,) float32.
    """

    ends: Integers
    rows: Integers
    values: Values
    norms: Values

    def scores(self, indices: Integers, values: Values) -> Values:
        """The cosine of a code with the code of every row, (rows,).

        Args:
            indices: The query's latents, each at most once, (k,).
            values: Their values, (k,).
        """
        scores = np.zeros(len(self.norms), np.float32)
        length = float(np.linalg.norm(values.astype(np.float64)))
        if not length:
            return scores
        # In ascending order: the same query always adds up to the same bits.
        order = np.argsort(indices)
        latents, weights = indices[order].astype(np.int64), values[order] / np.float32(length)
        spans = [slice(int(self.ends[i]), int(self.ends[i + 1])) for i in latents]
        # SciPy walks through the columns several times faster than NumPy adds at places.
        columns = sparse.csc_matrix(
            (
                np.concatenate([self.values[span] for span in spans]),
                np.concatenate([self.rows[span] for span in spans]),
                np.cumsum([0, *(span.stop - span.start for span in spans)]),
            ),
            shape=(len(self.norms), len(latents)),
        )
        np.divide(columns @ weights, self.norms, out=scores, where=self.norms > 0)
        return scores

    def value(self, latent: int, row: int) -> float:
        """A latent's value on a row; zero where it is not active."""
        span = slice(int(self.ends[latent]), int(self.ends[latent + 1]))
        at = int(np.searchsorted(self.rows[span], row))
        found = at < span.stop - span.start and int(self.rows[span][at]) == row
        return float(self.values[span][at]) if found else 0.0


def open_index(folder: Folder, store: CodeStore, stream: str) -> InvertedIndex:
    """The index of a stream, built if it is not there yet.

    Args:
        folder: A finished report's folder, on this machine.
        store: Its codes.
        stream: Which stream.

    Raises:
        ReportError: The report lies behind a URL, the stream has no codes, or codes are damaged.
    """
    if folder.local is None:
        raise ReportError(f"{folder} is not on this machine: copy the report here to search in it")
    if stream not in store.layout.streams:
        raise ReportError(
            f"{folder} has no stream {stream!r}; it has {', '.join(store.layout.streams)}"
        )
    where = folder.local / FOLDER / str(_CODES.mode) / stream
    if not where.exists():
        _build(where, store, stream)
    try:
        return InvertedIndex(
            *(np.load(where / f"{name}.npy", mmap_mode="r") for name in InvertedIndex._fields)
        )
    except (OSError, ValueError) as error:
        raise ReportError(f"{where} is damaged ({error}): remove it to build it anew") from error


def _build(where: Path, store: CodeStore, stream: str) -> None:
    aside = where.with_name(f"{stream}.{uuid.uuid4().hex}{PARTIAL}")
    aside.mkdir(parents=True)
    try:
        _write(aside, store, stream)
        try:
            aside.rename(where)
        except OSError:
            if not where.exists():  # otherwise another process was faster, with the same index
                raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _write(where: Path, store: CodeStore, stream: str) -> None:
    layout = store.layout
    chunks = [chunk for chunk, rows in enumerate(store.counts) if rows]
    counts = np.zeros(layout.latents, np.int64)
    norms = np.zeros(layout.rows, np.float32)
    with progress(2 * len(chunks), f"index of {stream}", unit="chunks") as bar:
        for chunk in chunks:
            codes = store.read(_CODES, chunk, streams=(stream,))
            values = codes.values[stream].astype(np.float64)
            counts += np.bincount(codes.indices[stream][values > 0], minlength=layout.latents)
            norms[codes.rows] = np.sqrt((values**2).sum(axis=1))
            bar.update(1)
        ends = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        rows = _map(where / "rows.npy", np.int32, int(ends[-1]))
        strengths = _map(where / "values.npy", np.float32, int(ends[-1]))
        written = ends[:-1].copy()
        for chunk in chunks:
            codes = store.read(_CODES, chunk, streams=(stream,))
            matrix = codes.matrix(stream, layout.latents).tocsc()
            found = np.diff(matrix.indptr)
            places = np.repeat(written - matrix.indptr[:-1], found) + np.arange(matrix.nnz)
            rows[places] = codes.rows[matrix.indices]
            strengths[places] = matrix.data
            written += found
            bar.update(1)
    for array in (rows, strengths):
        if isinstance(array, np.memmap):
            array.flush()
    np.save(where / "ends.npy", ends)
    np.save(where / "norms.npy", norms)


def _map(file: Path, dtype: type[np.generic], length: int) -> npt.NDArray[np.generic]:
    if not length:  # nothing cannot be mapped
        np.save(file, np.zeros(0, dtype))
        return np.zeros(0, dtype)
    return np.lib.format.open_memmap(file, mode="w+", dtype=dtype, shape=(length,))
