"""The rows on which each latent of a stream is active: what makes a search take milliseconds.

An index lies in the report, `index/independent/<stream>/`, as NumPy files that are mapped into
memory. It is built once, chunk by chunk, when it is first needed. What is read of it is checked:
the entries of the query's latents by a CRC32C each, the small files by their SHA-256 as a whole.
This module must not know where queries come from.
"""

import io
import os
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import google_crc32c
import numpy as np
import numpy.typing as npt
from scipy import sparse

from sparc.analyze.codes.code_rows import concatenate
from sparc.analyze.codes.code_sets import CodeSet
from sparc.analyze.codes.store import CodeLayout, CodeStore
from sparc.analyze.report.digests import digest
from sparc.analyze.report.output import write_array
from sparc.analyze.search.index_folder import (
    ADVICE,
    Values,
    built_once,
    fetch,
    open_values,
    read_notes,
)
from sparc.common.errors import ReportError
from sparc.common.files.folder import Folder
from sparc.common.progress import progress
from sparc.common.text import reason

_CODES = CodeSet("independent")
"""A query has no other stream to select with, so it is compared with independent codes."""

_SMALL = ("ends.npy", "norms.npy", "checks.npy")

_ENTRIES = 1 << 23
"""Entries sorted at a time, about 300 MB: of 8192 latents each then writes a page of the disk."""

_LARGEST = 1 << 34
"""Bytes of the longest of the small files: four for each row of the cache."""

Integers = npt.NDArray[np.integer]
Floats = npt.NDArray[np.float32]


class InvertedIndex(NamedTuple):
    """The codes of a stream, latent by latent.

    Attributes:
        ends: Where the entries of each latent begin, and the last ones end, (L + 1,) int64.
        rows: By entry, the row of the cache, ascending within a latent, (entries,) int32.
        values: By entry, the latent's value on that row, above zero, (entries,) float32.
        norms: The Euclidean length of each row's code, (rows,) float32; infinite where the code is
            empty, so that its cosine with anything is zero.
        checks: By latent, the CRC32C of its rows and values, (L,) uint32.
        sound: Latents whose entries have been checked since the index was opened.
    """

    ends: Integers
    rows: Values
    values: Values
    norms: Floats
    checks: Integers
    sound: set[int]

    def scores(self, indices: Integers, values: Floats) -> Floats:
        """The cosine of a code with the code of every row, (rows,).

        Args:
            indices: The query's latents, each at most once, (k,).
            values: Their values, (k,).

        Raises:
            ReportError: The entries of a latent are damaged.
        """
        length = float(np.linalg.norm(values.astype(np.float64)))
        if not length:
            return np.zeros(len(self.norms), np.float32)
        # In ascending order, so that a query gives the same bits however it is ordered.
        order = np.argsort(indices)
        latents, weights = indices[order].astype(np.int64), values[order] / np.float32(length)
        spans = self._spans(latents.tolist())
        # SciPy multiplies by columns several times faster than `np.add.at`.
        columns = sparse.csc_matrix(
            (
                np.concatenate([self.values[span] for span in spans]),
                np.concatenate([self.rows[span] for span in spans]),
                np.cumsum([0, *(span.stop - span.start for span in spans)]),
            ),
            shape=(len(self.norms), len(latents)),
        )
        scores: Floats = columns @ weights
        scores /= self.norms
        return scores

    def values_at(self, indices: Integers, rows: Integers) -> Floats:
        """The values of some latents on some rows, (latents, rows); zero where not active.

        Raises:
            ReportError: The entries of a latent are damaged.
        """
        result = np.zeros((len(indices), len(rows)), np.float32)
        for line, span in zip(result, self._spans(indices.tolist()), strict=True):
            listed = self.rows[span]
            if len(listed):
                at = np.minimum(np.searchsorted(listed, rows), len(listed) - 1)
                line[:] = np.where(listed[at] == rows, self.values[span][at], 0)
        return result

    def _spans(self, latents: Sequence[int]) -> list[slice]:
        """Where the entries of latents lie; checks that they are what was written."""
        spans = [slice(int(self.ends[x]), int(self.ends[x + 1])) for x in latents]
        fetch((self.rows, self.values), spans)
        return [self._checked(latent, span) for latent, span in zip(latents, spans, strict=True)]

    def _checked(self, latent: int, span: slice) -> slice:
        if latent not in self.sound:
            if _check(self.rows[span], self.values[span]) != self.checks[latent]:
                raise ReportError(f"the search index is damaged at latent {latent}: {ADVICE}")
            listed = self.rows[span]
            # SciPy does not check indices before it writes.
            if len(listed) and not 0 <= listed.min() <= listed.max() < len(self.norms):
                raise ReportError(f"the search index names rows beyond the cache's: {ADVICE}")
            self.sound.add(latent)
        return span


def open_index(folder: Folder, store: CodeStore, stream: str) -> InvertedIndex:
    """The index of a stream, built if there is none yet.

    Args:
        folder: A finished report's folder.
        store: Its codes.
        stream: Which stream.

    Raises:
        ReportError: The stream has no codes, or codes or index are damaged.
        LockedError: Another process is building an index or writing to the report.
    """
    if stream not in store.layout.streams:
        raise ReportError(
            f"{folder} has no stream {stream!r}; it has {', '.join(store.layout.streams)}"
        )
    where = built_once(folder, f"{_CODES.mode}/{stream}", lambda at: _build(at, store, stream))
    try:
        digests = read_notes(where, _SMALL)
        ends, norms, checks = (_read_small(where, name, digests[name]) for name in _SMALL)
        if ends[0] != 0 or (np.diff(ends) < 0).any():
            raise ValueError("the entries of its latents do not follow each other")
        for array, shape, dtype in (
            (ends, (store.layout.latents + 1,), np.int64),
            (norms, (store.layout.rows,), np.float32),
            (checks, (store.layout.latents,), np.uint32),
        ):
            if array.shape != shape or array.dtype != np.dtype(dtype):
                raise ValueError(f"an array of {array.dtype} {array.shape}, not {shape}")
        rows = open_values(where, "rows.npy", np.int32, int(ends[-1]))
        values = open_values(where, "values.npy", np.float32, int(ends[-1]))
    except (OSError, ValueError, KeyError, TypeError, IndexError, EOFError) as error:
        raise ReportError(f"{where} is damaged ({reason(error)}): {ADVICE}") from error
    norms = np.where(norms > 0, norms, np.float32(np.inf))
    return InvertedIndex(ends, rows, values, norms, checks, set())


def _build(where: Path, store: CodeStore, stream: str) -> dict[str, str]:
    """Write the files; returns the digests of the small ones."""
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
        _create(where / "rows.npy", np.int32, int(ends[-1]))
        _create(where / "values.npy", np.float32, int(ends[-1]))
        written = ends[:-1].copy()
        for group in _groups(chunks, layout):
            codes = concatenate([store.read(_CODES, chunk, streams=(stream,)) for chunk in group])
            matrix = codes.matrix(stream, layout.latents).tocsc()
            added = np.diff(matrix.indptr)
            if matrix.nnz:  # an empty file cannot be mapped
                places = np.repeat(written - matrix.indptr[:-1], added) + np.arange(matrix.nnz)
                # Mapped again for every group, so that written pages can leave memory.
                np.load(where / "rows.npy", mmap_mode="r+")[places] = codes.rows[matrix.indices]
                np.load(where / "values.npy", mmap_mode="r+")[places] = matrix.data
            written += added
            bar.update(len(group))
    rows, strengths = (np.load(where / f"{n}.npy", mmap_mode="r") for n in ("rows", "values"))
    spans = [slice(a, b) for a, b in pairwise(ends.tolist())]
    checks = np.array([_check(rows[span], strengths[span]) for span in spans], np.uint32)
    arrays: tuple[npt.NDArray[Any], ...] = (ends, norms, checks)
    for name, small in zip(_SMALL, arrays, strict=True):
        write_array(where / name, small)
    return {name: digest((where / name).read_bytes()) for name in _SMALL}


def _groups(chunks: Sequence[int], layout: CodeLayout) -> Iterator[Sequence[int]]:
    """Consecutive chunks whose entries are sorted and written together.

    The entries of a chunk go to as many places of the files as there are latents: chunk by chunk,
    a page of the disk would be written for every few of them.
    """
    size = max(1, _ENTRIES // (layout.rows_per_chunk * layout.k))
    for start in range(0, len(chunks), size):
        yield chunks[start : start + size]


def _create(file: Path, dtype: type[np.generic], length: int) -> None:
    """Create a file of a number of entries, to be mapped and written piece by piece."""
    if not length:
        write_array(file, np.zeros(0, dtype))
        return
    np.lib.format.open_memmap(file, mode="w+", dtype=dtype, shape=(length,))
    with file.open("rb+") as opened:
        # On a full disk, writing to mapped memory would kill the process.
        os.posix_fallocate(opened.fileno(), 0, file.stat().st_size)


def _read_small(where: Folder, name: str, wanted: str) -> npt.NDArray[Any]:
    content = where.read(name, largest=_LARGEST)
    if digest(content) != wanted:
        raise ValueError(f"{name} is not what was written")
    array: npt.NDArray[Any] = np.lib.format.read_array(io.BytesIO(content), allow_pickle=False)
    return array


def _check(rows: npt.NDArray[Any], values: npt.NDArray[Any]) -> int:
    return int(google_crc32c.extend(google_crc32c.value(rows.tobytes()), values.tobytes()))
