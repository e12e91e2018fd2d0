"""Balance against its formulas on dense masks, in float64."""

import pytest
import torch

from sparc.train.config import TrainConfig
from sparc.train.reference import Reference, select
from sparc.train.step.learner import Learner


@pytest.mark.parametrize("selection", ["global", "local"])
def test_biases_move_as_the_formulas_say(build_model, draw_batch, selection):
    """With a learning rate of nearly zero all that moves is balance."""
    model = build_model(latents=40, k=6, selection=selection)
    biases = {s: bias.detach().clone() for s, bias in model.latent_bias.items()}
    learner = Learner(model, TrainConfig(recipe="joint", balance=0.01))
    joint = {s: torch.full((40,), 6 / 40, dtype=torch.float64) for s in biases}
    alone = {s: mean.clone() for s, mean in joint.items()}
    moved = 0
    for seed in range(80):
        batch = draw_batch(model, 9, seed=seed)
        with torch.no_grad():
            forward = Reference(model).forward(batch)
            masks = select(model.config, forward.logits, forward.has)
        learner.step(batch, 1e-13)
        for s, h in forward.logits.items():
            own = torch.zeros_like(h).scatter(1, h.topk(6).indices, 1)
            joint[s] = 0.97 * joint[s] + 0.03 * masks[s].mean(0)
            alone[s] = 0.97 * alone[s] + 0.03 * own.mean(0)
            u = torch.log((6 / 40) / ((joint[s] + alone[s]) / 2 + 1e-4))
            step = (u - u.clip(-1, 1)).clip(-1, 1)
            biases[s] += 0.01 * step
            moved += int((step != 0).sum())
            torch.testing.assert_close(model.latent_bias[s].data, biases[s], rtol=0, atol=1e-10)
    assert moved > 20


def test_two_processes_count_the_rows_of_both(build_model, draw_batch, in_two_threads):
    settings = TrainConfig(recipe="joint", balance=0.01)
    whole = build_model()
    learner = Learner(whole, settings)
    batches = [draw_batch(whole, 8, seed=seed) for seed in range(5)]
    for batch in batches:
        learner.step(batch, 1e-3)

    def part(rank, gather):
        model = build_model()
        half = Learner(model, settings, gather=gather)
        for batch in batches:
            half.step({s: x[4 * rank :][:4] for s, x in batch.items()}, 1e-3)
        return half

    for half in in_two_threads(part):
        for name, mean in learner.state().items():
            if "frequency" in name:
                torch.testing.assert_close(half.state()[name], mean, rtol=0, atol=1e-12)


@pytest.mark.parametrize("selection", ["global", "batch"])
def test_it_resumes_bit_for_bit(check_resumed_steps, selection):
    check_resumed_steps(TrainConfig(recipe="joint", balance=0.01), selection=selection)
