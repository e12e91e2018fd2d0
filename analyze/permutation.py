"""The control that takes rows apart: each stream's rows in an order of their own.

The permutation is exact and uniform as long as the analysed rows fit one block. A larger set is
permuted in blocks that are put together from chunks all over the set, in an order of its own for
each stream and for the places that they go to, so that memory stays bounded and whole chunks are
read. This module must not know what is permuted: features or codes.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

_PLACES = 0  # The random stream of the places; those of the model's streams count from one.


class Piece(NamedTuple):
    """Some consecutive analysed rows of a chunk, counted within the chunk."""

    chunk: int
    start: int
    stop: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Permutation:
    """Which row of each stream stands in which place.

    Places are the analysed rows of the cache: labels and row numbers stay there, features or codes
    move. In a block, places are in ascending order of their chunk within the block.

    Attributes:
        counts: Analysed rows of each chunk.
        block_rows: Rows that may be held at a time; a block has at least one chunk.
        seed: Everything follows from it.
    """

    counts: tuple[int, ...]
    block_rows: int
    seed: int

    @property
    def exact(self) -> bool:
        """Whether every permutation of all rows is equally likely: there is one block."""
        return len(self.blocks) == 1

    @property
    def blocks(self) -> list[tuple[int, ...]]:
        """The chunks whose places belong to each block, ascending within a block."""
        blocks: list[list[int]] = []
        room = 0
        for chunk in self._chunk_order(_PLACES):
            if not blocks or self.counts[chunk] > room:
                blocks.append([])
                room = self.block_rows
            blocks[-1].append(chunk)
            room -= self.counts[chunk]
        return [tuple(sorted(block)) for block in blocks]

    def gather(
        self, block: int, stream: int, read: Callable[[int], Sequence[npt.NDArray[Any]]]
    ) -> list[npt.NDArray[Any]]:
        """A stream's rows in the places of a block.

        Args:
            block: Which block.
            stream: The stream's position in the model's order.
            read: Gives the arrays of a chunk's analysed rows.

        Returns:
            The arrays, permuted along their first axis, all in the same way.
        """
        count = self._places(block)
        order = self._generator(1 + stream, 1 + block).permutation(count)
        place = np.empty(count, np.int64)
        place[order] = np.arange(count)
        result: list[npt.NDArray[Any]] = []
        first = 0
        # Row by row to its place: a block is large, and a second copy of it would be as large.
        for piece in self.pieces(block, stream):
            found = [array[piece.start : piece.stop] for array in read(piece.chunk)]
            result = result or [np.empty((count, *a.shape[1:]), a.dtype) for a in found]
            rows = place[first : first + piece.stop - piece.start]
            for whole, array in zip(result, found, strict=True):
                whole[rows] = array
            first += len(rows)
        return result

    def pieces(self, block: int, stream: int) -> list[Piece]:
        """Where a stream's rows of a block come from, before they are permuted."""
        sizes = [self._places(b) for b in range(len(self.blocks))]
        begin = sum(sizes[:block])
        end = begin + sizes[block]
        pieces, first = [], 0
        for chunk in self._chunk_order(1 + stream):
            last = first + self.counts[chunk]
            if first < end and last > begin:
                start, stop = max(begin, first) - first, min(end, last) - first
                pieces.append(Piece(chunk, start, stop))
            first = last
        return pieces

    def _places(self, block: int) -> int:
        return sum(self.counts[chunk] for chunk in self.blocks[block])

    def _chunk_order(self, stream: int) -> list[int]:
        # A chunk without analysed rows has no place and takes none.
        used = [chunk for chunk, count in enumerate(self.counts) if count]
        order: list[int] = self._generator(stream, 0).permutation(used).tolist()
        return order

    def _generator(self, stream: int, block: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, stream, block])
