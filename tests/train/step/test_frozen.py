"""Steps in which some streams are frozen: their weights stay."""

import pytest
import torch

from sparc.train.config import TrainConfig
from sparc.train.step.learner import Learner


@pytest.mark.parametrize("selection", ["global", "local", "batch"])
@pytest.mark.parametrize("frozen", [("s0",), ("s2", "s0")])
def test_frozen_streams_do_not_move_by_a_bit(build_model, draw_batch, selection, frozen):
    model = build_model(selection=selection)
    before = {name: tensor.clone() for name, tensor in model.named_parameters()}
    settings = TrainConfig(
        auxk=5,
        dead_after=20,
        aux_weight=0.5,
        terms=("distill=0.15",),
        balance=5e-4,
        noise=0.25,
        independent=0.5,
        alive_by="both",
        clip=1.0,
    )
    learner = Learner(model, settings, frozen=frozen)
    for seed in range(8):
        learner.step(draw_batch(model, 11, seed=seed), 1e-2)
    assert not any(name.endswith(frozen) for name in learner.state() if name.startswith("first."))
    for name, tensor in model.named_parameters():
        assert torch.equal(tensor, before[name]) == name.endswith(frozen), name


@pytest.mark.parametrize("frozen", [("s0",), ("s0", "s2")])
def test_gradients_of_the_others_are_as_without_frozen_streams(build_model, draw_batch, frozen):
    model = build_model()
    batch = draw_batch(model, 11)
    free = Learner(model, TrainConfig()).gradients(batch)
    actual = Learner(model, TrainConfig(), frozen=frozen).gradients(batch)
    assert actual.keys() == {name for name in free if not name.endswith(frozen)}
    for name, gradient in actual.items():
        assert torch.equal(gradient, free[name])


def test_steps_with_a_frozen_stream_resume(build_model, draw_batch):
    settings = TrainConfig(terms=("distill=0.15",), balance=5e-4)
    models = [build_model() for _ in range(2)]
    first, second = (Learner(model, settings, frozen=["s1"]) for model in models)
    first.step(draw_batch(models[0], 9), 1e-2)
    models[1].load_state_dict(models[0].state_dict())
    second.load_state({name: tensor.clone() for name, tensor in first.state().items()})
    for learner, model in ((first, models[0]), (second, models[1])):
        learner.step(draw_batch(model, 9, seed=2), 1e-2)
    for name, tensor in models[0].state_dict().items():
        assert torch.equal(models[1].state_dict()[name], tensor)
