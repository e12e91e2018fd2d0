"""Noise in what encoders read: its size, its draws, and steps against the dense reference."""

import pytest
import torch
from different_kernels import different_kernels

from sparc.train.config import TrainConfig
from sparc.train.reference import Reference, cross_reconstruction
from sparc.train.step.learner import Learner
from sparc.train.step.noise import Share, draw_noise
from sparc.train.step.terms.registry import TERMS, TermEntry
from sparc.train.step.terms.term import LossTerm

KERNELS = different_kernels(torch.device("cpu"))


def noise_of(model, batch, step, scale=0.5):
    return draw_noise(batch, scale=scale, seed=5, step=step)


@pytest.mark.parametrize("normalize", ["unit", "none"])
@pytest.mark.parametrize("kernels", KERNELS)
def test_steps_are_those_of_the_reference(build_model, draw_batch, kernels, normalize):
    model, twin = build_model(normalize=normalize), build_model(normalize=normalize)
    options = {"auxk": 4, "aux_weight": 0.5, "dead_after": 30}
    learner = Learner(
        model, TrainConfig(recipe="joint", **options, noise=0.5, kernels=kernels, seed=5)
    )
    reference, plain = Reference(twin, **options, lr=1e-2), []
    for step in range(1, 16):
        batch = draw_batch(model, 10, seed=step)
        plain.append(reference.loss(reference.forward(batch)).item())
        loss = reference.step(batch, noise_of(twin, batch, step))
        sums = learner.step(batch, 1e-2)
        torch.testing.assert_close(sums.loss / sums.rows, loss, rtol=1e-9, atol=1e-9)
        assert loss.item() != pytest.approx(plain[-1], rel=1e-3)
    for name, parameter in twin.named_parameters():
        torch.testing.assert_close(model.get_parameter(name), parameter, rtol=1e-9, atol=1e-9)


def test_measuring_has_none(build_model, draw_batch):
    model = build_model()
    batch = draw_batch(model, 10)
    noisy, plain = (Learner(model, TrainConfig(recipe="joint", noise=noise)) for noise in (0.5, 0))
    assert torch.equal(noisy.losses(batch).total, plain.losses(batch).total)


def test_its_norm_is_a_share_of_that_of_features():
    batch = {"a": torch.zeros(3000, 8), "b": torch.zeros(3000, 100)}
    for noise in draw_noise(batch, scale=0.25, seed=1, step=1).values():
        assert noise.square().sum(1).mean().sqrt().item() == pytest.approx(0.25, rel=0.03)
        assert noise.mean().item() == pytest.approx(0, abs=0.01)


def test_draws_differ_between_steps_seeds_and_streams_and_never_else():
    batch = {"a": torch.zeros(4, 6), "b": torch.zeros(4, 6)}
    noise = draw_noise(batch, scale=1, seed=1, step=1)
    again = draw_noise(batch, scale=1, seed=1, step=1)
    assert torch.equal(noise["a"], again["a"])
    assert not torch.equal(noise["a"], noise["b"])
    for seed, step in ((1, 2), (2, 1)):
        other = draw_noise(batch, scale=1, seed=seed, step=step)
        assert not torch.equal(noise["a"], other["a"])


class CrossAgain(LossTerm):
    """Cross-reconstruction once more, by autograd."""

    def dense(self, forward):
        return cross_reconstruction(forward)


@pytest.fixture
def cross_again(monkeypatch):
    monkeypatch.setitem(TERMS, "cross_again", TermEntry("of a test", f"{__name__}:CrossAgain"))


@pytest.mark.usefixtures("cross_again")
@pytest.mark.parametrize("terms", [("distill=0.4",), ("cross_again=0.7",)])
def test_two_processes_make_the_steps_of_one(build_model, draw_batch, in_two_threads, terms):
    settings = TrainConfig(recipe="joint", terms=terms, noise=0.5)
    whole = build_model()
    batches = [draw_batch(whole, 8, seed=seed) for seed in range(3)]
    learner = Learner(whole, settings)
    for batch in batches:
        learner.step(batch, 1e-3)

    def part(rank, gather):
        model = build_model()
        half = Learner(model, settings, gather=gather, share=Share(rank, 2))
        for batch in batches:
            half.step({s: x[4 * rank :][:4] for s, x in batch.items()}, 1e-3)
        return model

    for model in in_two_threads(part):
        for name, parameter in whole.named_parameters():
            other = model.get_parameter(name)
            torch.testing.assert_close(other, parameter, rtol=0, atol=1e-9)


@pytest.mark.usefixtures("cross_again")
def test_terms_by_autograd_read_the_same_noise(build_model, draw_batch):
    """A second cross term by autograd moves weights as twice the weight by hand does."""
    model, twin = build_model(), build_model()
    learner = Learner(model, TrainConfig(recipe="joint", noise=0.5, terms=("cross_again=1",)))
    doubled = Learner(twin, TrainConfig(recipe="joint", noise=0.5, cross_weight=2))
    for seed in range(4):
        batch = draw_batch(model, 10, seed=seed)
        learner.step(batch, 1e-2)
        doubled.step(batch, 1e-2)
    for name, parameter in twin.named_parameters():
        torch.testing.assert_close(model.get_parameter(name), parameter, rtol=1e-9, atol=1e-9)


def test_it_resumes_bit_for_bit(check_resumed_steps):
    check_resumed_steps(TrainConfig(recipe="joint", noise=0.5))
