"""A new recipe is one class and one line in the registry: here one that a test defines.

The published recipe is held to its formulas in test_learner.
"""

import re
from pathlib import Path

import pytest
import torch

from sparc.common.config import first_difference, load_config
from sparc.common.errors import ConfigError
from sparc.train.config import TrainConfig
from sparc.train.loading import load, load_untrained
from sparc.train.step.learner import Learner
from sparc.train.step.recipes.recipe import Recipe, recipe_of
from sparc.train.step.recipes.registry import RECIPES, RecipeEntry


class Shrinking(Recipe):
    """Decoder rows have no fixed norm, and lose a tenth of it after every step."""

    starts_at_means = False
    unit_decoders = False

    def after_update(self, model, dead_latents, step):
        for decoder in model.decoder.values():
            decoder.mul_(0.9)


@pytest.fixture(autouse=True)
def shrinking(monkeypatch):
    entry = RecipeEntry("decoder rows shrink", f"{__name__}:Shrinking")
    monkeypatch.setitem(RECIPES, "shrinking", entry)


class Summing(Recipe):
    """Latent biases are what the learning rates of all steps add up to."""

    def before_update(self, model, lr):
        self.total = getattr(self, "total", 0) + lr.clone()
        return {}

    def after_update(self, model, dead_latents, step):
        for bias in model.latent_bias.values():
            bias.copy_(self.total)


def test_a_recipe_knows_the_learning_rate(build_model, draw_batch, monkeypatch):
    monkeypatch.setitem(RECIPES, "sum", RecipeEntry("of a test", f"{__name__}:Summing"))
    model = build_model()
    learner = Learner(model, TrainConfig(recipe="sum"))
    for lr in (0.5, 0.25):
        learner.step(draw_batch(model, 9), lr)
    assert all((bias == 0.75).all() for bias in model.latent_bias.values())


@pytest.fixture
def train(small_cache, tmp_path, call):
    def train(recipe):
        sizes = ("--latents", 96, "--k", 4, "--steps", 3, "--batch-size", 64, "--lr", 1e-6)
        done = call("train", "run", small_cache, tmp_path / recipe, *sizes, "--recipe", recipe)
        assert done.returncode == 0, done.stderr
        return tmp_path / recipe

    return train


def test_a_model_is_trained_by_it(train):
    run = train("shrinking")
    for decoder in load(run).decoder.values():
        norms = decoder.norm(dim=1)
        torch.testing.assert_close(norms, torch.full_like(norms, 0.9**3), rtol=1e-3, atol=0)


@pytest.mark.parametrize(
    ("recipe", "at_means"),
    [("aligned", True), ("joint", True), ("published", False), ("shrinking", False)],
)
def test_a_recipe_says_where_pre_biases_start(train, recipe, at_means):
    for bias in load_untrained(train(recipe)).pre_bias.values():
        assert bool(bias.any()) == at_means


def test_the_help_lists_them(call):
    shown = " ".join(call("train", "run", "--help").stdout.split())
    assert "<aligned|joint|" in shown
    assert f"joint: {RECIPES['joint'].summary};" in shown


def test_a_name_that_is_not_registered_is_refused():
    message = f"recipe must be one of {', '.join(RECIPES)}, not 'none'"
    with pytest.raises(ConfigError, match=message):
        TrainConfig(recipe="none")


@pytest.mark.parametrize("name", list(RECIPES))
def test_every_entry_names_a_recipe(name):
    assert isinstance(recipe_of(TrainConfig(recipe=name)), Recipe)


def test_the_page_of_recipes_has_the_settings_of_the_default_one(tmp_path):
    page = (Path(__file__).parents[3] / "train" / "RECIPES.md").read_text()
    (tmp_path / "train.toml").write_text(re.findall(r"```toml\n(.*?)```", page, re.DOTALL)[0])
    spelled_out = load_config(TrainConfig, "train", tmp_path / "train.toml", {"latents": 1024})
    assert first_difference(spelled_out, TrainConfig(latents=1024), ignore=["recipe"]) is None
