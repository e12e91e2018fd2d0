"""The permutation control: every stream's images are permuted on their own.

Whole images move, with all their rows, to the places of images with the same number of rows: a
permutation within strata. It is exact and uniform if the analysed rows fit one block. A larger set
is permuted in blocks of chunks drawn from the whole set, in a different order for each stream and
for the places that they go to, so that memory stays bounded and whole chunks are read. This module
must not know what is permuted: features or codes.
"""

import dataclasses
from collections.abc import Callable, Sequence
from functools import cached_property, lru_cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from sparc.analyze.maths.packing import Packed, pack

_PLACES = 0  # The random stream that orders places; those of the model's streams count from one.


class _Images(NamedTuple):
    """The images that have analysed rows, in the order of the cache.

    Attributes:
        first: The first analysed row of each, counted over all chunks, (images,).
        chunk: The chunk of that row, (images,).
        block: The block of that chunk, (images,).
    """

    first: npt.NDArray[np.int64]
    chunk: npt.NDArray[np.int64]
    block: npt.NDArray[np.int64]


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Permutation:
    """Which row of each stream goes to which place.

    Places are the analysed rows of the cache: labels and row numbers stay there, features or codes
    move. In a block, places are in ascending order of their chunk within the block.

    Within a block and a stratum (images with the same number of rows), places and images are put in
    one random order; stream s, from 0, brings to each place the image 1 + s positions later,
    cyclically. So all orders are equally likely, and with a single block no two streams bring the
    same image to a place, nor its own image, unless the stratum has no more images than there are
    streams.

    Attributes:
        counts: Analysed rows of each chunk.
        sizes: Analysed rows of each image that has any, in the order of the cache, (images,).
        block_rows: Rows that may be held at a time; a block has at least one chunk.
        seed: Decides every order.
    """

    counts: tuple[int, ...]
    sizes: npt.NDArray[np.int32]
    block_rows: int
    seed: int

    def __reduce__(self) -> tuple[Any, ...]:
        return _unpacked, (self.counts, pack(self.sizes), self.block_rows, self.seed)

    @property
    def exact(self) -> bool:
        """Whether every permutation within strata is equally likely."""
        return len(self.blocks) == 1

    @cached_property
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

    def inseparable(self, streams: int) -> int:
        """How many images lie in strata too small to give every stream another image there.

        Args:
            streams: How many streams are permuted.
        """
        alike = np.bincount(self.sizes)
        return int(alike[alike <= streams].sum())

    def gather(
        self,
        block: int,
        stream: int,
        read: Callable[[int], Sequence[npt.NDArray[Any]]],
        places: npt.NDArray[np.int64] | None = None,
    ) -> list[npt.NDArray[Any]]:
        """A stream's rows in the places of a block; only the chunks that they lie in are read.

        Args:
            block: Which block.
            stream: The stream's position in the model's order.
            read: Gives the arrays of a chunk's analysed rows.
            places: Which places of the block, (n,); all of them by default.

        Returns:
            The arrays, permuted along their first axis, all in the same way.
        """
        source = self._sources(block, stream)
        if places is not None:
            source = source[places]
        chunk_of = np.searchsorted(self._ends, source, side="right")
        order = np.argsort(chunk_of, kind="stable")
        chunks, begins = np.unique(chunk_of[order], return_index=True)
        result: list[npt.NDArray[Any]] = []
        # Chunk by chunk into place: a second copy of a block would need as much memory again.
        for chunk, into in zip(chunks.tolist(), np.split(order, begins[1:]), strict=True):
            arrays = read(chunk)
            result = result or [np.empty((len(source), *a.shape[1:]), a.dtype) for a in arrays]
            rows = source[into] - (self._ends[chunk] - self.counts[chunk])
            for whole, array in zip(result, arrays, strict=True):
                whole[into] = array[rows]
        return result

    def _sources(self, block: int, stream: int) -> npt.NDArray[np.int64]:
        """The row that goes to each place of a block, both counted over all chunks."""
        first = self._images.first
        places = np.concatenate(
            [np.arange(self._ends[c] - self.counts[c], self._ends[c]) for c in self.blocks[block]]
        )
        # An image that lies across chunks has places in two blocks, and one image for both.
        image = np.searchsorted(first, places, side="right") - 1
        sources: npt.NDArray[np.int64] = first[self._donors(stream)[image]] + places - first[image]
        return sources

    def _donors(self, stream: int) -> npt.NDArray[np.int64]:
        """The image that a stream brings to the places of each image, (images,)."""
        if stream not in self._donors_of:
            _, chunk, block = self._images
            # Within a stratum, a stream's images fill the blocks in the order of its chunks.
            rank = np.empty(len(self.counts), np.int64)
            order = self._chunk_order(1 + stream)
            rank[order] = np.arange(len(order))
            brought = np.lexsort((rank[chunk], self.sizes))
            by_stratum = np.lexsort((block, self.sizes))
            stratum = np.cumsum(
                np.append(
                    False,
                    (np.diff(block[by_stratum]) != 0) | (np.diff(self.sizes[by_stratum]) != 0),
                )
            )
            # One random order of all images orders places and images of a block and stratum.
            places = by_stratum[np.lexsort((self._keys[by_stratum], stratum))]
            brought = brought[np.lexsort((self._keys[brought], stratum))]
            length = np.bincount(stratum)
            begin = np.cumsum(length) - length
            inside = (np.arange(len(stratum)) - begin[stratum] + 1 + stream) % length[stratum]
            donors = np.empty(len(stratum), np.int64)
            donors[places] = brought[begin[stratum] + inside]
            self._donors_of[stream] = donors
        return self._donors_of[stream]

    @cached_property
    def _donors_of(self) -> dict[int, npt.NDArray[np.int64]]:
        return {}

    @cached_property
    def _keys(self) -> npt.NDArray[np.float64]:
        return self._generator(_PLACES, 1).random(len(self.sizes))

    @cached_property
    def _ends(self) -> npt.NDArray[np.int64]:
        return np.cumsum(self.counts, dtype=np.int64)

    @cached_property
    def _images(self) -> _Images:
        first = np.cumsum(self.sizes, dtype=np.int64) - self.sizes
        chunk = np.searchsorted(self._ends, first, side="right")
        block_of = np.zeros(len(self.counts), np.int64)
        for number, chunks in enumerate(self.blocks):
            block_of[list(chunks)] = number
        return _Images(first, chunk, block_of[chunk])

    def _chunk_order(self, stream: int) -> list[int]:
        # A chunk without analysed rows has no places and belongs to no block.
        used = [chunk for chunk, count in enumerate(self.counts) if count]
        order: list[int] = self._generator(stream, 0).permutation(used).tolist()
        return order

    def _generator(self, stream: int, block: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, stream, block])


@lru_cache(maxsize=1)
def _unpacked(counts: tuple[int, ...], sizes: Packed, block_rows: int, seed: int) -> Permutation:
    """The permutation in another process, which keeps it: what it derives takes time."""
    return Permutation(counts=counts, sizes=sizes.array, block_rows=block_rows, seed=seed)
