"""The parts that a set of codes is read in: chunks, or the blocks of a permutation.

A part has codes and, on demand, the features at the same places. This module must not know what is
measured.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial, reduce
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from sparc.analyze.codes.code_rows import CodeRows, concatenate
from sparc.analyze.codes.code_sets import CodeSet
from sparc.analyze.codes.permutation import Permutation
from sparc.analyze.codes.store import CodeStore
from sparc.analyze.timings import WORK
from sparc.common.cache.reader import ActivationCache
from sparc.common.timing.phases import Phase

T = TypeVar("T")

_BATCH = 1 << 14
"""Rows measured at a time by `in_batches`: their counts take several times the memory of their
codes."""


class Parts:
    """A set of codes, part by part.

    Args:
        store: The report's codes.
        cache: The cache that they were computed from.
        code_set: Which set.
        permutation: The order of rows in a permuted control; other sets ignore it.
    """

    def __init__(
        self,
        store: CodeStore,
        cache: ActivationCache,
        code_set: CodeSet,
        permutation: Permutation | None = None,
    ) -> None:
        self._store = store
        self._cache_location = cache.folder.location
        self._cache: ActivationCache | None = cache
        self._permutation = permutation if code_set.permuted else None
        self.code_set = code_set
        self._chunks: Sequence[Sequence[int]] = (
            self._permutation.blocks
            if self._permutation is not None
            else [[chunk] for chunk, count in enumerate(store.counts) if count]
        )

    def __getstate__(self) -> dict[str, Any]:
        # An open cache cannot be pickled: other processes open it themselves.
        return {**self.__dict__, "_cache": None}

    @property
    def permuted(self) -> bool:
        """Whether the codes in the places of a row come from other rows."""
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
    def padded(self) -> bool:
        """Whether rows may use fewer latents than a code has columns; see `CodeLayout`."""
        return self._store.layout.padded

    def __len__(self) -> int:
        return len(self._chunks)

    def rows(self, part: int) -> npt.NDArray[np.int64]:
        """The rows of the cache in a part, whose places the codes stand in, (n,)."""
        return np.concatenate([self._store.valid_rows(chunk) for chunk in self._chunks[part]])

    def holding(self, rows: npt.NDArray[np.int64]) -> list[int]:
        """The parts that hold any of some rows, ascending; the first one if there are no rows."""
        chunks = set(np.unique(rows // self._store.layout.rows_per_chunk).tolist())
        return [n for n, own in enumerate(self._chunks) if not chunks.isdisjoint(own)] or [0]

    def codes_at(self, part: int, rows: npt.NDArray[np.int64]) -> CodeRows:
        """The codes in those places of a part that are some rows'; only their chunks are read."""
        with WORK.at(Phase.READ):
            return self._codes_at(part, rows)

    def _codes_at(self, part: int, rows: npt.NDArray[np.int64]) -> CodeRows:
        own = self.rows(part)
        places = np.flatnonzero(np.isin(own, rows))
        if not len(places):
            return self.codes(part).take(places)
        if not self.code_set.stored:
            return self._permuted(part, self.streams, places)
        chunks = np.unique(own[places] // self._store.layout.rows_per_chunk).tolist()
        codes = concatenate([self._store.read(self.code_set, chunk) for chunk in chunks])
        return codes.take(np.flatnonzero(np.isin(codes.rows, rows)))

    def codes(self, part: int, streams: tuple[str, ...] = ()) -> CodeRows:
        """The codes in the places of a part; of all streams unless some are named."""
        with WORK.at(Phase.READ):
            return self._codes(part, streams)

    def _codes(self, part: int, streams: tuple[str, ...]) -> CodeRows:
        if self.code_set.stored:
            read_chunk = partial(self._store.read, self.code_set, streams=streams)
            return concatenate([read_chunk(chunk) for chunk in self._chunks[part]])
        return self._permuted(part, streams or self.streams)

    def _permuted(
        self, part: int, streams: Sequence[str], places: npt.NDArray[np.int64] | None = None
    ) -> CodeRows:
        """Stored codes in the order of the permutation, at some places of a part or at all."""
        original = self.code_set.reorders
        assert self._permutation is not None
        assert original is not None
        indices, values = {}, {}
        for stream in streams:

            def read(chunk: int, stream: str = stream) -> list[npt.NDArray[Any]]:
                codes = self._store.read(original, chunk, streams=(stream,))
                return [codes.indices[stream], codes.values[stream]]

            position = self.streams.index(stream)
            indices[stream], values[stream] = self._permutation.gather(part, position, read, places)
        rows = self.rows(part)
        return CodeRows(rows if places is None else rows[places], indices, values)

    def features(self, part: int) -> Mapping[str, npt.NDArray[Any]]:
        """The features that the codes of a part belong to, by stream, (n, dim) as stored."""
        with WORK.at(Phase.READ):
            if self._permutation is not None:
                return permuted_features(self.cache, self._store, self._permutation, part)
            (chunk,) = self._chunks[part]
            return chunk_features(self.cache, self._store, chunk)

    def placed_features(
        self, part: int, stream: str
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[Any]]:
        """A stream's features in the places of a part, and the rows that they come from.

        Where features were permuted before selection, they are the permuted ones; where only codes
        were permuted after it, they are those of the places themselves.

        Args:
            part: Which part.
            stream: A stream, not necessarily that of the codes.

        Returns:
            The row of the cache that each feature comes from, (n,), and the features as stored,
            (n, dim).
        """

        def read(chunk: int) -> list[npt.NDArray[Any]]:
            rows = self._store.valid_rows(chunk)
            inside = rows - self._store.layout.chunk_rows(chunk).start
            return [rows, self.cache.features(stream, chunk)[inside]]

        with WORK.at(Phase.READ):
            if self._permutation is not None and self.code_set.stored:
                rows, features = self._permutation.gather(part, self.streams.index(stream), read)
                return rows, features
            rows, features = (
                np.concatenate(arrays)
                for arrays in zip(*(read(chunk) for chunk in self._chunks[part]), strict=True)
            )
            return rows, features


def in_batches(
    codes: CodeRows, measure: Callable[[CodeRows], T], merge: Callable[[Sequence[T]], T]
) -> T:
    """Measure some rows, a batch at a time, and merge the results one after the other."""
    return reduce(lambda total, more: merge([total, more]), map(measure, codes.batches(_BATCH)))


def chunk_features(
    cache: ActivationCache, store: CodeStore, chunk: int
) -> Mapping[str, npt.NDArray[Any]]:
    """The features of a chunk's analysed rows, by stream, (n, dim) as stored."""
    return cache.aligned(chunk, store.layout.streams).features


def permuted_features(
    cache: ActivationCache, store: CodeStore, permutation: Permutation, block: int
) -> dict[str, npt.NDArray[Any]]:
    """The permuted features of a block, by stream, (n, dim) as stored."""
    features = {}
    for position, stream in enumerate(store.layout.streams):

        def read(chunk: int, stream: str = stream) -> list[npt.NDArray[Any]]:
            inside = store.valid_rows(chunk) - store.layout.chunk_rows(chunk).start
            return [cache.features(stream, chunk)[inside]]

        (features[stream],) = permutation.gather(block, position, read)
    return features


def permuted_chunks(
    store: CodeStore,
    permutation: Permutation,
    block: int,
    features: Mapping[str, npt.NDArray[Any]],
) -> Iterator[tuple[int, npt.NDArray[np.int64], dict[str, npt.NDArray[Any]]]]:
    """The permuted features of a block, divided into its chunks.

    Args:
        store: The report's codes.
        permutation: Which rows are encoded together.
        block: The block.
        features: From `permuted_features`.

    Yields:
        A chunk, its analysed rows, and the features at their places, by stream, (n, dim).
    """
    first = 0
    for chunk in permutation.blocks[block]:
        rows = store.valid_rows(chunk)
        yield chunk, rows, {name: x[first : first + len(rows)] for name, x in features.items()}
        first += len(rows)
