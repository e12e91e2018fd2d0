"""The formats of dictionaries that `sparc-train import` reads and `sparc-train export` writes.

To add one, write a file in this folder with a subclass of `Format`, or of `WritableFormat` if SPARC
is to write it too; both are in `format.py`:

    class MyFormat(Format):
        def recognizes(self, given: Given) -> bool:
            return "my_encoder" in given.tensors()

        def read(self, given: Given, k: int) -> Dictionary:
            tensors = given.tensors()
            encoder = tensors.take("my_encoder", None, None)  # (latents, dim)
            ...

Then add a line to `FORMATS`:

    "mine": FormatEntry("a file of MyProgram", f"{_HERE}.mine:MyFormat"),

What SPARC does otherwise is folded into weights where that gives the same codes: `dictionary.py`
has the formulas, and functions that fold. What cannot be folded is refused by name in a
`DictionaryError`; in what is written, `WritableFormat.differences` says it.

Every command line reads this module: it imports no format.
"""

import dataclasses

from sparc.common.registry import Entry


@dataclasses.dataclass(frozen=True)
class FormatEntry(Entry):
    """A format: its summary says which files those are."""

    writes: bool = False
    """Whether it is a `WritableFormat`."""


_HERE = "sparc.train.dictionaries.formats"

FORMATS: dict[str, FormatEntry] = {
    "saelens": FormatEntry(
        "a folder of SAELens (cfg.json, sae_weights.safetensors)",
        f"{_HERE}.saelens:SaeLens",
        writes=True,
    ),
    "saev": FormatEntry("a checkpoint of saev (sae.pt with a line of JSON)", f"{_HERE}.saev:Saev"),
    "dictionary_learning": FormatEntry(
        "a folder of dictionary_learning (ae.pt, config.json)",
        f"{_HERE}.dictionary_learning:DictionaryLearning",
    ),
    "overcomplete": FormatEntry(
        "a state_dict of overcomplete, whose TopKSAE needs --k",
        f"{_HERE}.overcomplete:Overcomplete",
    ),
}

WRITABLE = {name: entry for name, entry in FORMATS.items() if entry.writes}
"""Those that SPARC writes."""

AUTO = "auto"
"""Stands for the one format that recognizes a file."""
