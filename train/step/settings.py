"""The settings of a training step."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Literal, Self

from sparc.train.config import Kernels, Recipe, TrainConfig, term_weights

Precision = Literal["float32", "tf32", "bfloat16"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class LearnerSettings:
    """What a training step depends on besides the batch and the learning rate.

    Attributes:
        recipe: `default`, or `published` with its quirks.
        cross_weight: Weight of cross-reconstruction; 0 skips it.
        aux_weight: Weight of AuxK.
        auxk: Dead latents that AuxK selects for a row; 0 turns AuxK off.
        dead_after: Rows without a value after which a latent is dead (default recipe).
        dead_after_steps: The same in steps (published recipe).
        clip: Largest norm of the whole gradient; 0 does not clip.
        seed: Seed of re-initialized weights (published recipe).
        precision: Arithmetic of the product that selects; all but float32 need a GPU.
        kernels: Which implementation of the sparse mathematics.
        terms: Weights of further loss terms, each `NAME=WEIGHT`.
    """

    recipe: Recipe = "default"
    cross_weight: float = 1.0
    aux_weight: float = 1 / 32
    auxk: int = 64
    dead_after: int = 256_000
    dead_after_steps: int = 1000
    clip: float = 0.0
    seed: int = 42
    precision: Precision = "float32"
    kernels: Kernels = "auto"
    terms: tuple[str, ...] = ()

    @classmethod
    def of(cls, config: TrainConfig) -> Self:
        """The settings of a run that concern a step."""
        names = {field.name for field in dataclasses.fields(cls)} - {"dead_after_steps"}
        return cls(**{name: getattr(config, name) for name in names})

    @functools.cached_property
    def term_weights(self) -> Mapping[str, float]:
        """The weights of further loss terms by name."""
        return term_weights(self.terms)
