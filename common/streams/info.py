"""What a cache records of a stream: its name, what its encoder read, how features are stored."""

import dataclasses
import re
from typing import Literal

from sparc.common.errors import ConfigError
from sparc.common.streams.origin import StreamOrigin

Modality = Literal["image", "text"]

_NAME = re.compile(r"[a-z][a-z0-9_]*")


@dataclasses.dataclass(frozen=True, kw_only=True)
class StreamInfo:
    """A stream of a cache, as its Zarr attributes record it.

    Attributes:
        name: Lower-case letters, digits and underscores, beginning with a letter.
        modality: What the encoder read.
        dim: Width of a feature.
        dtype: Stored type.
        compression: Lossless compression of a chunk.
        keep_bits: Mantissa bits kept, the others being zero (float32 only); None keeps all.
        origin: What made the features.
    """

    name: str
    modality: Modality
    dim: int
    dtype: Literal["float16", "float32"] = "float16"
    compression: Literal["none", "lz4", "zstd"] = "none"
    keep_bits: int | None = None
    origin: StreamOrigin

    def __post_init__(self) -> None:
        check_name(self.name)
        if self.dim < 1:
            raise ConfigError(f"stream {self.name}: a feature needs at least one value")
        if self.keep_bits is not None and self.dtype != "float32":
            raise ConfigError(f"stream {self.name}: keep_bits needs dtype float32")


def check_name(name: str) -> str:
    """The name itself, if a stream may be called so.

    Raises:
        ConfigError: It may not.
    """
    if not _NAME.fullmatch(name):
        raise ConfigError(
            f"a stream cannot be called {name!r}: use lower-case letters, digits and underscores"
        )
    return name
