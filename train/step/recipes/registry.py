"""The recipes that `--recipe` may name.

To add one, write a file in this folder with a subclass of `Recipe`, the default one, that overrides
what differs:

    class Decaying(Recipe):
        unit_decoders = False

        def after_update(self, model: Sparc, dead_latents: DeadLatents, step: int) -> None:
            for decoder in model.decoder.values():
                decoder.mul_(0.999)

Then add a line to `RECIPES`:

    "decaying": RecipeEntry("decoder rows decay", f"{_HERE}.decaying:Decaying"),

`sparc-train run … --recipe decaying` trains with it, as does a sweep.

Every command line reads this module: it imports no recipe.
"""

import dataclasses


@dataclasses.dataclass(frozen=True)
class RecipeEntry:
    """What is known of a recipe before it is imported."""

    summary: str
    """What it is, for `--help`."""
    home: str
    """`module:class` of the `Recipe`."""


_HERE = "sparc.train.step.recipes"

RECIPES: dict[str, RecipeEntry] = {
    "default": RecipeEntry("ours", f"{_HERE}.recipe:Recipe"),
    "published": RecipeEntry(
        "as published with arXiv 2507.06265, quirks included", f"{_HERE}.published:PublishedRecipe"
    ),
}
