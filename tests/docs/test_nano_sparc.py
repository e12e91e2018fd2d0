"""The reference implementation that the page on the method shows: it takes the product's steps."""

import torch
from nano_sparc import NanoSparc, Trainer

from sparc.train import ModelConfig, StreamShape, TrainConfig, create_model
from sparc.train.step.learner import Learner

DIMS = {"dino": 7, "clip": 5, "text": 6}


def test_its_steps_are_those_of_the_recipe_joint():
    streams = tuple(StreamShape(name, dim) for name, dim in DIMS.items())
    model = create_model(ModelConfig(streams=streams, latents=40, k=6)).double()
    nano = NanoSparc(DIMS, latents=40, k=6).double()
    nano.load_state_dict(model.state_dict())
    options = {"auxk": 4, "dead_after": 30}
    learner = Learner(model, TrainConfig(recipe="joint", kernels="torch", **options))
    trainer = Trainer(nano, lr=1e-2, **options)
    draws, steps_with_dead = torch.Generator().manual_seed(0), 0
    for _ in range(20):
        batch = {s: torch.randn(10, d, generator=draws).double() for s, d in DIMS.items()}
        sums, loss = learner.step(batch, 1e-2), trainer.step(batch)
        torch.testing.assert_close(float(sums.loss / sums.rows), loss, rtol=1e-9, atol=1e-9)
        steps_with_dead += sum(learner.dead_counts().values()) > 0
    assert 0 < steps_with_dead < 20
    for name, parameter in model.named_parameters():
        actual = nano.get_parameter(name)
        torch.testing.assert_close(actual, parameter, rtol=1e-9, atol=1e-9)
