"""The grammar of timm's specs."""

import dataclasses
from collections.abc import Hashable
from typing import ClassVar, Self

from sparc.common.files.paths import absolute_if_here, from_home
from sparc.common.streams.info import Modality
from sparc.common.streams.places import LOCAL_FOLDER, WEIGHTS_SUFFIXES
from sparc.extract.encoders.spec import (
    MalformedSpecError,
    Pool,
    StreamSpec,
    join_options,
    local_folder,
    names_folder,
    split_options,
)


@dataclasses.dataclass(frozen=True)
class TimmSpec(StreamSpec):
    """An image encoder of timm.

    Attributes:
        model: The model's name in timm, `hf-hub:organization/name`, or `local-dir:FOLDER`.
        weights: A weights file; None means timm's own weights.
        size: Input size in pixels; None means the model's own.
        pool: How tokens become a feature.
        block: Index of the transformer block after which features are taken, from 0; None means
            the end.
    """

    library: ClassVar[str] = "timm"
    grammar: ClassVar[str] = (
        "timm:<model>[@<weights file>]|local-dir:<folder>"
        "[?size=<pixels>&pool=cls|mean|default&block=<index>]"
    )
    may_run_transformers: ClassVar[bool] = False

    model: str
    weights: str | None = None
    size: int | None = None
    pool: Pool = "default"
    block: int | None = None

    @classmethod
    def parse(cls, source: str) -> Self:
        """See `StreamSpec.parse`."""
        before, options = split_options(source, ("size", "pool", "block"))
        if names_folder(before):
            model, at, weights = local_folder(before), "", ""
        else:
            model, at, weights = before.partition("@")
        if not model or (at and not weights):
            raise MalformedSpecError("a name is missing")
        return cls(
            model,
            from_home(weights) or None,
            pool=options.pool(default="default"),
            size=options.number("size", smallest=1),
            block=options.number("block", smallest=0),
        )

    @property
    def source(self) -> str:
        """See `StreamSpec.source`."""
        weights = f"@{self.weights}" if self.weights else ""
        pool = None if self.pool == "default" else self.pool
        options = {"size": self.size, "pool": pool, "block": self.block}
        return join_options(f"{self.model}{weights}", options)

    @property
    def modality(self) -> Modality:
        """See `StreamSpec.modality`."""
        return "image"

    @property
    def place(self) -> str | None:
        """See `StreamSpec.place`."""
        if self.weights is not None:
            return self.weights
        return self.model if ":" in self.model else None

    @property
    def model_key(self) -> Hashable:
        """See `StreamSpec.model_key`."""
        return self.model, self.weights, self.size

    @property
    def offline_advice(self) -> str:
        """See `StreamSpec.offline_advice`."""
        if ":" in self.model:
            local = dataclasses.replace(self, model=f"{LOCAL_FOLDER}FOLDER", weights=None)
            return f"pass the folder of a copy instead, as in {local}"
        local = dataclasses.replace(self, weights="weights.safetensors")
        return f"pass a weights file instead, as in {local}"

    def _with_absolute_paths(self) -> Self:
        if self.model.startswith(LOCAL_FOLDER):
            folder = absolute_if_here(self.model.removeprefix(LOCAL_FOLDER))
            return dataclasses.replace(self, model=f"{LOCAL_FOLDER}{folder}")
        if self.weights is None or not self.weights.endswith(WEIGHTS_SUFFIXES):
            return self
        return dataclasses.replace(self, weights=absolute_if_here(self.weights))
