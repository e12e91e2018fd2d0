"""The parts that every set of codes is read in: chunks, or the blocks of a permutation.

A part holds its rows' codes and, for what needs them, the features at the same places. This module
must not know what is measured.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from sparc.analyze.codes.permutation import Permutation
from sparc.analyze.codes.store import CodeRows, CodeSet, CodeStore, concatenate
from sparc.common.cache.reader import ActivationCache

REORDERED = {
    CodeSet("joint", "permuted_after"): CodeSet("joint"),
    CodeSet("independent", "permuted"): CodeSet("independent"),
}
"""The controls that are not stored: a stored set in another order."""


class Parts:
    """A set of codes, part by part.

    Args:
        store: The report's codes.
        cache: The cache that they were computed from.
        permutation: The order of rows of the permuted controls; None where none is read.
        code_set: Which set.
    """

    def __init__(
        self,
        store: CodeStore,
        cache: ActivationCache,
        permutation: Permutation | None,
        code_set: CodeSet,
    ) -> None:
        self._store = store
        self._cache_location = cache.folder.location
        self._cache: ActivationCache | None = cache
        self._permutation = permutation if code_set.control.startswith("permuted") else None
        self.code_set = code_set
        self._chunks: Sequence[Sequence[int]] = (
            self._permutation.blocks
            if self._permutation is not None
            else [[chunk] for chunk, count in enumerate(store.counts) if count]
        )

    def __getstate__(self) -> dict[str, Any]:
        # An open cache does not travel to other processes: they open it themselves.
        return {**self.__dict__, "_cache": None}

    @property
    def permuted(self) -> bool:
        """Whether what stands in the places of a row was moved there."""
        return self._permutation is not None

    @property
    def cache(self) -> ActivationCache:
        """The cache, opened in this process."""
        if self._cache is None:
            self._cache = ActivationCache(self._cache_location)
        return self._cache

    @property
    def streams(self) -> tuple[str, ...]:
        """The streams, in their fixed order."""
        return self._store.layout.streams

    @property
    def latents(self) -> int:
        """L."""
        return self._store.layout.latents

    @property
    def k(self) -> int:
        """Latents selected for a row."""
        return self._store.layout.k

    def __len__(self) -> int:
        return len(self._chunks)

    def rows(self, part: int) -> npt.NDArray[np.int64]:
        """The rows of the cache whose places belong to a part."""
        return np.concatenate([self._store.valid_rows(chunk) for chunk in self._chunks[part]])

    def codes(self, part: int, streams: tuple[str, ...] = ()) -> CodeRows:
        """The codes at the places of a part; of some streams, or of all where none is named."""
        chunks = self._chunks[part]
        original = REORDERED.get(self.code_set)
        if original is None:
            read_chunk = partial(self._store.read, self.code_set, streams=streams)
            return concatenate([read_chunk(chunk) for chunk in chunks])
        assert self._permutation is not None
        indices, values = {}, {}
        for stream in streams or self.streams:

            def read(chunk: int, stream: str = stream) -> list[npt.NDArray[Any]]:
                codes = self._store.read(original, chunk, streams=(stream,))
                return [codes.indices[stream], codes.values[stream]]

            position = self.streams.index(stream)
            indices[stream], values[stream] = self._permutation.gather(part, position, read)
        return CodeRows(self.rows(part), indices, values)

    def features(self, part: int) -> Mapping[str, npt.NDArray[Any]]:
        """The features at the places of a part, by stream: those that belong to its codes."""
        if self._permutation is not None:
            return permuted_features(self.cache, self._store, self._permutation, part)
        (chunk,) = self._chunks[part]
        return chunk_features(self.cache, self._store, chunk)

    def seen(self, part: int, stream: str) -> tuple[npt.NDArray[np.int64], npt.NDArray[Any]]:
        """What the codes of a part were selected on, or stand beside where only codes moved.

        Args:
            part: Which part.
            stream: A stream, not necessarily that of the codes.

        Returns:
            For each place of the part, the row of the cache whose feature is there, (n,), and the
            feature as stored, (n, dim).
        """

        def read(chunk: int) -> list[npt.NDArray[Any]]:
            rows = self._store.valid_rows(chunk)
            inside = rows - self._store.layout.chunk_rows(chunk).start
            return [rows, self.cache.features(stream, chunk)[inside]]

        if self._permutation is not None and self.code_set not in REORDERED:
            rows, features = self._permutation.gather(part, self.streams.index(stream), read)
            return rows, features
        rows, features = (
            np.concatenate(arrays)
            for arrays in zip(*(read(chunk) for chunk in self._chunks[part]), strict=True)
        )
        return rows, features


def chunk_features(
    cache: ActivationCache, store: CodeStore, chunk: int
) -> dict[str, npt.NDArray[Any]]:
    """The features of a chunk's analysed rows, by stream, as stored."""
    inside = store.valid_rows(chunk) - store.layout.chunk_rows(chunk).start
    return {stream: cache.features(stream, chunk)[inside] for stream in store.layout.streams}


def permuted_features(
    cache: ActivationCache, store: CodeStore, permutation: Permutation, block: int
) -> dict[str, npt.NDArray[Any]]:
    """The features in the places of a permutation's block, by stream, as stored."""
    features = {}
    for position, stream in enumerate(store.layout.streams):

        def read(chunk: int, stream: str = stream) -> list[npt.NDArray[Any]]:
            inside = store.valid_rows(chunk) - store.layout.chunk_rows(chunk).start
            return [cache.features(stream, chunk)[inside]]

        (features[stream],) = permutation.gather(block, position, read)
    return features
