"""What a recipe decides, as most of them do."""

import torch
from torch import Tensor

from sparc.train.config import MOST_ROWS_TO_DEATH, ModelConfig, TrainConfig
from sparc.train.model.network import Sparc
from sparc.train.step.deadness import DeadLatents, DeadLatentsOfEitherMode
from sparc.train.step.recipes.registry import RECIPES


class Recipe:
    """The common recipe: unit decoder rows after every step, AuxK against dead latents.

    Args:
        settings: The settings of training.
    """

    starts_at_means = True
    """Whether pre-biases start at the mean of the data, or at zero."""
    unit_decoders = True
    """Whether decoder rows are scaled to unit norm after the update."""
    auxk_without_dead = False
    """Whether AuxK has a value where no latent is dead."""

    def __init__(self, settings: TrainConfig) -> None:
        self.settings = settings

    def deadness(self, config: ModelConfig, device: torch.device) -> DeadLatents:
        """The counters that say which latents are dead."""
        either = self.settings.alive_by == "both"
        threshold = self.settings.dead_after or MOST_ROWS_TO_DEATH  # 0: of a run of unknown length
        return (DeadLatentsOfEitherMode if either else DeadLatents)(
            config.names, config.latents, threshold=threshold, device=device
        )

    def counts_before_auxk(self, config: ModelConfig) -> bool:  # noqa: ARG002
        """Whether a batch is counted before AuxK looks for dead latents, or after."""
        return True

    def before_update(self, model: Sparc, lr: Tensor) -> dict[str, Tensor]:  # noqa: ARG002
        """Change the weights after their gradients are computed and before the update.

        Args:
            model: The model.
            lr: Learning rate of the step, a float32 scalar on the device. Never read it on the
                host: a recorded CUDA graph would keep that number. For the same reason a tensor
                that is kept for `after_update` is allocated once and filled with `copy_`.

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


def recipe_of(settings: TrainConfig) -> Recipe:
    """The recipe that the settings name."""
    recipe: Recipe = RECIPES[settings.recipe].load()(settings)
    return recipe
