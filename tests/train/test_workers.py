"""The threads that share the pieces of a step: the same results whatever their number."""

import threading

import pytest
import torch

from sparc.train.learner import Learner, LearnerSettings
from sparc.train.workers import Workers


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
    seen = []
    thread = threading.Thread(target=lambda: seen.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    assert seen == [2]


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


@pytest.mark.parametrize("selection", ["global", "local"])
def test_training_does_not_depend_on_the_number_of_threads(build_model, draw_batch, selection):
    def train(threads):
        torch.set_num_threads(threads)
        model = build_model(dims=(96, 64), latents=2048, k=8, selection=selection).float()
        learner = Learner(model, LearnerSettings(dead_after=150, auxk=8, clip=0.1))
        batches = (draw_batch(model, 70, seed=seed) for seed in range(4))
        figures = [
            learner.step({name: x.float() for name, x in batch.items()}, 1e-2).loss
            for batch in batches
        ]
        assert sum(learner.dead_counts().values()) > 0
        return {**model.state_dict(), **learner.state(), "losses": torch.stack(figures)}

    alone, together = train(1), train(3)
    for name, tensor in alone.items():
        assert torch.equal(together[name], tensor), name
