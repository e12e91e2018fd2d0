"""The recipe of the code that was published with arXiv 2507.06265."""

import torch
from torch import Tensor

from sparc.common.errors import ConfigError
from sparc.train.config import ModelConfig
from sparc.train.model.initialize import generator
from sparc.train.model.network import Sparc
from sparc.train.step.deadness import DeadLatents, DeadLatentsByStep
from sparc.train.step.recipes.recipe import Recipe

REINITIALIZE_EVERY = 100
"""Steps between two re-initializations of dead latents."""
DEAD_AFTER_STEPS = 1000
"""Steps without a value after which a latent is dead."""


class PublishedRecipe(Recipe):
    """The recipe of the code that was published with arXiv 2507.06265.

    Pre-biases start at zero, decoder rows are scaled before Adam instead of after it, deadness is
    counted in steps, AuxK has a constant value where no latent is dead, and dead latents are
    re-initialized.
    """

    starts_at_means = False
    unit_decoders = False
    auxk_without_dead = True

    def deadness(self, config: ModelConfig, device: torch.device) -> DeadLatents:
        """The counters that say which latents are dead."""
        if self.settings.alive_by != "any":
            raise ConfigError("recipe published counts any use of a latent: leave alive_by out")
        return DeadLatentsByStep(
            config.names, config.latents, threshold=DEAD_AFTER_STEPS, device=device
        )

    def counts_before_auxk(self, config: ModelConfig) -> bool:
        """Whether a batch is counted before AuxK looks; after, with local selection."""
        return config.selection != "local"

    def before_update(self, model: Sparc, lr: Tensor) -> dict[str, Tensor]:  # noqa: ARG002
        """Scale decoder rows to unit norm."""
        divisors = {}
        for stream in model.config.names:
            decoder = model.decoder[stream]
            divisors[stream] = decoder.norm(dim=1) + 1e-8
            decoder.div_(divisors[stream].unsqueeze(1))
        return divisors

    def after_update(self, model: Sparc, dead_latents: DeadLatents, step: int) -> None:
        """Re-initialize the encoder rows of dead latents, every `REINITIALIZE_EVERY` steps."""
        if (step - 1) % REINITIALIZE_EVERY or dead_latents.none_can_be_dead():
            return
        for stream in model.config.names:
            dead = dead_latents.dead(stream)
            share, every = dead_latents.share_of_dead(stream)
            encoder = model.encoder[stream]
            draws = generator(self.settings.seed, "reinitialize", step, stream)
            fresh = torch.randn(every, encoder.shape[1], generator=draws, dtype=encoder.dtype)
            encoder[dead] = 0.01 * fresh[share].to(encoder.device)
            model.latent_bias[stream][dead] = 0
            dead_latents.forget(stream, dead)
