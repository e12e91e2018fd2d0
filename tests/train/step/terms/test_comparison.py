"""The terms of other methods: their values. Derivatives are held to autograd in `test_registry`."""

import pytest
import torch

from sparc.train.config import TrainConfig
from sparc.train.reference import Forward, Reference
from sparc.train.step.learner import Learner
from sparc.train.step.terms.group_sparse import GroupSparse
from sparc.train.step.terms.iso_energy import IsoEnergy


def with_codes(*codes):
    """A batch of two rows and three latents with these codes."""
    by_stream = {str(place): torch.tensor(code) for place, code in enumerate(codes)}
    empty = dict.fromkeys(by_stream)
    return Forward({}, empty, empty, by_stream, empty, empty, empty, empty)


def value(term, *codes):
    return float(term(TrainConfig(), "term").dense(with_codes(*codes)))


def test_group_sparsity_counts_a_shared_latent_once():
    shared, other = [[3.0, 0, 0], [0, 0, 0]], [[4.0, 0, 0], [0, 0, 0]]
    moved = [[0, 4.0, 0], [0, 0, 0]]
    assert value(GroupSparse, shared, other) == pytest.approx(5 / 2)
    assert value(GroupSparse, shared, moved) == pytest.approx(7 / 2)
    assert value(GroupSparse, shared) == pytest.approx(3 / 2)


def test_energies_are_compared_by_latent_whatever_the_rows():
    one, other = [[2.0, 0, 1], [0, 0, 0]], [[0, 0, 0], [2.0, 0, 0]]
    assert value(IsoEnergy, one, other) == pytest.approx(1 / 3)  # the third latent
    assert value(IsoEnergy, one, one) == 0
    assert value(IsoEnergy, one, [[1.0, 0, 1], [0, 0, 0]]) == pytest.approx((4 - 1) / (4 + 1) / 3)
    assert value(IsoEnergy, one, one, other) == pytest.approx(2 / 3 / 3)
    assert value(IsoEnergy, one) == 0


@pytest.mark.parametrize("selection", ["global", "local"])
def test_group_sparsity_of_rows_that_lack_streams(build_model, draw_batch, selection):
    model = build_model(selection=selection)
    settings = TrainConfig(recipe="joint", rows="any", terms=("group_sparse=0.5",))
    learner, batch = Learner(model, settings), draw_batch(model, 9)
    present = torch.arange(27).view(9, 3) % 5 > 0
    reference = Reference(model)
    forward = reference.forward(batch, present=present)
    loss = reference.loss(forward) + 0.5 * GroupSparse(settings, "group_sparse").dense(forward)
    loss.backward()
    for name, gradient in learner.gradients(batch, present=present).items():
        torch.testing.assert_close(gradient, model.get_parameter(name).grad, rtol=1e-10, atol=1e-10)
