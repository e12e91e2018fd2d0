"""The weights of step 0."""

import torch

from sparc.train.config import ModelConfig, StreamShape
from sparc.train.model.initialize import initial_model

CONFIG = ModelConfig(streams=(StreamShape("a", 16), StreamShape("b", 9)), latents=500, k=6)


def test_default_recipe():
    means = {"a": torch.randn(16), "b": torch.randn(9)}
    model = initial_model(CONFIG, recipe="default", seed=3, means=means)
    for name, dim in (("a", 16), ("b", 9)):
        encoder, decoder = model.encoder[name], model.decoder[name]
        assert encoder.abs().max() <= dim**-0.5
        assert abs(encoder.std() * dim**0.5 - 3**-0.5) < 0.02  # a uniform distribution's
        torch.testing.assert_close(decoder.norm(dim=1), torch.ones(500))
        torch.testing.assert_close(decoder * encoder.norm(dim=1, keepdim=True), encoder)
        assert torch.equal(model.pre_bias[name], means[name])
        assert not model.latent_bias[name].any()


def test_published_recipe_starts_pre_biases_at_zero():
    means = {"a": torch.randn(16), "b": torch.randn(9)}
    published = initial_model(CONFIG, recipe="published", seed=3, means=means)
    default = initial_model(CONFIG, recipe="default", seed=3, means=means)
    assert not published.pre_bias["a"].any()
    assert torch.equal(published.encoder["a"], default.encoder["a"])


def test_weights_depend_on_seed_and_name_alone():
    model = initial_model(CONFIG, recipe="default", seed=3, means=None)
    torch.manual_seed(99)
    alone = ModelConfig(streams=(StreamShape("b", 9),), latents=500, k=6)
    assert torch.equal(
        initial_model(alone, recipe="default", seed=3, means=None).encoder["b"], model.encoder["b"]
    )
    other = initial_model(CONFIG, recipe="default", seed=4, means=None)
    assert not torch.equal(other.encoder["b"], model.encoder["b"])
    twins = ModelConfig(streams=(StreamShape("a", 9), StreamShape("b", 9)), latents=500, k=6)
    twins_model = initial_model(twins, recipe="default", seed=3, means=None)
    assert not torch.equal(twins_model.encoder["a"], twins_model.encoder["b"])
