"""The grammar of open_clip's specs."""

import dataclasses
from collections.abc import Hashable
from typing import ClassVar, Self

from sparc.common.files.paths import absolute_if_here, from_home
from sparc.common.streams.info import Modality
from sparc.common.streams.places import LOCAL_FOLDER, WEIGHTS_SUFFIXES
from sparc.extract.encoders.spec import (
    MalformedSpecError,
    StreamSpec,
    local_folder,
    names_folder,
)

HUB = "hf-hub:"
"""The beginning of a model's name that is a repository of the hub."""


@dataclasses.dataclass(frozen=True)
class OpenClipSpec(StreamSpec):
    """A tower of an open_clip model.

    Attributes:
        model: An architecture that open_clip knows, `local-dir:FOLDER`, or
            `hf-hub:ORGANIZATION/NAME`.
        weights: A pretrained tag or a weights file; None where a folder or repository holds them.
        tower: Which tower.
    """

    library: ClassVar[str] = "open_clip"
    grammar: ClassVar[str] = (
        "open_clip:<architecture>/<tag or weights file>|local-dir:<folder>|hf-hub:<name>#image|text"
    )

    model: str
    weights: str | None
    tower: Modality

    @classmethod
    def parse(cls, source: str) -> Self:
        """See `StreamSpec.parse`."""
        before, _, tower = source.rpartition("#")
        if tower not in ("image", "text") or "#" not in source:
            raise MalformedSpecError("it must end in #image or #text")
        modality: Modality = "image" if tower == "image" else "text"
        if names_folder(before):
            return cls(local_folder(before), None, modality)
        if before.startswith(HUB):
            return cls(before, None, modality)
        model, _, weights = before.partition("/")
        if not model or not weights:
            raise MalformedSpecError("it must name a pretrained tag or a weights file")
        return cls(model, from_home(weights), modality)

    @property
    def source(self) -> str:
        """See `StreamSpec.source`."""
        weights = f"/{self.weights}" if self.weights else ""
        return f"{self.model}{weights}#{self.tower}"

    @property
    def modality(self) -> Modality:
        """See `StreamSpec.modality`."""
        return self.tower

    @property
    def place(self) -> str | None:
        """See `StreamSpec.place`."""
        weights = self.weights
        if weights is not None and (weights.endswith(WEIGHTS_SUFFIXES) or "/" in weights):
            return weights
        return self.model if ":" in self.model else None

    @property
    def model_key(self) -> Hashable:
        """See `StreamSpec.model_key`: a model has both towers."""
        return self.model, self.weights

    @property
    def offline_advice(self) -> str:
        """See `StreamSpec.offline_advice`."""
        if ":" in self.model:
            return f"pass a folder instead, as in open_clip:{LOCAL_FOLDER}FOLDER#{self.tower}"
        local = dataclasses.replace(self, weights="weights.safetensors")
        return f"pass a weights file instead, as in {local}"

    def _with_absolute_paths(self) -> Self:
        model, weights = self.model, self.weights
        if weights is not None and weights.endswith(WEIGHTS_SUFFIXES):
            weights = absolute_if_here(weights)
        if model.startswith(LOCAL_FOLDER):
            model = LOCAL_FOLDER + absolute_if_here(model.removeprefix(LOCAL_FOLDER))
        return dataclasses.replace(self, model=model, weights=weights)
