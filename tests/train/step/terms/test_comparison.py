"""The terms of other methods: their values. Derivatives are held to autograd in `test_registry`."""

import pytest
import torch

from sparc.train.config import TrainConfig
from sparc.train.reference import Forward
from sparc.train.step.terms.group_sparse import GroupSparse
from sparc.train.step.terms.iso_energy import IsoEnergy


def with_codes(*codes):
    """A batch of two rows and three latents with these codes."""
    by_stream = {str(place): torch.tensor(code) for place, code in enumerate(codes)}
    empty = dict.fromkeys(by_stream)
    return Forward({}, empty, empty, by_stream, empty, empty, empty)


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
