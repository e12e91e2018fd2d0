"""Sparse codes of some rows, in memory. This module must not know where they are stored."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import sparse


class CodeRows(NamedTuple):
    """Codes of some rows in every stream.

    Attributes:
        rows: Which rows of the cache, (n,) int64.
        indices: By stream, the latents selected for each row, (n, k), ascending within a row.
            With joint selection all streams have the same array.
        values: By stream, their values, (n, k) float32; zero where a latent is not active.
    """

    rows: npt.NDArray[np.int64]
    indices: Mapping[str, npt.NDArray[Any]]
    values: Mapping[str, npt.NDArray[np.float32]]

    @property
    def streams(self) -> tuple[str, ...]:
        """The streams, in their fixed order."""
        return tuple(self.values)

    def matrix(self, stream: str, latents: int) -> sparse.csr_matrix:
        """A stream's codes as a canonical sparse matrix of its active latents, (n, latents)."""
        indices, values = self.indices[stream], self.values[stream]
        active = values > 0
        ends = np.concatenate([[0], np.cumsum(active.sum(axis=1))])
        matrix = sparse.csr_matrix(
            (values[active], indices[active].astype(np.int32), ends.astype(np.int64)),
            shape=(len(values), latents),
        )
        matrix.has_canonical_format = True
        return matrix

    def batches(self, size: int) -> Iterator["CodeRows"]:
        """All rows, `size` at a time, without copying them."""
        for start in range(0, len(self.rows), size):
            yield self.take(slice(start, start + size))

    def take(self, positions: npt.NDArray[Any] | slice) -> "CodeRows":
        """Some of the rows, by position."""
        shared: dict[int, npt.NDArray[Any]] = {}
        for indices in self.indices.values():
            if id(indices) not in shared:
                shared[id(indices)] = indices[positions]
        return CodeRows(
            self.rows[positions],
            {stream: shared[id(indices)] for stream, indices in self.indices.items()},
            {stream: values[positions] for stream, values in self.values.items()},
        )


def concatenate(parts: Sequence[CodeRows]) -> CodeRows:
    """The rows of several parts, one after the other."""
    if len(parts) == 1:
        return parts[0]
    first = parts[0]
    indices: dict[str, npt.NDArray[Any]] = {}
    joined: dict[int, npt.NDArray[Any]] = {}
    for stream in first.streams:
        key = id(first.indices[stream])
        if key not in joined:
            joined[key] = np.concatenate([part.indices[stream] for part in parts])
        indices[stream] = joined[key]
    return CodeRows(
        np.concatenate([part.rows for part in parts]),
        indices,
        {s: np.concatenate([part.values[s] for part in parts]) for s in first.streams},
    )
