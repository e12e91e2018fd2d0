"""The formats of dictionaries that `sparc-train export --to` may name.

To add one, write a file in this folder with a subclass of `Format`, which is in `format.py`:

    class MyFormat(Format):
        files = ("weights.safetensors", "settings.json")

        def write(self, dictionary: Dictionary, folder: Folder, about: About) -> None:
            ...

Then add a line to `FORMATS`:

    "mine": Entry("a folder of MyProgram", f"{_HERE}.mine:MyFormat"),

What a program cannot say (a bound, a scaling) is folded into weights where that gives the same
codes. Where it does not, `Format.differences` says so, and the model card of an export with it.

Every command line reads this module: it imports no format.
"""

from sparc.common.registry import Entry

_HERE = "sparc.train.dictionaries.formats"

FORMATS: dict[str, Entry] = {
    "saelens": Entry(
        "a folder of SAELens (cfg.json, sae_weights.safetensors)", f"{_HERE}.saelens:SaeLens"
    ),
}
