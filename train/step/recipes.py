"""What the published recipe does otherwise than the default one.

Source: the code that was published with arXiv 2507.06265.
"""

import torch
from torch import Tensor

from sparc.train.model.initialize import generator
from sparc.train.model.network import Sparc
from sparc.train.step.deadness import DeadLatents

REINITIALIZE_EVERY = 100
"""Steps between two looks for dead latents to re-initialize."""


def normalize_decoders(model: Sparc) -> dict[str, Tensor]:
    """Scale decoder rows to unit norm, before Adam.

    Returns:
        By stream, what the rows were divided by, (latents,).
    """
    divisors = {}
    for stream in model.config.names:
        decoder = model.decoder[stream]
        divisors[stream] = decoder.norm(dim=1) + 1e-8
        decoder.div_(divisors[stream].unsqueeze(1))
    return divisors


def reinitialize(model: Sparc, dead_latents: DeadLatents, *, step: int, seed: int) -> None:
    """Draw the encoders of dead latents again, every `REINITIALIZE_EVERY` steps.

    Args:
        model: The model.
        dead_latents: Counters; those of the latents that are drawn start again.
        step: Number of the step, from 1.
        seed: Of the weights.
    """
    if (step - 1) % REINITIALIZE_EVERY or dead_latents.none_can_be_dead():
        return
    for stream in model.config.names:
        dead = dead_latents.dead(stream)
        encoder = model.encoder[stream]
        draws = generator(seed, "reinitialize", step, stream)
        fresh = torch.randn(len(dead), encoder.shape[1], generator=draws, dtype=encoder.dtype)
        encoder[dead] = 0.01 * fresh.to(encoder.device)
        model.latent_bias[stream][dead] = 0
        dead_latents.forget(stream, dead)
