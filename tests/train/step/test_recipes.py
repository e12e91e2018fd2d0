"""A recipe of another kind; the published one is held to its formulas in test_learner."""

import torch

from sparc.train.config import TrainConfig
from sparc.train.step.learner import Learner
from sparc.train.step.recipes import RECIPES, Recipe


class Shrinking(Recipe):
    """Decoder rows have no fixed norm, and lose a tenth of it after every step."""

    unit_decoders = False

    def after_update(self, model, dead_latents, step):
        for decoder in model.decoder.values():
            decoder.mul_(0.9)


def test_a_new_recipe(build_model, draw_batch, monkeypatch):
    monkeypatch.setitem(RECIPES, "shrinking", Shrinking)
    model = build_model()
    learner = Learner(model, TrainConfig(recipe="shrinking"))
    for seed in range(3):
        learner.step(draw_batch(model, 8, seed=seed), 1e-6)
    for decoder in model.decoder.values():
        norms = decoder.norm(dim=1)
        torch.testing.assert_close(norms, torch.full_like(norms, 0.9**3), rtol=1e-3, atol=0)
