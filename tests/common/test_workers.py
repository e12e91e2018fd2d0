"""Threads that share pieces of a computation: the same results whatever their number."""

import threading

import pytest
import torch

from sparc.common.workers import Workers


@pytest.fixture(autouse=True)
def threads_as_before():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_results_come_in_order_and_pieces_see_one_thread():
    torch.set_num_threads(2)

    def look(piece):
        return piece, torch.get_num_threads(), torch.is_grad_enabled()

    assert Workers(2).map(look, range(40)) == [(piece, 1, False) for piece in range(40)]
    assert torch.get_num_threads() == 2
    assert torch.is_grad_enabled()


def test_threads_that_begin_later_are_left_alone():
    torch.set_num_threads(2)
    Workers(2).map(abs, range(4))
    counts = []
    thread = threading.Thread(target=lambda: counts.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    assert counts == [2]


def test_learners_share_their_threads():
    before = threading.active_count()
    for _ in range(5):
        Workers(3).map(abs, range(9))
    assert threading.active_count() <= before + 3


@pytest.mark.parametrize("threads", [1, 2])
def test_failures_come_out(threads):
    def fail(piece):
        raise ValueError(f"piece {piece}")

    with pytest.raises(ValueError, match="piece 0"):
        Workers(threads).map(fail, range(4))


def test_the_caller_has_its_threads_back_after_a_failure():
    torch.set_num_threads(2)

    def fail():
        with Workers(2).one_thread_each():
            assert torch.get_num_threads() == 1
            raise ValueError("failed")

    with pytest.raises(ValueError, match="failed"):
        fail()
    assert torch.get_num_threads() == 2
