"""Which rows every process needs of which block, in the order of their use.

It follows from the order of rows alone: all processes know what each of them needs, without asking.
"""

from collections.abc import Iterator
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from sparc.train.data.order import Block, Position, RowOrder

RowNumbers = npt.NDArray[np.int64]

Needs = Literal["part", "whole"]
"""What a process needs of every batch: its own part of the rows, or all of them."""


class Sharing(NamedTuple):
    """How processes share batches.

    Attributes:
        rank: Which process this is.
        world: How many there are.
        needs: What each of them needs.
    """

    rank: int = 0
    world: int = 1
    needs: Needs = "part"

    def part(self, batch_rows: int) -> int:
        """Rows of a batch that a process needs."""
        return batch_rows if self.needs == "whole" else batch_rows // self.world

    def largest_part(self, block_rows: int, batch_rows: int) -> int:
        """The most rows that a process needs of this number of consecutive rows of an epoch."""
        batches, rest = divmod(block_rows, batch_rows)
        part = self.part(batch_rows)
        return batches * part + min(rest, part)


class Planned(NamedTuple):
    """A block, and what is needed of it.

    Attributes:
        block: The block.
        number: Which block of its epoch it is.
        wanted: By process, which of the block's usable rows it needs, in the order of their use:
            (rows,) int64.
    """

    block: Block
    number: int
    wanted: tuple[RowNumbers, ...]


def plan(order: RowOrder, position: Position, sharing: Sharing) -> Iterator[Planned]:
    """The blocks to read from a batch on, epoch after epoch, without end.

    Args:
        order: The order of rows.
        position: The first batch.
        sharing: The processes.
    """
    epoch, step = position
    begin = step * order.batch_rows
    end = order.steps_per_epoch * order.batch_rows  # the rest fills no batch
    while True:
        for number, block in enumerate(order.blocks(epoch)):
            first, last = max(begin, block.first), min(end, block.first + block.rows)
            if first < last:
                shuffled = order.permutation(epoch, number, block.rows)
                used = shuffled[first - block.first : last - block.first]
                yield Planned(block, number, _divided(used, first, order.batch_rows, sharing))
        epoch, begin = epoch + 1, 0


def _divided(
    used: RowNumbers, first: int, batch_rows: int, sharing: Sharing
) -> tuple[RowNumbers, ...]:
    """By process, its rows among those that begin at a row of the epoch."""
    if sharing.world == 1 or sharing.needs == "whole":
        return (used,) * sharing.world
    process = np.arange(first, first + len(used)) % batch_rows // sharing.part(batch_rows)
    return tuple(used[process == rank] for rank in range(sharing.world))
