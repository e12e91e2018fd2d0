"""Recipes: what a step does besides the loss and Adam.

`Recipe` is the default one. To add one, write a subclass that overrides what differs, add a line to
`RECIPES`, and the name to `Recipe` in `sparc.train.config`.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from sparc.train.config import ModelConfig, TrainConfig
from sparc.train.config import Recipe as RecipeName
from sparc.train.model.initialize import generator
from sparc.train.model.network import Sparc
from sparc.train.step.deadness import DeadLatents, DeadLatentsByStep

REINITIALIZE_EVERY = 100
"""Steps between two re-initializations of dead latents in the published recipe."""
DEAD_AFTER_STEPS = 1000
"""Steps without a value after which the published recipe calls a latent dead."""


class Recipe:
    """The default recipe: unit decoder rows after every step, AuxK against dead latents.

    Args:
        settings: The settings of the step.
    """

    unit_decoders = True
    """Whether decoder rows are scaled to unit norm after the update."""
    auxk_without_dead = False
    """Whether AuxK has a value where no latent is dead."""

    def __init__(self, settings: TrainConfig) -> None:
        self.settings = settings

    def deadness(self, config: ModelConfig, device: torch.device) -> DeadLatents:
        """The counters that say which latents are dead."""
        return DeadLatents(
            config.names, config.latents, threshold=self.settings.dead_after, device=device
        )

    def counts_before_auxk(self, config: ModelConfig) -> bool:  # noqa: ARG002
        """Whether a batch is counted before AuxK looks for dead latents, or after."""
        return True

    def before_update(self, model: Sparc) -> dict[str, Tensor]:  # noqa: ARG002
        """Change the weights between the gradients, which are those before, and the update.

        Returns:
            By stream, what decoder rows were divided by, (latents,); empty if they were not.
        """
        return {}

    def after_update(self, model: Sparc, dead_latents: DeadLatents, step: int) -> None:
        """Change the weights after the update.

        Args:
            model: The model.
            dead_latents: Its counters of dead latents.
            step: Number of the step, from 1.
        """


class PublishedRecipe(Recipe):
    """The recipe of the code that was published with arXiv 2507.06265.

    Decoder rows are scaled before Adam instead of after it, deadness is counted in steps, AuxK has
    a constant value where no latent is dead, and dead latents are re-initialized.
    """

    unit_decoders = False
    auxk_without_dead = True

    def deadness(self, config: ModelConfig, device: torch.device) -> DeadLatents:
        """The counters that say which latents are dead."""
        return DeadLatentsByStep(
            config.names, config.latents, threshold=DEAD_AFTER_STEPS, device=device
        )

    def counts_before_auxk(self, config: ModelConfig) -> bool:
        """Whether a batch is counted before AuxK looks; after, with local selection."""
        return config.selection != "local"

    def before_update(self, model: Sparc) -> dict[str, Tensor]:
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
            encoder = model.encoder[stream]
            draws = generator(self.settings.seed, "reinitialize", step, stream)
            fresh = torch.randn(len(dead), encoder.shape[1], generator=draws, dtype=encoder.dtype)
            encoder[dead] = 0.01 * fresh.to(encoder.device)
            model.latent_bias[stream][dead] = 0
            dead_latents.forget(stream, dead)


RECIPES: Mapping[RecipeName, type[Recipe]] = {"default": Recipe, "published": PublishedRecipe}
