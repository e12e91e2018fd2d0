"""The recipes that `--recipe` may name.

To add one, write a file in this folder with a subclass of `Recipe`, the default one, that overrides
what differs:

    class Decaying(Recipe):
        unit_decoders = False

        def after_update(self, model: Sparc, dead_latents: DeadLatents, step: int) -> None:
            for decoder in model.decoder.values():
                decoder.mul_(0.999)

Then add a line to `RECIPES`:

    "decaying": Entry("decoder rows decay", f"{_HERE}.decaying:Decaying"),

`sparc-train run … --recipe decaying` trains with it, as does a sweep.

Every command line reads this module: it imports no recipe.
"""

from sparc.common.registry import Entry

_HERE = "sparc.train.step.recipes"

RECIPES: dict[str, Entry] = {
    "default": Entry("ours", f"{_HERE}.recipe:Recipe"),
    "published": Entry(
        "as published with arXiv 2507.06265, quirks included", f"{_HERE}.published:PublishedRecipe"
    ),
}
