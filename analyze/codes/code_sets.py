"""The sets of codes that a report measures: how streams selected, and which control it is."""

from typing import Literal, NamedTuple

from sparc.train.model.codes import Mode

Control = Literal["trained", "permuted", "permuted_before", "permuted_after", "untrained"]
"""`trained`: no control, the trained model on the real rows. `untrained`: the model at step 0. The
others permute whole images in every stream on its own: `permuted_before` joint selection,
`permuted_after` it, and `permuted` in independent mode, where both are the same."""


class CodeSet(NamedTuple):
    """Which codes: how the streams selected, and which control it is."""

    mode: Mode
    control: Control = "trained"

    @property
    def path(self) -> str:
        """Where the set lies in `codes.zarr`."""
        return f"{self.control}/{self.mode}"

    @property
    def permuted(self) -> bool:
        """Whether a row of the set has codes of unrelated images."""
        return self.control.startswith("permuted")

    @property
    def reorders(self) -> "CodeSet | None":
        """The set that this one holds in another order; None where it is stored itself."""
        return _REORDERED.get(self)

    @property
    def stored(self) -> bool:
        """Whether the set is stored itself."""
        return self not in _REORDERED


def of_model(control: Literal["trained", "untrained"]) -> tuple[CodeSet, CodeSet]:
    """The sets that a model makes of a row from the same products: joint and independent."""
    return CodeSet("joint", control), CodeSet("independent", control)


PERMUTED = CodeSet("joint", "permuted_before")
"""The set that is made of permuted features."""

_REORDERED = {
    CodeSet("joint", "permuted_after"): CodeSet("joint"),
    CodeSet("independent", "permuted"): CodeSet("independent"),
}
