"""The weights of step 0."""

import torch

from sparc.train.config import ModelConfig, StreamShape
from sparc.train.model.initialize import initial_model

CONFIG = ModelConfig(streams=(StreamShape("a", 16), StreamShape("b", 9)), latents=500, k=6)


def test_a_new_model():
    means = {"a": torch.randn(16), "b": torch.randn(9)}
    model = initial_model(CONFIG, seed=3, means=means)
    for name, dim in (("a", 16), ("b", 9)):
        encoder, decoder = model.encoder[name], model.decoder[name]
        assert encoder.abs().max() <= dim**-0.5
        assert abs(encoder.std() * dim**0.5 - 3**-0.5) < 0.02  # a uniform distribution's
        torch.testing.assert_close(decoder.norm(dim=1), torch.ones(500))
        torch.testing.assert_close(decoder * encoder.norm(dim=1, keepdim=True), encoder)
        assert torch.equal(model.pre_bias[name], means[name])
        assert not model.latent_bias[name].any()


def test_without_means_pre_biases_start_at_zero():
    means = {"a": torch.randn(16), "b": torch.randn(9)}
    one, other = (initial_model(CONFIG, seed=3, means=m) for m in (None, means))
    assert not one.pre_bias["a"].any()
    assert torch.equal(one.encoder["a"], other.encoder["a"])


def test_weights_depend_on_seed_and_name_alone():
    model = initial_model(CONFIG, seed=3, means=None)
    torch.manual_seed(99)
    alone = ModelConfig(streams=(StreamShape("b", 9),), latents=500, k=6)
    assert torch.equal(initial_model(alone, seed=3, means=None).encoder["b"], model.encoder["b"])
    other = initial_model(CONFIG, seed=4, means=None)
    assert not torch.equal(other.encoder["b"], model.encoder["b"])
    twins = ModelConfig(streams=(StreamShape("a", 9), StreamShape("b", 9)), latents=500, k=6)
    twins_model = initial_model(twins, seed=3, means=None)
    assert not torch.equal(twins_model.encoder["a"], twins_model.encoder["b"])
