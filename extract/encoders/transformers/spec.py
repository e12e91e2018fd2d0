"""The grammar of transformers' specs."""

import dataclasses
import os
from collections.abc import Hashable
from typing import ClassVar, Literal, Self, get_args

from sparc.common.files.paths import absolute_if_here, from_home
from sparc.common.streams.info import Modality
from sparc.extract.encoders.spec import (
    MalformedSpecError,
    StreamSpec,
    join_options,
    split_options,
)

TextPool = Literal["mean", "cls", "last", "default"]
"""The mean of all tokens, the first one, the last one, or what the model itself does."""


@dataclasses.dataclass(frozen=True)
class TransformersSpec(StreamSpec):
    """A text encoder of Hugging Face transformers.

    Attributes:
        model: A repository of the hub, or a folder.
        pool: How tokens become a feature; None: as the model's own files say, else their mean.
    """

    library: ClassVar[str] = "transformers"
    grammar: ClassVar[str] = "transformers:<name or folder>[?pool=mean|cls|last|default]"

    model: str
    pool: TextPool | None = None

    @classmethod
    def parse(cls, source: str) -> Self:
        """See `StreamSpec.parse`."""
        model, options = split_options(source, ("pool",))
        if not model:
            raise MalformedSpecError("a name is missing")
        return cls(from_home(model), options.choice("pool", get_args(TextPool)))

    @property
    def source(self) -> str:
        """See `StreamSpec.source`."""
        return join_options(self.model, {"pool": self.pool})

    @property
    def modality(self) -> Modality:
        """See `StreamSpec.modality`."""
        return "text"

    @property
    def place(self) -> str:
        """See `StreamSpec.place`: transformers has no registry, so every name is a place."""
        return self.model

    @property
    def model_key(self) -> Hashable:
        """See `StreamSpec.model_key`."""
        return self.model

    @property
    def offline_advice(self) -> str:
        """See `StreamSpec.offline_advice`."""
        return "pass a folder with the model's files instead, as in transformers:FOLDER"

    def _with_absolute_paths(self) -> Self:
        if not os.path.isdir(self.model):
            return self
        return dataclasses.replace(self, model=absolute_if_here(self.model))
