"""The order in which training visits the rows of a cache: a pure function of a few numbers.

The order depends on the seed, the epoch, the number of usable rows in each chunk and the chunks per
block, and on nothing else: neither on where the rows live, nor on how fast they arrive, nor on how
many processes share the work. This module must not read a cache.
"""

import dataclasses
import functools
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

MIXING_BLOCKS = 4
"""The number of blocks of an epoch that `RowOrder.mixing` looks at."""


class Position(NamedTuple):
    """A batch in the endless sequence of epochs.

    Attributes:
        epoch: Counted from 0.
        step: The batch of that epoch, counted from 0.
    """

    epoch: int
    step: int


class Block(NamedTuple):
    """Chunks that are shuffled together.

    Attributes:
        chunks: Which chunks, in the order in which their rows are numbered inside the block.
        first: How many rows of the epoch come before the block.
        rows: Its usable rows.
    """

    chunks: tuple[int, ...]
    first: int
    rows: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class RowOrder:
    """The order of rows in every epoch.

    The chunks are shuffled, `block_chunks` of them at a time form a block, the rows of a block are
    permuted, and the batches are cut from one block after the other; a batch may lie across two.
    The last rows of an epoch, which fill no batch, are left out; they are others in every epoch.

    Attributes:
        usable: Usable rows in each chunk of the cache.
        block_chunks: M, chunks per block.
        batch_size: Rows per batch, over all processes together.
        seed: Seed of the order.
    """

    usable: tuple[int, ...]
    block_chunks: int
    batch_size: int
    seed: int

    @functools.cached_property
    def rows(self) -> int:
        """Usable rows of the cache."""
        return sum(self.usable)

    @property
    def batch_rows(self) -> int:
        """Actual rows per batch: fewer than `batch_size` where the cache has fewer."""
        return min(self.batch_size, self.rows)

    @property
    def steps_per_epoch(self) -> int:
        """Batches of an epoch."""
        return self.rows // self.batch_rows

    def blocks(self, epoch: int) -> list[Block]:
        """The blocks of an epoch, in order."""
        order = self._generator(epoch, 0).permutation(len(self.usable)).tolist()
        blocks, first = [], 0
        for start in range(0, len(order), self.block_chunks):
            chunks = tuple(order[start : start + self.block_chunks])
            rows = sum(self.usable[chunk] for chunk in chunks)
            blocks.append(Block(chunks, first, rows))
            first += rows
        return blocks

    def permutation(self, epoch: int, block: int, rows: int) -> npt.NDArray[np.int64]:
        """The order of the usable rows of an epoch's block: (rows,) int64."""
        return self._generator(epoch, 1 + block).permutation(rows)

    def mixing(self, epoch: int) -> float:
        """How well an epoch is mixed, measured on its first blocks.

        Returns:
            The mean number of distinct chunks in a batch over the number expected of a batch drawn
            from the whole cache at random. 1 is as good as a full shuffle; a batch read from one
            chunk would score 1 / (that number).
        """
        pieces = []
        for number, block in enumerate(self.blocks(epoch)[:MIXING_BLOCKS]):
            chunk_of_row = np.repeat(block.chunks, [self.usable[c] for c in block.chunks])
            pieces.append(chunk_of_row[self.permutation(epoch, number, block.rows)])
        chunks = np.concatenate(pieces)
        batches = chunks[: len(chunks) // self.batch_rows * self.batch_rows]
        if len(batches) == 0:
            batches = chunks
        ordered = np.sort(batches.reshape(-1, min(self.batch_rows, len(batches))), axis=1)
        distinct = 1 + np.count_nonzero(np.diff(ordered, axis=1), axis=1)
        return float(distinct.mean() / self._expected_chunks(ordered.shape[1]))

    def _expected_chunks(self, rows: int) -> float:
        """Expected number of distinct chunks in N random rows: the sum of P(at least one row)."""
        missed = [1.0] * len(self.usable)
        for chunk, count in enumerate(self.usable):
            missed[chunk] = (1 - count / self.rows) ** rows
        return len(missed) - sum(missed)

    def _generator(self, epoch: int, purpose: int) -> np.random.Generator:
        return np.random.Generator(np.random.PCG64([self.seed, epoch, purpose]))
