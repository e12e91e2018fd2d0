"""The rows on which each latent of a stream is active: what makes a search take milliseconds.

An index lies in the report, `index/independent/<stream>/`, as NumPy files that are mapped into
memory. It is built once, chunk by chunk, when it is first needed. What is read of it is checked:
the entries of the query's latents by a CRC32C each, the small files by their SHA-256 as a whole.
This module must not know where queries come from.
"""

import hashlib
import json
import os
import shutil
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import google_crc32c
import numpy as np
import numpy.typing as npt
from scipy import sparse

from sparc.analyze.codes import CodeSet, CodeStore
from sparc.analyze.output import write_array
from sparc.common.errors import ReportError
from sparc.common.lock import exclusive
from sparc.common.progress import progress
from sparc.common.storage import PARTIAL, Folder

FOLDER = "index"

_CODES = CodeSet("independent")
"""A query has no partner to select with, so it meets codes that were selected alone too."""

_SMALL = ("ends.npy", "norms.npy", "checks.npy")
_DIGESTS = "digests.json"
_ADVICE = "remove the report's folder index to have it built anew"

Integers = npt.NDArray[np.integer]
Values = npt.NDArray[np.float32]


class InvertedIndex(NamedTuple):
    """The codes of a stream, latent by latent.

    Attributes:
        ends: Where the entries of each latent begin, and the last ones end, (L + 1,) int64.
        rows: By entry, the row of the cache, ascending within a latent, (entries,) int32.
        values: By entry, the latent's value there, above zero, (entries,) float32.
        norms: The Euclidean length of each row's code, 0 where it has none, (rows,) float32.
        checks: By latent, the CRC32C of its rows and values, (L,) uint32.
    """

    ends: Integers
    rows: Integers
    values: Values
    norms: Values
    checks: Integers

    def scores(self, indices: Integers, values: Values) -> Values:
        """The cosine of a code with the code of every row, (rows,).

        Args:
            indices: The query's latents, each at most once, (k,).
            values: Their values, (k,).

        Raises:
            ReportError: The entries of a latent are damaged.
        """
        scores = np.zeros(len(self.norms), np.float32)
        length = float(np.linalg.norm(values.astype(np.float64)))
        if not length:
            return scores
        # In ascending order: the same query always adds up to the same bits.
        order = np.argsort(indices)
        latents, weights = indices[order].astype(np.int64), values[order] / np.float32(length)
        spans = [slice(int(self.ends[i]), int(self.ends[i + 1])) for i in latents]
        for latent, span in zip(latents, spans, strict=True):
            if _check(self.rows[span], self.values[span]) != self.checks[latent]:
                raise ReportError(f"the search index is damaged at latent {latent}: {_ADVICE}")
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
        """The value on a row of a latent that `scores` was given; zero where it is not active."""
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
        ReportError: The report lies behind a URL, the stream has no codes, or codes or index are
            damaged.
        LockedError: Another process is building an index or writing to the report.
    """
    if folder.local is None:
        raise ReportError(f"{folder} is not on this machine: copy the report here to search in it")
    if stream not in store.layout.streams:
        raise ReportError(
            f"{folder} has no stream {stream!r}; it has {', '.join(store.layout.streams)}"
        )
    where = folder.local / FOLDER / str(_CODES.mode) / stream
    if not where.exists():
        with exclusive(folder):
            if not where.exists():
                _build(where, store, stream)
    return _read(where, store)


def _build(where: Path, store: CodeStore, stream: str) -> None:
    aside = where.with_name(f"{stream}{PARTIAL}")
    shutil.rmtree(aside, ignore_errors=True)  # of a process that was killed
    aside.mkdir(parents=True)
    try:
        _write(aside, store, stream)
        aside.rename(where)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _read(where: Path, store: CodeStore) -> InvertedIndex:
    try:
        digests = json.loads((where / _DIGESTS).read_bytes())
        for name in _SMALL:
            if _digest(where / name) != digests[name]:
                raise ValueError(f"{name} is not what was written")
        index = InvertedIndex(
            *(np.load(where / f"{name}.npy", mmap_mode="r") for name in InvertedIndex._fields)
        )
        entries = int(index.ends[-1])
        for array, shape, dtype in (
            (index.ends, (store.layout.latents + 1,), np.int64),
            (index.rows, (entries,), np.int32),
            (index.values, (entries,), np.float32),
            (index.norms, (store.layout.rows,), np.float32),
        ):
            if array.shape != shape or array.dtype != np.dtype(dtype):
                raise ValueError(f"an array of {array.dtype} {array.shape}, not {shape}")
    except (OSError, ValueError, KeyError, TypeError, EOFError) as error:
        raise ReportError(f"{where} is damaged ({error}): {_ADVICE}") from error
    return index


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
    spans = [slice(a, b) for a, b in pairwise(ends.tolist())]
    checks = np.array([_check(rows[span], strengths[span]) for span in spans], np.uint32)
    for name, small in (("ends", ends), ("norms", norms), ("checks", checks)):
        write_array(where / f"{name}.npy", small)
    digests = {name: _digest(where / name) for name in _SMALL}
    Folder(where).write(_DIGESTS, (json.dumps(digests, indent=2) + "\n").encode())


def _map(file: Path, dtype: type[np.generic], length: int) -> npt.NDArray[Any]:
    """An array in a file, to be written piece by piece."""
    if not length:  # nothing cannot be mapped
        write_array(file, np.zeros(0, dtype))
        return np.zeros(0, dtype)
    array = np.lib.format.open_memmap(file, mode="w+", dtype=dtype, shape=(length,))
    with file.open("rb+") as opened:
        # Where a disk is full, writing to mapped memory would end the process without a word.
        os.posix_fallocate(opened.fileno(), 0, file.stat().st_size)
    return array


def _check(rows: npt.NDArray[Any], values: npt.NDArray[Any]) -> int:
    return int(google_crc32c.extend(google_crc32c.value(rows.tobytes()), values.tobytes()))


def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()
