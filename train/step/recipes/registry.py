"""The recipes that `--recipe` may name.

To add one, write a file in this folder with a subclass of `Recipe`, the common one, that overrides
what differs:

    class Decaying(Recipe):
        unit_decoders = False

        def after_update(self, model: Sparc, dead_latents: DeadLatents, step: int) -> None:
            for decoder in model.decoder.values():
                decoder.mul_(0.999)

Then add a line to `RECIPES`:

    "decaying": RecipeEntry(
        "decoder rows decay", f"{_HERE}.decaying:Decaying", settings={"lr": 1e-3}
    ),

`sparc-train run … --recipe decaying` trains with it, as does a sweep. `settings` are the defaults
that it decides, by the names of fields of `TrainConfig` that are declared with
`default_by="recipe"`; a function computes one from the configuration, as from the number of
latents, which is 0, as is k, until what fits the cache is known. What a user gives wins. A recipe
that differs in settings alone needs no class of its own: its home is `recipe:Recipe`.

Every command line reads this module: it imports no recipe.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any

from sparc.common.registry import Entry


@dataclasses.dataclass(frozen=True)
class RecipeEntry(Entry):
    """A recipe: its class, and the defaults of training with it."""

    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """By field of `TrainConfig`, the default, or a function that computes it from the
    configuration."""


_HERE = "sparc.train.step.recipes"


def _rate(config: Any) -> float:
    """1e-3 up to 4,096 latents, then 1e-3 * sqrt(4096 / latents), to three digits."""
    return float(f"{1e-3 * math.sqrt(4096 / max(4096, config.latents)):.3g}")


def _if_joint(value: Any, otherwise: Any) -> Callable[[Any], Any]:
    """The value of a setting that means something where streams can select jointly."""
    return lambda config: otherwise if config.selection == "local" else value


DEFAULT = "aligned"
"""The recipe where none is named."""

FORMER = {"default": "joint"}
"""What recipes were called in records, files and commands of earlier versions."""

RECIPES: dict[str, RecipeEntry] = {
    "aligned": RecipeEntry(
        "streams agree when each selects independently, by the settings of train/RECIPES.md",
        f"{_HERE}.recipe:Recipe",
        settings={
            "lr": _rate,
            "schedule": "tail",
            "dead_after": 0,
            "independent": _if_joint(0.6, 0.0),
            "balance": 5e-4,
            "noise": 0.2,
            "alive_by": _if_joint("both", "any"),
            "align": ("0.25", "0.5", "0.8", "1=0.7"),
            "align_discriminant": 0.1,
            "align_lr": 0.1,
        },
    ),
    "joint": RecipeEntry(
        "streams select jointly in every batch, and nothing is aligned", f"{_HERE}.recipe:Recipe"
    ),
    "published": RecipeEntry(
        "as published with arXiv 2507.06265, quirks included",
        f"{_HERE}.published:PublishedRecipe",
        settings={"latents": 8192, "k": 64},
    ),
}
