"""The grammar of transformers' specs."""

import dataclasses
import os
from collections.abc import Hashable
from typing import ClassVar, Literal, Self, get_args

from sparc.common.files.paths import absolute_if_here, from_home
from sparc.common.streams.info import Modality
from sparc.extract.encoders.spec import (
    MalformedSpecError,
    Pool,
    StreamSpec,
    join_options,
    split_options,
    split_tower,
)

TextPool = Literal["mean", "cls", "last", "default"]
"""The mean of all tokens, the first one, the last one, or what the model itself does."""


@dataclasses.dataclass(frozen=True)
class TransformersSpec(StreamSpec):
    """A text encoder or an image encoder of Hugging Face transformers.

    Attributes:
        model: A repository of the hub, or a folder.
        pool: How tokens become a feature; None: as the model was trained.
        tower: What is encoded: a model such as CLIP has a tower for each.
    """

    library: ClassVar[str] = "transformers"
    grammar: ClassVar[str] = (
        "transformers:<name or folder>[?pool=mean|cls|last|default][#image|#text]"
    )

    model: str
    pool: TextPool | None = None
    tower: Modality = "text"

    @classmethod
    def parse(cls, source: str) -> Self:
        """See `StreamSpec.parse`."""
        before, tower = split_tower(source, default="text")
        model, options = split_options(before, ("pool",))
        if not model:
            raise MalformedSpecError("a name is missing")
        pools = get_args(TextPool if tower == "text" else Pool)
        return cls(from_home(model), options.choice("pool", pools), tower)

    @property
    def source(self) -> str:
        """See `StreamSpec.source`."""
        image = "#image" if self.tower == "image" else ""
        return f"{join_options(self.model, {'pool': self.pool})}{image}"

    @property
    def modality(self) -> Modality:
        """See `StreamSpec.modality`."""
        return self.tower

    @property
    def place(self) -> str:
        """See `StreamSpec.place`: transformers has no registry, so every name is a place."""
        return self.model

    @property
    def model_key(self) -> Hashable:
        """See `StreamSpec.model_key`: a model may have both towers."""
        return self.model

    @property
    def offline_advice(self) -> str:
        """See `StreamSpec.offline_advice`."""
        folder = dataclasses.replace(self, model="FOLDER", pool=None)
        return f"pass a folder with the model's files instead, as in {folder}"

    def _with_absolute_paths(self) -> Self:
        if not os.path.isdir(self.model):
            return self
        return dataclasses.replace(self, model=absolute_if_here(self.model))
