"""The order of rows: every row once an epoch, a function of the seed, well mixed."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparc.train.data.order import RowOrder

USABLE = st.lists(st.integers(0, 20), min_size=1, max_size=12).filter(sum)


def rows_of_epoch(order, epoch):
    """(chunk, usable row inside it) of every row of an epoch, in order."""
    rows = []
    for number, block in enumerate(order.blocks(epoch)):
        there = [(chunk, row) for chunk in block.chunks for row in range(order.usable[chunk])]
        assert block.first == len(rows)
        assert block.rows == len(there)
        rows += [there[i] for i in order.permutation(epoch, number, block.rows)]
    return rows


@given(USABLE, st.integers(1, 15), st.integers(1, 64), st.integers(0, 3), st.integers(0, 5))
def test_every_usable_row_comes_once_an_epoch(usable, block_chunks, batch_size, seed, epoch):
    order = RowOrder(
        usable=tuple(usable), block_chunks=block_chunks, batch_size=batch_size, seed=seed
    )
    expected = [(c, row) for c, count in enumerate(usable) for row in range(count)]
    assert sorted(rows_of_epoch(order, epoch)) == expected
    assert order.steps_per_epoch * order.batch_rows <= order.rows
    assert order.rows < (order.steps_per_epoch + 1) * order.batch_rows
    assert all(len(block.chunks) <= block_chunks for block in order.blocks(epoch))


def test_epochs_and_seeds_give_other_orders():
    orders = [
        rows_of_epoch(RowOrder(usable=(30,) * 8, block_chunks=3, batch_size=16, seed=seed), epoch)
        for seed, epoch in itertools.product((0, 1), (0, 1))
    ]
    assert all(a != b for a, b in itertools.combinations(orders, 2))
    again = RowOrder(usable=(30,) * 8, block_chunks=3, batch_size=16, seed=1)
    assert rows_of_epoch(again, 1) == orders[3]


def test_fewer_rows_than_a_batch_make_one_step_of_all_of_them():
    order = RowOrder(usable=(3, 0, 4), block_chunks=2, batch_size=256, seed=0)
    assert (order.batch_rows, order.steps_per_epoch) == (7, 1)


@pytest.mark.parametrize(("block_chunks", "low", "high"), [(1, 0.0, 0.15), (64, 0.97, 1.03)])
def test_mixing_tells_a_full_shuffle_from_single_chunks(block_chunks, low, high):
    order = RowOrder(usable=(64,) * 64, block_chunks=block_chunks, batch_size=64, seed=5)
    assert low < order.mixing(0) < high


def test_mixing_of_a_block_is_what_its_chunks_allow():
    """32 rows out of 8 chunks of 64: the expected number of distinct chunks, computed afresh."""
    order = RowOrder(usable=(64,) * 64, block_chunks=8, batch_size=32, seed=5)
    in_block = 8 * (1 - (1 - 1 / 8) ** 32)
    everywhere = 64 * (1 - (1 - 1 / 64) ** 32)
    assert order.mixing(3) == pytest.approx(in_block / everywhere, rel=0.02)


def test_an_even_chunk_counts_once_however_small():
    order = RowOrder(usable=(100, 1), block_chunks=2, batch_size=101, seed=0)
    assert np.isfinite(order.mixing(0))
    assert order.mixing(0) > 1  # a batch of everything has both chunks, a random one rarely
