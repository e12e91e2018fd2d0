"""Distillation, row by row as its formula stands, with every implementation of the kernels."""

import pytest
import torch
from different_kernels import different_kernels

from sparc.train.config import TrainConfig
from sparc.train.reference import Reference
from sparc.train.step.learner import Learner
from sparc.train.step.terms.distill import TEMPERATURE

KERNELS = different_kernels(torch.device("cpu"))


def by_row(forward):
    """The mean loss of each stream, from sets of latents."""
    totals = []
    for s, h in forward.logits.items():
        losses = []
        for row, logits in enumerate(h):
            shared = set(forward.selected[s][row].nonzero().flatten().tolist())
            union = sorted(shared | set(logits.topk(6).indices.tolist()))
            log_p = torch.log_softmax(logits[union] / TEMPERATURE, 0)
            of_shared = [log_p[union.index(latent)] for latent in shared]
            losses.append(-sum(of_shared) / len(shared) if shared else logits.new_zeros(()))
        totals.append(torch.stack(losses).mean())
    return torch.stack(totals)


@pytest.mark.parametrize("selection", ["global", "batch"])
@pytest.mark.parametrize("kernels", KERNELS)
def test_values_and_gradients(build_model, draw_batch, selection, kernels):
    model = build_model(latents=40, k=6, selection=selection)
    settings = TrainConfig(
        recipe="joint", terms=("distill=0.4",), balance=1e-3, auxk=3, kernels=kernels
    )
    learner, batch = Learner(model, settings), draw_batch(model, 9)
    reference = Reference(model, auxk=3)
    forward = reference.forward(batch)
    distill = by_row(forward)
    (reference.loss(forward) + 0.4 * distill.mean()).backward()
    for name, gradient in learner.gradients(batch).items():
        expected = model.get_parameter(name).grad
        torch.testing.assert_close(gradient, expected, rtol=1e-10, atol=1e-10)
    if selection == "global":  # in use thresholds that were learned decide, not those of a batch
        values = learner.losses(batch).terms["distill"]
        torch.testing.assert_close(values, distill.detach(), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(("dims", "selection"), [((7, 5), "local"), ((7,), "global")])
def test_it_is_zero_where_streams_do_not_select_jointly(build_model, draw_batch, dims, selection):
    model = build_model(dims=dims, selection=selection)
    batch = draw_batch(model, 9)
    plain = Learner(model, TrainConfig(recipe="joint")).gradients(batch)
    learner = Learner(model, TrainConfig(recipe="joint", terms=("distill=0.4",)))
    assert not learner.losses(batch).terms["distill"].any()
    for name, gradient in learner.gradients(batch).items():
        assert torch.equal(gradient, plain[name])


def test_two_processes_make_the_step_of_one(build_model, draw_batch, in_two_threads):
    settings = TrainConfig(recipe="joint", terms=("distill=0.4",))
    whole = build_model()
    batch = draw_batch(whole, 8)
    Learner(whole, settings).step(batch, 1e-3)

    def part(rank, gather):
        model = build_model()
        rows = {s: x[4 * rank :][:4] for s, x in batch.items()}
        Learner(model, settings, gather=gather).step(rows, 1e-3)
        return model

    for model in in_two_threads(part):
        for name, parameter in whole.named_parameters():
            other = model.get_parameter(name)
            torch.testing.assert_close(other, parameter, rtol=0, atol=1e-9)
