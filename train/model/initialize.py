"""The weights of step 0, a function of configuration, seed and initial pre-biases alone.

Must not know the training loop: a report recomputes the untrained model of a run from here.
"""

import hashlib
from collections.abc import Mapping

import torch
from torch import Tensor

from sparc.train.config import ModelConfig
from sparc.train.model.network import Sparc


def initial_model(config: ModelConfig, *, seed: int, means: Mapping[str, Tensor] | None) -> Sparc:
    """Build a model with the weights of step 0, on the CPU.

    Encoder rows are drawn from U(-1/sqrt(dim), 1/sqrt(dim)), a decoder's rows are the encoder's
    scaled to unit norm, latent biases are zero. Each stream draws from its own generator, so its
    weights depend on the seed and its name, not on the other streams or on the device.

    Args:
        config: The model's streams and sizes.
        seed: Seed of the weights.
        means: By stream, where its pre-bias starts, (dim,): the mean of its normalized features;
            zero for streams that are not among them.
    """
    model = Sparc(config)
    with torch.no_grad():
        for stream in config.streams:
            encoder = model.encoder[stream.name]
            bound = stream.dim**-0.5
            encoder.uniform_(-bound, bound, generator=generator(seed, stream.name))
            model.decoder[stream.name].copy_(encoder / encoder.norm(dim=1, keepdim=True))
            if means is not None and stream.name in means:
                model.pre_bias[stream.name].copy_(means[stream.name])
    return model


def create_model(config: ModelConfig, *, seed: int = 42) -> Sparc:
    """Build a model with freshly initialized weights (zero pre-biases).

    Args:
        config: The model's streams and sizes.
        seed: Seed of the weights.
    """
    return initial_model(config, seed=seed, means=None)


def generator(seed: int, *purpose: object) -> torch.Generator:
    """A generator on the CPU whose numbers depend on the seed and on what they are for."""
    text = ":".join(map(str, (seed, *purpose)))
    digest = hashlib.sha256(text.encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)
