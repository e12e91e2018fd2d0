"""Batches whose streams select independently, between batches that select jointly."""

import dataclasses

import pytest
import torch
from different_kernels import different_kernels

from sparc.train.config import TrainConfig
from sparc.train.reference import Reference
from sparc.train.step.learner import Learner
from sparc.train.step.schedule import mode_of_step

KERNELS = different_kernels(torch.device("cpu"))


def local(config):
    return dataclasses.replace(config, selection="local")


@pytest.mark.parametrize("alive_by", ["any", "both"])
@pytest.mark.parametrize("kernels", KERNELS)
def test_steps_are_those_of_the_reference_that_selects_as_the_coin_says(
    build_model, draw_batch, kernels, alive_by
):
    model, twin = build_model(), build_model()
    options = {"auxk": 4, "aux_weight": 0.5, "dead_after": 30, "alive_by": alive_by}
    learner = Learner(
        model, TrainConfig(recipe="joint", **options, independent=0.5, kernels=kernels, seed=5)
    )
    reference = Reference(twin, **options, lr=1e-2)
    joint, modes = twin.config, set()
    for step in range(1, 21):
        mode = mode_of_step(step, own="joint", independent=0.5, seed=5)
        modes.add(mode)
        twin.config = joint if mode == "joint" else local(joint)
        batch = draw_batch(model, 10, seed=step)
        loss, sums = reference.step(batch), learner.step(batch, 1e-2)
        torch.testing.assert_close(sums.loss / sums.rows, loss, rtol=1e-9, atol=1e-9)
        assert bool(sums.chosen) == (mode == "joint")
    assert modes == {"joint", "independent"}
    for name, parameter in twin.named_parameters():
        torch.testing.assert_close(model.get_parameter(name), parameter, rtol=1e-9, atol=1e-9)


def test_encoders_may_have_a_learning_rate_of_their_own(build_model, draw_batch):
    model, twin = build_model(), build_model()
    learner, reference = Learner(model, TrainConfig(recipe="joint")), Reference(twin)
    slow = [*twin.encoder.values(), *twin.latent_bias.values()]
    others = [*twin.decoder.values(), *twin.pre_bias.values()]
    groups = [{"params": slow, "lr": 1e-3}, {"params": others, "lr": 1e-2}]
    reference.adam = torch.optim.Adam(groups)
    for seed in range(5):
        batch = draw_batch(model, 10, seed=seed)
        reference.step(batch)
        learner.step(batch, 1e-2, 1e-3)
    for name, parameter in twin.named_parameters():
        torch.testing.assert_close(model.get_parameter(name), parameter, rtol=1e-9, atol=1e-9)


def test_the_coin_depends_on_seed_and_step_alone():
    def tosses(share, seed, own="joint"):
        return [
            mode_of_step(step, own=own, independent=share, seed=seed) == "independent"
            for step in range(1, 401)
        ]

    assert sum(tosses(0.25, 1)) == pytest.approx(100, abs=30)
    assert tosses(0.25, 1) == tosses(0.25, 1) != tosses(0.25, 2)
    assert not any(tosses(0, 1))
    assert all(tosses(1, 1))
    assert all(tosses(0.25, 1, own="independent"))


def test_thresholds_are_learned_in_both_kinds_of_batches(build_model, draw_batch):
    model = build_model(selection="batch")
    learner = Learner(model, TrainConfig(recipe="joint", independent=0.5))
    for step in range(8):
        learner.step(draw_batch(model, 10, seed=step), 1e-3)
        assert model.known_thresholds() is not None
